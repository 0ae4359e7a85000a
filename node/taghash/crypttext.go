package taghash

import (
	"crypto/sha256"

	"warren/node/sha256x2"
)

// Crypttext is the two hashes of a file's ciphertext, that of the whole and those of
// its segments, in one pass over it. Both together take little longer than one.
type Crypttext struct{ pair *sha256x2.Pair }

// The two digests of the pair.
const (
	whole = iota
	segment
)

// NewCrypttext returns a Crypttext that has seen nothing of the file.
func NewCrypttext() *Crypttext {
	c := &Crypttext{sha256x2.New()}
	c.pair.Write(Netstring([]byte(tagCrypttext)), nil)
	return c
}

// Segment takes the file's next segment and returns its CrypttextSegment.
func (c *Crypttext) Segment(data []byte) [32]byte {
	c.pair.Reset(segment)
	c.pair.Write(nil, Netstring([]byte(tagCrypttextSegment)))
	c.pair.Write(data, data)
	return c.twice(segment)
}

// Sum is the hash of all segments so far as one ciphertext.
func (c *Crypttext) Sum() [32]byte { return c.twice(whole) }

func (c *Crypttext) twice(digest int) [32]byte {
	first := c.pair.Sum(digest)
	return sha256.Sum256(first[:])
}
