package mutable

import (
	"fmt"
	"io"

	"warren/node/erasure"
	"warren/node/hashtree"
	"warren/node/taghash"
)

// Encode makes the n shares of a version from its contents, share 0 first.
// Apart from the signature, which is randomised, the result is determined.
func Encode(rand io.Reader, key *Key, seqnum uint64, iv [16]byte, k, n int, contents []byte) ([]Share, error) {
	if len(contents) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes", ErrTooLarge, len(contents))
	}
	if k < 1 || n < k || n > 255 {
		return nil, fmt.Errorf("mutable: no encoding %d of %d: a share has one byte for each", k, n)
	}
	write := key.Cap()
	h := newHeader(seqnum, iv, k, n, uint64(len(contents)))
	blocks := make([][]byte, n)
	if len(contents) > 0 {
		coder, err := erasure.New(k, n)
		if err != nil {
			return nil, err
		}
		text := ctr(taghash.SSKDataKey(iv, write.Read().ReadKey), contents)
		if blocks, err = coder.Encode(coder.Split(text)); err != nil {
			return nil, err
		}
	}
	trees := make([]hashtree.Tree, n)
	roots := make([][32]byte, n)
	for i, block := range blocks {
		var leaves [][32]byte // none: an empty file has no block
		if len(contents) > 0 {
			leaves = [][32]byte{taghash.BlockHash(block)}
		}
		trees[i] = hashtree.Build(leaves)
		roots[i] = trees[i].Root()
	}
	tree := hashtree.Build(roots)
	h.RootHash = tree.Root()
	sig, err := key.sign(rand, h.prefix())
	if err != nil {
		return nil, err
	}
	sealed := key.sealed(write.WriteKey)
	shares := make([]Share, n)
	for i := range shares {
		shares[i] = Share{
			Header: h, PublicKey: key.publicDER, Signature: sig, Chain: proof(tree, i),
			BlockTree: trees[i], Block: blocks[i], PrivateKey: sealed,
		}
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

// checkBlock proves a share's block against the root hash of its signed header.
func checkBlock(h Header, num int, chain []ChainNode, blockTree [][32]byte, block []byte) error {
	leaf := taghash.BlockHash(block)
	if len(blockTree) == 0 || blockTree[0] != leaf {
		return fmt.Errorf("%w: block hash", errShare)
	}
	tree, err := hashtree.New(h.Total)
	if err != nil {
		return err
	}
	if err := tree.SetRoot(h.RootHash); err != nil {
		return err
	}
	nodes := make(map[int][32]byte, len(chain))
	for _, n := range chain {
		nodes[n.Node] = n.Hash
	}
	if err := tree.Set(nodes, map[int][32]byte{num: leaf}); err != nil {
		return fmt.Errorf("%w: share hash chain: %w", errShare, err)
	}
	return nil
}

// decode returns the contents from k or more proven blocks.
func decode(h Header, readKey [16]byte, blocks map[int][]byte) ([]byte, error) {
	if h.DataLength == 0 {
		return []byte{}, nil
	}
	coder, err := erasure.New(h.Needed, h.Total)
	if err != nil {
		return nil, err
	}
	data, err := coder.Decode(blocks)
	if err != nil {
		return nil, err
	}
	text := make([]byte, 0, h.SegmentSize)
	for _, b := range data {
		text = append(text, b...)
	}
	return ctr(taghash.SSKDataKey(h.IV, readKey), text[:h.DataLength]), nil
}
