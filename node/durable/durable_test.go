package durable_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"warren/node/durable"
)

func perm(t *testing.T, path string) os.FileMode {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode().Perm()
}

func noTemps(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), durable.TempPrefix) {
			t.Errorf("left behind: %s", e.Name())
		}
	}
}

func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	for _, c := range []struct {
		data string
		perm os.FileMode
	}{{"one", 0o600}, {"", 0o644}, {strings.Repeat("x", 1<<20), 0o666}, {"two", 0o400}, {"three", 0o600}} {
		if err := durable.WriteFile(path, []byte(c.data), c.perm); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != c.data {
			t.Fatalf("read %d bytes, %v", len(got), err)
		}
		if p := perm(t, path); runtime.GOOS != "windows" && p != c.perm {
			t.Errorf("permissions %o, want %o", p, c.perm)
		}
	}
	noTemps(t, dir)
}

func TestWriteFileFails(t *testing.T) {
	dir := t.TempDir()
	if err := durable.WriteFile(filepath.Join(dir, "none", "f"), nil, 0o600); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing directory: %v", err)
	}
	// A directory is in the way: the rename fails and the temporary file goes.
	way := filepath.Join(dir, "way")
	if err := os.MkdirAll(filepath.Join(way, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteFile(way, []byte("x"), 0o600); err == nil {
		t.Error("replaced a directory")
	}
	noTemps(t, dir)
}

// TestReadersSeeWholeFiles: whoever reads while others write gets one of the
// contents whole.
func TestReadersSeeWholeFiles(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows refuses to replace a file that is being read")
	}
	path := filepath.Join(t.TempDir(), "f")
	content := func(c byte) []byte { return bytes.Repeat([]byte{c}, 100_000) }
	if err := durable.WriteFile(path, content('0'), 0o600); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for w := range 2 {
		wg.Go(func() {
			for i := range 10 {
				if err := durable.WriteFile(path, content(byte('a'+10*w+i)), 0o600); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 200 {
		b, err := os.ReadFile(path)
		if err != nil || len(b) != 100_000 || bytes.Count(b, b[:1]) != len(b) {
			t.Fatalf("torn: %d bytes, %v", len(b), err)
		}
	}
	wg.Wait()
}

func TestRenameRemove(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "sub", "b")
	if err := durable.MkdirAll(filepath.Dir(b), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"1", "2"} {
		if err := durable.WriteFile(a, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := durable.Rename(a, b); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(b); err != nil || string(got) != s {
			t.Fatalf("%s, %v", got, err)
		}
	}
	if err := durable.Rename(a, b); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("rename of nothing: %v", err)
	}
	if err := durable.Remove(b); err != nil {
		t.Fatal(err)
	}
	if err := durable.Remove(b); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("remove of nothing: %v", err)
	}
	if err := durable.SyncDir(b); err == nil {
		t.Error("synced a directory that is not there")
	}
}

func TestMkdirAll(t *testing.T) {
	dir := t.TempDir()
	deep := filepath.Join(dir, "a", "b", "c")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := durable.MkdirAll(deep, 0o700); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, d := range []string{deep, filepath.Dir(deep)} {
		if p := perm(t, d); runtime.GOOS != "windows" && p != 0o700 {
			t.Errorf("%s: permissions %o", d, p)
		}
	}
	file := filepath.Join(dir, "file")
	if err := durable.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{file, filepath.Join(file, "x")} {
		if err := durable.MkdirAll(p, 0o700); !errors.Is(err, fs.ErrExist) && !strings.Contains(err.Error(), "not a directory") {
			t.Errorf("%s: %v", p, err)
		}
	}
}
