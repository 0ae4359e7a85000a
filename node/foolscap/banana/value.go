package banana

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/big"
	"unicode/utf8"
)

// Tuple is an immutable list.
type Tuple []any

// Set is a set; its items are distinct. The order is that of the wire and means
// nothing.
type Set []any

// FrozenSet is an immutable Set.
type FrozenSet []any

// Pair is one entry of a Dict.
type Pair struct{ Key, Value any }

// Dict is a dictionary in wire order; its keys are distinct.
type Dict []Pair

// Sequence is a sequence of a type that has no Go value of its own.
type Sequence struct {
	Type  string
	Items []any
}

// Get returns the value of a key that was sent as bytes or as unicode, which
// Python 2 and 3 peers mix.
func (d Dict) Get(key string) (any, bool) {
	for _, p := range d {
		switch k := p.Key.(type) {
		case string:
			if k == key {
				return p.Value, true
			}
		case []byte:
			if string(k) == key {
				return p.Value, true
			}
		}
	}
	return nil, false
}

// ErrUnsendable is what Encoder.Append wraps for a Go value that has no banana
// form.
var ErrUnsendable = errors.New("banana: value cannot be sent")

// Encoder turns values into the bytes of one direction of a connection. It is
// not safe for concurrent use: OPENs are numbered in the order of Append.
type Encoder struct {
	// Vocabulary is used for every string that it holds.
	Vocabulary Vocabulary
	// Slice, when set, turns a value of a foreign type into a Sequence. Its error
	// is returned by Append.
	Slice func(v any) (Sequence, error)

	opened uint64
}

// Append appends one value, whole: when it fails, nothing was appended and the
// numbering is as before. Beside what a Decoder returns it takes int and uint64.
func (e *Encoder) Append(dst []byte, v any) ([]byte, error) {
	opened, out := e.opened, dst
	out, err := e.append(out, v, 0)
	if err != nil {
		e.opened = opened
		return dst, err
	}
	return out, nil
}

// maxDepth bounds what we send; a value that deep is a mistake of ours.
const maxDepth = 100

func (e *Encoder) append(dst []byte, v any, depth int) ([]byte, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("%w: nested too deep", ErrUnsendable)
	}
	switch v := v.(type) {
	case nil:
		return e.sequence(dst, "none", nil, depth)
	case bool:
		if v {
			return e.sequence(dst, "boolean", []any{int64(1)}, depth)
		}
		return e.sequence(dst, "boolean", []any{int64(0)}, depth)
	case int:
		return appendInt(dst, int64(v)), nil
	case int64:
		return appendInt(dst, v), nil
	case uint64:
		if v > math.MaxInt64 {
			return appendBig(dst, new(big.Int).SetUint64(v))
		}
		return appendInt(dst, int64(v)), nil
	case *big.Int:
		if v.IsInt64() {
			return appendInt(dst, v.Int64()), nil
		}
		return appendBig(dst, v)
	case float64:
		return binary.BigEndian.AppendUint64(AppendToken(dst, FLOAT, 0), math.Float64bits(v)), nil
	case []byte:
		return e.appendString(dst, string(v)), nil
	case string:
		if !utf8.ValidString(v) {
			return nil, fmt.Errorf("%w: text that is not UTF-8", ErrUnsendable)
		}
		return e.sequence(dst, "unicode", []any{[]byte(v)}, depth)
	case []any:
		return e.sequence(dst, "list", v, depth)
	case Tuple:
		return e.sequence(dst, "tuple", v, depth)
	case Set:
		return e.sequence(dst, "set", v, depth)
	case FrozenSet:
		return e.sequence(dst, "immutable-set", v, depth)
	case Dict:
		items := make([]any, 0, 2*len(v))
		for _, p := range v {
			items = append(items, p.Key, p.Value)
		}
		return e.sequence(dst, "dict", items, depth)
	case Sequence:
		return e.sequence(dst, v.Type, v.Items, depth)
	}
	if e.Slice == nil {
		return nil, fmt.Errorf("%w: %T", ErrUnsendable, v)
	}
	s, err := e.Slice(v)
	if err != nil {
		return nil, err
	}
	return e.sequence(dst, s.Type, s.Items, depth)
}

func (e *Encoder) sequence(dst []byte, kind string, items []any, depth int) ([]byte, error) {
	n := e.opened
	e.opened++
	dst = e.appendString(AppendToken(dst, OPEN, n), kind)
	for _, item := range items {
		var err error
		if dst, err = e.append(dst, item, depth+1); err != nil {
			return nil, err
		}
	}
	return AppendToken(dst, CLOSE, n), nil
}

func (e *Encoder) appendString(dst []byte, s string) []byte {
	if i, ok := e.Vocabulary.indices[s]; ok {
		return AppendToken(dst, VOCAB, i)
	}
	return append(AppendToken(dst, STRING, uint64(len(s))), s...)
}

func appendInt(dst []byte, n int64) []byte {
	switch {
	case n >= 1<<31:
		return appendLong(dst, LONGINT, uint64(n))
	case n >= 0:
		return AppendToken(dst, INT, uint64(n))
	case n >= -1<<31:
		return AppendToken(dst, NEG, uint64(-n))
	}
	return appendLong(dst, LONGNEG, -uint64(n))
}

func appendLong(dst []byte, t Type, magnitude uint64) []byte {
	b := binary.BigEndian.AppendUint64(nil, magnitude)
	for b[0] == 0 {
		b = b[1:]
	}
	return append(AppendToken(dst, t, uint64(len(b))), b...)
}

func appendBig(dst []byte, n *big.Int) ([]byte, error) {
	t, b := LONGINT, n.Bytes()
	if n.Sign() < 0 {
		t = LONGNEG
	}
	if len(b) > maxLong {
		return nil, fmt.Errorf("%w: integer too long", ErrUnsendable)
	}
	return append(AppendToken(dst, t, uint64(len(b))), b...), nil
}
