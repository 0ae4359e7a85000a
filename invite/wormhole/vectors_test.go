package wormhole

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"testing"

	"filippo.io/edwards25519"
	"golang.org/x/text/unicode/norm"
)

// vectors were written by python-spake2 and magic-wormhole:
// tests/vectors/gen_invite.py.
type vectors struct {
	Blinding  string `json:"blinding"`
	Exchanges []struct {
		Code     string   `json:"code"`
		AppID    string   `json:"appid"`
		ScalarA  hexBytes `json:"scalar_a"`
		ScalarB  hexBytes `json:"scalar_b"`
		MessageA hexBytes `json:"message_a"`
		MessageB hexBytes `json:"message_b"`
		Key      hexBytes `json:"key"`
		Verifier hexBytes `json:"verifier"`
		Phases   []struct {
			Side   string   `json:"side"`
			Phase  string   `json:"phase"`
			Key    hexBytes `json:"key"`
			Plain  hexBytes `json:"plain"`
			Sealed hexBytes `json:"sealed"`
		} `json:"phases"`
	} `json:"exchanges"`
}

func load(t testing.TB) vectors {
	t.Helper()
	b, err := os.ReadFile("testdata/wormhole.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Exchanges) < 5 {
		t.Fatalf("only %d exchanges", len(v.Exchanges))
	}
	return v
}

func TestVectors(t *testing.T) {
	v := load(t)
	if v.Blinding != blindingS {
		t.Error("the blinding element differs from python-spake2's")
	}
	for _, e := range v.Exchanges {
		password, identity := norm.NFC.Bytes([]byte(e.Code)), []byte(e.AppID)
		a, err := newExchange(password, identity, e.ScalarA)
		if err != nil {
			t.Fatal(err)
		}
		b, err := newExchange(password, identity, e.ScalarB)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a.message(), e.MessageA) || !bytes.Equal(b.message(), e.MessageB) {
			t.Errorf("%s: messages differ", e.AppID)
		}
		for _, half := range []struct {
			x      *exchange
			theirs []byte
		}{{a, e.MessageB}, {b, e.MessageA}} {
			key, err := half.x.finish(half.theirs)
			if err != nil || !bytes.Equal(key, e.Key) {
				t.Errorf("%s: key differs (%v)", e.AppID, err)
			}
		}
		verifier, err := derive(e.Key, "wormhole:verifier")
		if err != nil || !bytes.Equal(verifier[:], e.Verifier) {
			t.Errorf("%s: verifier differs", e.AppID)
		}
		if len(e.Phases) == 0 {
			t.Fatal("no phases")
		}
		for _, p := range e.Phases {
			k, err := phaseKey(e.Key, p.Side, p.Phase)
			if err != nil || !bytes.Equal(k[:], p.Key) {
				t.Errorf("phase %s: key differs", p.Phase)
			}
			plain, err := open(e.Key, p.Side, p.Phase, p.Sealed)
			if err != nil || !bytes.Equal(plain, p.Plain) {
				t.Errorf("phase %s: %v", p.Phase, err)
			}
			again, err := seal(e.Key, p.Side, p.Phase, plain)
			if err != nil {
				t.Fatal(err)
			}
			if back, err := open(e.Key, p.Side, p.Phase, again); err != nil || !bytes.Equal(back, plain) {
				t.Errorf("phase %s: what we seal does not open", p.Phase)
			}
			for _, other := range []struct{ side, phase string }{{p.Side + "x", p.Phase}, {p.Side, "2"}} {
				if _, err := open(e.Key, other.side, other.phase, p.Sealed); !errors.Is(err, errSealed) {
					t.Errorf("opened under side %s phase %s", other.side, other.phase)
				}
			}
		}
	}
}

func TestHostilePake(t *testing.T) {
	scalar, err := newScalar(nil)
	if err != nil {
		t.Fatal(err)
	}
	x, err := newExchange([]byte("7-a-b"), []byte("app"), scalar)
	if err != nil {
		t.Fatal(err)
	}
	point := func(p *edwards25519.Point) []byte { return append([]byte{'S'}, p.Bytes()...) }
	decode := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return append([]byte{'S'}, b...)
	}
	torsion := "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a" // order 8
	small, err := edwards25519.NewIdentityPoint().SetBytes(decode(torsion)[1:])
	if err != nil {
		t.Fatal(err)
	}
	mixed := edwards25519.NewIdentityPoint().Add(small, edwards25519.NewGeneratorPoint())
	for name, b := range map[string][]byte{
		"empty":         nil,
		"short":         x.message()[:32],
		"long":          append(x.message(), 0),
		"side A":        append([]byte{'A'}, x.message()[1:]...),
		"our own":       x.message(),
		"identity":      point(edwards25519.NewIdentityPoint()),
		"order 8":       decode(torsion),
		"order 8L":      point(mixed),
		"order 2":       decode("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
		"not on curve":  decode("0200000000000000000000000000000000000000000000000000000000000000"),
		"non-canonical": decode("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
	} {
		if _, err := x.finish(b); !errors.Is(err, errPake) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What tells nothing new is neither saved nor remembered, however often a server
// sends it.
func TestNothingNew(t *testing.T) {
	state, err := NewState("app", "ws://x/v1", "7-a-b", nil)
	if err != nil {
		t.Fatal(err)
	}
	saves := 0
	c := &connection{welcomed: true, sent: map[string]bool{}, echoed: map[string]bool{},
		session: New(Config{Save: func(State) error { saves++; return nil }}, state)}
	pake := frame{Type: "message", Side: state.Side, Phase: phasePake}
	for _, f := range []frame{pake, {Type: "message", Side: "b", Phase: "0", Body: "00"}} {
		if err := c.handle(f); err != nil {
			t.Fatal(err)
		}
	}
	if saves != 2 {
		t.Fatalf("%d saves", saves)
	}
	for _, f := range []frame{
		pake, {Type: "message", Side: state.Side, Phase: "17"}, {Type: "message", Side: "b", Phase: "0", Body: "01"},
		{Type: "message", Side: "third", Phase: "1", Body: "00"}, {Type: "message", Side: "b", Phase: "dilate-0", Body: "00"},
	} {
		if err := c.handle(f); err != nil || saves != 2 || len(c.echoed) != 1 {
			t.Errorf("%+v: %v, %d saves, %d echoes", f, err, saves, len(c.echoed))
		}
	}
}

func FuzzPhaseBody(f *testing.F) {
	v := load(f)
	e := v.Exchanges[0]
	for _, p := range e.Phases {
		f.Add(p.Phase, []byte(p.Sealed))
	}
	f.Add("pake", []byte(`{"pake_v1": "53"}`))
	f.Fuzz(func(t *testing.T, phase string, body []byte) {
		s := state{AppID: e.AppID, Side: "a", Scalar: e.ScalarA}
		if err := s.setCode(e.Code); err != nil {
			t.Fatal(err)
		}
		if s.wants("b", phase, body) {
			s.accept("b", phase, body)
		}
		if err := s.advance([]byte("{}")); err != nil && !errors.Is(err, ErrWrongCode) {
			t.Fatalf("untyped error %v", err)
		}
		s.Key = e.Key
		if err := s.advance([]byte("{}")); err != nil && !errors.Is(err, ErrWrongCode) {
			t.Fatalf("untyped error %v", err)
		}
	})
}

func FuzzFrame(f *testing.F) {
	for _, s := range []string{
		`{"type":"welcome","welcome":{"warren-v1":{"max-seconds":5}}}`, `{"type":"claimed","mailbox":"x"}`,
		`{"type":"message","side":"a","phase":"pake","body":"00"}`, `{"type":"error","error":"crowded","orig":{"type":"claim"}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		fr, err := parseFrame(b)
		if err != nil {
			if !errors.Is(err, ErrServer) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		state, err := NewState("app", "ws://x/v1", "7-a-b", nil)
		if err != nil {
			t.Fatal(err)
		}
		c := &connection{session: New(Config{}, state), welcomed: true, claiming: true, allocating: true, sent: map[string]bool{}, echoed: map[string]bool{}}
		c.handle(fr)
	})
}

func FuzzState(f *testing.F) {
	state, err := NewState("app", "ws://x/v1", "7-a-b", nil)
	if err != nil {
		f.Fatal(err)
	}
	b, err := json.Marshal(state)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		var s State
		if json.Unmarshal(b, &s) != nil {
			return
		}
		again, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var back State
		if err := json.Unmarshal(again, &back); err != nil {
			t.Fatalf("what we wrote does not read back: %v", err)
		}
	})
}
