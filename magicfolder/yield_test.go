package magicfolder

import (
	"slices"
	"testing"

	"warren/magicfolder/remote"
)

// A deletion stands in its author's directory alone, as long as it stands there: for
// magic-folder 24.3 does not bear it twice. When it does not any more the others show it,
// so that whoever was away learns of it all the same.
func TestDeletionIsShownOnce(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.add("alice", true), w.add("bob", true), w.add("carol", true)
	a.write("f", "one")
	a.write("g", "one")
	w.settle()
	readcap := map[*party]Cap{}
	for _, p := range w.parties {
		readcap[p] = p.f.config().Readcap
	}
	shows := func(p *party, key string) Cap {
		entries, _, err := p.client.List(t.Context(), readcap[p])
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Name == key {
				return e.Read
			}
		}
		return ""
	}
	shown := func(key string) (names []string) {
		for _, p := range w.parties {
			if shows(p, key) != "" {
				names = append(names, p.name)
			}
		}
		return names
	}
	want := func(key string, names ...string) {
		t.Helper()
		if got := shown(key); !slices.Equal(got, names) {
			t.Errorf("%s stands in the directories of %q, want %q", key, got, names)
		}
	}
	want("f", "alice", "bob", "carol")
	a.remove("f")
	w.settle()
	want("f", "alice")
	deletion := shows(a, "f")
	for _, p := range w.parties {
		p.has(map[string]string{"g": "one"})
		p.restart()
	}
	w.settle()
	want("f", "alice")
	w.current()

	// Made again by one who does not show it, and deleted by another.
	b.write("f", "two")
	w.settle()
	want("f", "alice", "bob", "carol")
	c.remove("f")
	w.settle()
	want("f", "carol")
	if shows(c, "f") == deletion {
		t.Error("carol shows the old deletion")
	}
	w.current()

	// Its author leaves while bob sleeps, who has the file.
	asleep := func(away, leaves *party, stays *party) {
		t.Helper()
		leaves.remove("g")
		leaves.scan()
		stays.poll()
		if shows(stays, "g") != "" {
			t.Errorf("%s shows what %s shows", stays.name, leaves.name)
		}
		if err := leaves.m.Close(); err != nil {
			t.Fatal(err)
		}
		if err := stays.client.Update(t.Context(), stays.f.Collective(), []Change{{Entry: Entry{Name: leaves.name}, Delete: true}}); err != nil {
			t.Fatal(err)
		}
		stays.restart()
		stays.poll()
		stays.poll()
		if shows(stays, "g") == "" {
			t.Errorf("nobody shows the deletion")
		}
		away.poll()
		away.has(nil)
	}
	asleep(b, c, a)
	w.parties = []*party{a, b}
	w.settle()
	want("g", "alice")
	w.current()
	// Somebody's directory that names it no more.
	personal := a.f.config().Personal
	if err := a.m.Close(); err != nil {
		t.Fatal(err)
	}
	if err := a.client.Update(t.Context(), personal, []Change{{Entry: remote.Entry{Name: "g"}, Delete: true}}); err != nil {
		t.Fatal(err)
	}
	b.poll()
	want("g", "bob")
}
