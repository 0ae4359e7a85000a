package gbs

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// holder takes from a pool and moves so many bytes a second until it is ended or
// stop is closed; then it releases.
func holder(p *pool, amount int64, rate int, stop chan struct{}) (ended *atomic.Bool, err error) {
	ended = &atomic.Bool{}
	end := make(chan struct{})
	t, err := p.acquire(context.Background(), amount, func() { ended.Store(true); close(end) })
	if err != nil {
		return nil, err
	}
	go func() {
		defer t.release()
		for {
			t.await()
			select {
			case <-time.After(time.Second):
				t.advance(rate)
			case <-end:
				return
			case <-stop:
				return
			}
		}
	}()
	return ended, nil
}

// left is what of a pool is free.
func left(p *pool) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.free
}

// TestPool: nobody is ended while there is enough for all; then the slowest, and no
// more than it takes.
func TestPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(3, 100, 10*time.Second)
		stop := make(chan struct{})
		hold := func(amount int64, rate int) *atomic.Bool {
			t.Helper()
			ended, err := holder(p, amount, rate, stop)
			if err != nil {
				t.Fatal(err)
			}
			return ended
		}
		slow, slower, quick := hold(1, 50), hold(1, 2), hold(1, 200)
		time.Sleep(time.Hour)
		if slow.Load() || slower.Load() || quick.Load() {
			t.Error("somebody is ended while nobody waits")
		}
		started := time.Now()
		fourth := hold(1, 3000)
		if took := time.Since(started); took > 11*time.Second || !slower.Load() || slow.Load() || quick.Load() {
			t.Errorf("after %v: ended %v %v %v", took, slow.Load(), slower.Load(), quick.Load())
		}
		hold(1, 3000)
		if !slow.Load() || quick.Load() {
			t.Error("the quick one is ended")
		}
		// All who hold something are quick enough: the next waits for its turn.
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if _, err := p.acquire(ctx, 1, func() { t.Error("somebody who waits is ended") }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a full pool: %v", err)
		}
		if quick.Load() || fourth.Load() {
			t.Error("those who keep moving are ended")
		}
		close(stop)
		synctest.Wait()
		if left(p) != 3 {
			t.Errorf("%d left", left(p))
		}
	})
}

// TestPoolOrder: who wants little goes first, then who came first; one whose server
// is at work is not slow.
func TestPoolOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(10, 100, 10*time.Second)
		busy, err := p.acquire(t.Context(), 10, func() { t.Error("ended while the server is at work") })
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var order []int64 // mu guards it
		for i, amount := range []int64{8, 2, 9, 2, 1} {
			go func() {
				turn, err := p.acquire(t.Context(), amount, func() {})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				order = append(order, amount*10+int64(i))
				mu.Unlock()
				time.Sleep(time.Minute)
				turn.release()
			}()
			synctest.Wait()
		}
		time.Sleep(time.Hour)
		let := func() []int64 {
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(order)
		}
		if order := let(); len(order) != 0 {
			t.Errorf("let in: %v", order)
		}
		busy.release()
		synctest.Wait()
		if order := let(); len(order) != 3 || left(p) != 5 {
			t.Errorf("let in: %v, %d left", order, left(p))
		}
		time.Sleep(time.Hour)
		if order := let(); len(order) != 5 || order[3] != 80 || order[4] != 92 || left(p) != 10 {
			t.Errorf("order: %v, %d left", order, left(p))
		}
	})
}

// stub is a connection that can be closed.
type stub struct {
	net.Conn
	closed bool
}

func (s *stub) Close() error { s.closed = true; return nil }

func TestCrowd(t *testing.T) {
	c := &crowd{most: 3}
	var all []*stub
	come := func() *stub {
		s := &stub{}
		all = append(all, s)
		c.changed(s, http.StateNew)
		return s
	}
	a, b, d := come(), come(), come()
	c.changed(a, http.StateActive)
	c.changed(b, http.StateActive)
	c.changed(b, http.StateIdle) // later than d
	e := come()
	if !d.closed || a.closed || b.closed || e.closed {
		t.Errorf("closed: %v %v %v %v", a.closed, b.closed, d.closed, e.closed)
	}
	c.changed(d, http.StateClosed)
	c.changed(b, http.StateActive)
	c.changed(e, http.StateActive)
	f := come()
	if !f.closed || a.closed || b.closed || e.closed {
		t.Errorf("all are busy: closed %v %v %v %v", a.closed, b.closed, e.closed, f.closed)
	}
	for _, s := range all {
		c.changed(s, http.StateClosed)
	}
	if len(c.busy)+len(c.idle) != 0 {
		t.Errorf("left: %d, %d", len(c.busy), len(c.idle))
	}
}
