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

	"warren/magicfolder/snapshot"
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
		if err := f.RemoveDir("d"); err == nil {
			if _, err := f.Lstat("d"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("removed, and there: %v", err)
			}
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
	for link, to := range map[string]string{"out": "..", "abs": base, "in": "sub", "file": "../secret", "chain": "sub/../.."} {
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
	if err != nil || problems != 4 { // of "in" there is nothing to say
		t.Errorf("%d problems, %v", problems, err)
	}
}

func TestDress(t *testing.T) {
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
	if !f.Modes() {
		t.Skip("SKIP: this file system keeps no modes")
	}
	script := filepath.Join(dir, "script")
	if err := os.WriteFile(script, []byte("old"), 0o750); err != nil {
		t.Fatal(err)
	}
	yes, no := true, false
	for _, c := range []struct {
		path string
		exec *bool
		want os.FileMode
	}{
		{"script", nil, 0o750}, // who knows of no modes leaves it executable
		{"script", &no, 0o640},
		{"script", &yes, 0o750},
		{"new", &yes, 0o711},
		{"other", nil, 0o644},
	} {
		stage(t, f, "s", "new")
		st, err := f.Dress("s", c.path, Regular, c.exec)
		if err != nil {
			t.Fatal(err)
		}
		if c.path == "script" {
			err = f.Swap("s", c.path)
		} else {
			err = f.Place("s", c.path)
		}
		if err != nil {
			t.Fatal(err)
		}
		f.Discard("s")
		info, err := os.Stat(filepath.Join(dir, c.path))
		if err != nil {
			t.Fatal(err)
		}
		if c.path == "new" { // whatever the umask leaves
			c.want = info.Mode().Perm()&^0o111 | info.Mode().Perm()&0o444>>2
		} else if c.path == "other" {
			c.want = info.Mode().Perm() &^ 0o111
		}
		if info.Mode().Perm() != c.want {
			t.Errorf("%s: mode %v, want %v", c.path, info.Mode(), c.want)
		}
		if it, err := f.Lstat(c.path); err != nil || it.State != st || st.Exec != (c.want&0o100 != 0) {
			t.Errorf("%s: %+v, dressed as %+v, %v", c.path, it, st, err)
		}
	}
}

// Links, and the marks of directories, are placed, swapped and taken as files are.
func TestLinksAndMarks(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("SKIP: no links are made on Windows")
	}
	both(t, func(t *testing.T, f FS, write func(string, string), read func(string) string) {
		write("d/target", "contents")
		stage(t, f, "l", "target")
		st, err := f.Dress("l", "d/link", Symlink, nil)
		if err != nil || st.Kind != Symlink {
			t.Fatal(st, err)
		}
		if again, err := f.Dress("l", "d/link", Symlink, nil); err != nil || again != st {
			t.Errorf("again: %+v, %v", again, err)
		}
		if err := f.Place("l", "d/link"); err != nil {
			t.Fatal(err)
		}
		it, err := f.Lstat("d/link")
		if err != nil || it.Kind != Symlink || it.State != st {
			t.Errorf("%+v, want %+v, %v", it, st, err)
		}
		r, err := f.Open("d/link")
		if err != nil {
			t.Fatal(err)
		}
		if text, _ := io.ReadAll(r); string(text) != "target" {
			t.Errorf("read %q", text)
		}
		// A file takes the link's place, and not its target's.
		stage(t, f, "s", "plain")
		if err := f.Swap("s", "d/link"); err != nil {
			t.Fatal(err)
		}
		if read("d/target") != "contents" || read("d/link") != "plain" || staged(t, f, "s") != "target" {
			t.Error("not swapped")
		}
		for _, bad := range []string{"", "/etc/passwd", "../..", "../../folder/d", "x/../y", "../" + Staging + "/s", "a\x00b", strings.Repeat("x", 5000), "\xff"} {
			stage(t, f, "b", bad)
			if st, err := f.Dress("b", "d/bad", Symlink, nil); !errors.Is(err, ErrTarget) {
				t.Errorf("%q: %+v, %v", bad, st, err)
			}
			f.Discard("b")
		}
		for _, good := range []string{"..", "../e", "./x", "deep/er", "target/"} {
			if err := CheckTarget("d/l", good); err != nil {
				t.Errorf("%q: %v", good, err)
			}
		}

		mark := "e/f/" + snapshot.DirectoryMark
		if _, err := f.Lstat(mark); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a mark without a directory: %v", err)
		}
		stage(t, f, "m", "")
		if _, err := f.Dress("m", mark, Mark, nil); err != nil {
			t.Fatal(err)
		}
		if err := f.Place("m", mark); err != nil || !f.Empty("e/f") {
			t.Fatalf("%v, empty %v", err, f.Empty("e/f"))
		}
		marks := func() (n int) {
			if err := f.Walk("", func(it Item) error {
				if it.Kind == Mark {
					n++
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			return n
		}
		if marks() != 1 {
			t.Errorf("%d marks", marks())
		}
		write("e/f/x", "x")
		if marks() != 0 || f.Empty("e/f") {
			t.Error("a full directory shows a mark")
		}
		if err := f.Take(mark, "m"); err != nil || read("e/f/x") != "x" {
			t.Errorf("a full directory was removed: %v", err)
		}
		f.Discard("m")
		if err := f.Take("e/f/x", "x"); err != nil {
			t.Fatal(err)
		}
		if it, err := f.Lstat(mark); err == nil {
			if it.Kind != Mark {
				t.Errorf("%+v", it)
			}
			if err := f.Take(mark, "m"); err != nil {
				t.Error(err)
			}
		}
		if _, err := f.Lstat("e/f"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the directory stays: %v", err)
		}
	})
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
		strings.Repeat("x/", 2500) + "x", Staging, Staging + "/x", ".Warren-Staging",
		snapshot.DirectoryMark, "a/" + snapshot.DirectoryMark + "/b", "a/.Warren-Directory"} {
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
