package mutable

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"warren/node/caps"
	"warren/node/erasure"
	"warren/node/storage"
)

// Update writes data at an offset, which may be up to the file's length, over what
// is there; the file grows as needed. It promises what Modify does.
//
// Of an MDMF file that is whole (each share there once, intact as far as its
// hashes go, no other version about) it rewrites the segments that data touches,
// the hash trees and the header, in their places, and reads no more than the trees
// and the first and last of those segments. Everything else is read and written
// whole: SDMF; a file that lacks shares, which is mended so; encodings with
// n < 2k-1, where two writers might leave neither version whole and only whoever
// still has the contents could mend that; and an attempt that met another writer.
func (s *Store) Update(ctx context.Context, c caps.MutableWrite, offset uint64, data []byte) error {
	id := writable(c)
	if len(data) == 0 {
		return s.look(ctx, id, func(_ *survey, best *version) error { return inside(offset, best.header.DataLength) })
	}
	if offset > math.MaxInt64-uint64(len(data)) {
		return fmt.Errorf("%w: byte %d", ErrRange, offset)
	}
	return s.write(ctx, &writing{id: id, reads: true, splice: &splice{offset, data}, change: func(old []byte) ([]byte, error) {
		if err := inside(offset, uint64(len(old))); err != nil {
			return nil, err
		}
		text := bytes.Clone(old[:offset])
		text = append(text, data...)
		if end := offset + uint64(len(data)); end < uint64(len(old)) {
			text = append(text, old[end:]...)
		}
		return text, nil
	}})
}

func inside(offset, length uint64) error {
	if offset > length {
		return fmt.Errorf("%w: byte %d of %d", ErrRange, offset, length)
	}
	return nil
}

// splice is data to be written at an offset.
type splice struct {
	offset uint64
	data   []byte
}

// patch is what changes of the data of each share, by number: the blocks of
// consecutive segments.
type patch struct {
	at     uint64 // in the share data
	blocks [][]byte
}

// writes rewrites a share's head and tree and the blocks that changed. The data's
// length is that of the new version.
func (p *patch) writes(s Share, num int) ([]storage.WriteVector, uint64) {
	head, tail := s.mdmfHead(s.dataSize()), appendHashes(nil, s.BlockTree)
	data := uint64(len(head))
	tree := data + s.dataSize()
	return []storage.WriteVector{
		{Data: head}, {Offset: data + p.at, Data: p.blocks[num]}, {Offset: tree, Data: tail},
	}, tree + uint64(len(tail))
}

// draft makes the version that has the splice in it, as a patch of base. Nil without
// an error: it cannot be done so.
func (sp *splice) draft(ctx context.Context, v *survey, base *version, key *Key) (*draft, error) {
	old := base.header
	if err := inside(sp.offset, old.DataLength); err != nil {
		return nil, err
	}
	if !v.patchable(base) {
		return nil, nil
	}
	h := old
	end := sp.offset + uint64(len(sp.data))
	h.DataLength = max(old.DataLength, end)
	if err := h.check(); err != nil {
		return nil, err
	}
	highest := v.latest()
	if highest == math.MaxUint64 {
		return nil, errUsedUp
	}
	h.Seqnum = highest + 1
	first, last := int(sp.offset/h.SegmentSize), int((end-1)/h.SegmentSize)

	text, err := sp.text(ctx, v, base, h, first, last)
	if err != nil {
		return nil, orWhole(err)
	}
	leaves, err := v.allLeaves(ctx, base)
	if err != nil {
		return nil, orWhole(err)
	}
	coder, err := erasure.New(h.Needed, h.Total)
	if err != nil {
		return nil, err
	}
	p := &patch{at: h.blockAt(first), blocks: make([][]byte, h.Total)}
	for i := range p.blocks {
		p.blocks[i] = make([]byte, h.blockAt(last+1)-p.at)
		// The old trees stay: another attempt may want them.
		leaves[i] = append(slices.Clone(leaves[i]), make([][32]byte, h.segments()-len(leaves[i]))...)
	}
	start, _ := h.segment(first)
	for seg := first; seg <= last; seg++ {
		salt, err := v.store.salt()
		if err != nil {
			return nil, err
		}
		blocks := make([][]byte, h.Total)
		for i := range blocks {
			blocks[i] = p.blocks[i][h.blockAt(seg)-p.at : h.blockAt(seg+1)-p.at]
		}
		a, b := h.segment(seg)
		hashes, err := encodeSegment(coder, h, v.id.readKey, salt, text[a-start:b-start], blocks)
		if err != nil {
			return nil, err
		}
		for i, hash := range hashes {
			leaves[i][seg] = hash
		}
	}
	shares, err := seal(v.store.opts.Rand, key, h, make([]Share, h.Total), leaves)
	if err != nil {
		return nil, err
	}
	return &draft{key: key, header: shares[0].Header, shares: shares, patch: p, happy: min(v.store.opts.Happy, h.Total)}, nil
}

// orWhole lets what went missing meanwhile be mended by writing the file whole.
func orWhole(err error) error {
	if errors.Is(err, ErrNotEnoughShares) {
		return nil
	}
	return err
}

// patchable says that every share of a version is where a patch can change it, and
// nothing else is.
func (v *survey) patchable(base *version) bool {
	h := base.header
	if v.id.format != MDMF || h.Format != MDMF || h.Total < 2*h.Needed-1 || len(v.bad) > 0 || base.distinct() < h.Total {
		return false
	}
	for _, s := range v.shares {
		if s.prefix != base.prefix || s.data.from != mdmfData {
			return false
		}
	}
	return happiness(v.holders(base.prefix, nil)) >= min(v.store.opts.Happy, h.Total)
}

// text is what the segments from first to last will hold.
func (sp *splice) text(ctx context.Context, v *survey, base *version, h Header, first, last int) ([]byte, error) {
	start, _ := h.segment(first)
	_, stop := h.segment(last)
	text := make([]byte, stop-start)
	keep := func(seg int) error {
		old, _, err := v.retrieve(ctx, base, seg, seg+1, false)
		at, _ := h.segment(seg)
		copy(text[at-start:], old)
		return err
	}
	if sp.offset > start {
		if err := keep(first); err != nil {
			return nil, err
		}
	}
	end := sp.offset + uint64(len(sp.data))
	if end < stop && (last > first || sp.offset == start) {
		if err := keep(last); err != nil {
			return nil, err
		}
	}
	copy(text[sp.offset-start:], sp.data)
	return text, nil
}

// allLeaves returns the hashes of all blocks, by share number, each proven against
// the version's root hash.
func (v *survey) allLeaves(ctx context.Context, base *version) ([][][32]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, v.store.opts.CallTimeout)
	defer cancel()
	shares := v.of(base.prefix)
	results := make([]fetched, len(shares))
	var wg sync.WaitGroup
	for i, s := range shares {
		wg.Add(1)
		go func() {
			defer wg.Done()
			results[i] = v.fetch(ctx, s, 0, 0, false)
		}()
	}
	wg.Wait()
	leaves := make([][][32]byte, base.header.Total)
	for i, f := range results {
		switch {
		case f.err == nil:
			leaves[shares[i].num] = shares[i].leaves
		case errors.Is(f.err, errShare):
			v.drop(shares[i])
		default:
			v.lose(shares[i], f.err)
		}
	}
	for _, f := range results {
		if f.err != nil {
			return nil, fmt.Errorf("%w: a hash tree: %w", ErrNotEnoughShares, f.err)
		}
	}
	return leaves, nil
}
