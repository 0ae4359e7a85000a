package magicfolder

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"testing"
)

// reachable walks from the roots, as upkeep does, and counts what it meets by kind,
// earlier contents as "past". Each is met once.
func reachable(t *testing.T, p *party) (counts map[string]int, names []string, failed []error) {
	t.Helper()
	type node struct {
		cap  Cap
		kind RootKind
	}
	counts, named := map[string]int{}, map[string]bool{}
	seen := map[node]bool{}
	for queue := p.m.Roots(); len(queue) > 0; queue = queue[1:] {
		r := queue[0]
		if seen[node{r.Cap, r.Kind}] {
			continue
		}
		seen[node{r.Cap, r.Kind}] = true
		kind := string(r.Kind)
		if r.Past {
			kind = "past"
		}
		counts[kind]++
		named[kind+" "+r.Name] = true
		found, err := p.m.Reach(t.Context(), r)
		if err != nil {
			failed = append(failed, err)
		}
		queue = append(queue, found...)
	}
	return counts, slices.Sorted(maps.Keys(named)), failed
}

// Whatever the folder needs is reached, and earlier contents are told apart.
func TestRoots(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.add("alice", true), w.add("bob", true)
	for _, text := range []string{"one", "two", "three"} {
		alice.write("deep/report", text)
		alice.scan()
	}
	alice.write("gone", "soon")
	alice.scan()
	alice.remove("gone")
	alice.scan()
	bob.poll()
	bob.write("from bob", "hello")
	bob.scan()
	bob.poll()
	alice.poll()

	counts, names, failed := reachable(t, alice)
	// A delete's content is none; alice's directory is met with its writecap and with
	// its readcap, under the Collective. Plain are metadata, contents and two @metadata
	// with one text.
	want := map[string]int{"collective": 1, "personal": 3, "version": 3, "ancestor": 3, "past": 3, "": 6 + 2 + 1}
	if len(failed) > 0 || !maps.Equal(counts, want) {
		t.Errorf("%v, %v, want %v; %q", counts, failed, want, names)
	}
	for _, name := range []string{"collective docs", "personal docs/alice", "personal alice", "personal bob", "version deep/report", "version from bob", "version gone"} {
		if !slices.Contains(names, name) {
			t.Errorf("no %q in %q", name, names)
		}
	}
}

// What is not as it should be leads to no more than it links; what cannot be read is
// told, since it may be tried again.
func TestRootsOfOthers(t *testing.T) {
	w := newWorld(t)
	alice := w.add("alice", true)
	m := newMallory(w, "mallory")
	mutable, _, err := m.g.MakeDirectory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	odd, err := m.g.PutDirectory(t.Context(), []Entry{{Name: "content", Read: m.file("x")}, {Name: "other", Read: m.file("y")}})
	if err != nil {
		t.Fatal(err)
	}
	m.publish("odd", odd)
	m.set(m.dir, Entry{Name: "mutable", Write: mutable})
	m.publish("file", m.file("no directory"))
	m.publish("garbage", "URI:what")
	m.publish("bad@name", odd)
	m.set(m.collective, Entry{Name: "not a directory", Read: m.file("z"), Metadata: json.RawMessage("{}")})
	m.set(m.collective, Entry{Name: "empty"})
	counts, names, failed := reachable(t, alice)
	if len(failed) > 0 || counts["version"] != 1 || counts["personal"] != 3 || counts["ancestor"] != 0 || !slices.Contains(names, "version odd") {
		t.Errorf("%v, %q, %v", counts, names, failed)
	}
	alice.client.Fail = func(op string) error {
		if op == "List" {
			return ErrUnavailable
		}
		return nil
	}
	if counts, _, failed = reachable(t, alice); len(failed) != 2 || !errors.Is(failed[0], ErrUnavailable) || counts["personal"] != 1 {
		t.Errorf("unreadable: %v, %v", counts, failed)
	}
}
