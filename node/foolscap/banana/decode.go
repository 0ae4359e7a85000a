package banana

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"unicode/utf8"
)

// Limits bounds what one message may hold.
type Limits struct {
	// String is the longest STRING body.
	String int
	// Message is the memory of one message: its strings and tokenCost for each
	// token.
	Message int
	// Depth is how deep sequences nest.
	Depth int
}

// DefaultLimits suit small control messages.
func DefaultLimits() Limits { return Limits{String: 128 << 10, Message: 256 << 10, Depth: 32} }

// tokenCost is what a token counts for beside its body: about what a value and
// its place in a slice take in memory.
const tokenCost = 64

// maxKind bounds a sequence's type name; the longest of Foolscap's has 15 bytes.
const maxKind = 64

// Violation says why one message was refused. The stream is past that message
// and can go on.
type Violation struct {
	Reason string
	// Aborted says that the peer itself gave the message up.
	Aborted bool
}

func (v *Violation) Error() string { return "banana: " + v.Reason }

func violation(format string, args ...any) error {
	return &Violation{Reason: fmt.Sprintf(format, args...)}
}

// PeerError is the text of the peer's ERROR token: it has hung up. Foreign text.
type PeerError struct{ Text string }

func (e *PeerError) Error() string { return fmt.Sprintf("banana: the peer reports %q", e.Text) }

// Decoder reads one direction of a connection. It is not safe for concurrent use.
type Decoder struct {
	// Ping is called for each PING, between tokens; it must not block.
	Ping func(n uint64)
	// Resolve, when set, is given every Sequence below the top level when it
	// closes and returns the value that stands for it. An error that is a
	// *Violation refuses the message, another ends the stream.
	Resolve func(s Sequence) (any, error)

	r          *bufio.Reader
	vocabulary Vocabulary
	limits     Limits
	opened     uint64 // OPENs seen on this stream
	depth      int    // sequences open now
	budget     int    // what is left of limits.Message
	refs       map[uint64]ref
}

// ref is what a "reference" may name: a finished value of this message. A nil
// entry with finished false is still open: a reference to it would be a cycle.
type ref struct {
	value    any
	weight   int
	finished bool
}

// NewDecoder reads from r.
func NewDecoder(r *bufio.Reader, v Vocabulary, l Limits) *Decoder {
	return &Decoder{r: r, vocabulary: v, limits: l}
}

// Next returns the next top-level value. A top-level sequence of no Go type is a
// Sequence and is not given to Resolve. With a *Violation the value is the
// Sequence as far as it was understood: its Type and the items before the
// offending one. io.EOF is the end of the stream between two messages.
func (d *Decoder) Next() (any, error) {
	d.budget, d.refs, d.depth = d.limits.Message, nil, 0
	n, t, err := d.token()
	if err != nil {
		return nil, err
	}
	if t == OPEN {
		v, err := d.sequence(n, true)
		return v, d.recover(err)
	}
	if t == CLOSE || t == ABORT {
		return nil, fmt.Errorf("%w: no sequence is open", ErrProtocol)
	}
	v, err := d.leaf(n, t)
	return v, d.recover(err)
}

// Size is what the last value of Next counted for, as Limits.Message does.
func (d *Decoder) Size() int { return d.limits.Message - d.budget }

// recover drops what is left of a refused message.
func (d *Decoder) recover(err error) error {
	var v *Violation
	if !errors.As(err, &v) {
		return err
	}
	for d.depth > 0 {
		n, t, err := d.token()
		if err != nil {
			return midway(err)
		}
		switch t {
		case OPEN:
			d.depth++
			d.opened++
		case CLOSE:
			d.depth--
		case INT, NEG, VOCAB, ABORT:
		case FLOAT:
			err = d.discard(8)
		case STRING, LONGINT, LONGNEG:
			err = d.discard(n)
		default:
			return fmt.Errorf("%w: token type %#x", ErrProtocol, byte(t))
		}
		if err != nil {
			return err
		}
	}
	return v
}

func midway(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (d *Decoder) discard(n uint64) error {
	if n > math.MaxInt64 {
		return fmt.Errorf("%w: body too long", ErrProtocol)
	}
	_, err := io.CopyN(io.Discard, d.r, int64(n))
	return midway(err)
}

// token returns the next token but handles PING, PONG and ERROR.
func (d *Decoder) token() (uint64, Type, error) {
	for {
		n, t, err := readHeader(d.r)
		if err != nil {
			return 0, 0, err
		}
		switch t {
		case PING:
			if d.Ping != nil {
				d.Ping(n)
			}
		case PONG:
		case ERROR:
			if n > MaxError {
				return 0, 0, fmt.Errorf("%w: error text too long", ErrProtocol)
			}
			b, err := d.body(n)
			if err != nil {
				return 0, 0, err
			}
			return 0, 0, &PeerError{Text: string(bytes.ToValidUTF8(b, []byte("?")))}
		default:
			return n, t, nil
		}
	}
}

func (d *Decoder) charge(n int) error {
	if n > d.budget {
		return violation("message too large")
	}
	d.budget -= n
	return nil
}

// sequence reads what follows OPEN. top sequences keep what they read in their
// value when a Violation stops them.
func (d *Decoder) sequence(open uint64, top bool) (any, error) {
	before := d.budget
	id := d.opened
	d.opened++
	d.depth++
	s, err := d.kind()
	if err != nil {
		return s, err
	}
	if d.depth > d.limits.Depth {
		return s, violation("nested too deep")
	}
	if referable(s.Type) {
		if d.refs == nil {
			d.refs = map[uint64]ref{}
		}
		d.refs[id] = ref{}
	}
	for {
		n, t, err := d.token()
		if err != nil {
			return s, midway(err)
		}
		if t == CLOSE {
			if n != open {
				return s, fmt.Errorf("%w: CLOSE of another sequence", ErrProtocol)
			}
			d.depth--
			break
		}
		var item any
		if t == OPEN {
			item, err = d.sequence(n, false)
		} else {
			item, err = d.leaf(n, t)
		}
		if err != nil {
			return s, err
		}
		s.Items = append(s.Items, item)
	}
	if err := d.charge(tokenCost); err != nil {
		return s, err
	}
	v, err := d.finish(s, top)
	if err != nil {
		return s, err
	}
	if referable(s.Type) {
		d.refs[id] = ref{value: v, weight: before - d.budget, finished: true}
	}
	return v, nil
}

// kind reads a sequence's type.
func (d *Decoder) kind() (Sequence, error) {
	n, t, err := d.token()
	if err != nil {
		return Sequence{}, midway(err)
	}
	switch t {
	case VOCAB:
		w, ok := d.vocabulary.word(n)
		if !ok {
			return Sequence{}, fmt.Errorf("%w: no such word in the vocabulary", ErrProtocol)
		}
		return Sequence{Type: w}, nil
	case STRING:
		if n > maxKind {
			if err := d.discard(n); err != nil {
				return Sequence{}, err
			}
			return Sequence{}, violation("sequence type too long")
		}
		b, err := d.body(n)
		return Sequence{Type: string(b)}, err
	}
	return Sequence{}, fmt.Errorf("%w: a sequence must begin with its type", ErrProtocol)
}

// leaf reads the value of a token that opens or closes nothing.
func (d *Decoder) leaf(n uint64, t Type) (any, error) {
	if err := d.charge(tokenCost); err != nil {
		return nil, errors.Join(err, d.skipBody(n, t))
	}
	switch t {
	case INT:
		return int64(n), nil // below 2^63: maxHeader digits
	case NEG:
		return -int64(n), nil
	case FLOAT:
		b, err := d.body(8)
		if err != nil {
			return nil, err
		}
		return math.Float64frombits(binary.BigEndian.Uint64(b)), nil
	case VOCAB:
		w, ok := d.vocabulary.word(n)
		if !ok {
			return nil, fmt.Errorf("%w: no such word in the vocabulary", ErrProtocol)
		}
		return []byte(w), d.charge(len(w))
	case STRING:
		if n > uint64(d.limits.String) || n > uint64(d.budget) {
			if err := d.discard(n); err != nil {
				return nil, err
			}
			return nil, violation("string too long")
		}
		d.budget -= int(n)
		b, err := d.body(n)
		return b, err
	case LONGINT, LONGNEG:
		if n > maxLong {
			if err := d.discard(n); err != nil {
				return nil, err
			}
			return nil, violation("integer too long")
		}
		b, err := d.body(n)
		if err != nil {
			return nil, err
		}
		i := new(big.Int).SetBytes(b)
		if t == LONGNEG {
			i.Neg(i)
		}
		if i.IsInt64() {
			return i.Int64(), nil
		}
		return i, d.charge(len(b))
	case ABORT:
		return nil, &Violation{Reason: "the peer gave the message up", Aborted: true}
	}
	return nil, fmt.Errorf("%w: token type %#x", ErrProtocol, byte(t))
}

// skipBody drops the body of a token that is refused for want of budget.
func (d *Decoder) skipBody(n uint64, t Type) error {
	switch t {
	case FLOAT:
		return d.discard(8)
	case STRING, LONGINT, LONGNEG:
		return d.discard(n)
	}
	return nil
}

// body reads n bytes. Memory is taken as they arrive, not as they are promised.
func (d *Decoder) body(n uint64) ([]byte, error) {
	if n <= 64<<10 {
		b := make([]byte, n)
		_, err := io.ReadFull(d.r, b)
		return b, midway(err)
	}
	var b bytes.Buffer
	_, err := io.CopyN(&b, d.r, int64(n))
	return b.Bytes(), midway(err)
}

// referable says which sequences a "reference" may name (those that Foolscap
// tracks).
func referable(kind string) bool {
	switch kind {
	case "list", "tuple", "set", "immutable-set", "dict", "copyable":
		return true
	}
	return false
}

// finish makes the value of a closed sequence.
func (d *Decoder) finish(s Sequence, top bool) (any, error) {
	switch s.Type {
	case "none":
		if len(s.Items) != 0 {
			return nil, violation("none with items")
		}
		return nil, nil
	case "boolean":
		if n, ok := only[int64](s); ok && (n == 0 || n == 1) {
			return n == 1, nil
		}
		return nil, violation("malformed boolean")
	case "unicode":
		b, ok := only[[]byte](s)
		if !ok || !utf8.Valid(b) {
			return nil, violation("malformed unicode")
		}
		return string(b), nil
	case "list":
		if s.Items == nil {
			return []any{}, nil
		}
		return s.Items, nil
	case "tuple":
		return Tuple(s.Items), nil
	case "set":
		return Set(s.Items), distinct(s.Items, 1)
	case "immutable-set":
		return FrozenSet(s.Items), distinct(s.Items, 1)
	case "dict":
		if len(s.Items)%2 != 0 {
			return nil, violation("dict with a key without a value")
		}
		v := make(Dict, 0, len(s.Items)/2)
		for i := 0; i < len(s.Items); i += 2 {
			v = append(v, Pair{s.Items[i], s.Items[i+1]})
		}
		return v, distinct(s.Items, 2)
	case "reference":
		n, ok := only[int64](s)
		r, known := d.refs[uint64(n)]
		if !ok || !known || !r.finished {
			return nil, violation("reference to nothing")
		}
		return r.value, d.charge(r.weight)
	}
	if top || d.Resolve == nil {
		return s, nil
	}
	return d.Resolve(s)
}

func only[T any](s Sequence) (T, bool) {
	if len(s.Items) != 1 {
		var zero T
		return zero, false
	}
	v, ok := s.Items[0].(T)
	return v, ok
}

// distinct checks every step-th item for being a possible and new member of a
// set or key of a dict.
func distinct(items []any, step int) error {
	seen := make(map[string]bool, len(items)/step)
	for i := 0; i < len(items); i += step {
		if !hashable(items[i], 0) {
			return violation("a set member or key that cannot be one")
		}
		var e Encoder
		k, err := e.Append(nil, items[i])
		if err != nil {
			return violation("a set member or key that cannot be one")
		}
		if seen[string(k)] {
			return violation("a set member or key twice")
		}
		seen[string(k)] = true
	}
	return nil
}

// hashable says whether Python could hash the value: no list, set, dict inside.
func hashable(v any, depth int) bool {
	switch v := v.(type) {
	case nil, bool, int64, *big.Int, float64, []byte, string:
		return true
	case Tuple:
		for _, item := range v {
			if depth > maxDepth || !hashable(item, depth+1) {
				return false
			}
		}
		return true
	case FrozenSet:
		return hashable(Tuple(v), depth)
	}
	return false
}
