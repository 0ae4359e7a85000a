package immutable

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"warren/node/grid"
	"warren/node/storage"
)

// pushMemory bounds the buffers of one upload. Every share has three of the current
// size (filling, waiting, being sent); many shares get smaller ones.
const (
	pushMemory = 32 << 20
	buffers    = 3
)

// courtesy bounds messages that help a server and that nothing of ours hangs on.
const courtesy = 5 * time.Second

// pusher writes the shares of one placement, each from its own goroutine.
type pusher struct {
	p       *placement
	writers []*shareWriter
	wg      sync.WaitGroup

	report func(Progress) // or nil

	mu   sync.Mutex
	gone int      // guarded by mu: writers that have failed
	far  Progress // guarded by mu
	seen int      // writers whose failure blocks has looked at; the producer's own
}

// shareWriter collects one share and writes it in large pieces. Its buffer
// belongs to the producer; its goroutine owns what comes through batches.
type shareWriter struct {
	t      *target
	share  int
	limit  int
	buf    []byte
	spare  chan []byte
	pieces chan []byte
	size   chan int // the newest advice on how large pieces should be

	mu   sync.Mutex // guards what follows
	err  error
	late bool // err came after the upload was given up: not the server's fault
	done bool
	// found is how many bytes of the share were not sent, because the server has them
	// from a try that broke off.
	found uint64
}

var errIncomplete = errors.New("immutable: the server says that the share is incomplete")

// newPusher starts a writer for every allocated share. The caller sends blocks,
// calls finish, and, whatever happened, wait. Cancelling ctx ends the writers.
func newPusher(ctx context.Context, p *placement, header []byte) *pusher {
	ps := &pusher{p: p, report: reporter(ctx)}
	limit := min(pushMemory/(buffers*p.client.cfg.Total), maxPiece)
	for _, t := range p.targets {
		if t.err != nil {
			continue
		}
		for share := range t.allocated {
			w := &shareWriter{t: t, share: share, limit: min(limit, firstPiece),
				spare: make(chan []byte, 1), pieces: make(chan []byte, 1), size: make(chan int, 1)}
			w.buf = append(make([]byte, 0, min(uint64(w.limit), p.size)), header...)
			ps.writers = append(ps.writers, w)
		}
	}
	ps.far.Total = uint64(len(ps.writers)) * p.size
	for _, w := range ps.writers {
		ps.wg.Go(func() { ps.run(ctx, w, limit) })
	}
	return ps
}

// run writes pieces in order until there are no more, but not those that the server
// turns out to have. After a failure it only takes them, so that the producer is
// not held up.
func (ps *pusher) run(ctx context.Context, w *shareWriter, limit int) {
	var offset, found uint64
	missing := []storage.Range{{Begin: 0, End: ps.p.size}}
	failed := false
	next := w.limit
	for piece := range w.pieces {
		if !failed {
			started := time.Now()
			end := offset + uint64(len(piece))
			var err error
			if overlap(missing, offset, end) {
				missing, err = ps.write(ctx, w, offset, piece)
				next = nextPiece(next, time.Since(started), limit)
			} else {
				found += uint64(len(piece))
			}
			if err == nil && (len(missing) == 0) != (end == ps.p.size) {
				err = errIncomplete
			}
			if err != nil {
				failed = true
				w.mu.Lock()
				w.err, w.late = err, ctx.Err() != nil
				w.mu.Unlock()
				ps.advance(offset, true)
			} else {
				ps.advance(uint64(len(piece)), false)
			}
			offset = end
			select {
			case <-w.size:
			default:
			}
			w.size <- next
		}
		select {
		case w.spare <- piece[:0]:
		default:
		}
	}
	w.mu.Lock()
	w.done = !failed && offset == ps.p.size
	w.found = found
	w.mu.Unlock()
}

// overlap reports whether something in [begin, end) is missing.
func overlap(missing []storage.Range, begin, end uint64) bool {
	return slices.ContainsFunc(missing, func(m storage.Range) bool { return m.Begin < end && begin < m.End })
}

func (ps *pusher) write(ctx context.Context, w *shareWriter, offset uint64, piece []byte) (missing []storage.Range, err error) {
	ctx, cancel := context.WithTimeout(ctx, ps.p.client.cfg.StallTimeout)
	defer cancel()
	return storage.Write(ctx, w.t.Client, ps.p.si, w.share, w.t.upload, offset, piece)
}

// advance counts n more bytes of one share, or, when it has failed, takes the share
// and the n bytes that there were of it out of the count.
func (ps *pusher) advance(n uint64, failed bool) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if failed {
		ps.gone++
		ps.far.Written -= n
		ps.far.Total -= ps.p.size
	} else {
		ps.far.Written += n
	}
	if ps.report != nil {
		ps.report(ps.far)
	}
}

// add appends data to the share; the producer may reuse data afterwards.
func (w *shareWriter) add(data []byte) {
	for len(data) > 0 {
		n := min(w.limit-len(w.buf), len(data))
		w.buf = append(w.buf, data[:n]...)
		data = data[n:]
		if len(w.buf) == w.limit {
			w.flush()
		}
	}
}

func (w *shareWriter) flush() {
	if len(w.buf) == 0 {
		return
	}
	w.pieces <- w.buf
	select {
	case n := <-w.size:
		w.limit = n
	default:
	}
	w.buf = nil
	select {
	case w.buf = <-w.spare:
	default:
	}
	if cap(w.buf) < w.limit {
		w.buf = make([]byte, 0, w.limit)
	}
}

// blocks adds one segment's block to every share that is written.
func (ps *pusher) blocks(blocks [][]byte) error {
	for _, w := range ps.writers {
		w.add(blocks[w.share])
	}
	return ps.check()
}

// finish adds what follows the blocks and ends the shares.
func (ps *pusher) finish(tail func(share int) []byte) error {
	for _, w := range ps.writers {
		w.add(tail(w.share))
		w.flush()
	}
	return ps.check()
}

// check ends the upload as soon as too many servers have failed for it to
// succeed.
func (ps *pusher) check() error {
	ps.mu.Lock()
	gone := ps.gone
	ps.mu.Unlock()
	if gone == ps.seen {
		return nil
	}
	ps.seen = gone
	return ps.unhappy()
}

// wait ends the writers and returns when they have. Call it once, after the last
// use of blocks and finish.
func (ps *pusher) wait() {
	for _, w := range ps.writers {
		close(w.pieces)
	}
	ps.wg.Wait()
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

// standing is what is there and what has not failed yet.
func (ps *pusher) standing() grid.Holdings {
	h := ps.p.holdings()
	for _, w := range ps.writers {
		if w.failure() != nil {
			h.Remove(w.t.ID, w.share)
		}
	}
	return h
}

func (ps *pusher) unhappy() error {
	err := ps.p.unhappy(ps.standing())
	var e *UnhappyError
	if errors.As(err, &e) {
		for _, w := range ps.writers {
			if f, itself := w.blame(); itself {
				e.Last = fmt.Errorf("share %d: %w", w.share, f)
			}
		}
	}
	return err
}

// failed is, by server, what went wrong while writing to it.
func (ps *pusher) failed() map[string]error {
	out := map[string]error{}
	for _, w := range ps.writers {
		if err, itself := w.blame(); itself {
			out[w.t.ID] = err
		}
	}
	return out
}

// pushed is the number of shares that were written to their end.
func (ps *pusher) pushed() int {
	n := 0
	for _, w := range ps.writers {
		if w.finished() {
			n++
		}
	}
	return n
}

// finished reports whether the share was written to its end.
func (w *shareWriter) finished() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.done
}

// resumed is the number of bytes that were not sent, because servers had them from
// a try that broke off.
func (ps *pusher) resumed() (n uint64) {
	for _, w := range ps.writers {
		w.mu.Lock()
		if w.done {
			n += w.found
		}
		w.mu.Unlock()
	}
	return n
}

// settle notes what has become complete: it is held now, and nothing is left to write.
func (ps *pusher) settle() {
	for _, w := range ps.writers {
		if w.finished() {
			delete(w.t.allocated, w.share)
			w.t.held[w.share] = true
		}
	}
}

// abandonFailed tells servers to drop what they did not take completely, or may
// have allocated when their answer was lost. The file is stored: who does not listen
// is not waited for.
func (ps *pusher) abandonFailed(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(courtesy, ps.p.client.cfg.QueryTimeout))
	defer cancel()
	var wg sync.WaitGroup
	for _, t := range ps.p.targets {
		if t.err != nil && len(t.allocated) > 0 {
			wg.Go(func() { ps.p.drop(ctx, t, t.allocated) })
		}
	}
	for _, w := range ps.writers {
		if w.failure() != nil {
			wg.Go(func() { _ = w.t.Client.AbortImmutable(ctx, ps.p.si, w.share, w.t.upload) })
		}
	}
	wg.Wait()
}
