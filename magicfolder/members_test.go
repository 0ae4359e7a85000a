package magicfolder

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"warren/magicfolder/card"
	"warren/magicfolder/fsys"
	"warren/magicfolder/remote"
	"warren/magicfolder/snapshot"
	"warren/magicfolder/state"
)

// invite brings a participant in as an invite to the folder does: it gets what the
// first one says of the folder, and is entered by the first one.
func (w *world) invite(name string, readOnly bool) *party {
	w.t.Helper()
	p := w.outsider(name)
	first := w.parties[0]
	in := Invitation{Name: "docs", Dir: p.dir, Participant: name, Collective: first.f.Collective(), ReadOnly: readOnly}
	var err error
	if in.Introduction, err = first.f.Introduction(name); err != nil {
		w.t.Fatal(err)
	}
	if first.f.AdminOnly() || readOnly {
		if in.Collective, err = first.f.ReadOnlyCollective(); err != nil {
			w.t.Fatal(err)
		}
	}
	if p.f, err = p.m.Accept(w.t.Context(), in); err != nil {
		w.t.Fatal(err)
	}
	if again, err := p.m.Accept(w.t.Context(), in); err != nil || again != p.f {
		w.t.Fatalf("accepting again: %v", err)
	}
	for range 2 {
		if err := first.f.Admit(w.t.Context(), Admission{Name: name, Personal: p.f.Readcap(), Key: p.f.AuthorKey()}); err != nil {
			w.t.Fatal(err)
		}
	}
	w.parties = append(w.parties, p)
	return p
}

// outsider is a node that has no folder yet.
func (w *world) outsider(name string) *party {
	p := &party{t: w.t, name: name, client: w.grid.Client(name), clock: w.clock, mem: fsys.NewMemory(),
		state: w.t.TempDir() + "/magicfolder.db", dir: w.t.TempDir() + "/folder"}
	p.open()
	w.t.Cleanup(func() { p.m.Close() })
	return p
}

func membersOf(t *testing.T, f *Folder) map[string]Member {
	t.Helper()
	list, err := f.Members()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]Member{}
	for _, m := range list {
		out[m.Name] = m
	}
	if len(out) != len(list) {
		t.Errorf("names twice: %+v", list)
	}
	return out
}

func (p *party) quiet() {
	p.t.Helper()
	if a := p.f.Status().Alarms; len(a) > 0 {
		p.t.Errorf("%s: alarms %q", p.name, a)
	}
}

// In an admin-only folder the others hold the Collective's readcap and get each
// other's files; who only reads gets them too, and what it writes stays with it.
func TestAdminOnly(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice", true)
	if err := a.f.SetAdminOnly(true); err != nil {
		t.Fatal(err)
	}
	b, r, r2 := w.invite("bob", false), w.invite("rita", true), w.invite("ruth", true)
	if a.client.Writable(b.f.Collective()) || a.client.Writable(r.f.Collective()) || r.f.Readcap() != "" {
		t.Error("the others can write to the Collective")
	}
	a.write("f", "from alice")
	b.write("g", "from bob")
	w.settle()
	for _, p := range []*party{a, b, r, r2} {
		p.has(map[string]string{"f": "from alice", "g": "from bob"})
		p.quiet()
	}
	r.write("h", "nobody gets it")
	r.write("f", "an edit that nobody gets")
	r.scan()
	a.write("f", "alice's next")
	w.settle()
	a.has(map[string]string{"f": "alice's next", "g": "from bob"})
	r.has(map[string]string{"f": "an edit that nobody gets", "f.conflict-alice": "alice's next", "g": "from bob", "h": "nobody gets it"})
	if st := r.f.Status(); !st.ReadOnly || st.NotShared != 2 || st.ToUpload.Files != 0 || st.ToLink != 0 {
		t.Errorf("%+v", st)
	}
	for _, p := range []*party{a, b, r} {
		got := membersOf(t, p.f)
		if len(got) != 4 || !got["alice"].Admin || got["bob"].Admin || !got["rita"].ReadOnly || !got["ruth"].ReadOnly || got["bob"].ReadOnly || !got[p.name].Self {
			t.Errorf("%s: %+v", p.name, got)
		}
		for _, m := range got {
			if m.Program != "warren" && p == a {
				t.Errorf("%s: %+v", p.name, m)
			}
		}
		if got["bob"].Key != Fingerprint(b.f.AuthorKey()) || got["alice"].Key != Fingerprint(a.f.AuthorKey()) {
			t.Errorf("%s: keys of %+v", p.name, got)
		}
		if got["alice"].Files != 2 || got["alice"].Last.IsZero() {
			t.Errorf("%s: alice is %+v", p.name, got["alice"])
		}
	}
	if _, err := b.f.Remove(t.Context(), "rita"); !errors.Is(err, ErrNotAdmin) || !strings.Contains(err.Error(), `Ask "alice", who made the folder, to run there: warren folder remove-member FOLDER "rita"`) {
		t.Errorf("bob removes: %v", err)
	}
	if err := b.f.Admit(t.Context(), Admission{Name: "eve"}); !errors.Is(err, ErrNotAdmin) {
		t.Errorf("bob admits: %v", err)
	}
}

func TestAdmitRefuses(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("alice", true), w.add("bob", true)
	w.settle()
	own := a.f.Readcap()
	for what, c := range map[string]struct {
		a    Admission
		want error
	}{
		"a name that climbs":  {Admission{Name: "../x"}, ErrName},
		"a taken name":        {Admission{Name: "bob"}, ErrTaken},
		"our own name":        {Admission{Name: "alice", Again: true}, ErrTaken},
		"a taken directory":   {Admission{Name: "eve", Personal: b.f.Readcap()}, ErrTaken},
		"our own directory":   {Admission{Name: "eve", Personal: own}, ErrTaken},
		"a writecap":          {Admission{Name: "eve", Personal: a.f.config().Personal}, ErrNotCollective},
		"no directory at all": {Admission{Name: "eve", Personal: "URI:LIT:"}, ErrNotCollective},
	} {
		if err := a.f.Admit(t.Context(), c.a); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := w.outsider("eve").m.Accept(t.Context(), Invitation{Name: "docs", Dir: t.TempDir(), Participant: "eve", Collective: "URI:DIR2-LIT:"}); !errors.Is(err, ErrNotCollective) {
		t.Errorf("an invitation to no Collective: %v", err)
	}
}

// Keys that came with the invite are known before anything is read: whoever writes
// under one of these names with another key is ignored, loudly.
func TestKeysFromTheInvite(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice", true)
	a.write("f", "alice's")
	w.settle()
	in, err := a.f.Introduction("bob")
	if err != nil {
		t.Fatal(err)
	}
	_, other, _ := ed25519.GenerateKey(nil)
	in.Keys["alice"] = other.Public().(ed25519.PublicKey)
	b := w.outsider("bob")
	if b.f, err = b.m.Accept(t.Context(), Invitation{Name: "docs", Dir: b.dir, Participant: "bob", Collective: a.f.Collective(), Introduction: in}); err != nil {
		t.Fatal(err)
	}
	b.poll()
	b.has(map[string]string{})
	if a := b.f.Status().Alarms; !slices.ContainsFunc(a, func(s string) bool {
		return strings.Contains(s, "--accept-key") && strings.Contains(s, Fingerprint(w.parties[0].f.AuthorKey()))
	}) {
		t.Errorf("alarms %q", a)
	}
	if _, err := b.f.AcceptKey("alice", Fingerprint(other.Public().(ed25519.PublicKey))); !errors.Is(err, ErrOtherKey) {
		t.Errorf("accepted another key: %v", err)
	}
	// The two have compared the key over the phone.
	if key, err := b.f.AcceptKey("alice", Fingerprint(a.f.AuthorKey())); err != nil || key != Fingerprint(a.f.AuthorKey()) {
		t.Errorf("%q, %v", key, err)
	}
	b.poll()
	b.has(map[string]string{"f": "alice's"})
	b.quiet()
	if _, err := b.f.AcceptKey("alice", ""); !errors.Is(err, ErrSameKey) {
		t.Errorf("accepting twice: %v", err)
	}
	if _, err := b.f.AcceptKey("nobody", ""); !errors.Is(err, ErrNoMember) {
		t.Errorf("accepting of nobody: %v", err)
	}
}

// The key of somebody who was invited to the grid is known before it enters; one who
// is in the folder already does not lose the name by that.
func TestVouch(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("alice", true), w.add("bob", true)
	b.write("f", "bob's")
	w.settle()
	_, other, _ := ed25519.GenerateKey(nil)
	for _, name := range []string{"bob", "carol"} {
		if err := a.f.Vouch(name, other.Public().(ed25519.PublicKey)); err != nil {
			t.Fatal(err)
		}
	}
	b.write("f", "bob's, still")
	c := w.add("carol", true)
	c.write("g", "not by whom was invited")
	w.settle()
	a.has(map[string]string{"f": "bob's, still"})
	if got := membersOf(t, a.f); got["bob"].NewKey != "" || got["carol"].NewKey != Fingerprint(c.f.AuthorKey()) {
		t.Errorf("%+v", got)
	}
}

// A directory that must last is not made before the servers had their time.
func TestGather(t *testing.T) {
	w := newWorld(t)
	for _, how := range []string{"create", "join", "accept"} {
		p := w.outsider(how)
		gathered := 0
		p.m.opt.Gather = func(context.Context) { gathered++ }
		p.client.Fail = func(op string) error {
			if op == "MakeDirectory" && gathered == 0 {
				t.Errorf("%s: a directory was made at once", how)
			}
			return nil
		}
		var err error
		switch how {
		case "create":
			p.f, err = p.m.Create(t.Context(), "docs", p.dir, how)
			w.parties = append(w.parties, p)
		case "join":
			p.f, err = p.m.Join(t.Context(), "docs", p.dir, how, w.parties[0].f.Collective())
		case "accept":
			p.f, err = p.m.Accept(t.Context(), Invitation{Name: "docs", Dir: p.dir, Participant: how, Collective: w.parties[0].f.Collective()})
		}
		if err != nil {
			t.Fatal(err)
		}
		p.poll()
		if gathered == 0 || p.f.Readcap() == "" {
			t.Errorf("%s: gathered %d times", how, gathered)
		}
	}
}

// Who leaves and comes again under the same name has a new key: an alarm says what
// to do, and what the old key signed stays good.
func TestComesAgain(t *testing.T) {
	for _, invited := range []bool{false, true} {
		t.Run(fmt.Sprintf("invited %v", invited), func(t *testing.T) {
			w := newWorld(t)
			a, b := w.add("alice", true), w.add("bob", true)
			b.write("f", "bob's")
			b.write("only bob's", "by the old key")
			w.settle()
			if err := b.m.Leave(t.Context(), "docs", true); err != nil {
				t.Fatal(err)
			}
			w.parties = w.parties[:1]
			a.poll()
			if invited {
				b = w.invite("bob", false)
			} else {
				// By an invite to the grid, which brings the writecap.
				b = w.add("bob", true)
				in, err := a.f.Introduction("bob")
				if err != nil {
					t.Fatal(err)
				}
				if err := b.f.Meet(in); err != nil {
					t.Fatal(err)
				}
			}
			w.settle()
			b.write("f", "bob's, again")
			w.settle()
			if !invited {
				a.has(map[string]string{"f": "bob's", "only bob's": "by the old key"})
				if m := membersOf(t, a.f)["bob"]; m.NewKey != Fingerprint(b.f.AuthorKey()) {
					t.Errorf("%+v", m)
				}
				if _, err := a.f.AcceptKey("bob", ""); err != nil {
					t.Fatal(err)
				}
			}
			a.poll()
			a.has(map[string]string{"f": "bob's, again", "only bob's": "by the old key"})
			a.quiet()
			if m := membersOf(t, a.f)["bob"]; m.NewKey != "" || m.Key != Fingerprint(b.f.AuthorKey()) {
				t.Errorf("%+v", m)
			}
		})
	}
}

// removed checks that the last party sees nothing of what the others write now, and
// the others nothing of it.
func removed(t *testing.T, w *world, out *party, rest ...*party) {
	t.Helper()
	removedFrom(t, w, len(rest), out, rest...)
}

func removedFrom(t *testing.T, w *world, count int, out *party, rest ...*party) {
	t.Helper()
	before := out.tree()
	for _, p := range rest {
		p.write("new by "+p.name, "not for "+out.name)
	}
	out.write("from outside", "nobody takes it")
	w.settle()
	w.settle()
	for _, p := range rest {
		for _, q := range rest {
			if got := p.tree()["new by "+q.name]; got != "not for "+out.name {
				t.Errorf("%s has %q of %s", p.name, got, q.name)
			}
		}
		if got, ok := p.tree()["from outside"]; ok {
			t.Errorf("%s took %q of who was removed", p.name, got)
		}
		p.quiet()
		if n := len(membersOf(t, p.f)); n != count {
			t.Errorf("%s knows %d members, want %d", p.name, n, count)
		}
	}
	for path, data := range out.tree() {
		if before[path] != data && path != "from outside" {
			t.Errorf("%s got %q = %q", out.name, path, data)
		}
	}
	if a := out.f.Status().Alarms; !slices.ContainsFunc(a, func(s string) bool { return strings.Contains(s, "we were removed") }) {
		t.Errorf("%s is told nothing: %q", out.name, a)
	}
	// Not by its own means either: it reads all that it knew and can reach from there.
	for _, p := range rest {
		if cap := p.f.config().Readcap; reaches(t, out, cap) {
			t.Errorf("%s can still read what %s publishes", out.name, p.name)
		}
		if reaches(t, out, p.f.Collective()) {
			t.Errorf("%s knows the new Collective", out.name)
		}
	}
}

// reaches says whether a party finds a capability by reading all that it knows.
func reaches(t *testing.T, p *party, want remote.Cap) bool {
	t.Helper()
	cfg := p.f.config()
	todo, seen := []remote.Cap{cfg.Collective, cfg.Membership.Board}, map[remote.Cap]bool{}
	for len(todo) > 0 {
		c := todo[0]
		todo = todo[1:]
		if kind := remote.KindOf(c); seen[c] || kind != remote.MutableDirectory && kind != remote.Directory {
			continue
		}
		seen[c] = true
		if c == want {
			return true
		}
		entries, _, err := p.client.List(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			todo = append(todo, e.Read)
			if e.Name != snapshot.MetadataName {
				continue
			}
			own, err := card.Parse(e.Metadata, c.Text())
			if err != nil {
				continue
			}
			for _, n := range own.Notes {
				if _, err := card.Open(p.f.key, own.Key, n); err == nil {
					return true
				}
			}
		}
	}
	return false
}

// Somebody is removed: the others follow by themselves, in both kinds of folder,
// also those who were away for two removals; and see one another's files.
func TestRemove(t *testing.T) {
	for _, adminOnly := range []bool{false, true} {
		t.Run(fmt.Sprintf("admin only %v", adminOnly), func(t *testing.T) {
			w := newWorld(t)
			a := w.add("alice", true)
			if err := a.f.SetAdminOnly(adminOnly); err != nil {
				t.Fatal(err)
			}
			b, c, r, x, y := w.invite("bob", false), w.invite("carol", false), w.invite("rita", true), w.invite("xaver", false), w.invite("yves", false)
			for _, p := range w.parties {
				p.write("by "+p.name, "before")
			}
			w.settle()
			w.settle()
			old := a.f.Collective()
			got, err := a.f.Remove(t.Context(), "xaver")
			if err != nil || got.Waits != "" || len(got.Again) != 0 || strings.Join(got.Follow, " ") != "bob carol rita yves" {
				t.Fatalf("%+v, %v", got, err)
			}
			if _, err := a.f.Remove(t.Context(), "xaver"); !errors.Is(err, ErrNoMember) {
				t.Errorf("removed twice: %v", err)
			}
			if _, err := a.f.Remove(t.Context(), "alice"); !errors.Is(err, ErrNoMember) {
				t.Errorf("removed itself: %v", err)
			}
			// Carol is away for it, and for the next.
			w.parties = []*party{a, b, r, y, x}
			w.settle()
			removedFrom(t, w, 5, x, a, b, y)
			if got, err = a.f.Remove(t.Context(), "yves"); err != nil || got.Waits != "" {
				t.Fatalf("%+v, %v", got, err)
			}
			w.parties = []*party{a, b, r, y}
			w.settle()
			removedFrom(t, w, 4, y, a, b)
			if old == a.f.Collective() || c.f.Collective() == a.f.Collective() {
				t.Error("nobody moved")
			}
			w.parties = []*party{a, b, c, r}
			w.settle()
			w.settle()
			removedFrom(t, w, 4, x, a, b, c)
			if a, r := c.tree(), r.tree(); a["new by carol"] == "" || r["new by carol"] != a["new by carol"] {
				t.Errorf("who reads has %q", r)
			}
			if p := r.f; reaches(t, y, p.Collective()) {
				t.Error("who was removed knows where the readers are")
			}
			// Each can be started anew.
			for _, p := range w.parties {
				p.restart()
			}
			a.write("last", "after the restart")
			w.settle()
			if c.tree()["last"] == "" || r.tree()["last"] == "" {
				t.Error("nothing flows after a restart")
			}
			// Nobody is left in the old names: each stands once.
			if entries, _, err := a.client.List(t.Context(), a.f.Collective()); err != nil || len(entries) != 5 {
				t.Errorf("%d entries, %v", len(entries), err)
			}
		})
	}
}

// Killed at any step of a removal, the admin goes on when it is started again: the
// removal has happened or not, and who remains learns of it.
func TestRemoveKilled(t *testing.T) {
	for _, step := range []string{"rekey.made", "rekey.kept", "renew.filled", "renew.kept", "tell.posted"} {
		t.Run(step, func(t *testing.T) {
			w := newWorld(t)
			a := w.add("alice", true)
			b, x := w.invite("bob", false), w.invite("xaver", false)
			a.write("f", "before")
			w.settle()
			a.fault = func(s string) error {
				if s == step {
					return errCrash
				}
				return nil
			}
			if got, err := a.f.Remove(t.Context(), "xaver"); err == nil && got.Waits == "" {
				t.Fatal("the step was not come to")
			}
			a.restart()
			w.settle()
			if step == "rekey.made" {
				// Nothing has happened yet.
				if n := len(membersOf(t, a.f)); n != 3 {
					t.Fatalf("%d members", n)
				}
				if _, err := a.f.Remove(t.Context(), "xaver"); err != nil {
					t.Fatal(err)
				}
			}
			w.settle()
			removed(t, w, x, a, b)
		})
	}
}

// Killed at any step of following, a participant goes on, in both kinds of folder;
// and so it does when the grid refuses each kind of call for a while.
func TestFollowKilled(t *testing.T) {
	for _, adminOnly := range []bool{false, true} {
		for _, step := range []string{"follow.kept", "renew.made", "renew.filled", "renew.kept", "tell.posted", "grid List", "grid Update", "grid MakeDirectory", "grid after Update"} {
			t.Run(fmt.Sprintf("%s, admin only %v", step, adminOnly), func(t *testing.T) {
				w := newWorld(t)
				a := w.add("alice", true)
				if err := a.f.SetAdminOnly(adminOnly); err != nil {
					t.Fatal(err)
				}
				b, x := w.invite("bob", false), w.invite("xaver", false)
				a.write("f", "before")
				b.write("g", "before, too")
				w.settle()
				w.settle()
				if got, err := a.f.Remove(t.Context(), "xaver"); err != nil || got.Waits != "" {
					t.Fatalf("%+v, %v", got, err)
				}
				hit := false
				if op, ok := strings.CutPrefix(step, "grid "); ok {
					left := 3
					b.client.Fail = func(did string) error {
						if did != op || left == 0 {
							return nil
						}
						hit, left = true, left-1
						return ErrUnavailable
					}
				} else {
					b.fault = func(s string) error {
						if s == step && !hit {
							hit = true
							return errCrash
						}
						return nil
					}
				}
				for range 8 {
					if b.f.PollNow(t.Context()) != nil && b.fault != nil && hit {
						b.restart()
					}
					a.poll()
				}
				if !hit && !(step == "tell.posted" && !adminOnly) {
					t.Error("the step was not come to")
				}
				w.settle()
				removed(t, w, x, a, b)
				if n := len(b.f.config().Membership.Past); n != 1 {
					t.Errorf("%d directories are past", n)
				}
			})
		}
	}
}

// Who was not told by its invite who the admin is cannot follow, is listed as one to
// be invited again, and hears that there is something to ask.
func TestFollowUnaware(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice", true)
	b, x := w.add("bob", true), w.invite("xaver", false) // bob got the bare writecap
	a.write("f", "before")
	w.settle()
	got, err := a.f.Remove(t.Context(), "xaver")
	if err != nil || strings.Join(got.Again, " ") != "bob" || len(got.Follow) != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	w.settle()
	if al := b.f.Status().Alarms; len(al) != 1 || !strings.Contains(al[0], "ask to be invited again") {
		t.Errorf("bob's alarms %q", al)
	}
	if b.f.Collective() != x.f.Collective() {
		t.Error("bob has moved")
	}
}

// Whoever is not the admin moves nobody, and an old note leads nowhere.
func TestFollowNobodyElse(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice", true)
	b, e := w.invite("bob", false), w.invite("eve", false)
	for _, p := range w.parties {
		p.write("by "+p.name, "x")
	}
	w.settle()
	trap, _, err := e.client.MakeDirectory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	text := []byte(fmt.Sprintf(`{"collective": %q, "board": %q}`, trap.Text(), e.f.Readcap().Text()))
	// Eve's own note in her own card, and a card of hers in alice's place.
	n, err := card.Seal(e.f.key, b.f.AuthorKey(), card.KindMove, 9, text)
	if err != nil {
		t.Fatal(err)
	}
	own, err := card.Encode(e.f.key, e.f.Readcap().Text(), card.Card{Generation: 9, Notes: []card.Note{n}})
	if err != nil {
		t.Fatal(err)
	}
	if err := writeModel(t.Context(), e.client, e.f.config().Personal, own); err != nil {
		t.Fatal(err)
	}
	if err := e.client.Update(t.Context(), e.f.Collective(), []Change{{Entry: Entry{Name: "alice", Read: e.f.Readcap()}}}); err != nil {
		t.Fatal(err)
	}
	before := b.f.Collective()
	b.poll()
	if b.f.Collective() != before {
		t.Error("bob followed eve")
	}
	// Eve empties the old Collective before bob hears of the removal: he finds alice all the same.
	if _, err := a.f.Remove(t.Context(), "eve"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"alice", "bob", snapshot.MetadataName} {
		if err := e.client.Update(t.Context(), before, []Change{{Entry: Entry{Name: name}, Delete: true}}); err != nil {
			t.Fatal(err)
		}
	}
	b.poll()
	if b.f.Collective() != a.f.Collective() {
		t.Fatal("bob did not follow alice")
	}
	// A replayed card of generation 1 moves nobody who is at 2.
	moved := a.f.Collective()
	if err := b.f.amend(func(cfg *state.Folder) { cfg.Membership.Generation = 2 }); err != nil {
		t.Fatal(err)
	}
	if err := b.f.amend(func(cfg *state.Folder) { cfg.Collective = moved }); err != nil {
		t.Fatal(err)
	}
	if ok, err := b.f.follow(t.Context()); ok || err != nil {
		t.Errorf("followed an old note: %v, %v", ok, err)
	}
}
