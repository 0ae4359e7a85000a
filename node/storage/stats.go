package storage

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// operation names what is counted and timed, as Tahoe's statistics do.
type operation int

const (
	opAllocate operation = iota
	opWrite              // part of an immutable share
	opClose              // the last part
	opAbort              // counted, not timed, as in Tahoe
	opGet                // which immutable shares there are
	opRead               // part of an immutable share
	opWritev             // a slot's test-and-set
	opReadv              // part of a slot
	opAddLease
	operations
)

var operationNames = [operations]string{"allocate", "write", "close", "abort", "get", "read", "writev", "readv", "add-lease"}

// samples is how many of the latest durations of an operation are kept, Tahoe's number.
const samples = 1000

// tallies are what a server has done since it began.
type tallies struct {
	mu sync.Mutex
	// mu guards what follows.
	counts [operations]uint64
	recent [operations][]time.Duration // a ring: the next goes to counts%samples
	added  uint64                      // bytes of complete immutable shares
}

// timed counts an operation that begins now; the result is called at its end.
func (s *Server) timed(op operation) (end func()) {
	start := s.opt.Now()
	return func() { s.tallies.add(op, s.opt.Now().Sub(start)) }
}

func (t *tallies) add(op operation, took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := t.counts[op] % samples
	t.counts[op]++
	if op == opAbort {
		return
	}
	if uint64(len(t.recent[op])) <= i {
		t.recent[op] = append(t.recent[op], took)
		return
	}
	t.recent[op][i] = took
}

func (t *tallies) grown(bytes uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.added += bytes
}

// Statistics are a server's figures under the names that Tahoe's have, all of them
// with the prefix "storage_server.". A nil stat is one that there are too few
// samples for.
type Statistics struct {
	Counters map[string]uint64   `json:"counters"`
	Stats    map[string]*float64 `json:"stats"`
}

// Set adds a stat.
func (s Statistics) Set(name string, value float64) { s.Stats[name] = &value }

// Usage is how full a medium is, in bytes.
type Usage struct {
	Total, Used uint64
	// FreeForRoot is all that is free, Free what an ordinary user may still write.
	FreeForRoot, Free uint64
}

// Gauge is a Backend that knows how full its medium is.
type Gauge interface {
	Usage() (Usage, error)
}

// Statistics says what the server has done since it began, and how it stands.
func (s *Server) Statistics() Statistics {
	const prefix = "storage_server."
	out := Statistics{Counters: map[string]uint64{}, Stats: map[string]*float64{}}
	s.tallies.mu.Lock()
	counts, added := s.tallies.counts, s.tallies.added
	var recent [operations][]time.Duration
	for op, all := range s.tallies.recent {
		recent[op] = slices.Clone(all)
	}
	s.tallies.mu.Unlock()
	for op, n := range counts {
		if n > 0 {
			out.Counters[prefix+operationNames[op]] = n
		}
	}
	if added > 0 {
		out.Counters[prefix+"bytes_added"] = added
	}
	for op, all := range recent {
		if len(all) > 0 {
			latencies(out, prefix+"latencies."+operationNames[op]+".", all)
		}
	}
	out.Set(prefix+"allocated", float64(s.allocated()))
	out.Set(prefix+"reserved_space", float64(s.opt.ReservedSpace))
	writable := !s.opt.ReadOnly
	if g, ok := s.backend.(Gauge); ok {
		u, err := g.Usage()
		if err != nil {
			s.opt.Log.Warn("how full the medium is cannot be told", "error", err)
			writable = false
		} else {
			avail := u.Free - min(u.Free, s.opt.ReservedSpace)
			writable = writable && avail > 0
			if s.opt.ReadOnly {
				avail = 0
			}
			out.Set(prefix+"disk_total", float64(u.Total))
			out.Set(prefix+"disk_used", float64(u.Used))
			out.Set(prefix+"disk_free_for_root", float64(u.FreeForRoot))
			out.Set(prefix+"disk_free_for_nonroot", float64(u.Free))
			out.Set(prefix+"disk_avail", float64(avail))
		}
	}
	accepting := 0.
	if writable {
		accepting = 1
	}
	out.Set(prefix+"accepting_immutable_shares", accepting)
	return out
}

// allocated is how large the uploads under way will be.
func (s *Server) allocated() (sum uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, u := range s.uploads {
		sum += u.size
	}
	return sum
}

// latencies adds the mean and the percentiles, in seconds; those that the samples
// are too few for are nil, as in Tahoe.
func latencies(out Statistics, prefix string, all []time.Duration) {
	slices.Sort(all)
	out.Set(prefix+"samplesize", float64(len(all)))
	out.Stats[prefix+"mean"] = nil
	if len(all) > 1 {
		var sum time.Duration
		for _, d := range all {
			sum += d
		}
		out.Set(prefix+"mean", sum.Seconds()/float64(len(all)))
	}
	for _, p := range []struct{ permille, least int }{{10, 100}, {100, 10}, {500, 10}, {900, 10}, {950, 20}, {990, 100}, {999, 1000}} {
		name := prefix + fmt.Sprintf("%02d_%d_percentile", p.permille/10, p.permille%10)
		out.Stats[name] = nil
		if len(all) >= p.least {
			out.Set(name, all[p.permille*len(all)/1000].Seconds())
		}
	}
}
