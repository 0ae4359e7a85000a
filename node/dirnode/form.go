package dirnode

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"warren/node/caps"
	"warren/node/taghash"
)

var (
	// ErrFormat: the bytes are no directory.
	ErrFormat = errors.New("dirnode: malformed directory")
	// ErrName: a name is empty, too long or not UTF-8.
	ErrName = errors.New("dirnode: unusable name")
	// ErrMetadata: metadata is not a JSON object.
	ErrMetadata = errors.New("dirnode: unusable metadata")
	// ErrNotImmutable: only what is immutable to any depth goes into an immutable directory.
	ErrNotImmutable = errors.New("dirnode: not allowed in an immutable directory")
	// ErrCap: an entry has a capability of an unknown kind that may give the right
	// to write and comes without its readcap.
	ErrCap = errors.New("dirnode: unusable capability")
	// ErrUnknownWrite, an ErrCap: a writecap of an unknown kind without its readcap.
	ErrUnknownWrite = fmt.Errorf("%w: a writecap of an unknown kind without its readcap", ErrCap)
)

// MaxName is the longest name, in bytes of UTF-8. Tahoe has no limit.
const MaxName = 4096

// Entry is one entry of a directory. Write is nil where only reading is given; an
// entry that was stored without capabilities has neither. Metadata is a JSON
// object, or nil.
//
// To put a capability into a directory, set Write or Read, or use NewEntry.
// Either is attenuated to what its field says; a Write of a known kind implies Read.
type Entry struct {
	Name        string
	Write, Read caps.Cap
	Metadata    json.RawMessage
}

// EntryError says which entry's capabilities cannot be stored; Err is ErrCap or
// ErrNotImmutable.
type EntryError struct {
	Name string
	Err  error
}

func (e *EntryError) Error() string { return fmt.Sprintf("%v: entry %q", e.Err, e.Name) }

func (e *EntryError) Unwrap() error { return e.Err }

// NewEntry is the entry that gives all that c gives.
func NewEntry(name string, c caps.Cap, metadata json.RawMessage) Entry {
	if c == nil || caps.IsReadOnly(c) {
		return Entry{Name: name, Read: c, Metadata: metadata}
	}
	return Entry{Name: name, Write: c, Read: caps.ReadOnly(c), Metadata: metadata}
}

// Cap is the strongest capability of the entry.
func (e Entry) Cap() caps.Cap {
	if e.Write != nil {
		return e.Write
	}
	return e.Read
}

// Normalize is the spelling under which a name is stored: NFC.
func Normalize(name string) string { return norm.NFC.String(name) }

func checkName(name string) (string, error) {
	if name == "" || len(name) > MaxName || !utf8.ValidString(name) {
		return "", fmt.Errorf("%w: %d bytes", ErrName, len(name))
	}
	return Normalize(name), nil
}

// Form is how the bytes of a directory are read and written: with its writekey,
// without, or as an immutable directory.
type Form struct {
	writeKey  *[16]byte
	immutable bool
}

// Writable is the form of a mutable directory for those who have its writecap.
func Writable(c caps.MutableWrite) Form {
	switch c := caps.File(c).(type) {
	case caps.SSKWrite:
		return Form{writeKey: &c.WriteKey}
	case caps.MDMFWrite:
		return Form{writeKey: &c.WriteKey}
	}
	panic("dirnode: no such writecap") // the interface is closed
}

// ReadOnly is the form of a mutable directory for those who have its readcap. It
// does not pack.
func ReadOnly() Form { return Form{} }

// Immutable is the form of an immutable directory.
func Immutable() Form { return Form{immutable: true} }

// child is an entry as it stands in the bytes.
type child struct {
	name   string
	raw    []byte
	opened bool
	entry  *Entry // once it is opened; nil when it cannot be listed
}

// Unpack lists a directory's entries, sorted by name.
func (f Form) Unpack(data []byte) ([]Entry, error) {
	children, err := f.children(data)
	if err != nil {
		return nil, err
	}
	list := make([]Entry, 0, len(children))
	for _, c := range children {
		if e := f.open(c); e != nil {
			list = append(list, *e)
		}
	}
	return list, nil
}

// Pack makes the bytes of a directory with the entries given. Of several with one
// name the last counts.
func (f Form) Pack(entries []Entry) ([]byte, error) {
	children := make([]*child, 0, len(entries))
	for _, e := range entries {
		meta, err := parseObject(e.Metadata)
		if err != nil {
			return nil, err
		}
		c, err := f.child(e, meta)
		if err != nil {
			return nil, err
		}
		children = append(children, c)
	}
	return join(sorted(children)), nil
}

func byName(c *child, name string) int { return strings.Compare(c.name, name) }

// put inserts or replaces a child in a sorted list.
func put(list []*child, c *child) []*child {
	i, found := slices.BinarySearchFunc(list, c.name, byName)
	if found {
		list[i] = c
		return list
	}
	return slices.Insert(list, i, c)
}

// sorted sorts by name and keeps of equal names the last.
func sorted(list []*child) []*child {
	slices.SortStableFunc(list, func(a, b *child) int { return strings.Compare(a.name, b.name) })
	out := list[:0]
	for i, c := range list {
		if i+1 < len(list) && list[i+1].name == c.name {
			continue
		}
		out = append(out, c)
	}
	return out
}

func join(children []*child) []byte {
	const most = 12 // of a netstring, beside what is in it
	size := 0
	for _, c := range children {
		size += len(c.raw) + most
	}
	b := make([]byte, 0, size)
	for _, c := range children {
		b = append(strconv.AppendInt(b, int64(len(c.raw)), 10), ':')
		b = append(append(b, c.raw...), ',')
	}
	return b
}

// children finds all entries, in the order of their names, and opens none: whoever
// changes one needs no more than the bytes of the others.
func (f Form) children(data []byte) ([]*child, error) {
	var list []*child
	for len(data) > 0 {
		raw, rest, err := netstring(data)
		if err != nil {
			return nil, err
		}
		data = rest
		parts, err := f.split(raw)
		if err != nil {
			return nil, err
		}
		// Names are normalised on the way out too: what is NFC depends on the version
		// of Unicode that wrote it.
		list = append(list, &child{name: Normalize(string(parts[0])), raw: raw})
	}
	return sorted(list), nil
}

// split takes one entry apart: name, readcap, sealed writecap, metadata.
func (f Form) split(raw []byte) (parts [4][]byte, err error) {
	rest := raw
	for i := range parts {
		if parts[i], rest, err = netstring(rest); err != nil {
			return parts, err
		}
	}
	if !utf8.Valid(parts[0]) {
		return parts, fmt.Errorf("%w: a name is not UTF-8", ErrFormat)
	}
	if f.immutable && len(parts[2]) > 0 {
		return parts, fmt.Errorf("%w: a writecap in an immutable directory", ErrFormat)
	}
	return parts, nil
}

// open reads what an entry gives.
func (f Form) open(c *child) *Entry {
	if c.opened {
		return c.entry
	}
	c.opened = true
	parts, err := f.split(c.raw)
	if err != nil || c.name == "" {
		return nil
	}
	var rw string
	if f.writeKey != nil {
		rw = f.decrypt(parts[2])
	}
	// Tahoe strips spaces too: a later version may pad writecaps to hide their length.
	e := f.entry(strings.TrimRight(rw, " "), strings.TrimRight(string(parts[1]), " "))
	if e == nil {
		return nil
	}
	e.Name = c.name
	if o, err := parseObject(parts[3]); err == nil {
		e.Metadata = json.RawMessage(o.python())
	}
	c.entry = e
	return e
}

// entry makes an entry of the two texts of the bytes; nil when Tahoe, too, would
// not list it.
func (f Form) entry(rw, ro string) *Entry {
	if rw != "" {
		c, err := caps.Parse(rw)
		if err != nil {
			return nil
		}
		if _, unknown := c.(caps.Unknown); !unknown {
			e := NewEntry("", c, nil)
			return &e
		}
		if caps.IsReadOnly(c) { // "ro." in the writecap's place
			if ro == "" {
				return &Entry{Read: c}
			}
			return f.entry("", ro)
		}
		e := f.entry("", ro)
		if e == nil || e.Read == nil || strings.HasPrefix(ro, "imm.") {
			return nil // a write right that cannot be diminished, or a contradiction
		}
		e.Write = c
		return e
	}
	if ro == "" {
		return &Entry{} // Tahoe lists it, too
	}
	c, err := caps.Parse(ro)
	if err != nil {
		return nil
	}
	if u, unknown := c.(caps.Unknown); unknown {
		// The place says that it is a readcap; the prefix hands that on.
		switch {
		case f.immutable && !u.AllegedImmutable():
			c, err = caps.Parse("imm." + u.Bare())
		case !u.AllegedReadOnly():
			c, err = caps.Parse("ro." + ro)
		}
		if err != nil {
			return nil
		}
	} else if f.immutable && !allowed(c) {
		return nil
	}
	// A writecap in the readcap's place gives no more than its place says.
	return &Entry{Read: caps.ReadOnly(c)}
}

// allowed says that c may stand in an immutable directory.
func allowed(c caps.Cap) bool {
	if _, unknown := c.(caps.Unknown); unknown {
		return true // it is marked "imm." by standing there
	}
	return caps.IsImmutable(c) || caps.IsVerifier(c)
}

// child packs an entry.
func (f Form) child(e Entry, meta object) (*child, error) {
	name, err := checkName(e.Name)
	if err != nil {
		return nil, err
	}
	rw, ro, err := f.texts(e)
	if err != nil {
		return nil, &EntryError{Name: name, Err: err}
	}
	var sealed []byte
	if !f.immutable {
		sealed = f.encrypt(rw)
	}
	var b []byte
	for _, part := range [][]byte{[]byte(name), []byte(ro), sealed, []byte(meta.python())} {
		b = append(b, taghash.Netstring(part)...)
	}
	if _, err := f.split(b); err != nil {
		return nil, err
	}
	return &child{name: name, raw: b}, nil
}

// texts are the writecap and the readcap as they are stored.
func (f Form) texts(e Entry) (rw, ro string, err error) {
	read := e.Read
	if e.Write != nil {
		_, unknown := e.Write.(caps.Unknown)
		switch {
		case caps.IsReadOnly(e.Write):
			if read == nil || !unknown {
				read = e.Write
			}
		case unknown && (read == nil || strings.HasPrefix(read.Text(), "imm.")):
			return "", "", ErrUnknownWrite
		case f.immutable:
			return "", "", ErrNotImmutable
		default:
			rw = e.Write.Text()
			if !unknown {
				read = caps.ReadOnly(e.Write)
			}
		}
	}
	if read == nil {
		return "", "", nil // Tahoe stores it: so magic-folder's snapshots say that a file is gone
	}
	if u, unknown := read.(caps.Unknown); unknown {
		// A prefix that the place implies is not stored.
		if f.immutable || !u.AllegedImmutable() {
			return rw, u.Bare(), nil
		}
		return rw, u.Text(), nil
	}
	if f.immutable && !allowed(read) {
		return "", "", ErrNotImmutable
	}
	return rw, caps.ReadOnly(read).Text(), nil
}

const (
	saltLen = 16
	macLen  = 32
)

func (f Form) encrypt(rw string) []byte {
	salt := taghash.DirChildSalt([]byte(rw))
	key := taghash.DirChildKey(salt, *f.writeKey)
	out := append(salt[:], ctr(key, []byte(rw))...)
	// Tahoe before 1.3 checked this; the file's signature protects it since.
	mac := taghash.HMAC(key[:], out)
	return append(out, mac[:]...)
}

func (f Form) decrypt(sealed []byte) string {
	if len(sealed) <= saltLen+macLen {
		return "" // also of nothing: most entries give no right to write
	}
	key := taghash.DirChildKey([16]byte(sealed), *f.writeKey)
	return string(ctr(key, sealed[saltLen:len(sealed)-macLen]))
}

func ctr(key [16]byte, data []byte) []byte {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // 16 bytes are a key length
	}
	out := make([]byte, len(data))
	cipher.NewCTR(block, make([]byte, aes.BlockSize)).XORKeyStream(out, data)
	return out
}

// netstring takes the first netstring off b.
func netstring(b []byte) (content, rest []byte, err error) {
	colon := bytes.IndexByte(b[:min(len(b), 12)], ':')
	if colon < 1 || b[0] == '0' && colon > 1 {
		return nil, nil, fmt.Errorf("%w: netstring", ErrFormat)
	}
	n, err := strconv.ParseUint(string(b[:colon]), 10, 32)
	if err != nil || n >= uint64(len(b)-colon-1) || b[colon+1+int(n)] != ',' {
		return nil, nil, fmt.Errorf("%w: netstring", ErrFormat)
	}
	end := colon + 1 + int(n)
	return b[colon+1 : end : end], b[end+1:], nil
}
