package state

import (
	"errors"
	"sync"

	bolt "go.etcd.io/bbolt"
)

// commits lets writers share transactions: while one is on its way to the disk,
// those who come gather, and one of them commits for all. (bbolt's own Batch waits
// for a fixed time instead: too long for one writer, too short for many.)
type commits struct {
	bolt *bolt.DB

	mu      sync.Mutex // guards what follows
	running bool
	next    *commit
}

// commit is one transaction for several writers. One of them leads it.
type commit struct {
	calls []*writeCall
	lead  chan struct{} // capacity 1: the one who receives leads
	done  chan struct{}
}

type writeCall struct {
	fn  func(*bolt.Tx) error
	err error
}

// update runs fn in a transaction, maybe more than once.
func (c *commits) update(fn func(*bolt.Tx) error) error {
	call := &writeCall{fn: fn, err: errors.New("the commit that this was part of broke off")}
	c.mu.Lock()
	if c.next == nil {
		c.next = &commit{lead: make(chan struct{}, 1), done: make(chan struct{})}
	}
	mine := c.next
	mine.calls = append(mine.calls, call)
	if !c.running {
		c.running = true
		mine.lead <- struct{}{}
	}
	c.mu.Unlock()
	select {
	case <-mine.done:
		return call.err
	case <-mine.lead:
	}
	c.mu.Lock()
	c.next = nil // whoever comes from here on waits for the next one
	c.mu.Unlock()
	defer func() { // also when fn panics: others must not wait for ever
		c.mu.Lock()
		if c.next == nil {
			c.running = false
		} else {
			c.next.lead <- struct{}{}
		}
		c.mu.Unlock()
		close(mine.done)
	}()
	c.run(mine.calls)
	return call.err
}

// run commits the calls together. One that fails is left out, and the others run
// again without it.
func (c *commits) run(calls []*writeCall) {
	for len(calls) > 0 {
		failed := -1
		err := c.bolt.Update(func(tx *bolt.Tx) error {
			for i, call := range calls {
				if err := call.fn(tx); err != nil {
					failed = i
					return err
				}
			}
			return nil
		})
		if failed < 0 {
			for _, call := range calls {
				call.err = err
			}
			return
		}
		calls[failed].err = err
		calls = append(calls[:failed:failed], calls[failed+1:]...)
	}
}
