package immutable

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"warren/node/grid"
)

const (
	// uploadMemory is what the buffers of all uploads together take, but that each has
	// leastMemory of its own.
	uploadMemory = 14 << 20
	leastMemory  = 7 << 20
	// stripes is for how many stripes an upload has buffers.
	stripes = 2
)

// smallTail is the longest tail of a share that is sent with the last blocks.
const smallTail = 4096

// courtesy bounds messages that help a server and that nothing of ours hangs on.
const courtesy = 5 * time.Second

// laggardTick is how often those who wait look for laggards.
const laggardTick = time.Second

// pusher writes the shares of one placement, each from goroutines of its own. It is
// the sink of one encoding: the encoder fills buffers of the pusher, one for each
// share and stripe, from which they are sent. There are buffers for two stripes, and
// they are freed one by one: a server may be as many stripes behind the others as
// there are shares before it holds them up.
type pusher struct {
	p       *placement
	header  []byte
	last    int // the stripe after which nothing but the tail comes
	tail    int // bytes behind the blocks of a share
	slack   int // room behind the last stripe for a tail that is small
	writers []*shareWriter
	wg      sync.WaitGroup
	free    chan *buffer // all that are in nobody's hands; nil: not made yet
	news    chan struct{}
	piece   int       // the length of a full buffer
	stripe  int       // the next that room gives; its caller's own
	given   int       // how many put has got back; its caller's own
	ends    []*buffer // the last stripe, if it waits for its tail

	report func(Progress) // or nil

	mu sync.Mutex
	// mu guards what follows.
	far     Progress
	filling [][]*buffer // what room gave and put has not got back yet
	gone    int         // writers that have failed
	seen    int         // writers whose failure check has looked at
}

// buffer holds a part of one share.
type buffer struct {
	room []byte
	data []byte // what is to be written, in room

	mu   sync.Mutex
	uses int // guarded by mu: writers that need it
}

// memory is the part of Client's memory that one upload has: it codes per segments
// at a time, and returns it when it is done.
func (c *Client) memory(s shape) (per int, done func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	stripe := s.n * s.blockLen(0)
	mine := max(uploadMemory-c.memoryUsed, leastMemory)
	per = min(mine/(stripes*stripe), max(maxPiece/s.blockLen(0), 1), s.segments)
	per = max(per, 1)
	used := min(stripes, (s.segments+per-1)/per) * per * stripe
	c.memoryUsed += used
	return per, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.memoryUsed -= used
	}
}

// newPusher starts writers for every allocated share, for per segments at a time. The
// caller encodes into it, calls finish, and, whatever happened, wait. Cancelling ctx
// ends the writers.
func newPusher(ctx context.Context, p *placement, s shape, l layout, per int) *pusher {
	all := (s.segments + per - 1) / per
	ps := &pusher{p: p, header: l.header(s), last: all - 1, report: reporter(ctx), news: make(chan struct{}, 1)}
	ps.free = make(chan *buffer, min(stripes, all)*s.n)
	ps.piece = per * s.blockLen(0)
	ps.tail = int(p.size - l.blocks - (s.size+uint64(s.k)-1)/uint64(s.k))
	if ps.tail <= smallTail {
		ps.slack = ps.tail
	}
	for range cap(ps.free) {
		ps.free <- nil
	}
	for _, t := range p.targets {
		if t.err != nil {
			continue
		}
		for share := range t.allocated {
			ps.writers = append(ps.writers, newShareWriter(ctx, ps, t, share))
		}
	}
	ps.far.Total = uint64(len(ps.writers)) * p.size
	for _, w := range ps.writers {
		for range window {
			ps.wg.Go(func() { w.run(ctx) })
		}
	}
	return ps
}

// room implements sink. It waits until buffers are free, but not for servers that
// the upload can do without.
func (ps *pusher) room(ctx context.Context, size int) ([][]byte, error) {
	head, slack := 0, 0
	if ps.stripe == 0 {
		head = len(ps.header)
	}
	if ps.stripe == ps.last {
		slack = ps.slack
	}
	ps.stripe++
	taken := make([]*buffer, ps.p.total)
	out := make([][]byte, len(taken))
	for i := range taken {
		b, err := ps.take(ctx)
		if err != nil {
			return nil, err
		}
		if cap(b.room) < head+size+slack {
			b.room = make([]byte, head+size+slack)
		}
		b.data = b.room[:head+size]
		copy(b.data[:head], ps.header)
		taken[i], out[i] = b, b.data[head:]
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.filling = append(ps.filling, taken)
	return out, nil
}

// take waits for a free buffer.
func (ps *pusher) take(ctx context.Context) (b *buffer, err error) {
	defer func() {
		if b == nil && err == nil {
			b = &buffer{}
		}
	}()
	select {
	case b := <-ps.free:
		return b, nil
	default:
	}
	tick := time.NewTicker(laggardTick)
	defer tick.Stop()
	for {
		select {
		case b := <-ps.free:
			return b, nil
		case <-ps.news:
			if err := ps.check(); err != nil {
				return nil, err
			}
		case <-tick.C:
			ps.dropLaggards()
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// put implements sink: what room gave first is filled.
func (ps *pusher) put([][]byte) error {
	ps.mu.Lock()
	taken := ps.filling[0]
	ps.filling = ps.filling[1:]
	ps.mu.Unlock()
	if ps.given++; ps.given > ps.last && ps.slack > 0 {
		ps.ends = taken
	} else {
		ps.distribute(taken)
	}
	return ps.check()
}

// distribute queues a buffer for each share.
func (ps *pusher) distribute(taken []*buffer) {
	for _, b := range taken {
		b.uses = 1 // ours, until all who need it are known
	}
	for _, w := range ps.writers {
		taken[w.share].use()
		w.add(taken[w.share])
	}
	for _, b := range taken {
		ps.release(b)
	}
}

func (b *buffer) use() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.uses++
}

func (ps *pusher) release(b *buffer) {
	b.mu.Lock()
	b.uses--
	unused := b.uses == 0
	b.mu.Unlock()
	if unused {
		ps.free <- b // never blocks: as much room as buffers
	}
}

// finish adds what follows the blocks: tail fills dst with what a share has from at
// bytes behind them on.
func (ps *pusher) finish(ctx context.Context, tail func(share, at int, dst []byte)) error {
	if ps.slack > 0 {
		for share, b := range ps.ends {
			end := len(b.data)
			b.data = b.data[:end+ps.tail]
			tail(share, 0, b.data[end:])
		}
		ps.distribute(ps.ends)
		return ps.check()
	}
	for at := 0; at < ps.tail; {
		n := min(ps.tail-at, ps.piece)
		room, err := ps.room(ctx, n)
		if err != nil {
			return err
		}
		for share, dst := range room {
			tail(share, at, dst)
		}
		if err := ps.put(room); err != nil {
			return err
		}
		at += n
	}
	return ps.check()
}

// check ends the upload as soon as too many servers have failed for it to succeed.
func (ps *pusher) check() error {
	ps.mu.Lock()
	gone := ps.gone
	same := gone == ps.seen
	ps.seen = gone
	ps.mu.Unlock()
	if same {
		return nil
	}
	return ps.unhappy()
}

// halt has the writers end after what is under way.
func (ps *pusher) halt() {
	for _, w := range ps.writers {
		w.halt()
	}
}

// wait ends the writers and returns when they have; laggards are not waited for
// when the upload can do without them. Call it once, after the last use of room, put
// and finish.
func (ps *pusher) wait() {
	for _, w := range ps.writers {
		w.close()
	}
	ended := make(chan struct{})
	go func() { // ends with the writers
		ps.wg.Wait()
		close(ended)
	}()
	tick := time.NewTicker(laggardTick)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			for _, w := range ps.writers {
				w.giveUp(nil)
			}
			return
		case <-tick.C:
			ps.dropLaggards()
		}
	}
}

// dropLaggards gives up the servers that have had a piece in hand for long while all
// others were quick, if the upload is happy without them. Whoever waits for buffers,
// or for the end, calls it.
func (ps *pusher) dropLaggards() {
	type part struct {
		w    *shareWriter
		took time.Duration
	}
	var late []part
	var usual time.Duration
	h := ps.standing()
	for _, w := range ps.writers {
		took, flying, failed := w.pace()
		if !failed && flying >= slow {
			late = append(late, part{w, flying})
		} else {
			usual = max(usual, took, flying)
		}
	}
	for _, l := range late {
		if l.took < tardy*usual {
			return // the line is slow, and not this server
		}
		h.Remove(l.w.t.ID, l.w.share)
	}
	if len(late) == 0 || ps.p.unhappy(h) != nil {
		return
	}
	for _, l := range late {
		l.w.giveUp(errLaggard)
	}
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
		select {
		case ps.news <- struct{}{}:
		default:
		}
	} else {
		ps.far.Written += n
	}
	if ps.report != nil {
		ps.report(ps.far)
	}
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

// resumed is the number of bytes that were not sent, because servers had them from
// a try that broke off.
func (ps *pusher) resumed() (n uint64) {
	for _, w := range ps.writers {
		n += w.resumed()
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
