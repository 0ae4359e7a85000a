package magicfolder

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"warren/magicfolder/snapshot"
	"warren/magicfolder/state"
)

// lose has the grid forget a party's Personal directory.
func (w *world) lose(p *party) (lost Cap) {
	w.t.Helper()
	lost = p.f.Readcap()
	w.grid.Lose(lost)
	return lost
}

// watchLoss has everybody poll as long as it takes to be sure of a loss; it gives how
// many polls of p it took, 0: p has the same directory still.
func (w *world) watchLoss(p *party) int {
	w.t.Helper()
	before := p.f.Readcap()
	for i := range 2 * lossLooks {
		for _, q := range w.parties {
			err := q.f.PollNow(w.t.Context())
			if err != nil && (q != p || !errors.Is(err, ErrUnavailable) && !errors.Is(err, errCrash)) {
				w.t.Fatalf("%s: %v", q.name, err)
			}
			if errors.Is(err, errCrash) {
				p.restart()
			}
		}
		if p.f.Readcap() != before {
			return i + 1
		}
		w.clock.Add(lossEvery)
	}
	return 0
}

func entriesOf(t *testing.T, p *party, dir Cap) map[string]Entry {
	t.Helper()
	entries, _, err := p.client.List(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]Entry{}
	for _, e := range entries {
		out[e.Name] = e
	}
	return out
}

// A directory of ours that the grid has lost is made anew, with all that it held, and
// the others go on with it without an alarm; also when it is the maker's, by which the
// others hear of a removal.
func TestLostDirectory(t *testing.T) {
	for _, who := range []string{"alice", "bob"} {
		t.Run(who, func(t *testing.T) {
			w := newWorld(t)
			a := w.add("alice", true)
			b, x := w.invite("bob", false), w.invite("xaver", false)
			for i := range 3 {
				for _, p := range w.parties {
					p.write("by "+p.name, fmt.Sprint("version ", i))
					p.write(fmt.Sprintf("dir/%s %d", p.name, i), p.name)
				}
				w.settle()
			}
			a.remove("dir/alice 1")
			w.settle()
			p, others := a, []*party{b, x}
			if who == "bob" {
				p, others = b, []*party{a, x}
			}
			held := entriesOf(t, p, p.f.Readcap())
			lost := w.lose(p)
			if n := w.watchLoss(p); n != lossLooks {
				t.Fatalf("made anew at poll %d, want %d", n, lossLooks)
			}
			now := entriesOf(t, p, p.f.Readcap())
			if len(now) != len(held) || len(now) < 10 {
				t.Errorf("%d entries of %d", len(now), len(held))
			}
			for name, e := range held {
				if name != snapshot.MetadataName && now[name].Read != e.Read {
					t.Errorf("%q is not what it was", name)
				}
			}
			collective := entriesOf(t, a, a.f.Collective())
			if collective[who].Read != p.f.Readcap() || len(collective) != 4 {
				t.Errorf("%d entries in the Collective", len(collective))
			}
			alarmed(t, p, "was lost and is made anew")
			for _, s := range p.f.Status().Alarms {
				if strings.Contains(s, "watched for an hour") {
					t.Errorf("%q stands still", s)
				}
			}
			p.restart()
			p.write("by "+who, "after the loss")
			others[0].write("new", "by another")
			w.settle()
			for _, q := range w.parties {
				if q.tree()["by "+who] != "after the loss" || q.tree()["new"] != "by another" {
					t.Errorf("%s has %q", q.name, q.tree())
				}
				q.quiet()
			}
			w.current()
			for _, r := range p.m.Roots() {
				if ro, err := p.client.ReadOnly(r.Cap); err != nil || ro == lost {
					t.Error("what is lost is to be kept alive")
				}
			}
			// It does not stand in the way of a removal.
			if got, err := a.f.Remove(t.Context(), "xaver"); err != nil || got.Waits != "" {
				t.Fatalf("%+v, %v", got, err)
			}
			w.settle()
			removed(t, w, x, a, b)
		})
	}
}

// As long as the grid does not say so every time, for an hour, nothing is lost: servers
// are away, or the directory comes back.
func TestNotLost(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("alice", true), w.add("bob", true)
	b.write("f", "bob's")
	w.settle()
	own, looks, sure := b.f.Readcap(), 0, false
	b.f.opt.Lost = func(_ context.Context, dir Cap) (bool, error) {
		looks++
		if !sure && looks%lossLooks == 0 {
			return false, nil
		}
		if looks%5 == 0 && !sure {
			return false, errors.New("no answer")
		}
		return true, nil
	}
	away := true
	b.client.Fail = func(op string) error {
		if op == "Version" && away {
			return ErrUnavailable
		}
		return nil
	}
	fail := func() {
		t.Helper()
		if err := b.f.pollOnce(t.Context()); !errors.Is(err, ErrUnavailable) {
			t.Fatal(err)
		}
	}
	// The whole grid is away: nobody is asked.
	for range 2 * lossLooks {
		fail()
		w.clock.Add(lossEvery)
	}
	if looks != 0 {
		t.Errorf("looked %d times while the Collective could not be read", looks)
	}
	// Only ours is.
	dirs := 0
	b.client.Fail = func(op string) error {
		if op != "Version" {
			return nil
		}
		if dirs++; away && dirs%3 == 0 { // the Collective, alice's, ours
			return ErrUnavailable
		}
		return nil
	}
	for range 4 * lossLooks {
		fail()
		fail() // asks nobody anew
		w.clock.Add(lossEvery)
	}
	if looks != 4*lossLooks {
		t.Errorf("looked %d times", looks)
	}
	sure = true
	for range lossLooks - 2 {
		fail()
		w.clock.Add(lossEvery)
	}
	alarmed(t, b, "watched for an hour")
	away = false
	b.poll()
	b.quiet()
	away = true
	for range lossLooks - 1 {
		fail()
		w.clock.Add(lossEvery)
	}
	away = false
	w.settle()
	if b.f.Readcap() != own {
		t.Error("bob has another directory")
	}
	a.has(map[string]string{"f": "bob's"})
	a.quiet()
	b.quiet()
	w.current()
}

// Killed at a step of making its directory anew, a participant goes on.
func TestLostDirectoryKilled(t *testing.T) {
	for _, step := range []string{"remake.made", "renew.filled", "renew.kept"} {
		t.Run(step, func(t *testing.T) {
			w := newWorld(t)
			a, b := w.add("alice", true), w.add("bob", true)
			b.write("f", "bob's")
			w.settle()
			w.lose(b)
			hit := false
			b.fault = func(s string) error {
				if s != step {
					return nil
				}
				hit = true
				return errCrash
			}
			for range 2 {
				if w.watchLoss(b) > 0 {
					break
				}
			}
			if !hit {
				t.Error("the step was not come to")
			}
			b.write("f", "bob's next")
			w.settle()
			a.has(map[string]string{"f": "bob's next"})
			a.quiet()
			w.current()
			if n := len(entriesOf(t, a, a.f.Collective())); n != 3 {
				t.Errorf("%d entries in the Collective", n)
			}
		})
	}
}

// Where only the admin can enter a directory, status says what to do, and that helps.
func TestLostDirectoryAdminOnly(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice", true)
	if err := a.f.SetAdminOnly(true); err != nil {
		t.Fatal(err)
	}
	b := w.invite("bob", false)
	b.write("f", "bob's")
	w.settle()
	w.lose(b)
	w.parties = []*party{b}
	if w.watchLoss(b) > 0 {
		t.Error("bob's directory is another one, which nobody can enter")
	}
	alarmed(t, b, "the others get nothing from here; only the folder's admin can enter a new one: ask for a new invite (warren folder invite --again)")
	// Between two directories, and the admin has entered the new one: that is taken.
	next, read, err := b.f.makePersonal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := b.f.amend(func(cfg *state.Folder) { cfg.Membership.Next, cfg.Membership.NextRead = next, read }); err != nil {
		t.Fatal(err)
	}
	if err := a.client.Update(t.Context(), a.f.Collective(), []Change{{Entry: Entry{Name: "bob", Read: read}}}); err != nil {
		t.Fatal(err)
	}
	if w.watchLoss(b) == 0 || b.f.Readcap() != read {
		t.Error("bob did not move in")
	}
	b.write("f", "bob's next")
	w.parties = []*party{a, b}
	w.settle()
	a.has(map[string]string{"f": "bob's next"})
	a.quiet()
}

// Somebody else puts a directory in place of bob's that shows what bob published, but
// not his newest: an alarm, whether it is one of bob's own or not.
func TestReplayedDirectory(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice", true)
	b, x := w.invite("bob", false), w.invite("xaver", false)
	b.write("f", "one")
	w.settle()
	before := b.f.Readcap()
	copied := entriesOf(t, x, before)
	// Bob moves.
	if _, err := a.f.Remove(t.Context(), "xaver"); err != nil {
		t.Fatal(err)
	}
	w.parties = []*party{a, b}
	w.settle()
	b.write("f", "two")
	w.settle()
	a.has(map[string]string{"f": "two"})
	a.quiet()
	e := w.invite("eve", false)
	w.settle()
	forged, read, err := e.client.MakeDirectory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := e.client.Update(t.Context(), forged, []Change{{Entry: copied["f"]}, {Entry: copied[snapshot.MetadataName]}}); err != nil {
		t.Fatal(err)
	}
	own, newest := b.f.Readcap(), b.head("f")
	for what, dir := range map[string]Cap{"bob's former directory": before, "a copy of it": read} {
		show := func(dir Cap) {
			t.Helper()
			if err := e.client.Update(t.Context(), e.f.Collective(), []Change{{Entry: Entry{Name: "bob", Read: dir}}}); err != nil {
				t.Fatal(err)
			}
			a.poll()
		}
		for range 2 {
			show(dir)
			alarmed(t, a, `participant "bob" shows an older version than before`)
			if signed := !slices.ContainsFunc(a.f.Status().Alarms, func(s string) bool { return strings.Contains(s, "has not signed") }); signed != (dir == before) {
				t.Errorf("%s: alarms %q", what, a.f.Status().Alarms)
			}
			if h := a.f.headsOf("f"); !slices.ContainsFunc(h, func(h head) bool { return h.name == "bob" && h.cap == newest }) {
				t.Errorf("%s: bob's newest is forgotten", what)
			}
			a.restart()
			show(own)
			a.quiet()
		}
	}
}
