package gbs

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"
)

// A pool shares out an amount of something (memory, places for streams) among
// requests: those that want little first, else in the order in which they come. As
// long as there is enough for all, each holds what it has for as long as it likes.
// While others wait, it must keep moving: whoever is waited for and moves less than
// rate is ended, the slowest first, and only as many as it takes. So nobody holds
// the server by being slow, and a slow line alone is no fault.
type pool struct {
	rate   float64       // bytes a second
	window time.Duration // that is looked at, at least

	mu sync.Mutex
	// mu guards what follows, and the fields of turns that say so.
	free    int64
	waiting []*turn // by amount
	holders map[*turn]bool
	mark    time.Time // when the present window began, if anybody waits
}

func newPool(amount int64, rate float64, window time.Duration) *pool {
	return &pool{rate: rate, window: window, free: amount, holders: map[*turn]bool{}}
}

// A turn is what one request holds of a pool, or waits for.
type turn struct {
	pool   *pool
	amount int64
	end    func()        // ends the request; called at most once, before release, and does not wait
	ready  chan struct{} // closed when the turn has come

	// The pool's mu guards what follows.
	since  time.Time     // zero unless its client is waited for
	waited time.Duration // in this window, up to since
	moved  int64         // bytes in this window
	ended  bool
}

// acquire waits for its turn. end is called when the request holds others up.
func (p *pool) acquire(ctx context.Context, amount int64, end func()) (*turn, error) {
	t := &turn{pool: p, amount: amount, end: end, ready: make(chan struct{})}
	p.mu.Lock()
	if len(p.waiting) == 0 {
		p.begin()
	}
	i, _ := slices.BinarySearchFunc(p.waiting, amount, func(w *turn, amount int64) int {
		if w.amount <= amount {
			return -1 // it came earlier
		}
		return 1
	})
	p.waiting = slices.Insert(p.waiting, i, t)
	p.grant()
	p.mu.Unlock()
	select {
	case <-t.ready: // the clock is not needed
		return t, nil
	default:
	}
	timer := time.NewTimer(p.window)
	defer timer.Stop()
	for {
		select {
		case <-t.ready:
			return t, nil
		case <-ctx.Done():
			t.release()
			return nil, ctx.Err()
		case <-timer.C:
			p.review()
			timer.Reset(p.window)
		}
	}
}

// release gives back what the turn holds, or leaves the queue.
func (t *turn) release() {
	p := t.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.holders[t] {
		delete(p.holders, t)
		p.free += t.amount
	} else {
		p.waiting = slices.DeleteFunc(p.waiting, func(w *turn) bool { return w == t })
	}
	p.grant()
}

// grant lets those in whose turn it is; mu is held.
func (p *pool) grant() {
	for len(p.waiting) > 0 && p.waiting[0].amount <= p.free {
		t := p.waiting[0]
		p.waiting = p.waiting[1:]
		p.free -= t.amount
		p.holders[t] = true
		close(t.ready)
	}
}

// begin begins a window; mu is held.
func (p *pool) begin() {
	p.mark = time.Now()
	for t := range p.holders {
		t.moved, t.waited = 0, 0
		if !t.since.IsZero() {
			t.since = p.mark
		}
	}
}

// await says that from now on the request's client is waited for.
func (t *turn) await() {
	t.pool.mu.Lock()
	defer t.pool.mu.Unlock()
	t.since = time.Now()
}

// advance says that the client has moved n bytes, and is not waited for any more.
func (t *turn) advance(n int) {
	t.pool.mu.Lock()
	defer t.pool.mu.Unlock()
	t.waited += time.Since(t.since)
	t.since = time.Time{}
	t.moved += int64(n)
}

// review looks at the window that ends now, and ends the slowest until there is
// room for those who wait.
func (p *pool) review() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if len(p.waiting) == 0 || now.Sub(p.mark) < p.window {
		return // another who waits has looked already
	}
	type slow struct {
		*turn
		rate float64
	}
	var all []slow
	room := p.free
	for _, t := range p.waiting {
		room -= t.amount
	}
	for t := range p.holders {
		waited := t.waited
		if !t.since.IsZero() {
			waited += now.Sub(t.since)
		}
		if t.ended {
			room += t.amount // it is on its way out
		} else if rate := float64(t.moved) / max(waited, 1).Seconds(); waited >= p.window/2 && rate < p.rate {
			all = append(all, slow{t, rate})
		}
	}
	slices.SortFunc(all, func(a, b slow) int {
		return cmp.Or(cmp.Compare(a.rate, b.rate), cmp.Compare(b.amount, a.amount))
	})
	for _, s := range all {
		if room >= 0 {
			break
		}
		s.ended = true
		room += s.amount
		s.end()
	}
	p.begin()
}
