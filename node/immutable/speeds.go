package immutable

import (
	"context"
	"errors"
	"sync"
	"time"
)

// speeds remembers across files how the servers behave, so that a download asks
// quick ones first, notices early that one is slower than usual, and asks for no
// more at a time than the line carries.
type speeds struct {
	mu sync.Mutex
	by map[string]speed // guarded by mu
}

// speed is what is known of one server. The zero value is one never seen.
type speed struct {
	latency  time.Duration // smoothed time for a small answer
	perKiB   time.Duration // smoothed time beyond that for each KiB of a large one
	piece    int           // how much to ask for at a time
	demerits int           // failures and delays since the last good share
	silent   time.Time     // when it last let us wait in vain; zero: it has answered since
}

const (
	// forget is after how long a silent server is waited for again if nothing has been
	// heard of it.
	forget = 10 * time.Minute
	// maxSpeeds bounds the table: servers come and go over a long life.
	maxSpeeds = 1024
	// smallRead is the largest answer whose time is latency and nothing else.
	smallRead = 32 << 10
)

// expect is how long an answer of size bytes should take; zero: who knows.
func (v speed) expect(size int) time.Duration {
	if size <= smallRead {
		return v.latency
	}
	if v.perKiB == 0 {
		return 0
	}
	return v.latency + v.perKiB*time.Duration(size>>10)
}

func (s *speeds) get(id string) speed {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.by[id]
	if v.piece == 0 {
		v.piece = firstPiece
	}
	return v
}

func (s *speeds) change(id string, f func(*speed)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.by == nil || len(s.by) >= maxSpeeds {
		s.by = map[string]speed{}
	}
	v := s.by[id]
	if v.piece == 0 {
		v.piece = firstPiece
	}
	f(&v)
	s.by[id] = v
}

// measured notes how long an answer of size bytes took, good or not.
func (s *speeds) measured(id string, size int, took time.Duration) {
	s.change(id, func(v *speed) {
		if size <= smallRead {
			v.latency = smooth(v.latency, took)
		} else {
			v.perKiB = smooth(v.perKiB, max(took-v.latency, 0)/time.Duration(size>>10))
		}
		if size >= v.piece || took > slow {
			v.piece = nextPiece(v.piece, took, maxPiece)
		}
	})
}

func smooth(old, new time.Duration) time.Duration {
	if old == 0 {
		return max(new, 1) // zero means never seen
	}
	return max(old+(new-old)/4, 1)
}

// answered notes that a share was good.
func (s *speeds) answered(id string) {
	s.change(id, func(v *speed) { v.demerits, v.silent = 0, time.Time{} })
}

// heard notes how a server took a question of an upload: ctx is its asker's, beyond
// the time that the server had for it.
func (s *speeds) heard(ctx context.Context, id string, err error) {
	switch {
	case err == nil && !s.get(id).silent.IsZero():
		s.change(id, func(v *speed) { v.silent = time.Time{} })
	case ctx.Err() == nil && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, errLaggard)):
		s.change(id, func(v *speed) { v.silent = time.Now() })
	}
}

// isSilent reports whether the server has let an upload wait in vain lately.
func (s *speeds) isSilent(id string) bool {
	t := s.get(id).silent
	return !t.IsZero() && time.Since(t) < forget
}

func (s *speeds) failed(id string) {
	s.change(id, func(v *speed) { v.demerits = min(v.demerits+1, 100) })
}

// Sizes of one write or read. All who use a slow line at the same time share it:
// the first piece is small, so that ten of them get through before the stall
// timeout at a few KB/s, and each one that was quick makes the next one larger,
// because large ones are cheap.
const (
	firstPiece = 64 << 10
	minPiece   = 16 << 10
	maxPiece   = 1 << 20

	quick = 2 * time.Second
	slow  = 15 * time.Second
)

// nextPiece is how large the piece after one of size bytes should be.
func nextPiece(size int, took time.Duration, limit int) int {
	switch {
	case took < quick:
		return min(2*size, limit)
	case took > slow:
		return max(size/2, min(minPiece, limit))
	}
	return size
}
