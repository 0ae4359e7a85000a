package magicfolder

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"warren/magicfolder/fsys"
)

// Somebody with the Collective's writecap gives us another name: one that could
// be none of ours is not taken, and we enter again.
func TestTrapName(t *testing.T) {
	for _, trap := range []string{"x/../../y", "a\x1b[31mb", "..", "a/b"} {
		w := newWorld(t)
		a, b := w.add("alice", true), w.add("bob", true)
		w.settle()
		err := a.client.Update(t.Context(), a.f.Collective(), []Change{{Entry: Entry{Name: "bob"}, Delete: true},
			{Entry: Entry{Name: trap, Read: b.f.config().Readcap}}})
		if err != nil {
			t.Fatal(err)
		}
		b.poll()
		if got := b.f.Participant(); got != "bob" {
			t.Errorf("bob became %q", got)
		}
		alarmed(t, b, "is ignored")
	}
}

// Before we have a directory, an entry without any cap is not ours.
func TestEmptyEntryIsNotOurs(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("alice", true), w.add("bob", true)
	if err := a.client.Update(t.Context(), a.f.Collective(), []Change{{Entry: Entry{Name: "nobody"}}}); err != nil {
		t.Fatal(err)
	}
	b.client.Fail = func(op string) error {
		if op == "MakeDirectory" {
			return ErrUnhappy
		}
		return nil
	}
	b.f.PollNow(t.Context())
	if b.f.config().Enrolled || b.f.Participant() != "bob" {
		t.Errorf("enrolled without a directory, as %q", b.f.Participant())
	}
	// And one who leaves before that takes nobody's entry along.
	if err := b.m.Leave(t.Context(), "docs", true); err != nil {
		t.Fatal(err)
	}
	entries, _, err := a.client.List(t.Context(), a.f.Collective())
	if err != nil || len(entries) != 3 {
		t.Errorf("%d entries are left, %v", len(entries), err)
	}
}

// What was uploaded under a name that turns out to be taken is signed anew: under
// the other's name it would be a forgery to everybody.
func TestSignedBeforeTheNameWasKnown(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.add("alice", true), w.add("bob", true), w.add("bob", true)
	b.write("f", "by the first bob")
	w.parties = []*party{a, b}
	w.settle()
	c.write("g", "by the second bob")
	c.scan()
	if got := c.f.Participant(); got != "bob-2" {
		t.Fatalf("name %q", got)
	}
	w.parties = []*party{a, b, c}
	w.settle()
	for _, p := range w.parties {
		p.has(map[string]string{"f": "by the first bob", "g": "by the second bob"})
		if alarms := p.f.Status().Alarms; len(alarms) > 0 {
			t.Errorf("%s: %q", p.name, alarms)
		}
	}
	w.current()
}

func TestDirectoriesThatAreNoFolder(t *testing.T) {
	base := t.TempDir()
	node := filepath.Join(base, "home", ".warren", "private")
	m, err := NewManager(Options{Grid: newWorld(t).grid.Client("x"), StatePath: filepath.Join(node, "db"), Clock: &hand{now: time.Unix(1e9, 0)}})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := os.Symlink(filepath.Join(base, "home"), filepath.Join(base, "link")); err != nil {
		t.Skipf("SKIP: no symlinks here: %v", err)
	}
	for _, dir := range []string{node, filepath.Dir(node), filepath.Join(base, "home"), base, filepath.Join(base, "link")} {
		if _, err := m.Create(t.Context(), "secrets", dir, "x"); !errors.Is(err, ErrOwnFiles) || !errors.Is(err, ErrDirectory) {
			t.Errorf("%s: %v", dir, err)
		}
	}
	if _, err := m.Create(t.Context(), "docs", filepath.Join(base, "home", "docs"), "x"); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"docs", "docs/below", "docs/far/below"} {
		for _, home := range []string{"home", "link"} {
			if _, err := m.Create(t.Context(), "other", filepath.Join(base, home, dir), "x"); !errors.Is(err, ErrDirectory) {
				t.Errorf("%s/%s: %v", home, dir, err)
			}
		}
	}
	if _, err := m.Join(t.Context(), "beside", filepath.Join(base, "link", "docs2"), "x", m.folders["docs"].Collective()); err != nil {
		t.Errorf("beside another: %v", err)
	}
}

// Leaving finishes what is half done: what the user saved is in no staging area
// that goes with the folder.
func TestLeaveKeepsTheUsersBytes(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("alice", false), w.add("bob", false)
	a.write("f", "base")
	w.settle()
	a.write("f", "from alice")
	a.scan()
	b.fault = func(step string) error {
		if step != "download.placed" {
			return nil
		}
		// A program that has had the file open since before the swap.
		staged, err := filepath.Glob(filepath.Join(b.dir, fsys.Staging, "*"))
		if err != nil || len(staged) != 1 {
			t.Fatalf("staged: %q, %v", staged, err)
		}
		if err := os.WriteFile(staged[0], []byte("saved at the last moment"), 0o644); err != nil {
			t.Fatal(err)
		}
		return errCrash
	}
	if err := b.f.PollNow(t.Context()); !errors.Is(err, errCrash) {
		t.Fatalf("error %v", err)
	}
	if err := b.m.Leave(t.Context(), "docs", false); err != nil {
		t.Fatal(err)
	}
	b.has(map[string]string{"f": "from alice", "f.conflict-bob": "saved at the last moment"})
	if _, err := os.Stat(filepath.Join(b.dir, fsys.Staging)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the staging area: %v", err)
	}
}
