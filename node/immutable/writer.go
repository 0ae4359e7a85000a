package immutable

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"warren/node/storage"
)

// window is how many writes to one share are under way at once when they are quick:
// the server has one in hand while the next is on its way.
const window = 2

var (
	errIncomplete = errors.New("immutable: the server says that the share is incomplete")
	errLaggard    = errors.New("immutable: the server did not take its share while the others waited for it")
)

// shareWriter writes one share to one server.
type shareWriter struct {
	ps     *pusher
	t      *target
	share  int
	ctx    context.Context // ends when the server is given up
	giveUp context.CancelCauseFunc

	mu sync.Mutex
	// mu guards what follows.
	changed sync.Cond // on mu: something of it has
	queue   []*queued
	closed  bool          // nothing more comes
	halted  bool          // nothing more is sent
	offset  uint64        // of what comes next
	limit   int           // the newest advice on how large pieces should be
	flights []*flight     // pieces under way
	took    time.Duration // what the last piece needed
	known   bool          // the server has said what has not arrived:
	missing []storage.Range
	found   uint64 // bytes that were there, from a try that broke off
	counted uint64 // bytes that are there
	done    bool   // the server has said that all is there
	err     error
	late    bool // err came after the upload was given up: not the server's fault
}

// queued is a part of a share that waits in a buffer.
type queued struct {
	b       *buffer
	rest    []byte // not yet sent
	flights int    // pieces of it under way
}

// flight is a piece of a share under way.
type flight struct {
	q       *queued
	piece   []byte
	offset  uint64
	started time.Time
}

func newShareWriter(ctx context.Context, ps *pusher, t *target, share int) *shareWriter {
	w := &shareWriter{ps: ps, t: t, share: share, limit: firstPiece}
	w.changed.L = &w.mu
	w.ctx, w.giveUp = context.WithCancelCause(ctx)
	return w
}

// add queues what a buffer holds; the writer releases the buffer.
func (w *shareWriter) add(b *buffer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		w.ps.release(b)
		return
	}
	w.queue = append(w.queue, &queued{b: b, rest: b.data})
	w.changed.Broadcast()
}

// close says that nothing more is added.
func (w *shareWriter) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	w.changed.Broadcast()
}

// halt has the writer end after what is under way.
func (w *shareWriter) halt() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.halted = true
	w.changed.Broadcast()
}

// run writes pieces until there are no more. The window's goroutines do it side by
// side.
func (w *shareWriter) run(ctx context.Context) {
	for f := w.next(); f != nil; f = w.next() {
		missing, err := w.write(f)
		w.landed(f, missing, err, ctx.Err() != nil)
	}
}

// next waits for the next piece that may be sent; nil: there will be none.
func (w *shareWriter) next() *flight {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		w.skip()
		// The second one only while the server is quick.
		free := len(w.flights) == 0 || len(w.flights) < window && w.took > 0 && w.took < quick
		switch {
		case w.err != nil || w.halted:
			return nil
		case len(w.queue) == 0 && w.closed:
			if len(w.flights) == 0 && !w.done {
				w.err, w.late = errIncomplete, w.ctx.Err() != nil
				w.ps.advance(w.counted, true)
			}
			return nil
		case len(w.queue) > 0 && free:
			q := w.queue[0]
			n := len(q.rest)
			if n > w.limit+w.limit/2 { // else no small rest
				n = w.limit
			}
			f := &flight{q: q, piece: q.rest[:n], offset: w.offset, started: time.Now()}
			w.pass(n)
			q.flights++
			w.flights = append(w.flights, f)
			return f
		}
		w.changed.Wait()
	}
}

// pass leaves n bytes of the queue's first part behind; w.mu is held.
func (w *shareWriter) pass(n int) {
	q := w.queue[0]
	q.rest = q.rest[n:]
	w.offset += uint64(n)
	if len(q.rest) == 0 {
		w.queue = w.queue[1:]
	}
}

// skip passes what the server has already; w.mu is held.
func (w *shareWriter) skip() {
	for w.known && len(w.queue) > 0 {
		from := w.ps.p.size
		for _, r := range w.missing {
			if r.End > w.offset {
				from = min(from, max(r.Begin, w.offset))
			}
		}
		n := min(from-w.offset, uint64(len(w.queue[0].rest)))
		if n == 0 {
			return
		}
		w.found += n
		w.counted += n
		w.ps.advance(n, false)
		q := w.queue[0]
		w.pass(int(n))
		if q.flights == 0 && len(q.rest) == 0 {
			w.ps.release(q.b)
		}
	}
}

// write sends a piece.
func (w *shareWriter) write(f *flight) (missing []storage.Range, err error) {
	ctx, cancel := context.WithTimeout(w.ctx, w.ps.p.client.cfg.StallTimeout)
	defer cancel()
	return storage.Write(ctx, w.t.Client, w.ps.p.si, w.share, w.t.upload, f.offset, f.piece)
}

// landed notes the outcome of a piece. Over says that the upload has been given up.
func (w *shareWriter) landed(f *flight, missing []storage.Range, err error, over bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer w.changed.Broadcast()
	w.took = time.Since(f.started)
	w.limit = nextPiece(w.limit, w.took, maxPiece)
	w.flights = slices.DeleteFunc(w.flights, func(g *flight) bool { return g == f })
	if err == nil {
		w.known, w.missing = true, missing
		w.counted += uint64(len(f.piece))
		w.ps.advance(uint64(len(f.piece)), false)
	}
	w.done = w.done || err == nil && len(missing) == 0
	if err == nil && len(missing) == 0 && w.offset != w.ps.p.size && w.found == 0 {
		err = errIncomplete
	}
	f.q.flights--
	if err != nil && w.err == nil {
		if cause := context.Cause(w.ctx); cause == errLaggard {
			err = cause
		}
		w.err, w.late = err, over
		w.ps.advance(w.counted, true)
		if f.q.flights == 0 && len(f.q.rest) > 0 { // it is the queue's first, too
			f.q.rest = nil
			w.queue = w.queue[1:]
		}
		for _, q := range w.queue {
			if q.rest = nil; q.flights == 0 {
				w.ps.release(q.b)
			}
		}
		w.queue = nil
	}
	if f.q.flights == 0 && len(f.q.rest) == 0 {
		w.ps.release(f.q.b)
	}
}

// pace is how long the last piece took, and how long the one has been under way that
// left first.
func (w *shareWriter) pace() (took, flying time.Duration, failed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range w.flights {
		flying = max(flying, time.Since(f.started))
	}
	return w.took, flying, w.err != nil
}

func (w *shareWriter) failure() error {
	err, _ := w.blame()
	return err
}

// blame is what failed, and whether the server is to blame.
func (w *shareWriter) blame() (error, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err, w.err != nil && !w.late
}

// finished reports whether the share was written to its end.
func (w *shareWriter) finished() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.done && w.err == nil
}

// resumed is how many bytes of a share that is complete were there already.
func (w *shareWriter) resumed() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.done {
		return 0
	}
	return w.found
}
