package banana

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"
)

func decoder(b []byte, vocab int, l Limits) *Decoder {
	v, _ := Initial(vocab)
	return NewDecoder(bufio.NewReader(bytes.NewReader(b)), v, l)
}

// What the real Foolscap serialises decodes, and encodes again to the same bytes.
func TestVectors(t *testing.T) {
	raw, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	type vector struct {
		Repr, Hex string
		Vocab     int
	}
	var vectors struct {
		Exact, Shared []vector
		VocabHash     map[int]string `json:"vocab_hash"`
	}
	if err := json.Unmarshal(raw, &vectors); err != nil {
		t.Fatal(err)
	}
	if len(vectors.Exact) < 80 || len(vectors.Shared) < 6 || len(vectors.VocabHash) != 2 {
		t.Fatalf("only %d, %d and %d vectors", len(vectors.Exact), len(vectors.Shared), len(vectors.VocabHash))
	}
	for i, want := range vectors.VocabHash {
		if v, ok := Initial(i); !ok || v.Hash() != want {
			t.Errorf("vocabulary %d: hash %s, want %s", i, v.Hash(), want)
		}
	}
	for _, c := range vectors.Exact {
		b, err := hex.DecodeString(c.Hex)
		if err != nil {
			t.Fatal(err)
		}
		d := decoder(b, c.Vocab, DefaultLimits())
		v, err := d.Next()
		if err != nil {
			t.Errorf("%s: %v", c.Repr, err)
			continue
		}
		if _, err := d.Next(); err != io.EOF {
			t.Errorf("%s: then %v, want EOF", c.Repr, err)
		}
		e := &Encoder{}
		e.Vocabulary, _ = Initial(c.Vocab)
		again, err := e.Append(nil, v)
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("%s: encodes to %x, %v; want %x", c.Repr, again, err, b)
		}
	}
	for _, c := range vectors.Shared {
		b, _ := hex.DecodeString(c.Hex)
		v, err := decoder(b, c.Vocab, DefaultLimits()).Next()
		if err != nil {
			t.Errorf("%s: %v", c.Repr, err)
			continue
		}
		// Written out in full it is the same value.
		again, err := new(Encoder).Append(nil, v)
		if err != nil {
			t.Fatal(err)
		}
		w, err := decoder(again, 0, DefaultLimits()).Next()
		if err != nil || !reflect.DeepEqual(v, w) {
			t.Errorf("%s: %v became %v, %v", c.Repr, v, w, err)
		}
	}
}

func open(n byte, kind string, items ...string) string {
	return string([]byte{n, 0x88, byte(len(kind)), 0x82}) + kind + strings.Join(items, "") + string([]byte{n, 0x89})
}

// Bad messages: what is refused, and whether the stream goes on after it.
func TestBadInput(t *testing.T) {
	const i1 = "\x01\x81"
	small := Limits{String: 100, Message: 4000, Depth: 5}
	for _, c := range []struct{ name, in, want string }{
		{"unknown type", "\x00\x90", "token type"},
		{"old LIST", "\x00\x80", "token type"},
		{"header too long", strings.Repeat("\x01", 10) + "\x81", "header too long"},
		{"CLOSE first", "\x00\x89", "no sequence is open"},
		{"ABORT first", "\x00\x8a", "no sequence is open"},
		{"close of another", "\x00\x88\x04\x82list\x01\x89", "CLOSE of another"},
		{"type is a number", "\x00\x88\x01\x81\x00\x89", "begin with its type"},
		{"type is a sequence", "\x00\x88\x01\x88", "begin with its type"},
		{"type too long", "\x00\x88\x41\x82" + strings.Repeat("a", 65) + "\x00\x89", "violation: sequence type too long"},
		{"unknown word", "\x19\x87", "no such word"},
		{"unknown word as type", "\x00\x88\x19\x87\x00\x89", "no such word"},
		{"string too long", "\x65\x82" + strings.Repeat("a", 101), "violation: string too long"},
		{"promised string", "\x7f\x7f\x7f\x7f\x82a", "unexpected EOF"},
		{"integer too long", "\x01\x02\x85" + strings.Repeat("a", 257), "violation: integer too long"},
		{"message too large", open(0, "list", strings.Repeat(i1, 100)), "violation: message too large"},
		{"nested too deep", open(0, "list", open(1, "list", open(2, "list", open(3, "list", open(4, "list", open(5, "list")))))), "violation: nested too deep"},
		{"none with items", open(0, "none", i1), "violation: none with items"},
		{"boolean two", open(0, "boolean", "\x02\x81"), "violation: malformed boolean"},
		{"boolean empty", open(0, "boolean"), "violation: malformed boolean"},
		{"boolean bytes", open(0, "boolean", "\x01\x82a"), "violation: malformed boolean"},
		{"unicode invalid", open(0, "unicode", "\x01\x82\xff"), "violation: malformed unicode"},
		{"unicode number", open(0, "unicode", i1), "violation: malformed unicode"},
		{"dict odd", open(0, "dict", i1), "violation: dict with a key without a value"},
		{"dict twice", open(0, "dict", i1, i1, i1, i1), "violation: a set member or key twice"},
		{"dict list key", open(0, "dict", open(1, "list"), i1), "violation: a set member or key that cannot be one"},
		{"set twice", open(0, "set", i1, i1), "violation: a set member or key twice"},
		{"set of sets", open(0, "set", open(1, "set")), "violation: a set member or key that cannot be one"},
		{"reference unknown", open(0, "list", open(1, "reference", "\x07\x81")), "violation: reference to nothing"},
		{"reference cycle", open(0, "list", open(1, "reference", "\x00\x81")), "violation: reference to nothing"},
		{"reference negative", open(0, "list", open(1, "reference", "\x01\x83")), "violation: reference to nothing"},
		{"aborted", "\x00\x88\x04\x82list\x00\x8a\x00\x89", "violation: the peer gave the message up"},
		{"peer error", "\x03\x8dbad", `the peer reports "bad"`},
		{"error too long", "\x69\x07\x8d", "error text too long"},
		{"cut in a header", "\x01", "unexpected EOF"},
		{"cut in a sequence", "\x00\x88\x04\x82list", "unexpected EOF"},
		{"cut in a float", "\x84abc", "unexpected EOF"},
	} {
		d := decoder([]byte(c.in+"\x05\x81"), 1, small)
		if strings.Contains(c.want, "EOF") {
			d = decoder([]byte(c.in), 1, small)
		}
		_, err := d.Next()
		want, goesOn := strings.CutPrefix(c.want, "violation: ")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", c.name, err, want)
			continue
		}
		var v *Violation
		if errors.As(err, &v) != goesOn {
			t.Errorf("%s: %v is the wrong kind of error", c.name, err)
		}
		if goesOn {
			if next, err := d.Next(); err != nil || next != int64(5) {
				t.Errorf("%s: then %v, %v; want 5", c.name, next, err)
			}
		}
	}
}

// A reference counts as much as what it names: doubling does not unfold.
func TestReferenceBomb(t *testing.T) {
	b := []byte("\x00\x88\x04\x82list")
	n := byte(1)
	b = append(b, open(n, "list", "\x01\x81\x01\x81")...)
	last := n
	for range 30 {
		n++
		first := n
		inner := ""
		for range 2 {
			n++
			inner += open(n, "reference", string([]byte{last, 0x81}))
		}
		b = append(b, open(first, "list", inner)...)
		last = first
	}
	b = append(b, 0, 0x89)
	_, err := decoder(b, 0, DefaultLimits()).Next()
	var v *Violation
	if !errors.As(err, &v) {
		t.Fatalf("%v, want a violation", err)
	}
}

func TestPartialSequence(t *testing.T) {
	in := open(0, "call", "\x07\x81", "\x65\x82"+strings.Repeat("a", 101), "\x01\x81")
	v, err := decoder([]byte(in), 1, Limits{String: 100, Message: 10000, Depth: 5}).Next()
	var bad *Violation
	if !errors.As(err, &bad) {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(v, Sequence{Type: "call", Items: []any{int64(7)}}) {
		t.Fatalf("kept %v", v)
	}
}

func TestPing(t *testing.T) {
	var pings []uint64
	d := decoder([]byte("\x03\x8e\x00\x88\x8e\x04\x82list\x8f\x07\x8e\x00\x89"), 0, DefaultLimits())
	d.Ping = func(n uint64) { pings = append(pings, n) }
	v, err := d.Next()
	if err != nil || !reflect.DeepEqual(v, []any{}) || !reflect.DeepEqual(pings, []uint64{3, 0, 7}) {
		t.Fatalf("%v, %v, pings %v", v, err, pings)
	}
}

func TestUnsendable(t *testing.T) {
	e := &Encoder{}
	if _, err := e.Append(nil, []any{[]any{}, struct{}{}}); !errors.Is(err, ErrUnsendable) {
		t.Fatal(err)
	}
	if _, err := e.Append(nil, "\xff"); !errors.Is(err, ErrUnsendable) { // Foolscap would drop the connection
		t.Fatal(err)
	}
	got, err := e.Append(nil, []any{})
	if err != nil || string(got) != open(0, "list") {
		t.Fatalf("numbering went on after a failure: %x, %v", got, err)
	}
}

// What decodes encodes to bytes that decode to the same value and encode to the
// same bytes.
func FuzzDecode(f *testing.F) {
	raw, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		f.Fatal(err)
	}
	var vectors map[string]json.RawMessage
	if err := json.Unmarshal(raw, &vectors); err != nil {
		f.Fatal(err)
	}
	for _, key := range []string{"exact", "shared"} {
		var list []struct{ Hex string }
		if err := json.Unmarshal(vectors[key], &list); err != nil {
			f.Fatal(err)
		}
		for _, v := range list {
			b, _ := hex.DecodeString(v.Hex)
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d := decoder(b, 1, Limits{String: 1 << 10, Message: 64 << 10, Depth: 16})
		for {
			v, err := d.Next()
			var bad *Violation
			if errors.As(err, &bad) {
				continue
			}
			if err != nil {
				return
			}
			var e Encoder
			e.Vocabulary, _ = Initial(1)
			once, err := e.Append(nil, v)
			if err != nil {
				t.Fatalf("%#v does not encode: %v", v, err)
			}
			w, err := decoder(once, 1, Limits{String: 1 << 10, Message: 1 << 20, Depth: 16}).Next()
			if err != nil {
				t.Fatalf("%x does not decode: %v", once, err)
			}
			e = Encoder{Vocabulary: e.Vocabulary}
			twice, err := e.Append(nil, w)
			if err != nil || !bytes.Equal(once, twice) {
				t.Fatalf("%x became %x, %v", once, twice, err)
			}
		}
	})
}
