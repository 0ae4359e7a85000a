package gbs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"
)

// A CBOR (RFC 8949) reader and writer of what GBS messages consist of: unsigned
// integers, strings, arrays, maps, tag 258 (a set), booleans and null.
//
// The reader is our own, not a reflecting decoder, for two reasons: a message must
// match its schema exactly (a decoder takes null for 0 and skips unknown tags), and
// the data of a mutable write must not be copied. Lengths are definite, as Tahoe
// writes them; integers may be longer than needed.

// errCBOR is what every malformed message's error wraps.
var errCBOR = errors.New("gbs: malformed CBOR message")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errCBOR, fmt.Sprintf(format, args...))
}

const (
	majorUint   = 0
	majorNegInt = 1
	majorBytes  = 2
	majorText   = 3
	majorArray  = 4
	majorMap    = 5
	majorTag    = 6
	majorSimple = 7

	tagSet = 258

	simpleFalse = 20
	simpleTrue  = 21
	simpleNull  = 22
)

// reader takes a message apart. The strings that it returns alias the message.
type reader struct{ rest []byte }

// head reads an item's first bytes: its major type and argument.
func (r *reader) head() (major byte, arg uint64, err error) {
	if len(r.rest) == 0 {
		return 0, 0, malformed("ends early")
	}
	first := r.rest[0]
	major, info := first>>5, first&31
	r.rest = r.rest[1:]
	if info < 24 {
		return major, uint64(info), nil
	}
	if info > 27 {
		return 0, 0, malformed("indefinite length")
	}
	n := 1 << (info - 24)
	if len(r.rest) < n {
		return 0, 0, malformed("ends early")
	}
	var b [8]byte
	copy(b[8-n:], r.rest)
	r.rest = r.rest[n:]
	arg = binary.BigEndian.Uint64(b[:])
	if major == majorSimple && (n > 1 || arg < 32) {
		return 0, 0, malformed("a float, or an ill-formed simple value")
	}
	return major, arg, nil
}

func (r *reader) expect(major byte, what string) (uint64, error) {
	got, arg, err := r.head()
	if err == nil && got != major {
		err = malformed("expected %s", what)
	}
	return arg, err
}

func (r *reader) uint() (uint64, error) { return r.expect(majorUint, "an unsigned integer") }

func (r *reader) string(major byte, what string) ([]byte, error) {
	n, err := r.expect(major, what)
	if err != nil {
		return nil, err
	}
	if n > uint64(len(r.rest)) {
		return nil, malformed("ends early")
	}
	s := r.rest[:n:n]
	r.rest = r.rest[n:]
	return s, nil
}

func (r *reader) bytes() ([]byte, error) { return r.string(majorBytes, "a byte string") }

func (r *reader) text() (string, error) {
	s, err := r.string(majorText, "a text string")
	if err == nil && !utf8.Valid(s) {
		err = malformed("text is not UTF-8")
	}
	return string(s), err
}

func (r *reader) bool() (bool, error) {
	arg, err := r.expect(majorSimple, "a boolean")
	if err == nil && arg != simpleFalse && arg != simpleTrue {
		err = malformed("expected a boolean")
	}
	return arg == simpleTrue, err
}

// null consumes a null, if one is next.
func (r *reader) null() bool {
	if len(r.rest) > 0 && r.rest[0] == majorSimple<<5|simpleNull {
		r.rest = r.rest[1:]
		return true
	}
	return false
}

// count checks a collection's length: at most most, and no more than the bytes
// that are left can hold at size bytes an element.
func (r *reader) count(n uint64, most, size int) (int, error) {
	if n > uint64(most) {
		return 0, malformed("too many elements")
	}
	if n > uint64(len(r.rest)/size) {
		return 0, malformed("ends early")
	}
	return int(n), nil
}

// array calls element for each element.
func (r *reader) array(most int, element func() error) error {
	n, err := r.expect(majorArray, "an array")
	if err != nil {
		return err
	}
	count, err := r.count(n, most, 1)
	if err != nil {
		return err
	}
	for range count {
		if err := element(); err != nil {
			return err
		}
	}
	return nil
}

// set reads a set of share numbers, sorted or not.
func (r *reader) set() ([]int, error) {
	tag, err := r.expect(majorTag, "a set")
	if err != nil {
		return nil, err
	}
	if tag != tagSet {
		return nil, malformed("expected a set")
	}
	all := []int{}
	err = r.array(maxShares, func() error {
		n, err := r.share()
		all = append(all, n)
		return err
	})
	return all, err
}

// share reads a share number.
func (r *reader) share() (int, error) {
	n, err := r.uint()
	if err == nil && n >= maxShares {
		err = malformed("share number out of range")
	}
	return int(n), err
}

// object reads a map of exactly the named text keys, in any order.
func (r *reader) object(keys []string, value func(key string) error) error {
	n, err := r.expect(majorMap, "a map")
	if err != nil {
		return err
	}
	if n != uint64(len(keys)) {
		return malformed("expected a map of %d keys", len(keys))
	}
	var seen uint64
	for range keys {
		key, err := r.text()
		if err != nil {
			return err
		}
		i := index(keys, key)
		if i < 0 || seen&(1<<i) != 0 {
			return malformed("an unknown or repeated key")
		}
		seen |= 1 << i
		if err := value(key); err != nil {
			return err
		}
	}
	return nil
}

func index(keys []string, key string) int {
	for i, k := range keys {
		if k == key {
			return i
		}
	}
	return -1
}

// shareMap reads a map whose keys are share numbers.
func (r *reader) shareMap(value func(share int) error) error {
	n, err := r.expect(majorMap, "a map")
	if err != nil {
		return err
	}
	count, err := r.count(n, maxShares, 2)
	if err != nil {
		return err
	}
	seen := map[int]bool{}
	for range count {
		share, err := r.share()
		if err != nil {
			return err
		}
		if seen[share] {
			return malformed("a repeated key")
		}
		seen[share] = true
		if err := value(share); err != nil {
			return err
		}
	}
	return nil
}

// skip passes over one item, whatever it is; deep nests are refused.
func (r *reader) skip(depth int) error {
	if depth == 0 {
		return malformed("nested too deep")
	}
	major, arg, err := r.head()
	if err != nil {
		return err
	}
	items := 0
	switch major {
	case majorBytes, majorText:
		if arg > uint64(len(r.rest)) {
			return malformed("ends early")
		}
		r.rest = r.rest[arg:]
	case majorArray:
		items, err = r.count(arg, math.MaxInt32, 1)
	case majorMap:
		items, err = r.count(arg, math.MaxInt32, 2)
		items *= 2
	case majorTag:
		items = 1
	}
	for range items {
		if err == nil {
			err = r.skip(depth - 1)
		}
	}
	return err
}

// end says that nothing may follow.
func (r *reader) end() error {
	if len(r.rest) > 0 {
		return malformed("something follows")
	}
	return nil
}

// writer puts a message together, in the shortest form.
type writer struct {
	out []byte
	// large, when it is not 0, is from what size on bytes are not copied into out: what
	// came before them and they themselves go to parts then.
	large int
	parts [][]byte
}

func (w *writer) head(major byte, arg uint64) {
	major <<= 5
	switch {
	case arg < 24:
		w.out = append(w.out, major|byte(arg))
	case arg <= math.MaxUint8:
		w.out = append(w.out, major|24, byte(arg))
	case arg <= math.MaxUint16:
		w.out = binary.BigEndian.AppendUint16(append(w.out, major|25), uint16(arg))
	case arg <= math.MaxUint32:
		w.out = binary.BigEndian.AppendUint32(append(w.out, major|26), uint32(arg))
	default:
		w.out = binary.BigEndian.AppendUint64(append(w.out, major|27), arg)
	}
}

func (w *writer) uint(n uint64) { w.head(majorUint, n) }

func (w *writer) bytes(b []byte) {
	w.head(majorBytes, uint64(len(b)))
	if w.large > 0 && len(b) >= w.large {
		w.parts, w.out = append(w.parts, w.out, b), nil
		return
	}
	w.out = append(w.out, b...)
}

func (w *writer) text(s string) {
	w.head(majorText, uint64(len(s)))
	w.out = append(w.out, s...)
}

func (w *writer) bool(b bool) {
	if b {
		w.head(majorSimple, simpleTrue)
	} else {
		w.head(majorSimple, simpleFalse)
	}
}

func (w *writer) null() { w.head(majorSimple, simpleNull) }

func (w *writer) set(all []int) {
	w.head(majorTag, tagSet)
	w.head(majorArray, uint64(len(all)))
	for _, n := range all {
		w.uint(uint64(n))
	}
}
