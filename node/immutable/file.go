package immutable

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"time"

	"warren/node/caps"
	"warren/node/erasure"
	"warren/node/grid"
	"warren/node/hashtree"
	"warren/node/taghash"
)

// Read-ahead and cache are counted in bytes, with room for two segments at least.
// On a slow line less is read ahead: segments that share it delay the first.
const (
	readAhead    = 6 << 20
	maxAhead     = 8
	cachedBytes  = 4 << 20
	cachedAtMost = 64
)

// ErrRange says that a read starts outside the file.
var ErrRange = errors.New("immutable: offset outside the file")

var errClosed = fmt.Errorf("immutable: the file is closed: %w", fs.ErrClosed)

// File reads ranges of one immutable file. It is safe for concurrent use. Every
// byte that it returns has been proven against the capability. Close it.
type File struct {
	c    *Client
	size uint64
	lit  []byte
	cap  caps.CHK
	si   caps.StorageIndex
	// sealed: cap's key is not known, and what is read is the ciphertext.
	sealed bool

	coder  *erasure.Coder
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup // lookups, fetches, advisories

	mu sync.Mutex
	// mu guards everything below.
	closed  bool
	unasked []grid.Server // servers not yet asked what they hold
	asking  int           // questions not yet answered
	remotes []*remote
	news    chan struct{} // closed and replaced when asking or remotes change
	last    error         // the last failure
	shape   *shape        // once the UEB is known
	ueb     []byte
	trees   map[int]*hashtree.Incomplete
	roots   *hashtree.Incomplete
	segs    map[int]*segmentEntry
	recent  []int // segments in segs that are complete, oldest first
}

// crypttextTree is the key in File.trees of the tree that all shares have in
// common; the others are block hash trees, by share number.
const crypttextTree = -1

// Open prepares to read the file of a LIT or CHK capability (the file of an
// immutable directory among them). It returns when enough servers say that they
// hold shares, and NotEnoughSharesError when too few do; a damaged share is
// noticed only when it is read. ctx bounds the call, not the File.
func (c *Client) Open(ctx context.Context, cp caps.Cap) (*File, error) {
	f, err := c.prospect(ctx, cp)
	if err != nil || f.coder == nil { // a LIT
		return f, err
	}
	if err := f.find(ctx); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// prospect makes the File of a capability, which has not looked for shares yet.
func (c *Client) prospect(ctx context.Context, cp caps.Cap) (*File, error) {
	var chk caps.CHK
	switch v := caps.File(cp).(type) {
	case caps.LIT:
		return &File{c: c, size: uint64(len(v.Data)), lit: v.Data, cancel: func() {}}, nil
	case caps.CHK:
		chk = v
	default:
		return nil, fmt.Errorf("immutable: a %s capability does not read an immutable file", cp.Kind())
	}
	// The shape that is guessed here checks k, n and size, too.
	if _, err := newShape(chk.Needed, chk.Total, chk.Size, uint64(chk.Needed)<<16); err != nil {
		return nil, err
	}
	f, err := c.newFile(ctx, chk, chk.StorageIndex())
	if err != nil {
		return nil, err
	}
	f.unasked = c.cfg.Servers.Permuted(f.si)
	return f, nil
}

// newFile makes a File that knows no shares yet.
func (c *Client) newFile(ctx context.Context, chk caps.CHK, si caps.StorageIndex) (*File, error) {
	coder, err := c.coder(chk.Needed, chk.Total)
	if err != nil {
		return nil, err
	}
	roots, err := hashtree.New(chk.Total)
	if err != nil {
		return nil, err
	}
	f := &File{
		c: c, size: chk.Size, cap: chk, si: si, coder: coder,
		news: make(chan struct{}), trees: map[int]*hashtree.Incomplete{}, roots: roots,
		segs: map[int]*segmentEntry{},
	}
	f.ctx, f.cancel = context.WithCancel(context.WithoutCancel(ctx))
	return f, nil
}

// Size is the length of the file.
func (f *File) Size() uint64 { return f.size }

// Close ends what is under way and frees the memory. Reads that are running fail.
func (f *File) Close() error {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.cancel()
	f.wg.Wait()
	return nil
}

// WriteRange writes n bytes from offset off to w; n below zero means up to the
// end, and a range that reaches past the end stops there. Segments ahead are
// fetched while w takes the earlier ones. Nothing is written before the first
// segment is proven, so an error with nothing written can still be reported
// otherwise.
func (f *File) WriteRange(ctx context.Context, w io.Writer, off, n int64) error {
	if off < 0 || uint64(off) > f.size {
		return fmt.Errorf("%w: %d of %d", ErrRange, off, f.size)
	}
	end := f.size
	if n >= 0 && uint64(n) < f.size-uint64(off) {
		end = uint64(off) + uint64(n)
	}
	pos := uint64(off)
	if pos == end {
		return nil
	}
	if f.lit != nil {
		_, err := w.Write(f.lit[pos:end])
		return err
	}
	if err := f.ctx.Err(); err != nil {
		return errClosed
	}
	s, err := f.measure(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	type result struct {
		e    *segmentEntry
		took time.Duration
		err  error
	}
	first, last := int(pos/s.segmentSize), int((end-1)/s.segmentSize)
	ahead := min(max(readAhead/int(s.segmentSize), 2), maxAhead)
	pending := make([]chan result, 0, ahead)
	next, window := first, 1
	for i := first; i <= last; i++ {
		for ; next <= last && len(pending) < window; next++ {
			ch := make(chan result, 1)
			pending = append(pending, ch)
			segment := next
			wg.Go(func() {
				started := time.Now()
				e, err := f.segment(ctx, segment)
				ch <- result{e, time.Since(started), err}
			})
		}
		got := <-pending[0]
		pending = pending[1:]
		if got.err != nil {
			return got.err
		}
		switch {
		case got.took < quick:
			window = min(2*window, ahead)
		case got.took < slow:
			window = max(window, 2) // one is on its way while w takes the other
		default:
			window = max(window/2, 1)
		}
		start := uint64(i) * s.segmentSize
		part := got.e.data[pos-start : min(end-start, uint64(len(got.e.data)))]
		if _, err := w.Write(part); err != nil {
			return err
		}
		f.release(got.e)
		pos += uint64(len(part))
	}
	return nil
}

// ReadAt fills p from offset off. At the end of the file it returns what there is
// and io.EOF.
func (f *File) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	b := fixed{p: p}
	err := f.WriteRange(ctx, &b, off, int64(len(p)))
	if err == nil && b.n < len(p) {
		err = io.EOF
	}
	return b.n, err
}

// fixed is a Writer into a slice that is long enough.
type fixed struct {
	p []byte
	n int
}

func (b *fixed) Write(p []byte) (int, error) {
	n := copy(b.p[b.n:], p)
	b.n += n
	return n, nil
}

// segmentEntry is a segment that is cached or being fetched.
type segmentEntry struct {
	done chan struct{}
	// Set before done is closed; off says that err is only that the one who fetched
	// it gave up.
	data []byte
	err  error
	off  bool

	// Guarded by File.mu: who reads data (at most: those who give up do not say so), and
	// that it is no longer cached.
	users int
	gone  bool
}

// segment returns one segment with its plaintext, which the caller must not change,
// and lets go of by release.
func (f *File) segment(ctx context.Context, i int) (*segmentEntry, error) {
	for {
		f.mu.Lock()
		e := f.segs[i]
		if e == nil {
			e = &segmentEntry{done: make(chan struct{}), users: 1}
			f.segs[i] = e
			f.mu.Unlock()
			e.data, e.err = f.assemble(ctx, i)
			e.off = e.err != nil && ctx.Err() != nil
			f.keep(i, e)
			close(e.done)
			return e, e.err
		}
		e.users++
		f.mu.Unlock()
		select {
		case <-e.done:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		if !e.off {
			return e, e.err
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
}

// keep caches a fetched segment and forgets older ones.
func (f *File) keep(i int, e *segmentEntry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e.err != nil {
		delete(f.segs, i)
		return
	}
	f.recent = append(f.recent, i)
	room := min(max(cachedBytes/int(f.shape.segmentSize), 2), cachedAtMost)
	for len(f.recent) > room {
		old := f.segs[f.recent[0]]
		delete(f.segs, f.recent[0])
		f.recent = f.recent[1:]
		if old.gone = true; old.users == 0 {
			f.c.segments.put(old.data)
		}
	}
}

// release says that a caller of segment is done with it.
func (f *File) release(e *segmentEntry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e.users--; e.users == 0 && e.gone {
		f.c.segments.put(e.data)
	}
}

// guess is the file's shape as far as it is known: with the segment size that
// Tahoe would choose now.
func (f *File) guess() shape {
	if s, ok := f.known(); ok {
		return s
	}
	s, err := newShape(f.cap.Needed, f.cap.Total, f.size, segmentSizeFor(f.cap.Needed, f.size, uint64(f.c.cfg.SegmentSize)))
	if err != nil {
		// Too many segments for what this node would choose: any size will do, the
		// UEB decides.
		s, _ = newShape(f.cap.Needed, f.cap.Total, min(f.size, 1<<20), uint64(f.cap.Needed)<<16)
	}
	return s
}

func (f *File) known() (shape, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.shape == nil {
		return shape{}, false
	}
	return *f.shape, true
}

// learn takes the UEB, if it is the one that the capability means.
func (f *File) learn(b []byte) (shape, error) {
	if taghash.UEBHash(b) != f.cap.UEBHash {
		return shape{}, fmt.Errorf("%w: UEB", errCorrupt)
	}
	u, err := ParseUEB(b)
	if err != nil {
		return shape{}, err
	}
	s, err := u.shape(f.cap.Needed, f.cap.Total, f.size)
	if err != nil {
		return s, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.shape != nil {
		return *f.shape, nil
	}
	tree, err := hashtree.New(s.segments)
	if err != nil {
		return s, err
	}
	if err := tree.SetRoot(u.CrypttextRoot); err != nil {
		return s, err
	}
	if err := f.roots.SetRoot(u.ShareRoot); err != nil {
		return s, err
	}
	f.trees[crypttextTree] = tree
	f.shape, f.ueb = &s, b
	return s, nil
}

// rooted reports whether the root of a share's block hash tree is known.
func (f *File) rooted(share int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.trees[share] != nil
}

// root proves the root of a share's block hash tree by its share hash chain.
func (f *File) root(share int, chain map[int][32]byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.trees[share] != nil {
		return nil
	}
	if err := f.roots.Set(chain, nil); err != nil {
		return fmt.Errorf("%w: share hash chain: %w", errCorrupt, err)
	}
	root, ok := f.roots.Leaf(share)
	if !ok {
		return fmt.Errorf("%w: share hash chain lacks its own share", errCorrupt)
	}
	tree, err := hashtree.New(f.shape.segments)
	if err != nil {
		return err
	}
	if err := tree.SetRoot(root); err != nil {
		return err
	}
	f.trees[share] = tree
	return nil
}

func (f *File) leaf(tree, segment int) ([32]byte, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.trees[tree].Leaf(segment)
}

func (f *File) hasLeaf(tree, segment int) bool {
	_, ok := f.leaf(tree, segment)
	return ok
}

// prove adds nodes to a tree if they are right.
func (f *File) prove(tree int, nodes, leaves map[int][32]byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.trees[tree].Set(nodes, leaves); err != nil {
		return fmt.Errorf("%w: %w", errCorrupt, err)
	}
	return nil
}
