// Package erasure is zfec's erasure code: k blocks of data become n, any k of
// which give the data back. Its output is byte for byte zfec's, which is what
// Tahoe-LAFS stores.
//
// The first k blocks are the data itself. The code works in GF(2^8) over the
// polynomial 0x11d. zfec takes the n x k matrix V with row 0 = 1,0,0,.. and, for
// r > 0, V[r][c] = alpha^((r-1)*c), multiplies it by the inverse of its top k
// rows so that these become the identity, and uses rows k..n-1 to make the
// other blocks. We compute those rows (matrix.go) and leave the arithmetic on
// data to klauspost/reedsolomon, which has it in assembler.
//
// Padding is the caller's: blocks of one call have one length, and Tahoe fills
// the last ones of a segment with zeros (Split does that).
package erasure

import (
	"errors"
	"fmt"

	"github.com/klauspost/reedsolomon"
)

// MaxShares is the largest n: the field has 256 elements.
const MaxShares = 256

var (
	// ErrParameters says that k and n are outside 1 <= k <= n <= 256.
	ErrParameters = errors.New("erasure: need 1 <= k <= n <= 256")
	// ErrBlocks says that the blocks handed in are too few, of different
	// lengths, empty, or wrongly numbered.
	ErrBlocks = errors.New("erasure: unusable blocks")
)

// Coder encodes and decodes for one k and n. It is safe for concurrent use and
// meant to be kept: making one inverts a matrix.
type Coder struct {
	k, n int
	rs   reedsolomon.Encoder // nil when every block is data (n == k)
}

// New makes the coder for k of n.
func New(k, n int) (*Coder, error) {
	if k < 1 || n < k || n > MaxShares {
		return nil, fmt.Errorf("%w, not k=%d n=%d", ErrParameters, k, n)
	}
	c := &Coder{k: k, n: n}
	if n == k {
		return c, nil
	}
	rs, err := reedsolomon.New(k, n-k,
		reedsolomon.WithCustomMatrix(parity(k, n)),
		// Splitting one segment's arithmetic over goroutines costs more than it
		// gains: callers work on several segments at once instead.
		reedsolomon.WithMaxGoroutines(1),
		// The cache of inverted matrices never forgets. With few shares there are
		// few patterns; with 255 each costs 150 KB, and inverting anew one millisecond.
		reedsolomon.WithInversionCache(n <= 32))
	if err != nil {
		return nil, fmt.Errorf("erasure: %d of %d: %w", k, n, err)
	}
	c.rs = rs
	return c, nil
}

// BlockSize is the length of each block of a segment of size bytes: size
// divided by k, rounded up.
func (c *Coder) BlockSize(size int) int { return (size + c.k - 1) / c.k }

// Encode returns all n blocks for the k blocks of data, which must be of one
// length above zero. The first k are those handed in, not copies.
func (c *Coder) Encode(data [][]byte) ([][]byte, error) {
	if len(data) != c.k {
		return nil, fmt.Errorf("%w: %d blocks of data for k=%d", ErrBlocks, len(data), c.k)
	}
	size := len(data[0])
	buf := make([]byte, (c.n-c.k)*size)
	shares := make([][]byte, c.n)
	copy(shares, data)
	for i := c.k; i < c.n; i++ {
		shares[i], buf = buf[:size:size], buf[size:]
	}
	if err := c.EncodeInto(shares); err != nil {
		return nil, err
	}
	return shares, nil
}

// EncodeInto fills blocks[k:] from blocks[:k]. All n are of one length above
// zero; nothing is allocated for them.
func (c *Coder) EncodeInto(blocks [][]byte) error {
	if len(blocks) != c.n {
		return fmt.Errorf("%w: %d blocks for n=%d", ErrBlocks, len(blocks), c.n)
	}
	if err := sameLength(blocks); err != nil {
		return err
	}
	if c.rs == nil {
		return nil
	}
	if err := c.rs.Encode(blocks); err != nil {
		return fmt.Errorf("erasure: encode: %w", err)
	}
	return nil
}

// Decode returns the k blocks of data from k or more blocks by share number.
// Blocks of data that were handed in are returned themselves, not copied. It
// cannot notice a wrong block: check before.
func (c *Coder) Decode(blocks map[int][]byte) ([][]byte, error) {
	if len(blocks) < c.k {
		return nil, fmt.Errorf("%w: %d, k is %d", ErrBlocks, len(blocks), c.k)
	}
	all := make([][]byte, c.n)
	present := make([][]byte, 0, len(blocks))
	for i, b := range blocks {
		if i < 0 || i >= c.n {
			return nil, fmt.Errorf("%w: number %d of %d", ErrBlocks, i, c.n)
		}
		all[i] = b
		present = append(present, b)
	}
	if err := sameLength(present); err != nil {
		return nil, err
	}
	if c.rs == nil {
		return all, nil
	}
	if err := c.rs.ReconstructData(all); err != nil {
		return nil, fmt.Errorf("erasure: decode: %w", err)
	}
	return all[:c.k], nil
}

func sameLength(blocks [][]byte) error {
	size := len(blocks[0])
	if size == 0 {
		return fmt.Errorf("%w: empty", ErrBlocks)
	}
	for _, b := range blocks {
		if len(b) != size {
			return fmt.Errorf("%w: lengths %d and %d", ErrBlocks, size, len(b))
		}
	}
	return nil
}

// Split cuts segment into k blocks as Tahoe does: each is as long as the
// segment divided by k, rounded up, and zeros fill the end. The blocks share
// segment's memory where they can; segment is not changed unless its capacity
// holds the padding, which is then written there.
func (c *Coder) Split(segment []byte) [][]byte {
	size := c.BlockSize(len(segment))
	padded := segment
	if want := size * c.k; want != len(segment) {
		if cap(segment) >= want {
			padded = segment[:want]
			clear(padded[len(segment):])
		} else {
			padded = make([]byte, want)
			copy(padded, segment)
		}
	}
	out := make([][]byte, c.k)
	for i := range out {
		out[i] = padded[i*size : (i+1)*size : (i+1)*size]
	}
	return out
}
