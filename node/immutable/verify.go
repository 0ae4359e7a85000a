package immutable

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"warren/node/caps"
	"warren/node/grid"
	"warren/node/hashtree"
	"warren/node/storage"
	"warren/node/taghash"
)

// errIncompatible marks a share of a version that we do not know.
var errIncompatible = errors.New("immutable: share of an unknown version")

// shareReader reads one share from its beginning to its end, in pieces, and
// elsewhere in between.
type shareReader struct {
	c      *Client
	server grid.Server
	si     caps.StorageIndex
	share  int
	at     uint64 // of buf in the share
	buf    []byte // read and not yet taken
}

// ask is one question to the server. It answers less at the end of the share.
func (r *shareReader) ask(ctx context.Context, at, size uint64) ([]byte, error) {
	data, err := r.c.readShare(ctx, r.server, r.si, r.share, at, size)
	if errors.Is(err, storage.ErrBadRange) {
		return nil, nil
	}
	return data, err
}

// exactly returns size bytes from at on, without moving.
func (r *shareReader) exactly(ctx context.Context, at, size uint64) ([]byte, error) {
	if at >= r.at && at-r.at <= uint64(len(r.buf)) && uint64(len(r.buf))-(at-r.at) >= size {
		return r.buf[at-r.at:][:size:size], nil
	}
	data, err := r.ask(ctx, at, size)
	if err == nil && uint64(len(data)) != size {
		err = fmt.Errorf("%w: it ends early", errCorrupt)
	}
	return data, err
}

// take hands the next size bytes to f, in parts.
func (r *shareReader) take(ctx context.Context, size uint64, f func([]byte)) error {
	for size > 0 {
		if len(r.buf) == 0 {
			data, err := r.ask(ctx, r.at, uint64(r.c.speeds.get(r.server.ID).piece))
			if err != nil {
				return err
			}
			if len(data) == 0 {
				return fmt.Errorf("%w: it ends early", errCorrupt)
			}
			r.buf = data
		}
		n := min(size, uint64(len(r.buf)))
		f(r.buf[:n])
		r.buf = r.buf[n:]
		r.at += n
		size -= n
	}
	return nil
}

// verify reads a whole share and proves every byte of it: nil when it is what an
// uploader of this file writes under this number; errIncompatible; what isCorrupt
// knows; or a failure to read. Unlike Tahoe's verifier it proves those fields too
// that no reader of shares looks at. What may stand behind the UEB (Tahoe before
// 1.19 reserved room there) belongs to nothing.
//
// The hashes of its blocks are in memory, 64 bytes each, and one piece of it.
func (c *Client) verify(ctx context.Context, v caps.CHKVerify, server grid.Server, share int) error {
	r := &shareReader{c: c, server: server, si: v.Index, share: share}
	var err error
	if r.buf, err = r.ask(ctx, 0, uint64(c.speeds.get(server.ID).piece)); err != nil {
		return err
	}
	if len(r.buf) >= 4 && binary.BigEndian.Uint32(r.buf)-1 > 1 {
		return fmt.Errorf("%w: %d", errIncompatible, binary.BigEndian.Uint32(r.buf))
	}
	l, err := parseHeader(r.buf)
	if err != nil {
		return err
	}
	field, err := r.exactly(ctx, l.ueb, l.fieldSize())
	if err != nil {
		return err
	}
	size := uebLength(field)
	if size > maxUEB {
		return fmt.Errorf("%w: UEB of %d bytes", errCorrupt, size)
	}
	ueb, err := r.exactly(ctx, l.ueb+l.fieldSize(), size)
	if err != nil {
		return err
	}
	if taghash.UEBHash(ueb) != v.UEBHash {
		return fmt.Errorf("%w: UEB", errCorrupt)
	}
	u, err := ParseUEB(ueb)
	if err != nil {
		return err
	}
	s, err := u.shape(v.Needed, v.Total, v.Size)
	if err != nil {
		return err
	}
	// From here on the layout is known, and everything has its place.
	if l != layoutOf(s, l.version) {
		return fmt.Errorf("%w: layout does not fit the file", ErrMalformed)
	}
	same := true
	var rest []byte
	expect := func(want []byte) func([]byte) {
		rest = want
		return func(b []byte) {
			same = same && bytes.HasPrefix(rest, b)
			rest = rest[min(len(b), len(rest)):]
		}
	}
	header := l.header(s)
	if err := r.take(ctx, uint64(len(header)), expect(header)); err != nil {
		return err
	}
	if !same {
		return fmt.Errorf("%w: header", errCorrupt)
	}

	var leaves [][32]byte
	h := taghash.NewBlock()
	for i := range s.segments {
		h.Reset()
		if err := r.take(ctx, uint64(s.blockLen(i)), func(b []byte) { h.Write(b) }); err != nil {
			return err
		}
		leaves = append(leaves, [32]byte(h.Sum(nil)))
	}
	tree := uint64(hashtree.Size(s.segments)) * hashSize
	// Tahoe before 1.3 kept hashes of the plaintext there, and said so in the UEB.
	unused := !bytes.Contains(ueb, []byte("plaintext_root_hash:"))
	zero := true
	if err := r.take(ctx, tree, func(b []byte) { zero = zero && len(bytes.Trim(b, "\x00")) == 0 }); err != nil {
		return err
	}
	if unused && !zero {
		return fmt.Errorf("%w: plaintext hash tree", errCorrupt)
	}
	crypttext, err := r.tree(ctx, s.segments)
	if err != nil {
		return err
	}
	if crypttext.Root() != u.CrypttextRoot || !proven(crypttext, s.segments) {
		return fmt.Errorf("%w: crypttext hash tree", errCorrupt)
	}
	computed := hashtree.Build(leaves)
	stored, err := r.tree(ctx, s.segments)
	if err != nil {
		return err
	}
	var chain []byte
	if err := r.take(ctx, l.ueb-l.chain, func(b []byte) { chain = append(chain, b...) }); err != nil {
		return err
	}
	root, err := chainRoot(s, u.ShareRoot, chain, share)
	if err != nil {
		return err
	}
	switch {
	case stored.Root() != root || !proven(stored, s.segments):
		return fmt.Errorf("%w: block hash tree", errCorrupt)
	case computed.Root() != root:
		return fmt.Errorf("%w: blocks", errCorrupt)
	}
	return nil
}

// uebLength reads the field before the UEB.
func uebLength(field []byte) (size uint64) {
	for _, b := range field {
		size = size<<8 | uint64(b)
	}
	return size
}

// tree takes a stored hash tree as it is.
func (r *shareReader) tree(ctx context.Context, segments int) (hashtree.Tree, error) {
	var raw []byte
	if err := r.take(ctx, uint64(hashtree.Size(segments))*hashSize, func(b []byte) { raw = append(raw, b...) }); err != nil {
		return nil, err
	}
	t := make(hashtree.Tree, len(raw)/hashSize)
	for i := range t {
		t[i] = [32]byte(raw[i*hashSize:])
	}
	return t, nil
}

// proven reports whether every node of a stored tree follows from its leaves.
func proven(t hashtree.Tree, leaves int) bool {
	first := hashtree.FirstLeaf(leaves)
	for i, h := range hashtree.Build(t[first : first+leaves]) {
		if t[i] != h {
			return false
		}
	}
	return true
}

// chainRoot is the root of a share's block hash tree, from its share hash chain,
// every node of which must follow from the root of the share hash tree.
func chainRoot(s shape, shareRoot [32]byte, raw []byte, share int) (root [32]byte, err error) {
	chain, err := parseChain(raw)
	if err != nil {
		return root, err
	}
	roots, err := hashtree.New(s.n)
	if err != nil {
		return root, err
	}
	if err := roots.SetRoot(shareRoot); err != nil {
		return root, err
	}
	if err := roots.Set(chain, nil); err != nil {
		return root, fmt.Errorf("%w: share hash chain: %w", errCorrupt, err)
	}
	root, ok := roots.Leaf(share)
	if !ok {
		return root, fmt.Errorf("%w: share hash chain lacks its own share", errCorrupt)
	}
	return root, nil
}
