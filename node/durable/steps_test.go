package durable

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// steps are those of writeFile. The order is the promise: content, then its sync, then
// the name, then the name's sync.
var steps = []string{"create", "write", "permissions", "sync", "rename", "sync directory"}

// killVariable tells this test binary to write a file and to kill itself: its order.
const killVariable = "WARREN_TEST_KILL"

type killOrder struct {
	Path, Data, Step string
}

func TestMain(m *testing.M) {
	text := os.Getenv(killVariable)
	if text == "" {
		os.Exit(m.Run())
	}
	var o killOrder
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		panic(err)
	}
	err := writeFile(o.Path, []byte(o.Data), 0o600, func(name string) error {
		if name != o.Step {
			return nil
		}
		self, err := os.FindProcess(os.Getpid())
		if err == nil {
			err = self.Kill()
		}
		if err != nil {
			panic(err)
		}
		select {}
	})
	fmt.Fprintln(os.Stderr, "it lives:", err)
}

// wantWhole checks what a file holds, and that so many temporary ones are beside it.
func wantWhole(t *testing.T, what, path, want string, temps int) {
	t.Helper()
	got, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		got = []byte("none")
	} else if err != nil {
		t.Error(err)
	}
	if string(got) != want {
		t.Errorf("%s: it holds %.20q, want %.20q", what, got, want)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), TempPrefix) {
			temps--
		} else if e.Name() != filepath.Base(path) {
			t.Errorf("%s: %s is left over", what, e.Name())
		}
	}
	if temps != 0 {
		t.Errorf("%s: %d temporary files too few", what, temps)
	}
}

// TestWriteFileInEachStep: killed in place of any step, or failing there, it leaves
// the old content or the new one.
func TestWriteFileInEachStep(t *testing.T) {
	data := strings.Repeat("new ", 5000)
	for _, before := range []string{"none", "old"} {
		for i, step := range steps {
			want, left := before, 0
			if slices.Index(steps, "rename") < i {
				want = data
			} else if i > 0 {
				left = 1
			}
			path := filepath.Join(t.TempDir(), "file")
			put := func() {
				t.Helper()
				if before != "none" {
					if err := os.WriteFile(path, []byte(before), 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
			put()
			order, err := json.Marshal(killOrder{path, data, step})
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), killVariable+"="+string(order))
			if out, err := cmd.CombinedOutput(); err == nil || len(out) > 0 {
				t.Errorf("not killed in place of %s: %v %s", step, err, out)
			}
			wantWhole(t, "killed in place of "+step, path, want, left)

			path = filepath.Join(t.TempDir(), "file")
			put()
			var seen []string
			failure := errors.New("no space left on device")
			err = writeFile(path, []byte(data), 0o600, func(name string) error {
				if seen = append(seen, name); name == step {
					return failure
				}
				return nil
			})
			if !errors.Is(err, failure) || !slices.Equal(seen, steps[:i+1]) {
				t.Errorf("failed in %s: %v, after %q", step, err, seen)
			}
			wantWhole(t, "failed in "+step, path, want, 0)
			if err := WriteFile(path, []byte("again"), 0o600); err != nil {
				t.Error(err)
			}
			wantWhole(t, "again after "+step, path, "again", 0)
		}
	}
}
