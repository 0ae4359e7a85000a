package fsys

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// both runs a test on a real directory and in memory. write is the user.
func both(t *testing.T, do func(t *testing.T, f FS, write func(path, data string), read func(path string) string)) {
	t.Run("real", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "folder")
		if err := Make(dir); err != nil {
			t.Fatal(err)
		}
		f, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		do(t, f, func(p, data string) {
			p = filepath.Join(dir, p)
			os.MkdirAll(filepath.Dir(p), 0o755)
			if err := os.WriteFile(p, []byte(data), 0o644); err != nil {
				t.Fatal(err)
			}
		}, func(p string) string { data, _ := os.ReadFile(filepath.Join(dir, p)); return string(data) })
	})
	t.Run("memory", func(t *testing.T) {
		m := NewMemory()
		do(t, m, func(p, data string) { m.Write(p, []byte(data)) }, func(p string) string { d, _ := m.Read(p); return string(d) })
	})
}

func stage(t *testing.T, f FS, name, data string) State {
	t.Helper()
	w, err := f.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, data); err != nil {
		t.Fatal(err)
	}
	st, err := w.Finish(time.Unix(1_600_000_000, 0))
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func staged(t *testing.T, f FS, name string) string {
	t.Helper()
	r, err := f.OpenStaged(name)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestPlaceSwapTake(t *testing.T) {
	both(t, func(t *testing.T, f FS, write func(string, string), read func(string) string) {
		st := stage(t, f, "s1", "new")
		if err := f.Place("s1", "d/e/f"); err != nil {
			t.Fatal(err)
		}
		if it, err := f.Lstat("d/e/f"); err != nil || it.State != st || it.State.Modified != 1_600_000_000e9 {
			t.Errorf("placed: %+v, %v", it, err)
		}
		stage(t, f, "s2", "other")
		if err := f.Place("s2", "d/e/f"); !errors.Is(err, fs.ErrExist) {
			t.Errorf("placed over a file: %v", err)
		}
		if err := f.Place("s2", "d/e"); !errors.Is(err, fs.ErrExist) {
			t.Errorf("placed over a directory: %v", err)
		}
		if err := f.Place("s2", "d/e/f/g"); err == nil {
			t.Error("placed below a file")
		}
		if read("d/e/f") != "new" || staged(t, f, "s2") != "other" {
			t.Error("a failed Place changed something")
		}
		write("d/e/f", "the user's")
		if err := f.Swap("s2", "d/e/f"); err != nil {
			t.Fatal(err)
		}
		if read("d/e/f") != "other" || staged(t, f, "s2") != "the user's" {
			t.Error("not swapped")
		}
		if err := f.Swap("s2", "missing"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("swapped with nothing: %v", err)
		}
		if err := f.Take("d/e/f", "s3"); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Lstat("d"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the emptied directories stayed: %v", err)
		}
		if staged(t, f, "s3") != "other" {
			t.Error("not taken")
		}
		if err := f.Take("d/e/f", "s4"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("took nothing: %v", err)
		}
		for _, s := range []string{"s2", "s3", "never"} {
			if err := f.Discard(s); err != nil {
				t.Error(err)
			}
		}
		if left, err := f.Staged(); err != nil || len(left) != 0 {
			t.Errorf("left: %q, %v", left, err)
		}
	})
}

func TestNothingLeavesTheFolder(t *testing.T) {
	base := t.TempDir()
	dir := filepath.Join(base, "folder")
	if err := Make(dir); err != nil {
		t.Fatal(err)
	}
	f, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for link, to := range map[string]string{"out": "..", "abs": base, "in": "sub", "file": "../secret"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Skipf("SKIP: no symlinks here: %v", err)
		}
	}
	if err := os.WriteFile(filepath.Join(base, "secret"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"out/x", "abs/x", "../x", "a/../../x", "/x", "in/x", "out/folder/x", Staging + "/x", ".WARREN-staging/x", "", ".", "a//b"} {
		stage(t, f, "s", "evil")
		if err := f.Place("s", p); err == nil {
			t.Errorf("placed at %q", p)
		}
		if err := f.Swap("s", p); err == nil {
			t.Errorf("swapped at %q", p)
		}
		if err := f.Take(p, "t"); err == nil {
			t.Errorf("took %q", p)
		}
		f.Discard("s")
	}
	if _, err := f.Open("file"); err == nil {
		t.Error("opened a symlink")
	}
	for _, s := range []string{"../x", "a/b", "..", "", `a\b`} {
		if _, err := f.Create(s); !errors.Is(err, ErrName) {
			t.Errorf("staged name %q: %v", s, err)
		}
	}
	left, err := os.ReadDir(base)
	if err != nil || len(left) != 2 {
		t.Errorf("beside the folder: %v, %v", left, err)
	}
	problems := 0
	err = f.Walk("", func(it Item) error {
		if strings.HasPrefix(it.Path, Staging) {
			t.Errorf("walked into the staging area")
		}
		if it.Problem != "" {
			problems++
		}
		return nil
	})
	if err != nil || problems != 4 {
		t.Errorf("%d problems, %v", problems, err)
	}
}

func TestSwapKeepsMode(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("SKIP: Windows has no such modes")
	}
	dir := filepath.Join(t.TempDir(), "folder")
	if err := Make(dir); err != nil {
		t.Fatal(err)
	}
	f, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.WriteFile(filepath.Join(dir, "script"), []byte("old"), 0o750); err != nil {
		t.Fatal(err)
	}
	stage(t, f, "s", "new")
	if err := f.Swap("s", "script"); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dir, "script")); err != nil || info.Mode().Perm() != 0o750 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// The way for systems without an exchange ends the same.
func TestSetAside(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "folder")
	if err := Make(dir); err != nil {
		t.Fatal(err)
	}
	f, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := f.(*real)
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	stage(t, f, "s", "new")
	if err := r.setAside(stagedPath("s"), "f"); err != nil {
		t.Fatal(err)
	}
	if data, _ := os.ReadFile(filepath.Join(dir, "f")); string(data) != "new" || staged(t, f, "s") != "old" {
		t.Errorf("%q, %q", data, staged(t, f, "s"))
	}
	if err := r.linkNew(stagedPath("s"), "f"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("linked over a file: %v", err)
	}
	if err := r.linkNew(stagedPath("s"), "g"); err != nil {
		t.Fatal(err)
	}
	if data, _ := os.ReadFile(filepath.Join(dir, "g")); string(data) != "old" {
		t.Errorf("%q", data)
	}
}

func TestCheckPath(t *testing.T) {
	for _, p := range []string{"a", "a/b", "...", "a..b", " ", "-", strings.Repeat("x", 255), "a:b", `a\b`, "con", "x\ny"} {
		if err := CheckPath(p, false); err != nil {
			t.Errorf("%q: %v", p, err)
		}
	}
	for _, p := range []string{"", "/", "/a", "a/", "a//b", ".", "..", "a/..", "a/./b", "../a", "a\x00b", "\xff", strings.Repeat("x", 256),
		strings.Repeat("x/", 2500) + "x", Staging, Staging + "/x", ".Warren-Staging"} {
		if err := CheckPath(p, false); !errors.Is(err, ErrName) {
			t.Errorf("%q: %v", p, err)
		}
	}
	for _, p := range []string{"a:b", `a\b`, "con", "CON.txt", "com1", "lpt9.x", "x.", "x ", "a?", "nul", "x\ty", "d/aux", "COM¹", `..\x`, "c:/x"} {
		if err := CheckPath(p, true); !errors.Is(err, ErrName) {
			t.Errorf("Windows, %q: %v", p, err)
		}
		if WindowsProblem(p) == "" {
			t.Errorf("%q: no words for it", p)
		}
	}
	if got := Printable("a\n\x1b[0m\u202eb\xff é"); got != `a\x0a\x1b[0m\u202eb\xff é` {
		t.Errorf("%s", got)
	}
}

func TestRename(t *testing.T) {
	both(t, func(t *testing.T, f FS, write func(string, string), read func(string) string) {
		write("d/a", "one")
		write("d/b", "two")
		if err := f.Rename("d/a", "d/b"); !errors.Is(err, fs.ErrExist) {
			t.Errorf("onto another: %v", err)
		}
		if err := f.Rename("d/none", "d/c"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("of nothing: %v", err)
		}
		if err := f.Rename("d/a", "d/../../c"); !errors.Is(err, ErrName) {
			t.Errorf("outside: %v", err)
		}
		if err := f.Rename("d/a", "d/c"); err != nil {
			t.Fatal(err)
		}
		if read("d/a") != "" || read("d/b") != "two" || read("d/c") != "one" {
			t.Errorf("%q %q %q", read("d/a"), read("d/b"), read("d/c"))
		}
	})
}
