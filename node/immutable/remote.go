package immutable

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"warren/node/caps"
	"warren/node/grid"
	"warren/node/hashtree"
	"warren/node/storage"
)

// Prefetch sizes: a share that is smaller than wholeShare is read at once; of
// larger ones the first read fetches the hashes behind the blocks if they are
// not more than wholeTail.
const (
	wholeShare = 96 << 10
	wholeTail  = 128 << 10
)

// leafRun is how many leaves of a hash tree are read together: 32 KB. The nodes
// above them are computed, not read.
const leafRun = 1024

// errCorrupt marks a share, or a block of it, that does not fit its capability.
var errCorrupt = errors.New("immutable: corrupt share")

// remote is one share on one server.
type remote struct {
	f      *File
	server grid.Server
	share  int
	guess  bool // that the server has the share: it was not asked
	// Guarded by f.mu: reading from it has begun, so that its hashes are at hand; its
	// server has been told that it is damaged.
	used, advised bool

	preparing chan struct{} // capacity 1: held by whoever prepares or looks
	ready     bool
	layout    layout
	spans     []span

	mu   sync.Mutex
	dead error // guarded by mu: why nothing of this share can be used
}

// span is a part of the share that is in memory already.
type span struct {
	at   uint64
	data []byte
}

func (r *remote) kill(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dead = err
}

func (r *remote) killed() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.dead
}

// fetch reads from the server, up to the end of the share, as much at a time as
// the server is known to deliver soon.
func (r *remote) fetch(ctx context.Context, at, size uint64) ([]byte, error) {
	var out []byte
	for {
		piece := min(size-uint64(len(out)), uint64(r.f.c.speeds.get(r.server.ID).piece))
		data, err := r.ask(ctx, at+uint64(len(out)), piece)
		if errors.Is(err, storage.ErrBadRange) && len(out) > 0 {
			return out, nil // it ended with the last piece
		}
		if err != nil {
			return nil, err
		}
		if out == nil {
			out = data // most are one piece: no copy
		} else {
			out = append(out, data...)
		}
		if uint64(len(data)) < piece || uint64(len(out)) == size {
			return out, nil
		}
	}
}

// ask is one question to the server.
func (r *remote) ask(ctx context.Context, at, size uint64) ([]byte, error) {
	return r.f.c.readShare(ctx, r.server, r.f.si, r.share, at, size)
}

// readShare asks a server for a part of a share, and remembers how long it took.
func (c *Client) readShare(ctx context.Context, server grid.Server, si caps.StorageIndex, share int, at, size uint64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.StallTimeout)
	defer cancel()
	started := time.Now()
	data, err := server.Client.ReadShare(ctx, storage.Immutable, si, share, at, size)
	if err != nil {
		return nil, err
	}
	if uint64(len(data)) > size {
		return nil, fmt.Errorf("%w: the server sent more than was asked", errCorrupt)
	}
	c.speeds.measured(server.ID, len(data), time.Since(started))
	return data, nil
}

// read returns exactly size bytes at at, from memory if they are there.
func (r *remote) read(ctx context.Context, at, size uint64) ([]byte, error) {
	for _, s := range r.spans {
		if at >= s.at && at-s.at <= uint64(len(s.data)) && uint64(len(s.data))-(at-s.at) >= size {
			return s.data[at-s.at:][:size:size], nil
		}
	}
	data, err := r.fetch(ctx, at, size)
	if err == nil && uint64(len(data)) != size {
		err = fmt.Errorf("%w: it ends early", errCorrupt)
	}
	return data, err
}

// prepare makes the share ready to read blocks from: its header is parsed, the
// file's UEB is known, and the root of its block hash tree is proven. Many may
// call it; one does it.
func (r *remote) prepare(ctx context.Context) error {
	select {
	case r.preparing <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-r.preparing }()
	if r.ready {
		return nil
	}
	err := r.prefetch(ctx)
	if err == nil {
		err = r.introduce(ctx)
	}
	if err != nil {
		r.spans = nil
		if isCorrupt(err) || errors.Is(err, storage.ErrNoShare) {
			r.kill(err)
		}
		return err
	}
	r.ready = true
	return nil
}

func isCorrupt(err error) bool { return errors.Is(err, errCorrupt) || errors.Is(err, ErrMalformed) }

// prefetch reads in one round trip what is nearly always all that is needed
// before the blocks, at the places where Tahoe puts it. When the guess is wrong,
// later reads go to the server.
func (r *remote) prefetch(ctx context.Context) error {
	from, total := r.f.opening()
	if from == 0 {
		data, err := r.fetch(ctx, 0, total+4096)
		r.spans = []span{{0, data}}
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	spans := make([]span, 2)
	g.Go(func() error {
		data, err := r.fetch(ctx, 0, header2)
		spans[0] = span{0, data}
		return err
	})
	g.Go(func() error {
		data, err := r.fetch(ctx, from, total+1024-from)
		if errors.Is(err, storage.ErrBadRange) {
			data, err = nil, nil // the guess lies past the end
		}
		spans[1] = span{from, data}
		return err
	})
	if err := g.Wait(); err != nil {
		return err
	}
	r.spans = spans
	return nil
}

// opening is the part of a share of total bytes that is read first, beside the
// header: from where to its end.
func (f *File) opening() (from, total uint64) {
	s := f.guess()
	l := newLayout(s)
	total = shareSize(s, l)
	if total <= wholeShare {
		return 0, total
	}
	from = l.crypttext + uint64(hashtree.FirstLeaf(s.segments))*hashSize
	if total-from > wholeTail {
		from = l.chain
	}
	return from, total
}

// introduce checks header, UEB and share hash chain.
func (r *remote) introduce(ctx context.Context) error {
	head, err := r.read(ctx, 0, header1)
	if err != nil {
		return err
	}
	if binary.BigEndian.Uint32(head) == 2 {
		if head, err = r.read(ctx, 0, header2); err != nil {
			return err
		}
	}
	l, err := parseHeader(head)
	if err != nil {
		return fmt.Errorf("%w: %w", errCorrupt, err)
	}
	s, known := r.f.known()
	if !known {
		field, err := r.read(ctx, l.ueb, l.fieldSize())
		if err != nil {
			return err
		}
		size := uebLength(field)
		if size > maxUEB {
			return fmt.Errorf("%w: UEB of %d bytes", errCorrupt, size)
		}
		ueb, err := r.read(ctx, l.ueb+l.fieldSize(), size)
		if err != nil {
			return err
		}
		if s, err = r.f.learn(ueb); err != nil {
			return err
		}
	}
	if err := l.fits(s); err != nil {
		return fmt.Errorf("%w: %w", errCorrupt, err)
	}
	r.layout = l
	if r.f.rooted(r.share) {
		return nil
	}
	b, err := r.read(ctx, l.chain, l.ueb-l.chain)
	if err != nil {
		return err
	}
	chain, err := parseChain(b)
	if err != nil {
		return fmt.Errorf("%w: %w", errCorrupt, err)
	}
	return r.f.root(r.share, chain)
}

// block returns the block of one segment, not yet compared with its hash, and sees
// to it that this and the segment's crypttext hash are known.
func (r *remote) block(ctx context.Context, segment int, mine *lent) ([]byte, error) {
	if err := r.prepare(ctx); err != nil {
		return nil, err
	}
	s, _ := r.f.known()
	g, ctx := errgroup.WithContext(ctx)
	var data []byte
	g.Go(func() (err error) {
		at, size := r.layout.blocks+uint64(segment)*uint64(s.blockSize()), s.blockLen(segment)
		if size <= smallRead || size > r.f.c.speeds.get(r.server.ID).piece {
			data, err = r.read(ctx, at, uint64(size)) // in several pieces, or not worth it
			return err
		}
		data, err = mine.read(&r.f.c.blocks, size, func(offer []byte) ([]byte, error) {
			return r.read(storage.Into(ctx, offer), at, uint64(size))
		})
		return err
	})
	for tree, base := range map[int]uint64{crypttextTree: r.layout.crypttext, r.share: r.layout.blockHashes} {
		if r.f.hasLeaf(tree, segment) {
			continue
		}
		g.Go(func() error { return r.leaves(ctx, tree, base, segment) })
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return data, nil
}

// leaves reads and proves the part of a hash tree around one segment. If the
// part as a whole is damaged, the segment's own proof may still be sound.
func (r *remote) leaves(ctx context.Context, tree int, base uint64, segment int) error {
	s, _ := r.f.known()
	first := hashtree.FirstLeaf(s.segments)
	run := min(leafRun, first+1)
	start := segment / run * run
	b, err := r.read(ctx, base+uint64(first+start)*hashSize, uint64(run)*hashSize)
	if err != nil {
		return err
	}
	leaves := make(map[int][32]byte, run)
	for i := range run {
		leaves[start+i] = [32]byte(b[i*hashSize:])
	}
	// The run is itself a subtree: what proves its root lies above.
	top := first + start
	for w := run; w > 1; w /= 2 {
		top = (top - 1) / 2
	}
	nodes, err := r.nodes(ctx, base, hashtree.Chain(top))
	if err != nil {
		return err
	}
	if err = r.f.prove(tree, nodes, leaves); err == nil || !errors.Is(err, errCorrupt) {
		return err
	}
	nodes, err = r.nodes(ctx, base, hashtree.Chain(first+segment))
	if err != nil {
		return err
	}
	return r.f.prove(tree, nodes, map[int][32]byte{segment: leaves[segment]})
}

func (r *remote) nodes(ctx context.Context, base uint64, which []int) (map[int][32]byte, error) {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	got := make([][]byte, len(which))
	for i, node := range which {
		g.Go(func() (err error) {
			got[i], err = r.read(ctx, base+uint64(node)*hashSize, hashSize)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	out := make(map[int][32]byte, len(which))
	for i, node := range which {
		out[node] = [32]byte(got[i])
	}
	return out, nil
}
