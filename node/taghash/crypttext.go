package taghash

import (
	"crypto/sha256"

	"warren/node/sha256x2"
)

// The two digests of the pairs below.
const (
	steady = iota // goes on from piece to piece
	piece         // begins anew with each
)

// Crypttext is the two hashes of a file's ciphertext, that of the whole and those of
// its segments, in one pass over it. Both together take little longer than one.
type Crypttext struct{ pair *sha256x2.Pair }

// NewCrypttext returns a Crypttext that has seen nothing of the file.
func NewCrypttext() *Crypttext {
	c := &Crypttext{sha256x2.New()}
	c.pair.Write(Netstring([]byte(tagCrypttext)), nil)
	return c
}

// Segment takes the file's next segment and returns its CrypttextSegment.
func (c *Crypttext) Segment(data []byte) [32]byte {
	c.pair.Reset(piece)
	c.pair.Write(nil, Netstring([]byte(tagCrypttextSegment)))
	c.pair.Write(data, data)
	return twice(c.pair, piece)
}

// Sum is the hash of all segments so far as one ciphertext.
func (c *Crypttext) Sum() [32]byte { return twice(c.pair, steady) }

// SegmentAndBlocks hashes what a download has of one segment: data are its k blocks
// of ciphertext, which end after length bytes, and blocks any k blocks from which
// they were decoded, of the same length. It returns the CrypttextSegment of data and
// the BlockHash of each of the blocks. Both together take little longer than one.
func SegmentAndBlocks(length int, data, blocks [][]byte) (segment [32]byte, hashes [][32]byte) {
	pair := sha256x2.New()
	pair.Write(Netstring([]byte(tagCrypttextSegment)), nil)
	tag := Netstring([]byte(tagBlock))
	hashes = make([][32]byte, len(blocks))
	for i, block := range blocks {
		text := data[i][:min(length, len(data[i]))]
		length -= len(text)
		pair.Reset(piece)
		pair.Write(nil, tag)
		pair.Write(text, block)
		hashes[i] = twice(pair, piece)
	}
	return twice(pair, steady), hashes
}

func twice(pair *sha256x2.Pair, digest int) [32]byte {
	first := pair.Sum(digest)
	return sha256.Sum256(first[:])
}
