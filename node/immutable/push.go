package immutable

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"warren/node/grid"
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

	mu   sync.Mutex
	gone int // guarded by mu: writers that have failed
	seen int // writers whose failure blocks has looked at; the producer's own
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
}

var errIncomplete = errors.New("immutable: the server says that the share is incomplete")

// newPusher starts a writer for every allocated share. The caller sends blocks,
// calls finish, and, whatever happened, wait. Cancelling ctx ends the writers.
func newPusher(ctx context.Context, p *placement, header []byte) *pusher {
	ps := &pusher{p: p}
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
			ps.wg.Go(func() { ps.run(ctx, w, limit) })
		}
	}
	return ps
}

// run writes pieces in order until there are no more. After a failure it only
// takes them, so that the producer is not held up.
func (ps *pusher) run(ctx context.Context, w *shareWriter, limit int) {
	var offset uint64
	failed := false
	next := w.limit
	for piece := range w.pieces {
		if !failed {
			started := time.Now()
			done, err := ps.write(ctx, w, offset, piece)
			offset += uint64(len(piece))
			if err == nil && done != (offset == ps.p.size) {
				err = errIncomplete
			}
			if err != nil {
				failed = true
				w.mu.Lock()
				w.err, w.late = err, ctx.Err() != nil
				w.mu.Unlock()
				ps.mu.Lock()
				ps.gone++
				ps.mu.Unlock()
			}
			next = nextPiece(next, time.Since(started), limit)
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
	w.mu.Unlock()
}

func (ps *pusher) write(ctx context.Context, w *shareWriter, offset uint64, piece []byte) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, ps.p.client.cfg.StallTimeout)
	defer cancel()
	return w.t.Client.WriteImmutable(ctx, ps.p.si, w.share, w.t.upload, offset, piece)
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

// abandonFailed tells servers to drop what they did not take completely, or may
// have allocated when their answer was lost. The file is stored: who does not listen
// is not waited for.
func (ps *pusher) abandonFailed(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(courtesy, ps.p.client.cfg.QueryTimeout))
	defer cancel()
	var wg sync.WaitGroup
	for _, t := range ps.p.targets {
		if t.err != nil && len(t.allocated) > 0 {
			wg.Go(func() { ps.p.drop(ctx, t) })
		}
	}
	for _, w := range ps.writers {
		if w.failure() != nil {
			wg.Go(func() { _ = w.t.Client.AbortImmutable(ctx, ps.p.si, w.share, w.t.upload) })
		}
	}
	wg.Wait()
}
