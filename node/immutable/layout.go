package immutable

import (
	"encoding/binary"
	"fmt"
	"math"

	"warren/node/hashtree"
)

// DefaultSegmentSize is Tahoe's since 1.19; before, it was 131072.
const DefaultSegmentSize = 1 << 20

// maxSegmentSize bounds what a capability of somebody else can make us hold in
// memory. Tahoe never wrote more than 1 MiB unless patched.
const maxSegmentSize = 32 << 20

// shape is how a file is cut up.
type shape struct {
	k, n        int
	size        uint64 // of the file, above zero
	segmentSize uint64 // a multiple of k
	segments    int
}

func newShape(k, n int, size, segmentSize uint64) (shape, error) {
	s := shape{k: k, n: n, size: size, segmentSize: segmentSize}
	switch {
	case k < 1 || n < k || n > 256:
		return s, fmt.Errorf("%w: %d of %d shares", ErrMalformed, k, n)
	case size == 0 || size > math.MaxInt64:
		return s, fmt.Errorf("%w: size %d", ErrMalformed, size)
	case segmentSize == 0 || segmentSize > maxSegmentSize || segmentSize%uint64(k) != 0:
		return s, fmt.Errorf("%w: segment size %d", ErrMalformed, segmentSize)
	}
	count := (size-1)/segmentSize + 1
	if count > hashtree.MaxLeaves {
		return s, fmt.Errorf("%w: %d segments", ErrMalformed, count)
	}
	s.segments = int(count)
	return s, nil
}

// segmentSizeFor is Tahoe's choice for a file: at most limit, not more than the
// file needs, a multiple of k.
func segmentSizeFor(k int, size, limit uint64) uint64 {
	return nextMultiple(min(size, limit), uint64(k))
}

func nextMultiple(n, k uint64) uint64 { return (n + k - 1) / k * k }

// tailSize is the length of the last segment.
func (s shape) tailSize() uint64 { return (s.size-1)%s.segmentSize + 1 }

// segmentLen is the length of segment i, without padding.
func (s shape) segmentLen(i int) int {
	if i == s.segments-1 {
		return int(s.tailSize())
	}
	return int(s.segmentSize)
}

func (s shape) blockSize() int { return int(s.segmentSize) / s.k }

// blockLen is the length of the blocks of segment i.
func (s shape) blockLen(i int) int { return (s.segmentLen(i) + s.k - 1) / s.k }

// layout is where the parts of a share are.
type layout struct {
	version     int
	blocks      uint64
	crypttext   uint64 // crypttext hash tree
	blockHashes uint64
	chain       uint64 // share hash chain
	ueb         uint64 // the UEB's length, then the UEB
}

const (
	header1   = 0x24
	header2   = 0x44
	hashSize  = 32
	chainItem = 2 + hashSize
)

// fieldSize is the width of the UEB's length.
func (l layout) fieldSize() uint64 {
	if l.version == 1 {
		return 4
	}
	return 8
}

// newLayout is the layout that Tahoe gives a share of this shape.
func newLayout(s shape) layout {
	l := layoutOf(s, 1)
	if l.ueb > math.MaxUint32 {
		return layoutOf(s, 2)
	}
	return l
}

func layoutOf(s shape, version int) layout {
	data := (s.size + uint64(s.k) - 1) / uint64(s.k)
	tree := uint64(hashtree.Size(s.segments)) * hashSize
	chain := uint64(len(hashtree.Needed(s.n, 0))+1) * chainItem
	l := layout{version: version, blocks: header1}
	if version == 2 {
		l.blocks = header2
	}
	l.crypttext = l.blocks + data + tree // the unused plaintext hash tree lies between
	l.blockHashes = l.crypttext + tree
	l.chain = l.blockHashes + tree
	l.ueb = l.chain + chain
	return l
}

// header is the first bytes of a share.
func (l layout) header(s shape) []byte {
	data := (s.size + uint64(s.k) - 1) / uint64(s.k)
	fields := [...]uint64{uint64(s.blockSize()), data, l.blocks, l.blocks + data, l.crypttext, l.blockHashes, l.chain, l.ueb}
	out := binary.BigEndian.AppendUint32(nil, uint32(l.version))
	for _, f := range fields {
		if l.version == 1 {
			out = binary.BigEndian.AppendUint32(out, uint32(f))
		} else {
			out = binary.BigEndian.AppendUint64(out, f)
		}
	}
	return out
}

// parseHeader reads the first bytes of a share (version 1 needs 0x24 of them,
// version 2 0x44). Offsets are checked against each other as far as that is
// possible without the UEB; fits does the rest.
func parseHeader(b []byte) (layout, error) {
	if len(b) < 4 {
		return layout{}, fmt.Errorf("%w: header of %d bytes", ErrMalformed, len(b))
	}
	l := layout{version: int(binary.BigEndian.Uint32(b))}
	var field func(i int) uint64
	switch {
	case l.version == 1 && len(b) >= header1:
		field = func(i int) uint64 { return uint64(binary.BigEndian.Uint32(b[4+4*i:])) }
	case l.version == 2 && len(b) >= header2:
		field = func(i int) uint64 { return binary.BigEndian.Uint64(b[4+8*i:]) }
	case l.version == 1 || l.version == 2:
		return layout{}, fmt.Errorf("%w: header of %d bytes", ErrMalformed, len(b))
	default:
		return layout{}, fmt.Errorf("%w: share version %d", ErrMalformed, l.version)
	}
	l.blocks, l.crypttext, l.blockHashes, l.chain, l.ueb = field(2), field(4), field(5), field(6), field(7)
	for _, at := range []uint64{l.blocks, l.crypttext, l.blockHashes, l.chain, l.ueb} {
		if at > math.MaxInt64/2 {
			return layout{}, fmt.Errorf("%w: offset %d", ErrMalformed, at)
		}
	}
	if l.ueb < l.chain || (l.ueb-l.chain)%chainItem != 0 || (l.ueb-l.chain)/chainItem > 2*256 {
		return layout{}, fmt.Errorf("%w: share hash chain from %d to %d", ErrMalformed, l.chain, l.ueb)
	}
	if l.chain < l.blockHashes || (l.chain-l.blockHashes)%hashSize != 0 {
		return layout{}, fmt.Errorf("%w: block hashes from %d to %d", ErrMalformed, l.blockHashes, l.chain)
	}
	return l, nil
}

// fits checks a share's own layout against the file's shape. Offsets are free
// (Tahoe follows them too), the room between them is not.
func (l layout) fits(s shape) error {
	tree := uint64(hashtree.Size(s.segments)) * hashSize
	data := (s.size + uint64(s.k) - 1) / uint64(s.k)
	if l.chain-l.blockHashes != tree || l.blockHashes < l.crypttext || l.blockHashes-l.crypttext < tree ||
		l.crypttext < l.blocks || l.crypttext-l.blocks < data {
		return fmt.Errorf("%w: layout does not fit the file", ErrMalformed)
	}
	return nil
}

// formatChain is the share hash chain of one share: every node that proves its
// leaf, and the leaf, in Tahoe's order.
func formatChain(roots hashtree.Tree, share int) []byte {
	var out []byte
	for _, node := range chainOrder(append(roots.Needed(share), len(roots)/2+share)) {
		out = binary.BigEndian.AppendUint16(out, uint16(node))
		out = append(out, roots[node][:]...)
	}
	return out
}

// parseChain reads a share hash chain. Double nodes must agree.
func parseChain(b []byte) (map[int][32]byte, error) {
	if len(b)%chainItem != 0 {
		return nil, fmt.Errorf("%w: share hash chain of %d bytes", ErrMalformed, len(b))
	}
	out := make(map[int][32]byte, len(b)/chainItem)
	for ; len(b) > 0; b = b[chainItem:] {
		node, h := int(binary.BigEndian.Uint16(b)), [32]byte(b[2:chainItem])
		if old, twice := out[node]; twice && old != h {
			return nil, fmt.Errorf("%w: share hash chain contradicts itself", ErrMalformed)
		}
		out[node] = h
	}
	return out, nil
}

// chainOrder puts node numbers in the order in which Tahoe writes them: that in
// which CPython (3.7 and later) iterates over a set that they were added to one
// by one. No reader depends on it, but equal shares must be equal bytes: a server
// refuses a write that differs from one that it has. At most 9 numbers come here,
// so the set's table has 8 slots, and 32 from the fifth number on.
func chainOrder(nodes []int) []int {
	table := newSlots(8)
	for i, node := range nodes {
		table.insert(node)
		// CPython grows a table that is more than three fifths full.
		if (i+1)*5 >= (len(table)-1)*3 {
			bigger := newSlots(8)
			for len(bigger) <= (i+1)*4 {
				bigger = newSlots(len(bigger) * 2)
			}
			for _, n := range table {
				if n >= 0 {
					bigger.insert(n)
				}
			}
			table = bigger
		}
	}
	out := make([]int, 0, len(nodes))
	for _, n := range table {
		if n >= 0 {
			out = append(out, n)
		}
	}
	return out
}

// slots is CPython's open-addressing table for small positive integers, which
// hash to themselves; -1 is empty.
type slots []int

func newSlots(n int) slots {
	s := make(slots, n)
	for i := range s {
		s[i] = -1
	}
	return s
}

func (s slots) insert(n int) {
	const linearProbes, perturbShift = 9, 5
	mask := len(s) - 1
	perturb := n
	for i := n & mask; ; {
		probes := 0
		if i+linearProbes <= mask {
			probes = linearProbes
		}
		for j := i; j <= i+probes; j++ {
			if s[j] < 0 {
				s[j] = n
				return
			}
		}
		perturb >>= perturbShift
		i = (i*5 + 1 + perturb) & mask
	}
}
