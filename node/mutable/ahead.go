package mutable

import (
	"context"
	"io"
	"sync"
	"time"
)

// keysAhead is how many keys wait, and aheadDelay how long after a Store's start the
// first is made, unless a file is made before that: a process that ends soon makes none.
const (
	keysAhead  = 2
	aheadDelay = 2 * time.Second
)

// ahead makes keys before files need them, one at a time. They are in memory only,
// and gone with it.
type ahead struct {
	rand io.Reader
	keys chan *Key     // those that wait
	wake chan struct{} // a file was made
	done chan struct{} // run has returned

	mu      sync.Mutex // guards what follows
	making  bool       // a key is on its way
	awaited bool       // somebody waits for it
}

func newAhead(rand io.Reader) *ahead {
	return &ahead{rand: rand, keys: make(chan *Key, keysAhead), wake: make(chan struct{}, 1), done: make(chan struct{})}
}

// run makes keys until ctx ends.
func (a *ahead) run(ctx context.Context, delay time.Duration) {
	defer close(a.done)
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-a.wake:
	case <-ctx.Done():
		return
	}
	for {
		for len(a.keys) < cap(a.keys) {
			a.set(true)
			key, err := GenerateKey(a.rand)
			if err != nil {
				return // take tries for itself and reports it
			}
			a.keys <- key
			a.set(false)
			if ctx.Err() != nil {
				return
			}
		}
		select {
		case <-a.wake:
		case <-ctx.Done():
			return
		}
	}
}

func (a *ahead) set(making bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.making, a.awaited = making, false
}

// await says that a key is on its way and nobody else waits for it.
func (a *ahead) await() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.making || a.awaited {
		return false
	}
	a.awaited = true
	return true
}

// take returns a key that waits; else the one on its way, to the first who asks; else
// one that it makes.
func (a *ahead) take(ctx context.Context) (*Key, error) {
	defer func() {
		select {
		case a.wake <- struct{}{}:
		default:
		}
	}()
	select {
	case key := <-a.keys:
		return key, nil
	default:
	}
	if a.await() {
		select {
		case key := <-a.keys:
			return key, nil
		case <-a.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return GenerateKey(a.rand)
}
