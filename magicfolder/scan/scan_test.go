package scan

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

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
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	out, done, stood := make(chan Event), make(chan error, 1), false
	go func() { done <- Watch(t.Context(), dir, out, func() { stood = true }) }()
	if ev := <-out; !ev.All || !stood {
		t.Errorf("%+v, standing: %v", ev, stood)
	}
	if err := os.WriteFile(filepath.Join(dir, "f"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if ev := <-out; ev.Path != "f" {
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
