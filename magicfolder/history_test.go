package magicfolder

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"warren/magicfolder/remote"
	"warren/magicfolder/snapshot"
	"warren/magicfolder/state"
)

func (p *party) history(key string, limit int) []FileVersion {
	p.t.Helper()
	var out []FileVersion
	if err := p.f.History(p.t.Context(), key, limit, func(v FileVersion) error { out = append(out, v); return nil }); err != nil {
		p.t.Fatalf("%s: history: %v", p.name, err)
	}
	return out
}

// bytesOf gives the bytes of a version.
func (p *party) bytesOf(key, which string) string {
	p.t.Helper()
	var text strings.Builder
	if _, err := p.f.WriteVersion(p.t.Context(), key, which, &text); err != nil {
		p.t.Fatalf("%s: version %s: %v", p.name, which, err)
	}
	return text.String()
}

// each edits a file through many versions.
func (w *world) each(p *party, key string, texts ...string) {
	for _, text := range texts {
		p.write(key, text)
		p.scan()
		w.clock.Add(minute)
	}
}

const minute = 60_000_000_000

func TestHistory(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("alice", true), w.add("bob", true)
	w.each(a, "d/f", "one", "two")
	b.poll()
	w.each(b, "d/f", "three, by bob")
	a.poll()
	a.remove("d/f")
	a.scan()
	w.settle()
	w.each(b, "d/f", "five")
	b.client.Fail = func(string) error { return ErrUnavailable }
	b.write("d/f", "six, offline")
	if err := b.f.scan(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := b.history("d/f", 0)
	want := []struct {
		author, text string
	}{{"bob", "six, offline"}, {"bob", "five"}, {"alice", ""}, {"bob", "three, by bob"}, {"alice", "two"}, {"alice", "one"}}
	if len(got) != len(want) {
		t.Fatalf("%d versions: %+v", len(got), got)
	}
	b.client.Fail = nil
	for i, v := range got {
		if v.Number != i+1 || v.Author != want[i].author || v.Own != (v.Author == "bob") || v.Deleted != (want[i].text == "") || v.Waiting != (i == 0) ||
			v.Current != (i == 0) || v.Apart || v.Merge || v.Problem != "" || v.Unproven || v.Size != int64(len(want[i].text)) {
			t.Errorf("%+v, want %+v", v, want[i])
		}
		if !v.Deleted && (b.bytesOf("d/f", v.ID) != want[i].text || b.bytesOf("d/f", fmt.Sprint(v.Number)) != want[i].text) {
			t.Errorf("version %d has other bytes", v.Number)
		}
	}
	if n := len(b.history("d/f", 2)); n != 2 {
		t.Errorf("%d of 2", n)
	}
	for which, want := range map[string]error{"3": ErrNoVersion, "7": ErrNoVersion, "0": ErrNoVersion, "-1": ErrNoVersion, "": ErrNoVersion, "x": ErrNoVersion, "000000000000": ErrNoVersion} {
		if _, err := b.f.WriteVersion(t.Context(), "d/f", which, new(strings.Builder)); !errors.Is(err, want) {
			t.Errorf("%q: %v", which, err)
		}
	}
	if err := b.f.History(t.Context(), "never", 0, nil); !errors.Is(err, ErrNoVersion) {
		t.Errorf("%v", err)
	}
	// What waits keeps its place, and its ID becomes another when it is published.
	w.settle()
	if got := a.history("d/f", 0); len(got) != 6 || got[0].Waiting || !slices.Equal(got[0].Holders, []string{"bob"}) {
		t.Errorf("%+v", got)
	}
}

// Only what is shown is read, however long the history is.
func TestHistoryIsRead(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice", true)
	var texts []string
	for i := range 300 {
		texts = append(texts, fmt.Sprint("version ", i))
	}
	w.each(a, "f", texts...)
	b := w.add("bob", true)
	b.poll()
	before := b.client.Calls("List")
	if got := b.history("f", 20); len(got) != 20 || b.bytesOf("f", "20") != "version 280" {
		t.Errorf("%d versions", len(got))
	}
	if n := b.client.Calls("List") - before; n > 25 {
		t.Errorf("%d reads", n)
	}
	if got := b.history("f", 0); len(got) != 300 || got[299].Size != int64(len("version 0")) {
		t.Errorf("%d versions", len(got))
	}
	// Longer than we follow.
	b.f.deep = 100
	n := 0
	if err := b.f.History(t.Context(), "f", 0, func(FileVersion) error { n++; return nil }); !errors.Is(err, ErrTooDeep) || n != 100 {
		t.Errorf("%d versions, %v", n, err)
	}
}

func TestHistoryOfAConflict(t *testing.T) {
	w, p, other := raced(t, true)
	p.poll()
	got := p.history("f.txt", 0)
	if len(got) != 3 || !got[0].Own && !got[1].Own {
		t.Fatalf("%+v", got)
	}
	for _, v := range got[:2] {
		if v.Apart == v.Own || v.Own != v.Current || v.Own == (len(v.Holders) == 1) {
			t.Errorf("%+v", v)
		}
	}
	w.settle()
	p.resolve(Resolution{Path: "f.txt", Keep: KeepMine})
	w.settle()
	got = other.history("f.txt", 0)
	merges := 0
	for _, v := range got {
		if v.Merge {
			merges++
		}
		if v.Apart {
			t.Errorf("%+v", v)
		}
	}
	if len(got) != 5 || merges != 1 {
		t.Errorf("%+v", got)
	}
}

// A hostile history: one that leads back to itself, parents that are of another
// file, not readable, or signed with another key than the author's.
func TestHostileHistory(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("alice", true), w.add("bob", true)
	b.write("f", "by bob")
	w.settle()
	m := newMallory(w, "mallory")
	evil := m.file("evil")
	forged := m.snapshot(snapshot.Metadata{Relpath: "f", Author: snapshot.Author{Name: "bob"}}, m.file("not by bob"))
	foreign := m.snapshot(snapshot.Metadata{Relpath: "g"}, evil)
	gone := remote.Cap("URI:DIR2-CHK:aaaaaaaaaaaaaaaaaaaaaaaaaa:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa:3:5:1000")
	m.publish("f", m.snapshot(snapshot.Metadata{Relpath: "f", Parents: []remote.Cap{b.head("f"), forged, foreign}}, evil))
	a.poll()
	a.has(map[string]string{"f": "evil"})
	unproven, problems := 0, 0
	for _, v := range a.history("f", 0) {
		if v.Unproven {
			unproven++
		}
		if v.Problem != "" {
			problems++
			if _, err := a.f.Restore(t.Context(), "f", v.ID); !errors.Is(err, ErrNoVersion) {
				t.Errorf("%v", err)
			}
		}
	}
	if unproven != 1 || problems != 1 {
		t.Errorf("%d unproven, %d with a problem", unproven, problems)
	}
	// What cannot be read now does not hide the rest.
	unread := m.snapshot(snapshot.Metadata{Relpath: "h", Parents: []remote.Cap{gone}}, evil)
	m.publish("h", unread)
	a.poll()
	got := a.history("h", 0)
	if len(got) != 2 || !strings.Contains(got[1].Problem, "read now") {
		t.Errorf("%+v", got)
	}
	if _, err := a.f.Restore(t.Context(), "h", "2"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("%v", err)
	}
	// Hashes make circles impossible; should there be one, it ends.
	one, two := a.head("f"), a.head("h")
	err := a.f.store.Update(func(tx *state.Tx) error {
		for c, parent := range map[remote.Cap]remote.Cap{one: two, two: one} {
			k, _, err := tx.Known(c)
			if err != nil {
				return err
			}
			k.Relpath, k.Parents = "f", []remote.Cap{parent}
			if err := tx.PutKnown(c, k); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.f.History(t.Context(), "f", 0, func(FileVersion) error { return nil }); !errors.Is(err, ErrCyclic) {
		t.Errorf("%v", err)
	}
}

// Twenty merges, each of two lines: a version is shown once, and it takes no longer
// than there are versions.
func TestHistoryOfMerges(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice", true)
	m := newMallory(w, "mallory")
	top := m.snapshot(snapshot.Metadata{Relpath: "f"}, m.file("base"))
	for i := range 200 {
		x := m.snapshot(snapshot.Metadata{Relpath: "f", Parents: []remote.Cap{top}}, m.file(fmt.Sprint("x", i)))
		y := m.snapshot(snapshot.Metadata{Relpath: "f", Parents: []remote.Cap{top}}, m.file(fmt.Sprint("y", i)))
		top = m.snapshot(snapshot.Metadata{Relpath: "f", Parents: []remote.Cap{x, y}}, m.file(fmt.Sprint("m", i)))
	}
	m.publish("f", top)
	a.poll()
	got := a.history("f", 0)
	seen := map[string]bool{}
	for _, v := range got {
		seen[v.ID] = true
	}
	if len(got) != 601 || len(seen) != 601 {
		t.Errorf("%d versions, %d different", len(got), len(seen))
	}
}

func TestRestore(t *testing.T) {
	forms(t, func(t *testing.T, mem bool) {
		w := newWorld(t)
		a, b := w.add("alice", mem), w.add("bob", mem)
		w.each(a, "d/f", "one", "two")
		b.poll()
		b.write("d/f", "three, not told")
		out, err := b.f.Restore(t.Context(), "d/f", "2")
		if err != nil || out.Path != "d/f" || out.Version.Author != "alice" || out.Same || out.Remade {
			t.Errorf("%+v, %v", out, err)
		}
		b.has(map[string]string{"d/f": "one"})
		w.settle()
		a.has(map[string]string{"d/f": "one"})
		w.current()
		var texts []string
		for _, v := range a.history("d/f", 0) {
			texts = append(texts, a.bytesOf("d/f", v.ID))
		}
		if want := []string{"one", "three, not told", "two", "one"}; !slices.Equal(texts, want) {
			t.Errorf("%q, want %q", texts, want)
		}
		if out, err := b.f.Restore(t.Context(), "d/f", "4"); err != nil || !out.Same {
			t.Errorf("%+v, %v", out, err)
		}
		// Offline, a version that was never uploaded comes back too.
		b.client.Fail = func(string) error { return ErrUnavailable }
		for _, text := range []string{"written offline", "and once more"} {
			b.write("d/f", text)
			if err := b.f.scan(t.Context()); err != nil {
				t.Fatal(err)
			}
			w.clock.Add(minute)
		}
		if _, err := b.f.Restore(t.Context(), "d/f", "2"); err != nil {
			t.Fatal(err)
		}
		b.has(map[string]string{"d/f": "written offline"})
		b.restart()
		b.client.Fail = nil
		w.settle()
		a.has(map[string]string{"d/f": "written offline"})
		w.current()
	})
}

func TestUndelete(t *testing.T) {
	forms(t, func(t *testing.T, mem bool) {
		w := newWorld(t)
		a, b := w.add("alice", mem), w.add("bob", mem)
		w.each(a, "d/f", "one", "two")
		b.poll()
		if _, err := b.f.Undelete(t.Context(), "d/f"); !errors.Is(err, ErrNotDeleted) {
			t.Errorf("%v", err)
		}
		if _, err := b.f.Undelete(t.Context(), "never"); !errors.Is(err, ErrNoVersion) {
			t.Errorf("%v", err)
		}
		a.remove("d/f")
		a.scan()
		b.poll()
		list, err := b.f.Deleted(t.Context())
		if err != nil || len(list) != 1 || list[0].Path != "d/f" || list[0].Author != "alice" {
			t.Errorf("%+v, %v", list, err)
		}
		out, err := b.f.Undelete(t.Context(), "d/f")
		if err != nil || !out.Remade || out.Version.Number != 2 {
			t.Errorf("%+v, %v", out, err)
		}
		b.has(map[string]string{"d/f": "two"})
		w.settle()
		a.has(map[string]string{"d/f": "two"})
		w.current()
		if list, err := b.f.Deleted(t.Context()); err != nil || len(list) != 0 {
			t.Errorf("%+v, %v", list, err)
		}
		// A delete that nobody has heard of is taken back.
		head := b.head("d/f")
		b.remove("d/f")
		if err := b.f.scan(t.Context()); err != nil {
			t.Fatal(err)
		}
		if list, err := b.f.Deleted(t.Context()); err != nil || len(list) != 1 || list[0].Author != "bob" {
			t.Errorf("%+v, %v", list, err)
		}
		if _, err := b.f.Undelete(t.Context(), "d/f"); err != nil {
			t.Fatal(err)
		}
		b.scan()
		if parents := b.known(b.head("d/f")).Parents; len(parents) != 1 || parents[0] != head {
			t.Error("the delete was told")
		}
		// Something else stands there now.
		b.remove("d/f")
		b.write("d/f/below", "a directory")
		w.settle()
		if _, err := b.f.Undelete(t.Context(), "d/f"); err == nil {
			t.Error("a directory was replaced")
		}
		b.has(map[string]string{"d/f/below": "a directory"})
	})
}

// The user saves at the last moment; it crashes at each step; the disk is full.
func TestRestoreLosesNothing(t *testing.T) {
	for _, what := range []string{"edit", "restore.staged", "put.journalled", "put.placed", "put.recorded", "full"} {
		for _, deleted := range []bool{false, true} {
			t.Run(fmt.Sprint(what, deleted), func(t *testing.T) {
				w := newWorld(t)
				a, b := w.add("alice", true), w.add("bob", true)
				w.each(a, "f", "one", "two")
				if deleted {
					a.remove("f")
				}
				w.settle()
				restore := func() error {
					which := ""
					for _, v := range b.history("f", 0) {
						if v.Size == 3 && b.bytesOf("f", v.ID) == "one" {
							which = v.ID
						}
					}
					_, err := b.f.Restore(t.Context(), "f", which)
					return err
				}
				edit := ""
				switch what {
				case "edit":
					var once sync.Once
					edit = "at the last moment"
					b.mem.Before = func(op, path string) {
						if op == "swap" || op == "place" {
							once.Do(func() { b.mem.Write("f", []byte(edit)) })
						}
					}
					if err := restore(); err != nil {
						t.Fatal(err)
					}
					b.mem.Before = nil
				case "full":
					disk := &full{Memory: b.mem, full: true}
					b.f.mu.Lock()
					b.f.disk = disk
					b.f.mu.Unlock()
					if err := restore(); !errors.Is(err, errFull) {
						t.Errorf("%v", err)
					}
					disk.full = false
					if err := restore(); err != nil {
						t.Fatal(err)
					}
				default:
					edit = "not told yet"
					b.write("f", edit)
					hit := crashAt(b, what)
					if err := restore(); !errors.Is(err, errCrash) || !*hit {
						t.Fatalf("no crash: %v", err)
					}
					b.restart()
					if err := restore(); err != nil {
						t.Fatal(err)
					}
				}
				w.settle()
				a.has(map[string]string{"f": "one"})
				b.has(map[string]string{"f": "one"})
				if edit != "" && !holdsVersion(t, a, "f", edit) {
					t.Error("an edit is lost")
				}
				if left, _ := b.mem.Staged(); len(left) > 0 || len(mustLines(t, b)) > 0 {
					t.Errorf("left: %q", left)
				}
				w.current()
			})
		}
	}
}

func TestLocate(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice", false)
	a.write("d/f", "x")
	a.scan()
	for _, c := range []struct {
		path, cwd, want string
	}{
		{"d/f", "/", "d/f"}, {"./d//f", "/", "d/f"}, {"f", a.dir + "/d", "d/f"}, {a.dir + "/d/f", "", "d/f"}, {a.dir + "/gone", "", "gone"},
		{"new", a.dir, "new"}, {"unknown", "/", "unknown"},
	} {
		if got, err := a.f.Locate(c.path, c.cwd); err != nil || got != c.want {
			t.Errorf("%q from %q: %q, %v", c.path, c.cwd, got, err)
		}
	}
	for _, p := range []string{"", "/etc/passwd", "../x", a.dir, a.dir + "/../x"} {
		if got, err := a.f.Locate(p, "/"); !errors.Is(err, ErrPath) {
			t.Errorf("%q: %q, %v", p, got, err)
		}
	}
}

// A crash while a version comes back that is in the stash alone.
func TestRestoreWaitingCrash(t *testing.T) {
	for _, step := range []string{"restore.staged", "put.journalled", "put.placed", "put.recorded"} {
		w := newWorld(t)
		a, b := w.add("alice", true), w.add("bob", true)
		w.each(a, "f", "one")
		w.settle()
		b.client.Fail = func(string) error { return ErrUnavailable }
		for _, text := range []string{"written offline", "and once more"} {
			b.write("f", text)
			if err := b.f.scan(t.Context()); err != nil {
				t.Fatal(err)
			}
			w.clock.Add(minute)
		}
		crashAt(b, step)
		if _, err := b.f.Restore(t.Context(), "f", "2"); !errors.Is(err, errCrash) {
			t.Fatalf("%s: no crash: %v", step, err)
		}
		b.restart()
		// And another one before the folder is opened.
		b.restart()
		if err := b.f.scan(t.Context()); err != nil {
			t.Fatal(err)
		}
		placed := step == "put.placed" || step == "put.recorded"
		want := "and once more"
		if placed {
			want = "written offline"
		}
		b.has(map[string]string{"f": want})
		b.client.Fail = nil
		w.settle()
		a.has(map[string]string{"f": want})
		if !holdsVersion(t, a, "f", "and once more") || !holdsVersion(t, a, "f", "written offline") {
			t.Errorf("%s: a version is lost", step)
		}
		w.current()
	}
}

// With its bytes a version brings back what it was: executable, or a symbolic link.
func TestRestoreForms(t *testing.T) {
	noLinks(t)
	forms(t, func(t *testing.T, mem bool) {
		w := newWorld(t)
		a, b := w.add("alice", mem), w.add("bob", mem)
		a.write("target", "of the link")
		a.write("f", "#!/bin/sh")
		a.chmod("f", true)
		w.settle()
		a.chmod("f", false)
		w.settle()
		a.link("target", "f")
		w.settle()
		b.are(map[string]string{"f": "-> target"})
		if _, err := b.f.WriteVersion(t.Context(), "f", "1", new(strings.Builder)); !errors.Is(err, ErrNoVersion) {
			t.Errorf("%v", err)
		}
		restore := func(which, want string) {
			t.Helper()
			if out, err := b.f.Restore(t.Context(), "f", which); err != nil || out.Same {
				t.Errorf("%+v, %v", out, err)
			}
			b.are(map[string]string{"f": want})
			w.settle()
			a.are(map[string]string{"f": want})
			w.current()
		}
		ids := map[string]string{}
		for _, v := range b.history("f", 0) {
			ids[fmt.Sprint(v.Number)] = v.ID
		}
		restore(ids["3"], "x")
		restore(ids["2"], "-")
		restore(ids["1"], "-> target")
		restore(ids["3"], "x")
		b.remove("f")
		w.settle()
		if _, err := a.f.Undelete(t.Context(), "f"); err != nil {
			t.Fatal(err)
		}
		w.settle()
		b.are(map[string]string{"f": "x"})
		// A directory that was made for its own sake is no deleted file.
		a.mkdir("empty")
		w.settle()
		a.rmdir("empty")
		w.settle()
		if list, err := b.f.Deleted(t.Context()); err != nil || len(list) != 0 {
			t.Errorf("%+v, %v", list, err)
		}
	})
}
