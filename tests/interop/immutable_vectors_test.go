package interop

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The expected values in the packages' testdata are what the installed programs
// say, today as when they were recorded.
func TestImmutableVectorsAreCurrent(t *testing.T) {
	python := Python(t)
	root, out := Root(t), t.TempDir()
	cmd := exec.CommandContext(t.Context(), python, filepath.Join(root, "tests", "vectors", "gen_immutable.py"))
	cmd.Env = append(os.Environ(), "WARREN_VECTORS="+out)
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("gen_immutable.py: %v\n%s", err, msg)
	}
	for _, path := range []string{
		"node/erasure/testdata/zfec.json",
		"node/hashtree/testdata/hashtree.json",
		"node/grid/testdata/happiness.json",
		"node/immutable/testdata/chk.json",
	} {
		recorded, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(path)))
		if err != nil {
			t.Fatal(err)
		}
		made, err := os.ReadFile(filepath.Join(out, filepath.FromSlash(path)))
		if err != nil {
			t.Fatal(err)
		}
		if len(recorded) < 1000 || !bytes.Equal(recorded, made) {
			t.Errorf("%s is not what the real programs say", path)
		}
	}
}
