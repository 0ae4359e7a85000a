package magicfolder

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"warren/magicfolder/snapshot"
)

// scanned captures and uploads nothing.
func (p *party) scanned() {
	p.t.Helper()
	if err := p.f.scan(p.t.Context()); err != nil {
		p.t.Fatal(err)
	}
}

// texts are the bytes of all versions of a file, newest first; "" is a delete.
func (p *party) texts(key string) []string {
	p.t.Helper()
	var out []string
	for _, v := range p.history(key, 0) {
		text := ""
		if !v.Deleted {
			text = p.bytesOf(key, v.ID)
		}
		out = append(out, text)
	}
	return out
}

// entry is what our Personal directory has for a path.
func (p *party) entry(key string) Cap {
	p.t.Helper()
	entries, _, err := p.client.List(p.t.Context(), p.f.config().Personal)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name == snapshot.Mangle(key) {
			return e.Read
		}
	}
	return ""
}

// A file that was made, edited and deleted offline is found in the history, by all.
func TestMadeAndDeletedOffline(t *testing.T) {
	forms(t, func(t *testing.T, mem bool) {
		w := newWorld(t)
		a, b := w.add("alice", mem), w.add("bob", mem)
		w.settle()
		a.client.Fail = func(string) error { return ErrUnavailable }
		for _, text := range []string{"one", "two"} {
			a.write("d/f", text)
			a.scanned()
			w.clock.Add(6 * time.Second)
		}
		a.write("old name", "renamed")
		a.scanned()
		w.clock.Add(6 * time.Second)
		a.remove("d/f")
		a.remove("old name")
		a.write("new name", "renamed")
		a.scanned()
		a.restart()
		if got := a.history("d/f", 0); len(got) != 3 || !got[0].Deleted || !got[2].Waiting {
			t.Errorf("%+v", got)
		}
		if list, err := a.f.Deleted(t.Context()); err != nil || len(list) != 2 || list[0].Path != "d/f" || list[0].Author != "alice" {
			t.Errorf("%+v, %v", list, err)
		}
		a.client.Fail = nil
		w.settle()
		w.current()
		for _, p := range w.parties {
			p.has(map[string]string{"new name": "renamed"})
			if got := p.texts("d/f"); !slices.Equal(got, []string{"", "two", "one"}) {
				t.Errorf("%s: %q", p.name, got)
			}
			if got := p.texts("old name"); !slices.Equal(got, []string{"", "renamed"}) {
				t.Errorf("%s: %q", p.name, got)
			}
			if list, err := p.f.Deleted(t.Context()); err != nil || len(list) != 2 {
				t.Errorf("%s: %+v, %v", p.name, list, err)
			}
		}
		if _, err := b.f.Undelete(t.Context(), "d/f"); err != nil {
			t.Fatal(err)
		}
		w.settle()
		a.has(map[string]string{"new name": "renamed", "d/f": "two"})
		w.current()
	})
}

// What is there for a moment leaves nothing; what was there for longer does, however
// often it was saved.
func TestTemporaryFiles(t *testing.T) {
	for _, c := range []struct {
		pause time.Duration
		saves int
		want  int
	}{
		{0, 1, 0}, {time.Second, 1, 0}, {4900 * time.Millisecond, 1, 0}, {time.Second, 4, 0}, {6 * time.Second, 1, 2}, {4 * time.Second, 10, 2}, {6 * time.Second, 3, 4},
	} {
		w := newWorld(t)
		a, b := w.add("alice", true), w.add("bob", true)
		w.settle()
		a.client.Fail = func(string) error { return ErrUnavailable }
		for i := range c.saves {
			a.write("f", fmt.Sprint("saved ", i))
			a.mkdir("empty")
			a.scanned()
			w.clock.Add(c.pause)
		}
		a.remove("f")
		a.rmdir("empty")
		a.scanned()
		if n := len(mustLines(t, a)["f"]); n != c.want {
			t.Errorf("%+v: %d versions are in the stash", c, n)
		}
		if c.want == 0 {
			if rec, _, err := a.f.load("f"); err != nil || rec.Relpath != "" {
				t.Errorf("%+v: a record is left: %+v, %v", c, rec, err)
			}
		}
		a.client.Fail = nil
		w.settle()
		w.current()
		if c.want == 0 {
			if err := b.f.History(t.Context(), "f", 0, func(FileVersion) error { return nil }); !errors.Is(err, ErrNoVersion) {
				t.Errorf("%+v: %v", c, err)
			}
		} else if got := b.texts("f"); len(got) != c.want || got[0] != "" || got[1] != fmt.Sprint("saved ", c.saves-1) {
			t.Errorf("%+v: %q", c, got)
		}
		if len(mustLines(t, a)) != 0 {
			t.Errorf("%+v: the stash is not empty", c)
		}
	}
}

// Deleted in the same moment, but after a crash that may have published it: the others
// must hear of the delete.
func TestDeletedAfterACrash(t *testing.T) {
	for _, step := range []string{"capture.recorded", "upload.content", "upload.snapshot", "upload.recorded", "link.ready", "link.updated"} {
		w := newWorld(t)
		a, b := w.add("alice", true), w.add("bob", true)
		w.settle()
		a.write("f", "there for a moment")
		crashAt(a, step)
		if err := a.f.ScanNow(t.Context()); !errors.Is(err, errCrash) {
			t.Fatalf("%s: %v", step, err)
		}
		a.restart()
		b.poll()
		a.remove("f")
		w.settle()
		for _, p := range w.parties {
			p.has(map[string]string{})
		}
		w.current()
	}
}

// A crash at each step on the way of such a line: nothing of it is lost.
func TestUnheardCrash(t *testing.T) {
	for _, step := range []string{"capture.recorded", "upload.content", "upload.metadata", "upload.snapshot", "upload.recorded",
		"link.checked", "link.ready", "link.updated", "link.recorded"} {
		for at := range 3 {
			w := newWorld(t)
			a, b := w.add("alice", true), w.add("bob", true)
			w.settle()
			a.client.Fail = func(string) error { return ErrUnavailable }
			for _, text := range []string{"one", "two"} {
				a.write("f", text)
				a.scanned()
				w.clock.Add(6 * time.Second)
			}
			a.remove("f")
			n := 0
			a.fault = func(s string) error {
				if s == step {
					if n++; n == at+1 {
						return fmt.Errorf("%s: %w", s, errCrash)
					}
				}
				return nil
			}
			err := a.f.scan(t.Context())
			a.client.Fail = nil
			if err == nil {
				err = a.f.push(t.Context())
			}
			if crashed := errors.Is(err, errCrash); !crashed && (err != nil || at == 0) {
				t.Fatalf("%s %d: %v", step, at, err)
			}
			a.restart()
			w.settle()
			for _, p := range w.parties {
				p.has(map[string]string{})
				if got := p.texts("f"); !slices.Equal(got, []string{"", "two", "one"}) {
					t.Errorf("%s %d: %s: %q", step, at, p.name, got)
				}
			}
			w.current()
			if _, err := b.f.Undelete(t.Context(), "f"); err != nil {
				t.Error(err)
			}
		}
	}
}

// While its delete waits, the others do not get the file for a moment.
func TestUnheardIsPublishedWhole(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("alice", true), w.add("bob", true)
	a.f.opt.Linger = 10 * time.Second
	w.settle()
	a.client.Fail = func(string) error { return ErrUnavailable }
	a.write("f", "one")
	a.write("again", "one")
	a.scanned()
	w.clock.Add(6 * time.Second)
	a.remove("f")
	a.remove("again")
	a.scanned()
	a.client.Fail = nil
	for range 2 {
		a.poll()
		if a.entry("f") != "" || a.entry("again") != "" {
			t.Error("a file that is deleted already was published")
		}
		w.clock.Add(4 * time.Second)
		a.write("again", "two")
	}
	a.scan()
	a.poll()
	b.poll()
	b.has(map[string]string{"again": "two"})
	if got := b.texts("again"); !slices.Equal(got, []string{"two", "one"}) {
		t.Errorf("%q", got)
	}
	if a.entry("f") != "" {
		t.Error("the delete did not wait")
	}
	w.clock.Add(3 * time.Second)
	a.poll()
	b.poll()
	b.has(map[string]string{"again": "two"})
	if got := b.texts("f"); !slices.Equal(got, []string{"", "one"}) {
		t.Errorf("%q", got)
	}
}

// Where somebody may be on magic-folder 24.3 such a line is held back: there, a file of
// that name would only arrive as a conflict file from then on, and a delete after a
// delete stops the whole folder.
func TestUnheardIsHeldBack(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice", true)
	a.write("told", "one")
	w.settle()
	a.remove("told")
	w.settle()
	told := a.entry("told")
	m := newMallory(w, "on 24.3")
	b := w.add("bob", true)
	w.settle()
	a.client.Fail = func(string) error { return ErrUnavailable }
	for _, name := range []string{"f", "g", "told"} {
		a.write(name, "offline")
	}
	a.scanned()
	w.clock.Add(6 * time.Second)
	for _, name := range []string{"f", "g", "told"} {
		a.remove(name)
	}
	a.scanned()
	a.restart()
	a.client.Fail = nil
	w.settle()
	w.current()
	if st := a.f.Status(); st.Withheld != 3 || st.ToUpload.Files != 0 {
		t.Errorf("%+v", st)
	}
	if a.entry("f") != "" || a.entry("told") != told {
		t.Error("it was published")
	}
	// Here the history has it, and what is there again takes it along.
	if got := a.texts("told"); !slices.Equal(got, []string{"", "offline", "", "one"}) {
		t.Errorf("%q", got)
	}
	if _, err := a.f.Undelete(t.Context(), "f"); err != nil {
		t.Fatal(err)
	}
	a.write("told", "again")
	w.settle()
	for _, p := range w.parties {
		p.has(map[string]string{"f": "offline", "told": "again"})
		if got := p.texts("told"); !slices.Equal(got, []string{"again", "offline", "", "one"}) {
			t.Errorf("%s: %q", p.name, got)
		}
	}
	// When the last of them has gone, the rest is published.
	if err := m.g.Update(t.Context(), m.collective, []Change{{Entry: Entry{Name: "on 24.3"}, Delete: true}}); err != nil {
		t.Fatal(err)
	}
	w.settle()
	w.current()
	if st := a.f.Status(); st.Withheld != 0 {
		t.Errorf("%+v", st)
	}
	if got := b.texts("g"); !slices.Equal(got, []string{"", "offline"}) {
		t.Errorf("%q", got)
	}
}
