package mutable

import (
	"context"
	"maps"
	"sync"
	"time"

	"warren/node/caps"
	"warren/node/storage"
)

const (
	// linePause is how long a server that failed to be watched is left alone.
	linePause = 30 * time.Second
	// lineBurst is how many changes a server may tell of at once, and linePace how often
	// beyond that: one that cries wolf costs no more than polling it would.
	lineBurst = 10
	linePace  = 500 * time.Millisecond
)

// lines are the requests that wait at servers for changes, one a server.
type lines struct {
	mu sync.Mutex
	// mu guards what follows and all of line and waiter.
	open   map[string]*line     // by the server's id; they stay when nobody waits
	failed map[string]time.Time // when watching it did
}

// A waiter is one Watch.
type waiter struct {
	changed chan struct{}                                // closed when it is over
	wants   map[string]map[caps.StorageIndex]storage.Tag // by server
	cover   map[caps.StorageIndex]int                    // servers with a share that watch it
	over    bool
}

// A line is the request to one server, on behalf of all who wait.
type line struct {
	running bool
	// tokens are how many changes it may tell of now, and last when that was counted.
	tokens  int
	last    time.Time
	client  storage.Client
	waiters map[*waiter]bool
	asked   map[caps.StorageIndex]storage.Tag // what the server was asked about; nil: it is not being asked
	cancel  context.CancelFunc                // of that request
	// theirs is the tag that the server gave for a slot when it was asked about have. A
	// survey may find no change all the same: from then on its own tag is what it is asked about.
	theirs map[caps.StorageIndex]theirs
}

type theirs struct{ have, tag storage.Tag }

func newLines() *lines {
	return &lines{open: map[string]*line{}, failed: map[string]time.Time{}}
}

// usable says that a server may be watched.
func (l *lines) usable(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	at, ok := l.failed[id]
	return !ok || time.Since(at) > linePause
}

// end is called with l.mu held.
func (l *lines) end(w *waiter) {
	if w.over {
		return
	}
	w.over = true
	close(w.changed)
	for id := range w.wants {
		if ln := l.open[id]; ln != nil {
			delete(ln.waiters, w)
		}
	}
}

// remove takes out one who waits no more. What its servers were asked stays asked: as a
// rule it comes again at once.
func (l *lines) remove(w *waiter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end(w)
}

// watch puts a waiter on the lines of its servers.
func (s *Store) watch(w *waiter, clients map[string]storage.Client) {
	l := s.lines
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.ctx.Err() != nil {
		l.end(w)
		return
	}
	for id, want := range w.wants {
		ln := l.open[id]
		if ln == nil {
			ln = &line{tokens: lineBurst, last: time.Now(), waiters: map[*waiter]bool{}, theirs: map[caps.StorageIndex]theirs{}}
			l.open[id] = ln
		}
		if !ln.running {
			ln.running = true
			s.wg.Go(func() { s.hold(id, ln) })
		}
		ln.client = clients[id]
		ln.waiters[w] = true
		for index := range want {
			// Where the tag alone is another the server is about to say so.
			if _, ok := ln.asked[index]; !ok && ln.asked != nil {
				ln.cancel()
				break
			}
		}
	}
}

// wanted is what the line's server is to be asked about; l.mu is held.
func (ln *line) wanted(id string) map[caps.StorageIndex]storage.Tag {
	all := map[caps.StorageIndex]storage.Tag{}
	for w := range ln.waiters {
		for index, tag := range w.wants[id] {
			if len(all) == storage.MaxWatched {
				return all
			}
			if t, ok := ln.theirs[index]; ok && t.have == tag {
				tag = t.tag
			}
			all[index] = tag
		}
	}
	return all
}

// hold asks a server again and again, as long as anybody waits.
func (s *Store) hold(id string, ln *line) {
	l := s.lines
	for {
		l.mu.Lock()
		ln.asked = ln.wanted(id)
		if len(ln.asked) == 0 {
			ln.running, ln.asked = false, nil
			l.mu.Unlock()
			return
		}
		ctx, cancel := context.WithCancel(s.ctx)
		ln.cancel = cancel
		asked, client := ln.asked, ln.client
		l.mu.Unlock()

		changed, err := storage.Watch(ctx, client, asked, storage.MaxWait)
		again := ctx.Err() != nil && s.ctx.Err() == nil // somebody else came
		cancel()
		for index, tag := range changed {
			s.tell(index, id, tag)
		}
		l.mu.Lock()
		ln.asked = nil
		if err != nil && !again {
			l.failed[id] = time.Now()
			l.lose(id, ln)
			ln.running = false
			l.mu.Unlock()
			return
		}
		delete(l.failed, id)
		for w := range maps.Clone(ln.waiters) {
			for index, tag := range changed {
				have, ok := w.wants[id][index]
				if !ok {
					continue
				}
				if have == tag { // what it was asked about was something else
					delete(ln.theirs, index)
					continue
				}
				ln.theirs[index] = theirs{have, tag}
				l.end(w)
			}
		}
		if len(ln.theirs) > 2*storage.MaxWatched {
			clear(ln.theirs)
		}
		wait := len(changed) > 0 && ln.spend()
		l.mu.Unlock()
		if wait {
			timer := time.NewTimer(linePace)
			select {
			case <-timer.C:
			case <-s.ctx.Done():
				timer.Stop()
			}
		}
	}
}

// spend counts a change that was told of, and says whether to wait before the next;
// l.mu is held.
func (ln *line) spend() bool {
	earned := time.Since(ln.last) / linePace
	ln.tokens, ln.last = min(ln.tokens+int(earned), lineBurst), ln.last.Add(earned*linePace)
	ln.tokens = max(ln.tokens-1, 0)
	return ln.tokens == 0
}

// lose takes a server away from those who wait for it, and ends those who would not
// hear of a change of some file any more; l.mu is held.
func (l *lines) lose(id string, ln *line) {
	for w := range maps.Clone(ln.waiters) {
		for index := range w.wants[id] {
			if w.cover[index]--; w.cover[index] <= 0 {
				l.end(w)
			}
		}
		delete(ln.waiters, w)
		delete(w.wants, id)
	}
}
