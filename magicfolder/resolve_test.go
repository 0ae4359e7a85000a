package magicfolder

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"warren/magicfolder/fsys"
	"warren/magicfolder/snapshot"
	"warren/magicfolder/state"
)

// conflicted gives a folder in which bob has his bytes at f and alice's beside them.
func conflicted(t *testing.T, mem bool) (w *world, a, b *party) {
	t.Helper()
	w = newWorld(t)
	a, b = w.add("alice", mem), w.add("bob", mem)
	a.write("f.txt", "base")
	w.settle()
	a.write("f.txt", "from alice")
	b.write("f.txt", "from bob!")
	a.scan()
	b.scan()
	b.has(map[string]string{"f.txt": "from bob!", "f.txt.conflict-alice": "from alice"})
	return w, a, b
}

// raced gives a folder in which both published before either heard of the other;
// nobody has resolved that yet. The one whose cap is the greater awaits.
func raced(t *testing.T, mem bool) (w *world, awaiting, acting *party) {
	t.Helper()
	w = newWorld(t)
	a, b := w.add("alice", mem), w.add("bob", mem)
	a.write("f.txt", "base")
	w.settle()
	a.write("f.txt", "from alice")
	b.write("f.txt", "from bob!")
	var once sync.Once
	a.fault = func(step string) error {
		if step == "link.ready" {
			once.Do(b.scan)
		}
		return nil
	}
	a.scan()
	a.fault = nil
	if a.head("f.txt") > b.head("f.txt") {
		return w, a, b
	}
	return w, b, a
}

func (p *party) resolve(q Resolution) Resolved {
	p.t.Helper()
	out, err := p.f.Resolve(p.t.Context(), q)
	if err != nil {
		p.t.Fatalf("%s: resolving: %v", p.name, err)
	}
	return out
}

// known gives a version that a participant has read.
func (p *party) known(c Cap) state.Known {
	p.t.Helper()
	var k state.Known
	err := p.f.store.View(func(tx *state.Tx) (err error) {
		k, _, err = tx.Known(c)
		return err
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return k
}

// descends wants a's version of a path to descend from c.
func (p *party) descends(key string, c Cap) {
	p.t.Helper()
	ok, err := snapshot.IsAncestor(p.t.Context(), p.f.parents, c, p.head(key), 1000)
	if err != nil || !ok {
		p.t.Errorf("%s: a version is not in the history of %s: %v", p.name, key, err)
	}
}

func TestResolve(t *testing.T) {
	forms(t, func(t *testing.T, mem bool) {
		for _, c := range []struct {
			keep Keep
			want map[string]string
			at   string
		}{
			{KeepMine, map[string]string{"f.txt": "from bob!"}, "f.txt"},
			{KeepTheirs, map[string]string{"f.txt": "from alice"}, "f.txt"},
			{KeepTheirs, map[string]string{"f.txt": "from alice"}, "f.txt.conflict-alice"},
			{KeepBoth, map[string]string{"f.txt": "from bob!", "f (alice).txt": "from alice"}, "f.txt"},
		} {
			t.Run(fmt.Sprint(c.keep, " ", c.at), func(t *testing.T) {
				w, a, b := conflicted(t, mem)
				theirs, ours := a.head("f.txt"), b.head("f.txt")
				out := b.resolve(Resolution{Path: c.at, Keep: c.keep})
				if out.Path != "f.txt" || c.keep == KeepBoth && !slices.Equal(out.Made, []string{"f (alice).txt"}) ||
					c.keep != KeepBoth && !slices.Equal(out.Removed, []string{"f.txt.conflict-alice"}) {
					t.Errorf("%+v", out)
				}
				b.has(c.want)
				w.settle()
				a.has(c.want)
				b.has(c.want)
				w.current()
				a.descends("f.txt", theirs)
				a.descends("f.txt", ours)
				if list, err := b.f.Conflicts(t.Context()); err != nil || len(list.Files)+len(list.Stuck) != 0 {
					t.Errorf("%+v, %v", list, err)
				}
				if _, err := b.f.Resolve(t.Context(), Resolution{Path: "f.txt", Keep: c.keep}); !errors.Is(err, ErrNoConflict) {
					t.Errorf("again: %v", err)
				}
			})
		}
	})
}

// Where both versions are published and neither is the other's ancestor, the outcome
// is one version with both as parents.
func TestResolutionHasBothParents(t *testing.T) {
	for _, keep := range []Keep{KeepMine, KeepTheirs, KeepBoth, "edit", "replace"} {
		t.Run(string(keep), func(t *testing.T) {
			w, p, other := raced(t, true)
			p.poll() // awaits the other, who is away
			if list, err := p.f.Conflicts(t.Context()); err != nil || len(list.Files) != 1 || len(list.Stuck) != 1 || list.Stuck[0].Participant != other.name {
				t.Fatalf("%+v, %v", list, err)
			}
			ours, theirs := p.head("f.txt"), other.head("f.txt")
			mine, yours := p.tree()["f.txt"], other.tree()["f.txt"]
			file := "f.txt.conflict-" + other.name
			want := map[string]string{"f.txt": mine}
			switch keep {
			case "edit":
				want["f.txt"] = "of both"
				p.write("f.txt", "of both")
				p.remove(file)
			case "replace":
				want["f.txt"] = yours
				p.write("f.txt", yours)
				p.remove(file)
			case KeepTheirs:
				want["f.txt"] = yours
			case KeepBoth:
				want["f ("+other.name+").txt"] = yours
			}
			if keep == KeepMine || keep == KeepTheirs || keep == KeepBoth {
				p.resolve(Resolution{Path: "f.txt", Keep: keep})
			}
			p.scan()
			p.has(want)
			parents := p.known(p.head("f.txt")).Parents
			if len(parents) != 2 || !slices.Contains(parents, ours) || !slices.Contains(parents, theirs) {
				t.Errorf("%d parents, the right ones: %v, %v", len(parents), slices.Contains(parents, ours), slices.Contains(parents, theirs))
			}
			if list, err := p.f.Conflicts(t.Context()); err != nil || len(list.Files) != 0 || len(list.Stuck) != 1 {
				t.Errorf("%+v, %v", list, err)
			}
			w.settle()
			// The other side had bytes of its own in place: they stay beside, or are the
			// outcome.
			if got := other.tree(); got["f.txt"] != want["f.txt"] || keep != KeepTheirs && keep != "replace" && keep != KeepBoth && got[file] != yours {
				t.Errorf("%s has %q", other.name, got)
			}
			w.current()
		})
	}
}

// Of versions of which one descends from the other, the newer one is the parent.
func TestResolutionHasFewParents(t *testing.T) {
	for _, keep := range []Keep{KeepMine, KeepTheirs} {
		w := newWorld(t)
		a := w.add("alice", true)
		a.write("f", "base")
		a.scan()
		base := a.head("f")
		a.write("f", "from alice")
		a.scan()
		ours := a.head("f")
		m := newMallory(w, "mallory")
		// Smaller, so that alice awaits.
		of := func(parent Cap, text string) Cap {
			for i := 0; ; i++ {
				if c := m.snapshot(snapshot.Metadata{Relpath: "f", Parents: []Cap{parent}}, m.file(fmt.Sprint(text, i))); c < ours {
					return c
				}
			}
		}
		first := of(base, "first ")
		m.publish("f", first)
		a.poll()
		second := of(first, "second ")
		m.publish("f", second)
		a.poll()
		if list, err := a.f.Conflicts(t.Context()); err != nil || len(list.Files) != 2 {
			t.Fatalf("%+v, %v", list, err)
		}
		a.resolve(Resolution{Path: "f", Keep: keep})
		a.scan()
		if got := a.tree(); len(got) != 1 || strings.HasPrefix(got["f"], "second") != (keep == KeepTheirs) {
			t.Errorf("%s: %q", keep, got)
		}
		parents := a.known(a.head("f")).Parents
		if len(parents) != 2 || !slices.Contains(parents, ours) || !slices.Contains(parents, second) {
			t.Errorf("%s: %d parents, the right ones: %v, %v", keep, len(parents), slices.Contains(parents, ours), slices.Contains(parents, second))
		}
	}
}

// At the side whose bytes gave way, ours are in the conflict file.
func TestResolveWhereOursGaveWay(t *testing.T) {
	for _, keep := range []Keep{KeepMine, KeepTheirs} {
		w, p, other := raced(t, true)
		w.settle()
		mine, yours := "from alice", "from bob!"
		if p.name == "bob" {
			mine, yours = yours, mine
		}
		p.has(map[string]string{"f.txt": yours, "f.txt.conflict-" + p.name: mine})
		list, err := p.f.Conflicts(t.Context())
		if err != nil || len(list.Files) != 1 || !list.Files[0].Own {
			t.Errorf("%+v, %v", list, err)
		}
		want := map[string]string{"f.txt": mine}
		if keep == KeepTheirs {
			want["f.txt"] = yours
		}
		p.resolve(Resolution{Path: "f.txt", Keep: keep})
		p.has(want)
		w.settle()
		p.has(want)
		if other.tree()["f.txt"] != want["f.txt"] {
			t.Errorf("%s has %q", other.name, other.tree())
		}
		w.current()
	}
}

// What the user saved and nobody captured yet is a version before the outcome.
func TestResolveKeepsEdits(t *testing.T) {
	w, a, b := conflicted(t, true)
	b.write("f.txt", "bob goes on")
	b.resolve(Resolution{Path: "f.txt", Keep: KeepTheirs})
	b.has(map[string]string{"f.txt": "from alice"})
	w.settle()
	a.has(map[string]string{"f.txt": "from alice"})
	found := false
	for c := b.head("f.txt"); c != ""; {
		k := b.known(c)
		var text strings.Builder
		if err := b.client.Get(t.Context(), k.Content, &text); err != nil {
			t.Fatal(err)
		}
		found = found || text.String() == "bob goes on"
		c = ""
		if len(k.Parents) > 0 {
			c = k.Parents[0]
		}
	}
	if !found {
		t.Error("the edit is in no version")
	}
	// And in the last moment.
	w, a, b = conflicted(t, true)
	var once sync.Once
	b.mem.Before = func(op, path string) {
		if op == "swap" {
			once.Do(func() { b.mem.Write("f.txt", []byte("at the last moment")) })
		}
	}
	b.resolve(Resolution{Path: "f.txt", Keep: KeepTheirs})
	b.mem.Before = nil
	b.has(map[string]string{"f.txt": "from alice"})
	w.settle()
	if !holdsVersion(t, b, "f.txt", "at the last moment") {
		t.Error("an edit is lost")
	}
	a.has(map[string]string{"f.txt": "from alice"})
}

// holdsVersion says whether some version of a path has these bytes.
func holdsVersion(t *testing.T, p *party, key, want string) bool {
	t.Helper()
	found := false
	err := p.f.History(t.Context(), key, 1000, func(v FileVersion) error {
		if v.Deleted || v.Problem != "" {
			return nil
		}
		var text strings.Builder
		if _, err := p.f.WriteVersion(t.Context(), key, v.ID, &text); errors.Is(err, ErrNoVersion) {
			return nil // a link
		} else if err != nil {
			return err
		}
		found = found || text.String() == want
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestResolveRefuses(t *testing.T) {
	w, _, b := conflicted(t, true)
	b.mem.Write("f.txt.conflict-alice", []byte("edited by bob"))
	for _, keep := range []Keep{KeepMine, KeepTheirs} {
		if _, err := b.f.Resolve(t.Context(), Resolution{Path: "f.txt", Keep: keep}); !errors.Is(err, ErrOnlyCopy) {
			t.Errorf("%s: %v", keep, err)
		}
	}
	list, err := b.f.Conflicts(t.Context())
	if err != nil || len(list.Files) != 1 || !list.Files[0].Edited {
		t.Errorf("%+v, %v", list, err)
	}
	b.has(map[string]string{"f.txt": "from bob!", "f.txt.conflict-alice": "edited by bob"})
	b.resolve(Resolution{Path: "f.txt", Keep: KeepBoth})
	w.settle()
	b.has(map[string]string{"f.txt": "from bob!", "f (alice).txt": "edited by bob"})
	for _, q := range []Resolution{{Path: "none", Keep: KeepMine}, {Path: "f.txt.conflict-carol", Keep: KeepMine}, {Path: "f.txt", Keep: KeepTheirs}} {
		if _, err := b.f.Resolve(t.Context(), q); !errors.Is(err, ErrNoConflict) {
			t.Errorf("%+v: %v", q, err)
		}
	}
	if _, err := b.f.Resolve(t.Context(), Resolution{Path: "f.txt", Keep: KeepMine, Participant: "alice"}); !errors.Is(err, ErrPath) {
		t.Errorf("%v", err)
	}
}

// Several participants' conflict files: one has to be named.
func TestResolveNamesTheParticipant(t *testing.T) {
	w, a, b := conflicted(t, true)
	c := w.add("carol", true)
	w.settle()
	b.write("f.txt", "bob again")
	c.write("f.txt", "from carol")
	c.scan()
	b.scan()
	b.has(map[string]string{"f.txt": "bob again", "f.txt.conflict-alice": "from alice", "f.txt.conflict-carol": "from carol"})
	_, err := b.f.Resolve(t.Context(), Resolution{Path: "f.txt", Keep: KeepTheirs})
	if !errors.Is(err, ErrWhose) || !strings.Contains(err.Error(), "alice, carol") {
		t.Errorf("%v", err)
	}
	if _, err := b.f.Resolve(t.Context(), Resolution{Path: "f.txt", Keep: KeepTheirs, Participant: "dave"}); !errors.Is(err, ErrNoConflict) {
		t.Errorf("%v", err)
	}
	out := b.resolve(Resolution{Path: "f.txt", Keep: KeepTheirs, Participant: "carol"})
	if len(out.Removed) != 2 || out.From != "carol" {
		t.Errorf("%+v", out)
	}
	w.settle()
	for _, p := range []*party{a, b, c} {
		p.has(map[string]string{"f.txt": "from carol"})
	}
}

// full is a disk on which nothing more can be written.
type full struct {
	*fsys.Memory
	full bool
}

var errFull = errors.New("no space left on device")

func (d *full) Create(staged string) (fsys.Writer, error) {
	if d.full {
		return nil, errFull
	}
	return d.Memory.Create(staged)
}

func TestResolveDiskFull(t *testing.T) {
	w, a, b := conflicted(t, true)
	disk := &full{Memory: b.mem, full: true}
	b.f.mu.Lock()
	b.f.disk = disk
	b.f.mu.Unlock()
	if _, err := b.f.Resolve(t.Context(), Resolution{Path: "f.txt", Keep: KeepTheirs}); !errors.Is(err, errFull) {
		t.Errorf("%v", err)
	}
	b.has(map[string]string{"f.txt": "from bob!", "f.txt.conflict-alice": "from alice"})
	// What needs no room works.
	disk.full = false
	b.resolve(Resolution{Path: "f.txt", Keep: KeepTheirs})
	w.settle()
	a.has(map[string]string{"f.txt": "from alice"})
	b.has(map[string]string{"f.txt": "from alice"})
	w.current()
}

// A crash at each step of a resolution: it is repeated, and nothing is lost.
func TestResolveCrash(t *testing.T) {
	for _, c := range []struct {
		keep Keep
		step string
	}{
		{KeepTheirs, "put.journalled"}, {KeepTheirs, "put.placed"}, {KeepTheirs, "put.recorded"}, {KeepTheirs, "resolve.joined"},
		{KeepTheirs, "remove.journalled"}, {KeepTheirs, "remove.taken"}, {KeepTheirs, "remove.recorded"},
		{KeepMine, "resolve.joined"}, {KeepMine, "remove.journalled"}, {KeepMine, "remove.taken"}, {KeepMine, "remove.recorded"},
		{KeepBoth, "resolve.joined"}, {KeepBoth, "resolve.renamed"},
	} {
		for _, race := range []bool{false, true} {
			t.Run(fmt.Sprint(c.keep, " ", c.step, " ", race), func(t *testing.T) {
				t.Parallel()
				w, other, p := conflicted(t, true)
				if race {
					w, p, other = raced(t, true)
					p.poll()
				}
				ours, theirs := p.tree()["f.txt"], other.tree()["f.txt"]
				heads := []Cap{p.head("f.txt"), other.head("f.txt")}
				p.write("f.txt", ours+" and more")
				hit := crashAt(p, c.step)
				if _, err := p.f.Resolve(t.Context(), Resolution{Path: "f.txt", Keep: c.keep}); !errors.Is(err, errCrash) || !*hit {
					t.Fatalf("no crash: %v", err)
				}
				p.restart()
				if _, err := p.f.Resolve(t.Context(), Resolution{Path: "f.txt", Keep: c.keep}); err != nil && !errors.Is(err, ErrNoConflict) {
					t.Fatal(err)
				}
				p.scan()
				want := map[string]string{"f.txt": ours + " and more"}
				switch c.keep {
				case KeepTheirs:
					want["f.txt"] = theirs
				case KeepBoth:
					want["f ("+other.name+").txt"] = theirs
				}
				p.has(want)
				w.settle()
				p.has(want)
				for path, data := range want {
					if other.tree()[path] != data {
						t.Errorf("%s has %q", other.name, other.tree())
					}
				}
				for _, h := range heads {
					p.descends("f.txt", h)
				}
				if !holdsVersion(t, p, "f.txt", ours+" and more") {
					t.Error("an edit is lost")
				}
				if left, _ := p.mem.Staged(); len(left) > 0 || len(mustLines(t, p)) > 0 {
					t.Errorf("left: %q, %d lines", left, len(mustLines(t, p)))
				}
				w.current()
			})
		}
	}
}

// Offline, a resolution waits in the stash.
func TestResolveOffline(t *testing.T) {
	w, a, b := conflicted(t, true)
	b.client.Fail = func(string) error { return ErrUnavailable }
	b.resolve(Resolution{Path: "f.txt", Keep: KeepTheirs})
	b.has(map[string]string{"f.txt": "from alice"})
	if err := b.f.push(context.Background()); err == nil {
		t.Error("published")
	}
	b.restart()
	if st := b.f.Status(); st.ToUpload.Files != 1 {
		t.Errorf("%+v", st)
	}
	b.client.Fail = nil
	w.settle()
	a.has(map[string]string{"f.txt": "from alice"})
	w.current()
}

func TestPlainName(t *testing.T) {
	for _, c := range []struct {
		relpath, name string
		n             int
		want          string
	}{
		{"f.txt", "bob", 1, "f (bob).txt"}, {"d/f", "bob", 2, "d/f (bob 2)"}, {".rc", "bob", 1, ".rc (bob)"}, {"a.tar.gz", "x", 1, "a.tar (x).gz"},
		{"f", "x.conflict-y", 1, "f (another)"}, {"f", strings.Repeat("n", 128), 1, "f (another)"},
	} {
		if got := PlainName(c.relpath, c.name, c.n); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
	long := "d/" + strings.Repeat("ü", 125) + ".txt"
	if got := PlainName(long, "bob", 12); fsys.CheckPath(got, false) != nil || !strings.HasSuffix(got, " (bob 12).txt") {
		t.Errorf("%q", got)
	}
}
