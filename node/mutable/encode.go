package mutable

import (
	"fmt"
	"io"
	"slices"

	"warren/node/erasure"
	"warren/node/hashtree"
	"warren/node/taghash"
)

// Encoding is what of a version is neither its key nor its contents.
type Encoding struct {
	Format        Format
	Seqnum        uint64
	Needed, Total int // k of n
	// Salt gives the salt of each segment, in their order; of SDMF, the IV, once.
	Salt func() ([16]byte, error)
}

// Encode makes the n shares of a version from its contents, share 0 first.
// Apart from the signature, which is randomised, the result is determined.
func Encode(rand io.Reader, key *Key, e Encoding, contents []byte) ([]Share, error) {
	if len(contents) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes", ErrTooLarge, len(contents))
	}
	if e.Needed < 1 || e.Total < e.Needed || e.Total > 255 {
		return nil, fmt.Errorf("mutable: no encoding %d of %d: a share has one byte for each", e.Needed, e.Total)
	}
	coder, err := erasure.New(e.Needed, e.Total)
	if err != nil {
		return nil, err
	}
	var iv [16]byte
	if e.Format == SDMF {
		if iv, err = e.Salt(); err != nil {
			return nil, err
		}
	}
	h := newHeader(e.Format, e.Seqnum, iv, e.Needed, e.Total, uint64(len(contents)))
	readKey := key.Cap().Read().ReadKey
	shares := make([]Share, h.Total)
	leaves := make([][][32]byte, h.Total)
	for i := range shares {
		shares[i].Data = make([]byte, h.dataSize())
		leaves[i] = make([][32]byte, h.segments())
	}
	for seg := range h.segments() {
		salt := iv
		if h.Format == MDMF {
			if salt, err = e.Salt(); err != nil {
				return nil, err
			}
		}
		blocks := make([][]byte, h.Total)
		for i := range blocks {
			blocks[i] = shares[i].Data[h.blockAt(seg) : h.blockAt(seg)+h.salt()+h.blockSize(seg)]
		}
		from, to := h.segment(seg)
		hashes, err := encodeSegment(coder, h, readKey, salt, contents[from:to], blocks)
		if err != nil {
			return nil, err
		}
		for i, hash := range hashes {
			leaves[i][seg] = hash
		}
	}
	return seal(rand, key, h, shares, leaves)
}

// encodeSegment fills a segment's block of each share, with its salt before it
// where the format has that, and returns their hashes.
func encodeSegment(coder *erasure.Coder, h Header, readKey, salt [16]byte, text []byte, blocks [][]byte) ([][32]byte, error) {
	crypt := ctr(taghash.SSKDataKey(salt, readKey), text)
	bare := make([][]byte, len(blocks))
	for i, b := range blocks {
		copy(b[:h.salt()], salt[:])
		bare[i] = b[h.salt():]
		if i < h.Needed {
			n := copy(bare[i], crypt)
			clear(bare[i][n:])
			crypt = crypt[n:]
		}
	}
	if err := coder.EncodeInto(bare); err != nil {
		return nil, err
	}
	hashes := make([][32]byte, len(blocks))
	taghash.BlockHashes(hashes, blocks)
	return hashes, nil
}

// seal makes the hash trees over the blocks' hashes, given by share, signs the
// header, and completes the shares.
func seal(rand io.Reader, key *Key, h Header, shares []Share, leaves [][][32]byte) ([]Share, error) {
	roots := make([][32]byte, h.Total)
	for i := range shares {
		shares[i].BlockTree = hashtree.Build(leaves[i])
		roots[i] = shares[i].BlockTree[0]
	}
	tree := hashtree.Build(roots)
	h.RootHash = tree.Root()
	sig, err := key.sign(rand, h.prefix())
	if err != nil {
		return nil, err
	}
	sealed := key.sealed(key.Cap().WriteKey)
	for i := range shares {
		s := &shares[i]
		s.Header, s.PublicKey, s.Signature, s.Chain, s.PrivateKey = h, key.publicDER, sig, proof(tree, i), sealed
	}
	return shares, nil
}

// proof is the share hash chain of one share: what ties its root to the tree's,
// by node number.
func proof(tree hashtree.Tree, share int) []ChainNode {
	needed := tree.Needed(share)
	chain := make([]ChainNode, len(needed))
	// Needed climbs from the leaf, so that the numbers fall.
	for i, node := range needed {
		chain[len(needed)-1-i] = ChainNode{node, tree[node]}
	}
	return chain
}

// prove ties a share's block hash tree to the root hash of its signed header, and
// returns the hashes of its blocks.
func prove(h Header, num int, chain []ChainNode, blockTree [][32]byte) ([][32]byte, error) {
	segments := h.segments()
	first := hashtree.FirstLeaf(segments)
	if len(blockTree) < first+max(segments, 1) {
		return nil, fmt.Errorf("%w: block hash tree", errShare)
	}
	leaves := blockTree[first : first+segments]
	// SDMF allows more hashes than a tree of one leaf has.
	if built := hashtree.Build(leaves); len(built) > len(blockTree) || !slices.Equal(built, blockTree[:len(built)]) {
		return nil, fmt.Errorf("%w: block hash tree", errShare)
	}
	tree, err := hashtree.New(h.Total)
	if err != nil {
		return nil, err
	}
	if err := tree.SetRoot(h.RootHash); err != nil {
		return nil, err
	}
	nodes := make(map[int][32]byte, len(chain))
	for _, n := range chain {
		nodes[n.Node] = n.Hash
	}
	if err := tree.Set(nodes, map[int][32]byte{num: blockTree[0]}); err != nil {
		return nil, fmt.Errorf("%w: share hash chain: %w", errShare, err)
	}
	return leaves, nil
}

// checkBlocks compares the blocks of the segments from the number given on, which
// stand in data with their salts, with their hashes.
func checkBlocks(h Header, first int, data []byte, leaves [][32]byte) error {
	var blocks [][]byte
	for seg := first; len(data) > 0; seg++ {
		size := h.salt() + h.blockSize(seg)
		blocks, data = append(blocks, data[:size]), data[size:]
	}
	hashes := make([][32]byte, len(blocks))
	taghash.BlockHashes(hashes, blocks)
	for i, hash := range hashes {
		if hash != leaves[first+i] {
			return fmt.Errorf("%w: block %d", errShare, first+i)
		}
	}
	return nil
}

// decode returns the contents of the segments [from, to) from k or more shares'
// proven data of them.
func decode(h Header, readKey [16]byte, from, to int, data map[int][]byte) ([]byte, error) {
	coder, err := erasure.New(h.Needed, h.Total)
	if err != nil {
		return nil, err
	}
	start, _ := h.segment(from)
	_, end := h.segment(to - 1)
	contents := make([]byte, 0, end-start)
	for seg := from; seg < to; seg++ {
		at, size := h.blockAt(seg)-h.blockAt(from), h.blockSize(seg)
		salt := h.IV
		blocks := make(map[int][]byte, len(data))
		for num, b := range data {
			if h.Format == MDMF {
				salt = [16]byte(b[at:])
			}
			blocks[num] = b[at+h.salt():][:size]
		}
		pieces, err := coder.Decode(blocks)
		if err != nil {
			return nil, err
		}
		a, b := h.segment(seg)
		text := make([]byte, 0, size*uint64(h.Needed))
		for _, p := range pieces {
			text = append(text, p...)
		}
		contents = append(contents, ctr(taghash.SSKDataKey(salt, readKey), text[:b-a])...)
	}
	return contents, nil
}
