package interop

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// The expected values in the packages' testdata are what the installed programs
// say, today as when they were recorded.
func TestImmutableVectorsAreCurrent(t *testing.T) {
	root, out := Root(t), t.TempDir()
	t.Setenv("WARREN_VECTORS", out)
	for _, name := range []string{"gen_immutable.py", "gen_grid.py"} {
		Run(t, 5*time.Minute, Python(t), filepath.Join(root, "tests", "vectors", name))
	}
	for _, path := range []string{
		"node/erasure/testdata/zfec.json",
		"node/hashtree/testdata/hashtree.json",
		"node/grid/testdata/happiness.json",
		"node/grid/testdata/permutation.json",
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
