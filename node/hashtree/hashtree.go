// Package hashtree is Tahoe-LAFS's binary Merkle tree: how it is built from its
// leaves (Build), and how parts of one, received from somebody who is not
// trusted, are checked against a root that is (Incomplete).
//
// A tree over n leaves is padded to the next power of two, w, and held as one
// list of 2w-1 hashes in breadth-first order:
//
//	      0                node i: parent (i-1)/2, children 2i+1, 2i+2
//	  1       2            leaf j is node w-1+j
//	3   4   5   6
//
// Leaf j >= n is the tagged hash ("Merkle tree empty leaf") of the decimal
// digits of j; an inner node is the tagged pair hash ("Merkle tree internal
// node") of its children. This is allmydata/hashtree.py; the share formats of
// immutable and mutable files hold these lists as they are.
//
// Build and Incomplete are plain values without locks: one user at a time.
package hashtree

import (
	"errors"
	"fmt"
	"math/bits"
	"strconv"

	"warren/node/taghash"
)

const (
	emptyLeafTag = "Merkle tree empty leaf"
	pairTag      = "Merkle tree internal node"
)

// MaxLeaves bounds a tree. A leaf stands for a segment or a share; 2^26 segments
// of 128 KiB are 8 TiB, and the limit keeps a hostile header from asking for
// more memory than a machine has.
const MaxLeaves = 1 << 26

var (
	// ErrBadHash says that hashes contradict each other: somebody lied, or a
	// disk did.
	ErrBadHash = errors.New("hashtree: hash does not match")
	// ErrMissing says that hashes were given which cannot be checked without
	// others that are not known.
	ErrMissing = errors.New("hashtree: not enough hashes")
	// ErrRange says that a node or leaf number is outside the tree.
	ErrRange = errors.New("hashtree: no such node")
)

// Tree is a complete tree in node order, root first.
type Tree [][32]byte

// width is the number of leaves after padding.
func width(leaves int) int {
	if leaves <= 1 {
		return 1
	}
	return 1 << bits.Len(uint(leaves-1))
}

// Size is the number of nodes of a tree over that many leaves.
func Size(leaves int) int { return 2*width(leaves) - 1 }

// FirstLeaf is the node number of leaf 0 of a tree over that many leaves.
func FirstLeaf(leaves int) int { return width(leaves) - 1 }

// EmptyLeaf is the padding hash at leaf position i.
func EmptyLeaf(i int) [32]byte {
	return taghash.Tagged(emptyLeafTag, strconv.AppendInt(nil, int64(i), 10))
}

// Pair is the hash of an inner node with the children a and b.
func Pair(a, b [32]byte) [32]byte { return taghash.TaggedPair(pairTag, a[:], b[:]) }

// Build makes the tree over leaves, padding them to a power of two. A tree over
// no leaves is, as in Tahoe, that over one empty leaf.
func Build(leaves [][32]byte) Tree {
	w := width(len(leaves))
	t := make(Tree, 2*w-1)
	copy(t[w-1:], leaves)
	for i := len(leaves); i < w; i++ {
		t[w-1+i] = EmptyLeaf(i)
	}
	for i := w - 2; i >= 0; i-- {
		t[i] = Pair(t[2*i+1], t[2*i+2])
	}
	return t
}

// Root is node 0.
func (t Tree) Root() [32]byte { return t[0] }

// Needed lists the nodes that prove leaf against the root: its sibling and
// those of its ancestors, from the leaf upwards. Neither the leaf nor the root
// is among them.
func (t Tree) Needed(leaf int) []int { return Chain(len(t)/2 + leaf) }

// Needed is Tree.Needed for a tree that is not at hand.
func Needed(leaves, leaf int) []int { return Chain(FirstLeaf(leaves) + leaf) }

// Chain lists the nodes that prove node against the root: its sibling and those
// of its ancestors, upwards.
func Chain(node int) []int {
	var out []int
	for ; node > 0; node = (node - 1) / 2 {
		out = append(out, sibling(node))
	}
	return out
}

func sibling(node int) int {
	if node%2 == 1 {
		return node + 1
	}
	return node - 1
}

// Incomplete is a tree of which only some nodes are known, each of them proven
// against the root. Set the root first, from a source that is trusted (SetRoot);
// Set takes the rest from anybody.
//
// Memory follows what is known, not the size of the tree, because that size
// comes from a capability that somebody else may have made up.
type Incomplete struct {
	size  int
	pages map[int]*page // by node number / pageSize
}

const pageSize = 256

type page struct {
	nodes [pageSize][32]byte
	known [pageSize]bool
}

// New returns a tree over that many leaves of which nothing is known. It fails
// for less than one leaf or more than MaxLeaves.
func New(leaves int) (*Incomplete, error) {
	if leaves < 1 || leaves > MaxLeaves {
		return nil, fmt.Errorf("%w: a tree over %d leaves", ErrRange, leaves)
	}
	n := Size(leaves)
	return &Incomplete{size: n, pages: map[int]*page{}}, nil
}

func (t *Incomplete) get(i int) (h [32]byte, ok bool) {
	p := t.pages[i/pageSize]
	if p == nil || !p.known[i%pageSize] {
		return h, false
	}
	return p.nodes[i%pageSize], true
}

func (t *Incomplete) put(i int, h [32]byte) {
	p := t.pages[i/pageSize]
	if p == nil {
		p = new(page)
		t.pages[i/pageSize] = p
	}
	p.nodes[i%pageSize], p.known[i%pageSize] = h, true
}

func (t *Incomplete) forget(i int) { t.pages[i/pageSize].known[i%pageSize] = false }

// FirstLeaf is the node number of leaf 0.
func (t *Incomplete) FirstLeaf() int { return t.size / 2 }

// Node returns node i, if it is known.
func (t *Incomplete) Node(i int) (h [32]byte, ok bool) {
	if i < 0 || i >= t.size {
		return h, false
	}
	return t.get(i)
}

// Leaf returns leaf i, if it is known.
func (t *Incomplete) Leaf(i int) (h [32]byte, ok bool) { return t.Node(t.FirstLeaf() + i) }

// SetRoot sets the root, which the caller trusts. Setting it again to another
// value is ErrBadHash.
func (t *Incomplete) SetRoot(root [32]byte) error {
	if old, ok := t.get(0); ok && old != root {
		return fmt.Errorf("%w: another root", ErrBadHash)
	}
	t.put(0, root)
	return nil
}

// Set adds nodes (by node number) and leaves (by leaf number). Each must agree
// with what is known and be proven by what is known together with what is
// given; otherwise the answer is ErrBadHash or ErrMissing and the tree stays as
// it was. What can be computed on the way is remembered. Without a root nothing is
// taken, not even a whole tree.
func (t *Incomplete) Set(nodes, leaves map[int][32]byte) error {
	if _, ok := t.get(0); !ok && len(nodes)+len(leaves) > 0 {
		return fmt.Errorf("%w: the root is not known", ErrMissing)
	}
	added := make([]int, 0, len(nodes)+len(leaves))
	undo := func(err error) error {
		for _, i := range added {
			t.forget(i)
		}
		return err
	}
	// add reports whether node i is new; one that is known must be the same.
	add := func(i int, h [32]byte) (bool, error) {
		if i < 0 || i >= t.size {
			return false, fmt.Errorf("%w: %d of %d", ErrRange, i, t.size)
		}
		if old, ok := t.get(i); ok {
			if old != h {
				return false, fmt.Errorf("%w: node %d of %d", ErrBadHash, i, t.size)
			}
			return false, nil
		}
		t.put(i, h)
		added = append(added, i)
		return true, nil
	}
	first := t.FirstLeaf()
	for i, h := range nodes {
		if _, err := add(i, h); err != nil {
			return undo(err)
		}
	}
	for i, h := range leaves {
		if i < 0 || i > first {
			return undo(fmt.Errorf("%w: leaf %d of %d", ErrRange, i, first+1))
		}
		if _, err := add(first+i, h); err != nil {
			return undo(err)
		}
	}
	// Each level is checked whole before the one above it, because what the
	// lower one computes is what the upper one has to prove.
	levels := make([][]int, bits.Len(uint(t.size)))
	for _, i := range added {
		d := bits.Len(uint(i+1)) - 1
		levels[d] = append(levels[d], i)
	}
	for d := len(levels) - 1; d > 0; d-- {
		seen := make(map[int]bool, len(levels[d]))
		for _, i := range levels[d] {
			p := (i - 1) / 2
			if seen[p] {
				continue
			}
			seen[p] = true
			left, ok1 := t.get(2*p + 1)
			right, ok2 := t.get(2*p + 2)
			if !ok1 || !ok2 {
				return undo(fmt.Errorf("%w: node %d lacks its sibling", ErrMissing, i))
			}
			fresh, err := add(p, Pair(left, right))
			if err != nil {
				return undo(err)
			}
			if fresh {
				levels[d-1] = append(levels[d-1], p)
			}
		}
	}
	return nil
}
