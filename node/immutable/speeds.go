package immutable

import (
	"sync"
	"time"
)

// speeds remembers across files how the servers behave, so that a download asks
// quick ones first and notices early that one is slower than usual.
type speeds struct {
	mu sync.Mutex
	by map[string]speed // guarded by mu
}

type speed struct {
	block    time.Duration // smoothed time for one answer; zero: never seen
	demerits int           // failures and delays since the last good answer
}

// maxSpeeds bounds the table: servers come and go over a long life.
const maxSpeeds = 1024

func (s *speeds) get(id string) speed {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.by[id]
}

func (s *speeds) change(id string, f func(*speed)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.by == nil || len(s.by) >= maxSpeeds {
		s.by = map[string]speed{}
	}
	v := s.by[id]
	f(&v)
	s.by[id] = v
}

func (s *speeds) answered(id string, took time.Duration) {
	s.change(id, func(v *speed) {
		if v.block == 0 {
			v.block = took
		}
		v.block += (took - v.block) / 4
		v.demerits = 0
	})
}

func (s *speeds) failed(id string) {
	s.change(id, func(v *speed) { v.demerits = min(v.demerits+1, 100) })
}
