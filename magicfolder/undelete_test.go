package magicfolder

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"warren/magicfolder/fsys"
	"warren/magicfolder/remote"
	"warren/magicfolder/snapshot"
)

// paths are what was brought back, and what was not.
func (b Below) paths() (files, failed []string) {
	for _, f := range b.Files {
		files = append(files, f.Path)
	}
	for _, f := range b.Failed {
		failed = append(failed, f.Path)
	}
	return files, failed
}

func (p *party) undeleteBelow(dir string, want ...string) {
	p.t.Helper()
	out, err := p.f.UndeleteBelow(p.t.Context(), dir)
	files, failed := out.paths()
	if err != nil || !slices.Equal(files, want) || len(failed) > 0 || out.Path != dir {
		p.t.Errorf("%s: %+v, %v, want %q", p.name, out, err, want)
	}
}

// A directory comes back with all that was deleted below it, as it was last.
func TestUndeleteBelow(t *testing.T) {
	noLinks(t)
	forms(t, func(t *testing.T, mem bool) {
		w := newWorld(t)
		a, b := w.add("alice", mem), w.add("bob", mem)
		w.each(a, "d/f", "one", "two")
		a.write("d/sub/deep/g", "g")
		a.write("d/run", "#!/bin/sh")
		a.chmod("d/run", true)
		a.link("sub/deep/g", "d/link")
		a.write("d/stays", "here")
		a.mkdir("d/empty")
		for _, other := range []string{"d", "dd/f", "d-f", "D/f"} {
			if other != "d" && (mem || other != "D/f") {
				a.write(other, "of another")
			}
		}
		w.settle()
		for _, p := range []string{"d/f", "d/sub/deep/g", "d/run", "d/link", "dd/f", "d-f"} {
			a.remove(p)
		}
		a.rmdir("d/empty")
		w.settle()
		w.settle()
		// One that nobody else has heard of.
		b.client.Fail = func(string) error { return ErrUnavailable }
		b.write("d/draft", "offline")
		b.scanned()
		w.clock.Add(6 * time.Second)
		b.remove("d/draft")
		b.scanned()
		b.client.Fail = nil
		for dir, want := range map[string]bool{"d": true, "d/sub": true, "d/sub/deep": true, "d/f": false, "d/stays": false, "never": false, "dd": true} {
			if is, err := b.f.IsDirectory(t.Context(), dir); err != nil || is != want {
				t.Errorf("%s is a directory: %v, %v", dir, is, err)
			}
		}
		b.undeleteBelow("d/sub", "d/sub/deep/g")
		b.undeleteBelow("d", "d/draft", "d/empty/", "d/f", "d/link", "d/run")
		if _, err := b.f.UndeleteBelow(t.Context(), "d"); !errors.Is(err, ErrNoVersion) {
			t.Errorf("%v", err)
		}
		if _, err := b.f.UndeleteBelow(t.Context(), "never"); !errors.Is(err, ErrNoVersion) {
			t.Errorf("%v", err)
		}
		want := map[string]string{"d/f": "-", "d/sub/deep/g": "-", "d/run": "x", "d/link": "-> sub/deep/g", "d/stays": "-", "d/draft": "-"}
		if mem {
			want["D/f"] = "-"
		}
		b.are(want)
		w.settle()
		w.settle()
		w.current()
		for _, p := range w.parties {
			p.are(want)
			if is := p.is("d/empty"); is != "/" {
				t.Errorf("%s: the empty directory is %q", p.name, is)
			}
		}
		if got := a.texts("d/f"); !slices.Equal(got, []string{"two", "", "two", "one"}) {
			t.Errorf("%q", got)
		}
	})
}

// A path was a file and then a directory, and the other way round.
func TestUndeleteOfBothKinds(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice", true)
	a.write("x", "a file")
	w.settle()
	a.remove("x")
	a.write("x/y", "below")
	w.settle()
	// The directory stands: it is meant, and the file cannot be there beside it.
	a.write("x/z", "below")
	w.settle()
	a.remove("x/z")
	w.settle()
	if is, err := a.f.IsDirectory(t.Context(), "x"); err != nil || !is {
		t.Errorf("%v, %v", is, err)
	}
	a.undeleteBelow("x", "x/z")
	a.remove("x/y")
	a.remove("x/z")
	w.settle()
	if is, err := a.f.IsDirectory(t.Context(), "x"); err != nil || is {
		t.Errorf("%v, %v", is, err)
	}
	if _, err := a.f.Undelete(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	out, err := a.f.UndeleteBelow(t.Context(), "x")
	if _, failed := out.paths(); err != nil || !slices.Equal(failed, []string{"x/y", "x/z"}) || len(out.Files) > 0 {
		t.Errorf("%+v, %v", out, err)
	}
	a.has(map[string]string{"x": "a file"})
}

// What cannot be brought back does not hold up the rest; an older version than the one
// that cannot be read now does not pass for it; a crash loses nothing.
func TestUndeleteBelowInPart(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("alice", true), w.add("bob", true)
	var names []string
	for i := range 30 {
		names = append(names, fmt.Sprintf("d/%02d", i))
		a.write(names[i], strings.Repeat("long enough ", 20+i))
	}
	w.settle()
	for _, name := range names {
		a.remove(name)
	}
	w.settle()
	n := 0
	b.f.opt.Workers = 1
	b.client.Fail = func(op string) error {
		if op == "Get" {
			if n++; n%3 == 0 {
				return ErrUnavailable
			}
		}
		return nil
	}
	out, err := b.f.UndeleteBelow(t.Context(), "d")
	if err != nil || len(out.Failed) != 10 || len(out.Files) != 20 {
		t.Errorf("%d, %d, %v", len(out.Files), len(out.Failed), err)
	}
	b.client.Fail = nil
	crashAt(b, "put.placed")
	if _, err := b.f.UndeleteBelow(t.Context(), "d"); !errors.Is(err, errCrash) {
		t.Errorf("no crash: %v", err)
	}
	b.restart()
	if out, err := b.f.UndeleteBelow(t.Context(), "d"); err != nil || len(out.Failed) != 0 || len(out.Files) < 8 {
		t.Errorf("%+v, %v", out, err)
	}
	w.settle()
	w.current()
	if len(a.tree()) != 30 || len(b.tree()) != 30 {
		t.Errorf("%d and %d files", len(a.tree()), len(b.tree()))
	}
	// Bob comes anew and has not read what there was.
	w.each(a, "f", "one", "two")
	a.remove("f")
	a.scan()
	c := w.add("carol", true)
	c.poll()
	c.client.Fail = func(op string) error {
		if op == "List" {
			return ErrUnavailable
		}
		return nil
	}
	if out, err := c.f.Undelete(t.Context(), "f"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("%+v, %v", out, err)
	}
	c.client.Fail = nil
	if _, err := c.f.Undelete(t.Context(), "f"); err != nil || c.tree()["f"] != "two" {
		t.Errorf("%q, %v", c.tree()["f"], err)
	}
}

// A link in the history that leads out of the folder, or is too long for one, is not
// made, and neither is a directory's mark with contents.
func TestRestoreHostileForms(t *testing.T) {
	noLinks(t)
	w := newWorld(t)
	a := w.add("alice", false)
	m := newMallory(w, "mallory")
	link := snapshot.Form{Kind: snapshot.Symlink}
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("not of the folder"), 0o600); err != nil {
		t.Fatal(err)
	}
	bad := map[string]string{"absolute": outside, "up": "../../outside", "staging": "../" + fsys.Staging + "/x", "nul": "a\x00b", "long": strings.Repeat("x/", 1<<19), "none": ""}
	for name, target := range bad {
		v := m.snapshot(snapshot.Metadata{Relpath: "d/" + name, Form: link}, m.file(target))
		gone := m.snapshot(snapshot.Metadata{Relpath: "d/" + name, Parents: []remote.Cap{v}}, "")
		m.publish("d@_"+name, gone)
	}
	mark := "d/e/" + snapshot.DirectoryMark
	v := m.snapshot(snapshot.Metadata{Relpath: mark, Form: snapshot.Form{Kind: snapshot.Directory}}, m.file("contents"))
	m.publish(snapshot.Mangle(mark), m.snapshot(snapshot.Metadata{Relpath: mark, Parents: []remote.Cap{v}}, ""))
	good := m.snapshot(snapshot.Metadata{Relpath: "d/good", Form: link}, m.file("../d/good"))
	m.publish("d@_good", m.snapshot(snapshot.Metadata{Relpath: "d/good", Parents: []remote.Cap{good}}, ""))
	a.poll()
	before := a.f.Status().Received
	out, err := a.f.UndeleteBelow(t.Context(), "d")
	files, failed := out.paths()
	if err != nil || !slices.Equal(files, []string{"d/good"}) || len(failed) != len(bad)+1 {
		t.Errorf("%+v, %v", out, err)
	}
	a.are(map[string]string{"d/good": "-> ../d/good"})
	for _, name := range []string{"absolute", "up", "long"} {
		if _, err := a.f.Restore(t.Context(), "d/"+name, "2"); !errors.Is(err, fsys.ErrTarget) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := os.Lstat(filepath.Join(a.dir, "d", "e")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the marked directory: %v", err)
	}
	if n := a.f.Status().Received - before; n > 1<<16 {
		t.Errorf("%d bytes were read for it", n)
	}
	for _, v := range a.history("d/good", 0) {
		if v.Link == v.Deleted {
			t.Errorf("%+v", v)
		}
	}
	// A directory above that became a link is not followed.
	a.remove("d/good")
	if err := os.RemoveAll(filepath.Join(a.dir, "d")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Dir(outside), filepath.Join(a.dir, "d")); err != nil {
		t.Fatal(err)
	}
	if _, err := a.f.Undelete(t.Context(), "d/good"); err == nil {
		t.Error("written through a link")
	}
	if left, err := os.ReadDir(filepath.Dir(outside)); err != nil || len(left) != 1 {
		t.Errorf("outside: %v, %v", left, err)
	}
}
