package mutable

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"warren/node/caps"
	"warren/node/grid"
	"warren/node/storage"
	"warren/node/storage/storagetest"
)

var errDown = errors.New("connection refused")

// testServer is a real storage server in memory that can be made to fail.
type testServer struct {
	storage.Client

	mu         sync.Mutex // guards what follows
	down       bool
	full       bool                             // refuses writes for want of space
	liesFull   bool                             // says "written" and writes nothing
	refuses    bool                             // says "test failed" whatever is asked
	frozen     map[int][]byte                   // answers reads from these shares: a stale server
	mangle     func(share int, b []byte) []byte // changes whole shares before they are read
	before     func(write bool) error           // runs before each call
	asked      func(head bool)                  // runs before each read, of heads or of more
	writes     int
	advised    int // advisories of corruption
	hangReads  bool
	hangWrites chan error // writes hang, and send why they ended
	noLease    bool       // refuses leases
	leased     int        // calls of AddLease
	cost       *cost      // counts, when it is not nil
	tells      bool       // tells of changes, as our servers do
	cries      bool       // says that everything changed, always
	watched    int        // calls of Watch that wait
	lookedAt   int        // and those that do not
}

func (s *testServer) set(f func(*testServer)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
}

func (s *testServer) enter(write bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.before != nil {
		if err := s.before(write); err != nil {
			return err
		}
	}
	if s.down {
		return errDown
	}
	return nil
}

func (s *testServer) ReadSlot(ctx context.Context, si caps.StorageIndex, shares []int, read []storage.ReadVector) (map[int][][]byte, error) {
	got, err := s.readSlot(ctx, si, shares, read)
	s.set(func(s *testServer) {
		if s.cost == nil {
			return
		}
		s.cost.reads.Add(1)
		for _, vectors := range got {
			for _, b := range vectors {
				s.cost.read.Add(int64(len(b)))
			}
		}
	})
	return got, err
}

func (s *testServer) readSlot(ctx context.Context, si caps.StorageIndex, shares []int, read []storage.ReadVector) (map[int][][]byte, error) {
	if err := s.enter(false); err != nil {
		return nil, err
	}
	s.mu.Lock()
	mangle, frozen, hang, asked := s.mangle, s.frozen, s.hangReads, s.asked
	s.mu.Unlock()
	if asked != nil {
		asked(read[0].Offset == 0)
	}
	if hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if mangle == nil && frozen == nil {
		return s.Client.ReadSlot(ctx, si, shares, read)
	}
	whole := frozen
	if whole == nil {
		got, err := s.Client.ReadSlot(ctx, si, shares, []storage.ReadVector{{Size: 1 << 26}})
		if err != nil {
			return nil, err
		}
		whole = map[int][]byte{}
		for n, v := range got {
			whole[n] = v[0]
		}
	}
	out := map[int][][]byte{}
	for n, b := range whole {
		wanted := shares == nil
		for _, w := range shares {
			wanted = wanted || w == n
		}
		if !wanted {
			continue
		}
		if mangle != nil {
			b = mangle(n, append([]byte(nil), b...))
		}
		for _, r := range read {
			from := min(r.Offset, uint64(len(b)))
			out[n] = append(out[n], b[from:min(r.Offset+r.Size, uint64(len(b)))])
		}
	}
	return out, nil
}

// Watches implements storage.Watcher.
func (s *testServer) Watches() (tells bool) {
	s.set(func(s *testServer) { tells = s.tells })
	return tells
}

// Watch implements storage.Watcher. It ends when the server goes down.
func (s *testServer) Watch(ctx context.Context, have map[caps.StorageIndex]storage.Tag, wait time.Duration) (map[caps.StorageIndex]storage.Tag, error) {
	if err := s.enter(false); err != nil {
		return nil, err
	}
	var cries bool
	s.set(func(s *testServer) {
		if cries = s.cries; wait > 0 {
			s.watched++
		} else {
			s.lookedAt++
		}
	})
	if cries {
		out := map[caps.StorageIndex]storage.Tag{}
		for si := range have {
			out[si] = storage.Tag([]byte(rand.Text())[:16])
		}
		return out, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for s.enter(false) == nil {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
		cancel()
	}()
	changed, err := storage.Watch(ctx, s.Client, have, wait)
	if down := s.enter(false); down != nil {
		return nil, down
	}
	return changed, err
}

func (s *testServer) AdviseCorrupt(ctx context.Context, kind storage.ShareKind, si caps.StorageIndex, share int, reason string) error {
	s.set(func(s *testServer) { s.advised++ })
	return s.Client.AdviseCorrupt(ctx, kind, si, share, reason)
}

func (s *testServer) AddLease(ctx context.Context, si caps.StorageIndex, lease storage.LeaseSecrets) error {
	refuse := false
	s.set(func(s *testServer) { s.leased, refuse = s.leased+1, s.noLease })
	if refuse {
		return storage.ErrNoSpace
	}
	return s.Client.AddLease(ctx, si, lease)
}

func (s *testServer) ReadTestWrite(ctx context.Context, si caps.StorageIndex, secrets storage.SlotSecrets, tw map[int]storage.TestWrite, read []storage.ReadVector) (bool, map[int][][]byte, error) {
	if err := s.enter(true); err != nil {
		return false, nil, err
	}
	s.mu.Lock()
	s.writes++
	if s.cost != nil {
		s.cost.writes.Add(1)
		for _, one := range tw {
			for _, w := range one.Write {
				s.cost.written.Add(int64(len(w.Data)))
			}
		}
	}
	full, lies, refuses, hang := s.full, s.liesFull, s.refuses, s.hangWrites
	s.mu.Unlock()
	switch {
	case hang != nil:
		<-ctx.Done()
		hang <- context.Cause(ctx)
		return false, nil, ctx.Err()
	case full:
		return false, nil, storage.ErrNoSpace
	case lies:
		return true, nil, nil
	case refuses:
		return false, nil, nil
	}
	return s.Client.ReadTestWrite(ctx, si, secrets, tw, read)
}

// testGrid is a grid in memory.
type testGrid struct {
	t       testing.TB
	servers []grid.Server
	tests   map[string]*testServer
}

func newTestGrid(t testing.TB, n int) *testGrid {
	g := &testGrid{t: t, tests: map[string]*testServer{}}
	for i := range n {
		g.add(fmt.Sprintf("v0-server%02d", i))
	}
	return g
}

func (g *testGrid) add(id string) *testServer {
	ts := &testServer{Client: storagetest.NewLocal(g.t)}
	g.tests[id] = ts
	seed := []byte(id)
	g.servers = append(g.servers, grid.Server{
		ID: id, PermutationSeed: seed, LeaseSeed: append(make([]byte, 20-len(seed)), seed...), Client: ts,
	})
	return ts
}

func (g *testGrid) Permuted(si caps.StorageIndex) []grid.Server {
	return grid.Permute(si, append([]grid.Server(nil), g.servers...))
}

// at is the server at a place of a file's permuted order.
func (g *testGrid) at(si caps.StorageIndex, i int) *testServer {
	return g.tests[g.Permuted(si)[i].ID]
}

// store makes a Store that does not wait between attempts.
func (g *testGrid) store(t testing.TB, o Options) *Store {
	t.Helper()
	o.Servers = g
	o.LeaseSecret = []byte("a lease secret of this test node")
	if o.Pause == nil {
		o.Pause = func(ctx context.Context, n int) error {
			for range n {
				runtime.Gosched()
			}
			return ctx.Err()
		}
	}
	if o.Patience == 0 {
		o.Patience = time.Minute
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// put stores a share as it is, past everything.
func (g *testGrid) put(file caps.SSKWrite, server, num int, share []byte) {
	g.t.Helper()
	si := file.StorageIndex()
	srv := g.Permuted(si)[server]
	s := &Store{opts: Options{LeaseSecret: []byte("somebody else's lease secret")}}
	secrets, err := s.secrets(file.WriteKey, si, srv.LeaseSeed)
	if err != nil {
		g.t.Fatal(err)
	}
	length := uint64(len(share))
	wrote, _, err := g.tests[srv.ID].Client.ReadTestWrite(context.Background(), si, secrets,
		map[int]storage.TestWrite{num: {Write: []storage.WriteVector{{Data: share}}, NewLength: &length}}, nil)
	if err != nil || !wrote {
		g.t.Fatalf("put a share: %v, %v", wrote, err)
	}
}

// shares reads all shares of a file, by server in permuted order.
func (g *testGrid) shares(si caps.StorageIndex) []map[int][]byte {
	g.t.Helper()
	var list []map[int][]byte
	for _, srv := range g.Permuted(si) {
		got, err := g.tests[srv.ID].Client.ReadSlot(context.Background(), si, nil, []storage.ReadVector{{Size: 1 << 26}})
		if err != nil && !errors.Is(err, storage.ErrNoShare) {
			g.t.Fatal(err)
		}
		m := map[int][]byte{}
		for n, v := range got {
			m[n] = v[0]
		}
		list = append(list, m)
	}
	return list
}
