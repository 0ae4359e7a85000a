package magicfolder

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"warren/magicfolder/card"
	"warren/magicfolder/state"
)

func noticed(p *party, what string) bool {
	return slices.ContainsFunc(p.f.Status().Notices, func(s string) bool { return strings.Contains(s, what) })
}

// again has somebody come again who lost all that it had, invited by p under its old
// name; the directory that it had stays in the Collective until then.
func (w *world) again(inviter *party, name string) *party {
	w.t.Helper()
	p := w.outsider(name)
	in := Invitation{Name: "docs", Dir: p.dir, Participant: name, Collective: inviter.f.Collective()}
	var err error
	if inviter.f.AdminOnly() {
		if in.Collective, err = inviter.f.ReadOnlyCollective(); err != nil {
			w.t.Fatal(err)
		}
	}
	if in.Introduction, err = inviter.f.Introduction(name); err != nil {
		w.t.Fatal(err)
	}
	if p.f, err = p.m.Accept(w.t.Context(), in); err != nil {
		w.t.Fatal(err)
	}
	if err := inviter.f.Admit(w.t.Context(), Admission{Name: name, Personal: p.f.Readcap(), Key: p.f.AuthorKey(), Again: true}); err != nil {
		w.t.Fatal(err)
	}
	return p
}

// The admin invites somebody again: the others take the new key on its word, twice in a
// row, also those who were away, and what the old keys signed stays good.
func TestInvitedAgain(t *testing.T) {
	for _, adminOnly := range []bool{false, true} {
		t.Run(fmt.Sprintf("admin only %v", adminOnly), func(t *testing.T) {
			w := newWorld(t)
			a := w.add("alice", true)
			if err := a.f.SetAdminOnly(adminOnly); err != nil {
				t.Fatal(err)
			}
			b, c, d := w.invite("bob", false), w.invite("carol", false), w.invite("dora", false)
			b.write("f", "bob's")
			b.write("only bob's", "by the old key")
			w.settle()
			first := b.f.AuthorKey()
			b = w.again(a, "bob")
			w.parties = []*party{a, b, c} // dora is away
			w.settle()
			b.write("f", "bob's, again")
			w.settle()
			for _, p := range []*party{a, b, c} {
				p.has(map[string]string{"f": "bob's, again", "only bob's": "by the old key"})
				p.quiet()
			}
			if !noticed(c, Fingerprint(b.f.AuthorKey())+", before "+Fingerprint(first)) {
				t.Errorf("carol's notices: %q", c.f.Status().Notices)
			}
			b = w.again(a, "bob")
			w.parties = []*party{a, b, c, d}
			w.settle()
			b.write("f", "bob's third")
			w.settle()
			for _, p := range w.parties {
				p.has(map[string]string{"f": "bob's third", "only bob's": "by the old key"})
				p.quiet()
				if m := membersOf(t, p.f)["bob"]; m.NewKey != "" || m.Key != Fingerprint(b.f.AuthorKey()) {
					t.Errorf("%s: %+v", p.name, m)
				}
			}
			// Nothing of it comes back after restarts, and nothing is noticed twice.
			for _, p := range w.parties {
				p.restart()
			}
			w.settle()
			for _, p := range w.parties {
				p.quiet()
				if n := p.f.Status().Notices; len(n) != 0 {
					t.Errorf("%s: notices %q", p.name, n)
				}
			}
			w.current()
		})
	}
}

// Nobody but the admin vouches: not the member who has invited, nor one who states it
// in its card, also not with the admin's own words of before.
func TestVouchedByOthers(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice", true)
	b, c, e := w.invite("bob", false), w.invite("carol", false), w.invite("eve", false)
	b.write("f", "bob's")
	w.settle()
	first := b.f.AuthorKey()
	b = w.again(e, "bob")
	_, other, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	forged := card.State(e.f.key, card.StatesKey, "bob", first, b.f.AuthorKey())
	eves, err := card.Encode(e.f.key, e.f.Readcap().Text(), card.Card{Admin: a.f.AuthorKey(), Statements: []card.Statement{
		forged,
		{Kind: card.StatesKey, Name: "bob", Was: first, Key: b.f.AuthorKey(), Sig: card.State(other, card.StatesKey, "bob", first, b.f.AuthorKey()).Sig},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := writeModel(t.Context(), e.client, e.f.config().Personal, eves); err != nil {
		t.Fatal(err)
	}
	b.poll()
	b.write("f", "who is that?")
	b.scan()
	for range 2 {
		for _, p := range []*party{a, c} {
			p.poll()
			alarmed(t, p, "signs with another key ("+Fingerprint(b.f.AuthorKey())+")")
			p.has(map[string]string{"f": "bob's"})
			if n := p.f.Status().Notices; len(n) != 0 {
				t.Errorf("%s: notices %q", p.name, n)
			}
		}
	}
	// The admin has confirmed it: now they follow. Its words are no good twice.
	if err := a.f.Admit(t.Context(), Admission{Name: "bob", Personal: b.f.Readcap(), Key: b.f.AuthorKey(), Again: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.f.AcceptKey("bob", ""); err == nil {
		t.Error("alice has still a key to accept")
	}
	w.parties = []*party{a, b, c}
	w.settle()
	c.has(map[string]string{"f": "who is that?"})
	c.quiet()
	pin, err := c.f.pinned("bob")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.f.pin("name:bob", state.Pin{Key: first, Own: true, Ours: true, Past: [][]byte{pin.Key}}); err != nil {
		t.Fatal(err)
	}
	c.poll()
	if now, err := c.f.pinned("bob"); err != nil || !first.Equal(ed25519.PublicKey(now.Key)) {
		t.Errorf("carol took an old key for a new one: %v", err)
	}
}

// comes is a newcomer to the grid: it has the writecap, and makes its directory and its
// entry when it runs.
func (w *world) comes(inviter *party, name string) *party {
	w.t.Helper()
	p := w.outsider(name)
	var err error
	if p.f, err = p.m.Join(w.t.Context(), "docs", p.dir, name, inviter.f.Collective()); err != nil {
		w.t.Fatal(err)
	}
	in, err := inviter.f.Introduction(name)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := p.f.Meet(in); err != nil {
		w.t.Fatal(err)
	}
	if err := inviter.f.Vouch(name, p.f.AuthorKey()); err != nil {
		w.t.Fatal(err)
	}
	return p
}

// Who was invited before somebody was removed, and enters after, finds its way: whoever
// has invited it, and whether it has been in the old Collective meanwhile.
func TestNewcomerAmidRemoval(t *testing.T) {
	for _, inviter := range []string{"alice", "bob"} {
		for _, entersOld := range []bool{false, true} {
			t.Run(fmt.Sprintf("invited by %s, enters the old one: %v", inviter, entersOld), func(t *testing.T) {
				w := newWorld(t)
				a := w.add("alice", true)
				b, x := w.invite("bob", false), w.invite("xaver", false)
				a.write("f", "before")
				w.settle()
				by := a
				if inviter == "bob" {
					by = b
				}
				n := w.comes(by, "nina")
				w.settle()
				if entersOld {
					// Alice's node is killed before it tells anybody.
					a.fault = func(step string) error {
						if step == "rekey.kept" {
							return errCrash
						}
						return nil
					}
				}
				if _, err := a.f.Remove(t.Context(), "xaver"); err != nil != entersOld {
					t.Fatal(err)
				}
				if entersOld {
					n.poll()
					if n.f.Collective() == a.f.Collective() || !n.f.config().Enrolled {
						t.Fatal("nina is not in the old Collective")
					}
					a.restart()
				}
				n.write("by nina", "hello")
				w.parties = []*party{a, b, n}
				w.settle()
				w.settle()
				if n.f.Collective() != a.f.Collective() {
					t.Fatal("nina was left behind")
				}
				for _, p := range w.parties {
					p.has(map[string]string{"f": "before", "by nina": "hello"})
					p.quiet()
					if m := p.f.config().Membership; len(m.Awaited) != 0 {
						t.Errorf("%s awaits %d still", p.name, len(m.Awaited))
					}
				}
				x.poll()
				if _, ok := x.tree()["by nina"]; ok && !entersOld {
					t.Error("nina was in the old Collective")
				}
				w.parties = append(w.parties, x)
				removed(t, w, x, a, b, n)
			})
		}
	}
}

// Who was invited can be removed before it enters, and nobody brings back by an invite of
// before whom the admin has removed.
func TestRemoveWhoIsAwaited(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice", true)
	b := w.invite("bob", false)
	a.write("f", "before")
	w.settle()
	n, o := w.comes(a, "nina"), w.comes(b, "otto")
	w.settle()
	if _, err := a.f.Remove(t.Context(), "nobody"); !errors.Is(err, ErrNoMember) {
		t.Errorf("removed nobody: %v", err)
	}
	// Otto enters; bob, who has invited him, does not see it, nor that he goes.
	w.parties = []*party{a, o}
	w.settle()
	for _, name := range []string{"nina", "otto"} {
		if got, err := a.f.Remove(t.Context(), name); err != nil || got.Removed != name || got.Waits != "" {
			t.Fatalf("%+v, %v", got, err)
		}
	}
	w.parties = []*party{a, b, o}
	w.settle()
	w.settle()
	n.poll()
	for _, p := range []*party{n, o} {
		if reaches(t, p, a.f.Collective()) || p.f.Collective() == a.f.Collective() {
			t.Errorf("%s was told where the folder is", p.name)
		}
		alarmed(t, p, "we were removed, or have to be invited again")
	}
	if b.f.Collective() != a.f.Collective() {
		t.Error("bob was left behind")
	}
	a.quiet()
}
