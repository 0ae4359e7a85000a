// Package taghash holds Tahoe-LAFS's tagged hashes and every key, secret and
// identifier that is derived with one.
//
// All of them are SHA-256d, SHA-256 applied to a SHA-256 digest, over
//
//	netstring(tag) || data                              Tagged
//	netstring(tag) || netstring(a) || netstring(b)      TaggedPair
//
// where netstring(x) is the decimal length, ":", x, ",". Results that are used
// as AES keys or storage indexes are the first 16 bytes. (Tahoe-LAFS
// docs/specifications/file-encoding.rst, mutable.rst, dirnodes.rst;
// allmydata.util.hashutil decides.)
//
// The package also holds the base32 that all of Tahoe's text forms use, because
// whoever prints or parses a hash needs it. It has no state, no I/O and knows no
// capability types; package caps builds on it.
package taghash

import (
	"crypto/sha256"
	"hash"
	"strconv"
)

// Size is the length of a full hash in bytes.
const Size = sha256.Size

// KeySize is the length of AES keys, salts and storage indexes.
const KeySize = 16

// Netstring returns b as a netstring.
func Netstring(b []byte) []byte {
	out := make([]byte, 0, len(b)+8)
	out = strconv.AppendInt(out, int64(len(b)), 10)
	out = append(out, ':')
	out = append(out, b...)
	return append(out, ',')
}

// Tagged is the SHA-256d of netstring(tag) and data.
func Tagged(tag string, data []byte) [Size]byte {
	h := newHash(tag)
	h.Write(data)
	return h.sum256()
}

// TaggedPair is the SHA-256d of netstring(tag), netstring(a) and netstring(b).
func TaggedPair(tag string, a, b []byte) [Size]byte {
	h := newHash(tag)
	h.Write(Netstring(a))
	h.Write(Netstring(b))
	return h.sum256()
}

// New returns a hash.Hash over netstring(tag) and everything written to it. Sum
// appends the 32-byte SHA-256d and may be called in the middle of a stream; Reset
// returns to just behind the tag.
func New(tag string) hash.Hash { return newHash(tag) }

type tagged struct {
	inner  hash.Hash
	prefix []byte
}

func newHash(tag string) *tagged {
	t := &tagged{inner: sha256.New(), prefix: Netstring([]byte(tag))}
	t.inner.Write(t.prefix)
	return t
}

func (t *tagged) Write(p []byte) (int, error) { return t.inner.Write(p) }
func (t *tagged) Size() int                   { return Size }
func (t *tagged) BlockSize() int              { return t.inner.BlockSize() }

func (t *tagged) Reset() {
	t.inner.Reset()
	t.inner.Write(t.prefix)
}

func (t *tagged) Sum(b []byte) []byte {
	d := t.sum256()
	return append(b, d[:]...)
}

func (t *tagged) sum256() [Size]byte {
	var first [Size]byte
	return sha256.Sum256(t.inner.Sum(first[:0]))
}

func key(h [Size]byte) (k [KeySize]byte) {
	copy(k[:], h[:])
	return k
}
