package immutable

import "sync"

// spare keeps buffers that nobody holds any more, for others of about their size. A
// download makes as much garbage as it has bytes, twice; to collect it cost a seventh
// of its time.
type spare struct{ pool sync.Pool }

// get is n bytes of whatever content.
func (s *spare) get(n int) []byte {
	if b, ok := s.pool.Get().(*[]byte); ok && cap(*b) >= n {
		return (*b)[:n]
	}
	return make([]byte, n)
}

// put takes back what nobody uses any more.
func (s *spare) put(b []byte) { s.pool.Put(&b) }

// lent is the buffers that hold one segment's blocks.
type lent struct {
	mu  sync.Mutex
	all [][]byte // guarded by mu
}

// read has do read n bytes, offering it a buffer.
func (l *lent) read(from *spare, n int, do func(offer []byte) ([]byte, error)) ([]byte, error) {
	offer := from.get(n)
	data, err := do(offer)
	if err != nil || len(data) == 0 || &data[0] != &offer[0] {
		from.put(offer) // not taken
		return data, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, offer)
	return data, nil
}

// give returns the buffers in which blocks are. Others may still be on their way to
// somebody, and are left to the collector.
func (l *lent) give(to *spare, blocks map[int][]byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, mine := range l.all {
		for _, b := range blocks {
			if &b[0] == &mine[0] {
				to.put(mine)
			}
		}
	}
}
