package download

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"warren/magicfolder/fsys"
	"warren/magicfolder/remote"
	"warren/magicfolder/snapshot"
	"warren/magicfolder/state"
)

// disk is a folder that fails when told to.
type disk struct {
	*fsys.Memory
	create, place func() error      // instead of the call
	swap          func(n int) error // after the n-th
	swaps         int
}

func (d *disk) Create(staged string) (fsys.Writer, error) {
	if d.create != nil {
		return nil, d.create()
	}
	return d.Memory.Create(staged)
}

func (d *disk) Place(staged, path string) error {
	if d.place != nil {
		if err := d.place(); err != nil {
			return err
		}
	}
	return d.Memory.Place(staged, path)
}

func (d *disk) Swap(staged, path string) error {
	d.swaps++
	if d.swaps == 2 && d.swap != nil {
		return d.swap(2)
	}
	err := d.Memory.Swap(staged, path)
	if err == nil && d.swap != nil {
		err = d.swap(d.swaps)
	}
	return err
}

type contents map[remote.Cap]string

func (c contents) Get(_ context.Context, file remote.Cap, w io.Writer) error {
	_, err := io.WriteString(w, c[file])
	return err
}

var errFull = errors.New("no space left on device")

// start gives a folder whose file f is known as "old", and versions to take.
func start(t *testing.T) (*Downloader, *disk, func(content string) error) {
	t.Helper()
	db, err := state.Open(filepath.Join(t.TempDir(), "db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	store, err := db.Add(state.Folder{ID: "x", Name: "x"})
	if err != nil {
		t.Fatal(err)
	}
	mem := &disk{Memory: fsys.NewMemory()}
	grid := contents{}
	d := &Downloader{Grid: grid, FS: mem, Store: store, Own: "me"}
	take := func(content string) error {
		s := snapshot.Snapshot{Cap: remote.Cap("version of " + content), Content: remote.Cap(content),
			Metadata: snapshot.Metadata{Relpath: "f", Modified: 1_600_000_000}}
		grid[s.Content] = content
		st, err := d.Fetch(t.Context(), s)
		if err != nil {
			return err
		}
		return d.Take("f", s, st)
	}
	if err := take("old"); err != nil {
		t.Fatal(err)
	}
	return d, mem, take
}

func all(m *disk) map[string]string {
	out := map[string]string{}
	for _, p := range m.Files() {
		data, _ := m.Read(p)
		out[p] = string(data)
	}
	return out
}

// The user saves at the last moment, and then the disk is full: the journal must
// stand until the user's bytes have a place, whatever comes in between.
func TestJournalStandsUntilFinished(t *testing.T) {
	for name, again := range map[string]func(d *Downloader, take func(string) error) error{
		"take": func(_ *Downloader, take func(string) error) error { return take("newer") },
		"adopt": func(d *Downloader, _ func(string) error) error {
			return d.Adopt("f", snapshot.Snapshot{Cap: "c", Content: "newer"})
		},
		"restart": func(d *Downloader, _ func(string) error) error { d.Recover(); return ErrEdited },
	} {
		t.Run(name, func(t *testing.T) {
			d, m, take := start(t)
			m.Before = func(op, path string) {
				if op == "swap" && m.swaps == 1 {
					m.Write("f", []byte("the user's"))
				}
			}
			m.swap = func(n int) error {
				if n == 1 {
					m.create = func() error { return errFull } // from here on
					return nil
				}
				return errFull // it cannot be put back
			}
			if err := take("new"); !errors.Is(err, errFull) || errors.Is(err, ErrEdited) {
				t.Fatalf("error %v", err)
			}
			m.Before, m.swap, m.create = nil, nil, nil
			if err := again(d, take); !errors.Is(err, ErrEdited) {
				t.Fatalf("error %v", err)
			}
			if err := d.Recover(); err != nil {
				t.Fatal(err)
			}
			if got := all(m); got["f.conflict-me"] != "the user's" || got["f"] != "new" {
				t.Errorf("%q", got)
			}
			var rec state.File
			d.Store.View(func(tx *state.Tx) (err error) { rec, _, err = tx.File("f"); return err })
			if rec.Move != nil || len(rec.Conflicts) != 1 || rec.Conflicts[0].Path != "f.conflict-me" {
				t.Errorf("%+v", rec)
			}
		})
	}
}

// The move is made and reported as failed, as when a directory cannot be synced.
func TestMoveWithUnknownOutcome(t *testing.T) {
	d, m, take := start(t)
	m.Before = func(op, path string) {
		if op == "swap" {
			m.Write("f", []byte("the user's"))
		}
	}
	m.swap = func(int) error { return errFull }
	if err := take("new"); !errors.Is(err, errFull) {
		t.Fatalf("error %v", err)
	}
	m.Before, m.swap = nil, nil
	if err := d.Recover(); err != nil {
		t.Fatal(err)
	}
	if got := all(m); got["f.conflict-me"] != "the user's" || got["f"] != "new" {
		t.Errorf("%q", got)
	}
}

// A conflict file that the user edits while it is tidied away stays.
func TestRemoveKeepsAnEdit(t *testing.T) {
	d, m, _ := start(t)
	m.Write("f.conflict-x", []byte("theirs"))
	sum, err := sum(m.Open("f.conflict-x"))
	if err != nil {
		t.Fatal(err)
	}
	m.Before = func(op, path string) {
		if op == "take" {
			m.Write("f.conflict-x", []byte("edited"))
		}
	}
	first := true
	m.place = func() error {
		if first {
			first = false
			m.Write("f.conflict-x", []byte("and made again"))
		}
		return nil
	}
	c := state.Conflict{Path: "f.conflict-x", Name: "x", Sum: sum}
	if err := d.put("f", state.File{Relpath: "f", Conflicts: []state.Conflict{c}}); err != nil {
		t.Fatal(err)
	}
	if gone, err := d.RemoveConflict("f", c); gone || err != nil {
		t.Errorf("removed: %v, %v", gone, err)
	}
	if err := d.Recover(); err != nil {
		t.Fatal(err)
	}
	if got := all(m); got["f.conflict-x"] != "and made again" || got["f.conflict-x.2"] != "edited" {
		t.Errorf("%q", got)
	}
}

// What nobody else on the machine may read is not made readable by a conflict.
func TestConflictFileKeepsMode(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("SKIP: Windows has no such modes")
	}
	dir := filepath.Join(t.TempDir(), "folder")
	if err := fsys.Make(dir); err != nil {
		t.Fatal(err)
	}
	f, err := fsys.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := &Downloader{FS: f}
	own, err := d.Copy("f")
	if err != nil {
		t.Fatal(err)
	}
	p, err := d.PlaceConflict("f", "x", own)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dir, p)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	// And beside nothing there is nothing to keep to.
	w, err := f.Create("s")
	if err != nil {
		t.Fatal(err)
	}
	st, err := w.Finish(time.Unix(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.PlaceConflict("gone", "x", Staged{Name: "s", State: st, Sum: bytes.Repeat([]byte{0}, 32)}); err != nil {
		t.Error(err)
	}
}

func TestConflictPath(t *testing.T) {
	for _, c := range []struct {
		relpath, name string
		n             int
		want          string
	}{
		{"f", "bob", 1, "f.conflict-bob"}, {"d/f", "bob", 3, "d/f.conflict-bob.3"}, {"f", "two words", 1, "f.conflict-two words"},
	} {
		if got := ConflictPath(c.relpath, c.name, c.n); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
	for _, relpath := range []string{"f", string(bytes.Repeat([]byte("ü"), 127)), "d/" + string(bytes.Repeat([]byte("n"), 255))} {
		for _, name := range []string{"bob", "../../up", string(bytes.Repeat([]byte("x"), 128)), "nul\x00"} {
			p := ConflictPath(relpath, name, 12)
			if err := fsys.CheckPath(p, false); err != nil || filepath.Dir(p) != filepath.Dir(relpath) {
				t.Errorf("%q of %q: %q, %v", name, relpath, p, err)
			}
		}
	}
}

// And it comes back when we die while it is away.
func TestRemoveKeepsAnEditOverACrash(t *testing.T) {
	for _, edited := range []bool{false, true} {
		for _, step := range []string{"remove.journalled", "remove.taken"} {
			d, m, _ := start(t)
			m.Write("f.conflict-x", []byte("theirs"))
			sum, err := sum(m.Open("f.conflict-x"))
			if err != nil {
				t.Fatal(err)
			}
			c := state.Conflict{Path: "f.conflict-x", Name: "x", Sum: sum}
			if err := d.put("f", state.File{Relpath: "f", Conflicts: []state.Conflict{c}}); err != nil {
				t.Fatal(err)
			}
			if edited {
				m.Before = func(op, path string) {
					if op == "take" {
						m.Write(path, []byte("edited"))
					}
				}
			}
			d.Fault = func(s string) error {
				if s == step {
					return errFull
				}
				return nil
			}
			if _, err := d.RemoveConflict("f", c); !errors.Is(err, errFull) {
				t.Fatalf("%v", err)
			}
			m.Before, d.Fault = nil, nil
			if err := d.Recover(); err != nil {
				t.Fatal(err)
			}
			want := map[string]string{"f": "old"}
			switch {
			case step == "remove.journalled":
				want["f.conflict-x"] = "theirs"
			case edited:
				want["f.conflict-x"] = "edited"
			}
			if got := all(m); !maps.Equal(got, want) {
				t.Errorf("%s, edited %v: %q, want %q", step, edited, got, want)
			}
			rec, err := d.load("f")
			if err != nil || len(rec.Conflicts) != len(want)-1 || len(want) > 1 && rec.Conflicts[0].Staged != "" {
				t.Errorf("%s, edited %v: %+v, %v", step, edited, rec.Conflicts, err)
			}
		}
	}
}
