package scan

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"warren/magicfolder/fsys"
	"warren/magicfolder/state"
)

// closed is a folder in which a directory became unreadable.
type closed struct {
	*fsys.Memory
	dir string
}

func (c closed) hidden(p string) bool { return c.dir != "" && strings.HasPrefix(p+"/", c.dir+"/") }

func (c closed) Walk(dir string, fn func(fsys.Item) error) error {
	if c.hidden(dir) {
		return &fs.PathError{Op: "open", Path: dir, Err: fs.ErrPermission}
	}
	return c.Memory.Walk(dir, func(it fsys.Item) error {
		if c.hidden(it.Path) {
			if it.Path == c.dir {
				it.Problem = "cannot be read"
				return fn(it)
			}
			return nil
		}
		return fn(it)
	})
}

func (c closed) Lstat(p string) (fsys.Item, error) {
	if c.hidden(p) && p != c.dir {
		return fsys.Item{}, &fs.PathError{Op: "lstat", Path: p, Err: fs.ErrPermission}
	}
	return c.Memory.Lstat(p)
}

// What cannot be read is not gone, wherever the scan begins, and it does not keep
// the scan from the rest.
func TestUnreadableIsNotGone(t *testing.T) {
	db, err := state.Open(filepath.Join(t.TempDir(), "db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	store, err := db.Add(state.Folder{ID: "x", Name: "x"})
	if err != nil {
		t.Fatal(err)
	}
	m := fsys.NewMemory()
	for _, p := range []string{"d/a", "d/b", "d.c", "e"} {
		m.Write(p, []byte(p))
		it, err := m.Lstat(p)
		if err != nil {
			t.Fatal(err)
		}
		if err := store.Update(func(tx *state.Tx) error { return tx.PutFile(p, state.File{Relpath: p, Disk: &it.State}) }); err != nil {
			t.Fatal(err)
		}
	}
	m.Write("e", []byte("edited"))
	m.Remove("d.c")
	for _, paths := range [][]string{nil, {"d", "e", "d.c"}, {"d/a", "e", "d.c"}} {
		res, err := Scan(closed{m, "d"}, store, &Ignore{}, paths...)
		if err != nil {
			t.Fatalf("%q: %v", paths, err)
		}
		if got := fmt.Sprint(res.Changes); got != "[{e e false} {d.c d.c true}]" {
			t.Errorf("%q: %s", paths, got)
		}
		if len(res.Problems) != 1 {
			t.Errorf("%q: problems %q", paths, res.Problems)
		}
	}
	// Readable again, and one of them is really gone.
	m.Remove("d/b")
	for _, paths := range [][]string{nil, {"d", "e", "d.c"}} {
		res, err := Scan(closed{m, ""}, store, &Ignore{}, paths...)
		if err != nil || len(res.Problems) != 0 || len(res.Changes) != 3 {
			t.Errorf("%q: %+v, %v", paths, res, err)
		}
	}
}

// Watching ends when the directory itself goes: its name may be another's then.
func TestWatchEndsWithTheDirectory(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("SKIP: Windows renames no directory that is watched")
	}
	dir := filepath.Join(t.TempDir(), "folder")
	if err := fsys.Make(dir); err != nil {
		t.Fatal(err)
	}
	for _, sub := range []string{"ignored/deep", "seen/deep", "seen/ignored"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, IgnoreFile), []byte("ignored/\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	out, done, stood := make(chan Event), make(chan error, 1), false
	disk, err := fsys.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	var g Ignore
	go func() { done <- g.Watch(t.Context(), disk, dir, out, func() { stood = true }) }()
	if ev := <-out; !ev.All || !stood {
		t.Errorf("%+v, standing: %v", ev, stood)
	}
	// Of what is ignored nothing is heard.
	for _, name := range []string{"ignored/f", "ignored/deep/f", "seen/ignored/f", "seen/deep/f"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if ev := <-out; ev.Path != "seen/deep/f" {
		t.Errorf("%+v", ev)
	}
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	for {
		select {
		case <-out: // what is left of the file's events
			continue
		case err := <-done:
			if !errors.Is(err, ErrWatch) {
				t.Errorf("error %v", err)
			}
		}
		return
	}
}

// unread is a folder whose files must not be opened.
type unread struct {
	fsys.FS
	t *testing.T
}

func (u unread) Open(p string) (fsys.File, error) {
	u.t.Errorf("opened %q", p)
	return u.FS.Open(p)
}

// A scan is a look at each file and no more, and sees each change that is to be seen.
func TestRescanOpensNothing(t *testing.T) {
	dir, disk, store := populate(t, 200)
	var g Ignore
	look := func(paths ...string) (changed []string) {
		t.Helper()
		res, err := Scan(unread{disk, t}, store, &g, paths...)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range res.Changes {
			changed = append(changed, fmt.Sprint(c.Path, " ", c.Gone))
		}
		slices.Sort(changed)
		return changed
	}
	if got := look(); len(got) > 0 {
		t.Errorf("changed: %q", got)
	}
	at := func(p string) string { return filepath.Join(dir, "branch 0", "twig 0", p) }
	later := time.Now().Add(time.Hour)
	for _, err := range []error{
		os.WriteFile(at("leaf 1.txt"), []byte("longer"), 0o644),
		os.Chtimes(at("leaf 2.txt"), later, later),
		os.Remove(at("leaf 3.txt")),
		os.Rename(at("leaf 4.txt"), at("leaf 5.txt")),
		os.Mkdir(at("new"), 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"leaf 1.txt false", "leaf 2.txt false", "leaf 3.txt true", "leaf 4.txt true", "leaf 5.txt false", "new/.warren-directory false"}
	if disk.Modes() {
		if err := os.Chmod(at("leaf 6.txt"), 0o755); err != nil {
			t.Fatal(err)
		}
		want = slices.Insert(want, 5, "leaf 6.txt false")
	}
	for i, w := range want {
		want[i] = "branch 0/twig 0/" + w
	}
	if got := look(); !slices.Equal(got, want) {
		t.Errorf("changed: %q, want %q", got, want)
	}
	if got := look("branch 0/twig 0/leaf 3.txt", "branch 0/twig 0/new"); !slices.Equal(got, []string{want[2], want[len(want)-1]}) {
		t.Errorf("at two places: %q", got)
	}
}
