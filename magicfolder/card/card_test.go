package card

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
)

func key(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

func public(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

func seal(t testing.TB, from, to ed25519.PrivateKey, kind string, generation uint64) Note {
	t.Helper()
	n, err := Seal(from, public(to), kind, generation, []byte("where it is"))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestNote(t *testing.T) {
	alice, bob, carol := key(1), key(2), key(3)
	n := seal(t, alice, bob, KindMove, 7)
	if text, err := Open(bob, public(alice), n); err != nil || string(text) != "where it is" {
		t.Fatalf("%q, %v", text, err)
	}
	if bytes.Contains(n.Box, []byte("where")) || bytes.Equal(n.Box, seal(t, alice, bob, KindMove, 7).Box) {
		t.Error("the note is not sealed afresh")
	}
	forCarol := n
	forCarol.For = public(carol)
	for what, c := range map[string]struct {
		own    ed25519.PrivateKey
		sender ed25519.PrivateKey
		note   Note
	}{
		"somebody else's":  {carol, alice, n},
		"another sender":   {bob, carol, n},
		"passed on":        {carol, alice, forCarol},
		"forged by carol":  {bob, alice, seal(t, carol, bob, KindMove, 7)},
		"of no recipient":  {bob, alice, Note{}},
		"another kind":     {bob, alice, Note{KindPersonal, n.For, n.Generation, n.Ephemeral, n.Box, n.Sig}},
		"later":            {bob, alice, Note{n.Kind, n.For, 8, n.Ephemeral, n.Box, n.Sig}},
		"another box":      {bob, alice, Note{n.Kind, n.For, 7, n.Ephemeral, append([]byte{1}, n.Box...), n.Sig}},
		"another one-time": {bob, alice, Note{n.Kind, n.For, 7, bytes.Repeat([]byte{9}, 32), n.Box, n.Sig}},
		"low order":        {bob, alice, Note{n.Kind, n.For, 7, make([]byte, 32), n.Box, n.Sig}},
	} {
		if text, err := Open(c.own, public(c.sender), c.note); !errors.Is(err, ErrNote) {
			t.Errorf("%s: %q, %v", what, text, err)
		}
	}
	// Signed by its sender and all the same not for who is named: the seal is bound, too.
	moved := n
	moved.For = public(carol)
	moved.Sig = ed25519.Sign(alice, append(moved.head(public(alice)), moved.Box...))
	if _, err := Open(carol, public(alice), moved); !errors.Is(err, ErrNote) {
		t.Errorf("a box for bob opened for carol: %v", err)
	}
}

func TestStatement(t *testing.T) {
	alice, bob := key(1), key(2)
	s := State(alice, StatesKey, "carol", public(key(3)), public(key(4)))
	if !s.By(public(alice)) {
		t.Fatal("alice did not state it")
	}
	other := func(change func(*Statement)) Statement {
		o := s
		change(&o)
		return o
	}
	bad := map[string]Statement{
		"another's":        State(bob, StatesKey, "carol", public(key(3)), public(key(4))),
		"another name":     other(func(s *Statement) { s.Name = "dora" }),
		"another kind":     other(func(s *Statement) { s.Kind = StatesInvited }),
		"another key":      other(func(s *Statement) { s.Key = public(key(5)) }),
		"another before":   other(func(s *Statement) { s.Was = public(key(5)) }),
		"none before":      other(func(s *Statement) { s.Was = nil }),
		"without a sign":   other(func(s *Statement) { s.Sig = nil }),
		"parts moved over": other(func(s *Statement) { s.Kind, s.Name = s.Kind+"c", "arol" }),
	}
	list := []Statement{s}
	for what, b := range bad {
		if b.By(public(alice)) {
			t.Errorf("%s counts", what)
		}
		list = append(list, b)
	}
	// A name or a key that none can be is left out as well.
	list = append(list, State(alice, StatesKey, strings.Repeat("x", 300), public(key(3)), public(key(4))), State(alice, StatesKey, "x", nil, []byte("short")),
		State(alice, StatesInvited, "dora", nil, public(key(6))))
	b, err := Encode(alice, "dir", Card{Statements: list})
	if err != nil {
		t.Fatal(err)
	}
	c, err := Parse(b, "dir")
	if err != nil || !reflect.DeepEqual(c.Statements, []Statement{s, list[len(list)-1]}) {
		t.Errorf("%+v, %v", c.Statements, err)
	}
	if s.By(nil) || s.By([]byte("short")) {
		t.Error("stated by nobody")
	}
	if _, err := Encode(alice, "dir", Card{Statements: make([]Statement, MaxStatements+1)}); err == nil {
		t.Error("too many statements are encoded")
	}
}

// A key of small order would let everybody read.
func TestSealRefuses(t *testing.T) {
	identity := append([]byte{1}, make([]byte, 31)...)
	for _, to := range [][]byte{identity, make([]byte, 32), []byte("short")} {
		if _, err := Seal(key(1), to, KindMove, 1, []byte("x")); err == nil {
			t.Errorf("sealed to %x", to)
		}
	}
	if _, err := Seal(key(1), public(key(2)), KindMove, 1, make([]byte, 1<<20)); err == nil {
		t.Error("sealed a MiB")
	}
}

func TestCard(t *testing.T) {
	alice, bob := key(1), key(2)
	notes := []Note{seal(t, alice, bob, KindMove, 1), seal(t, alice, key(3), KindMove, 1)}
	b, err := Encode(alice, "URI:DIR2-RO:x", Card{Generation: 1, Admin: public(bob), Notes: notes})
	if err != nil {
		t.Fatal(err)
	}
	// Tahoe writes its own keys beside ours.
	b = json.RawMessage(strings.Replace(string(b), "{", `{"tahoe": {"linkcrtime": 1.5}, `, 1))
	c, err := Parse(b, "URI:DIR2-RO:x")
	if err != nil || !c.Key.Equal(public(alice)) || !c.Admin.Equal(public(bob)) || c.Generation != 1 || !reflect.DeepEqual(c.Notes, notes) {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := Parse(b, "URI:DIR2-RO:copied"); !errors.Is(err, ErrCard) {
		t.Errorf("a copied card: %v", err)
	}
	for _, none := range []string{"", "{}", "null", "[]", `{"tahoe": {}}`, "garbage"} {
		if _, err := Parse(json.RawMessage(none), "x"); !errors.Is(err, ErrNone) {
			t.Errorf("%q: %v", none, err)
		}
	}
	for _, bad := range []string{`{"warren": 7}`, `{"warren": {}}`, strings.Replace(string(b), `"v":1`, `"v":2`, 1), strings.Replace(string(b), `"sig":"`, `"sig":"AA`, 1), `{"warren": {"v":1,"key":"AA"}}`} {
		if _, err := Parse(json.RawMessage(bad), "URI:DIR2-RO:x"); !errors.Is(err, ErrCard) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func FuzzCard(f *testing.F) {
	alice, bob := key(1), key(2)
	b, err := Encode(alice, "dir", Card{Generation: 1, Notes: []Note{seal(f, alice, bob, KindMove, 1)},
		Statements: []Statement{State(alice, StatesKey, "carol", public(key(3)), public(key(4)))}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(b))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Parse(b, "dir")
		if err != nil {
			return
		}
		for _, n := range c.Notes {
			if text, err := Open(bob, public(alice), n); err == nil && string(text) != "where it is" {
				t.Fatalf("a note nobody wrote: %q", text)
			}
		}
		for _, s := range c.Statements {
			if s.By(public(alice)) && (s.Kind != StatesKey || s.Name != "carol" || !s.Key.Equal(public(key(4)))) {
				t.Fatalf("a statement nobody made: %+v", s)
			}
		}
		if !c.Key.Equal(public(alice)) {
			c.Statements = nil // they are not alice's to encode
		}
		out, err := Encode(alice, "dir", c)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := Parse(out, "dir"); err != nil || !reflect.DeepEqual(back.Notes, c.Notes) || !reflect.DeepEqual(back.Statements, c.Statements) || !back.Admin.Equal(c.Admin) {
			t.Fatalf("%s became %+v (%v)", b, back, err)
		}
	})
}
