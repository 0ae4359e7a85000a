package immutable

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"warren/node/caps"
)

func TestAnyKSharesAreEnough(t *testing.T) {
	g := newGrid(t, 6)
	up := newClient(t, g, 3, 6, 6, func(cfg *Config) { cfg.SegmentSize = 4096 })
	for _, size := range []int{56, 4096, 30001} {
		data := pattern(size)
		cp := mustUpload(t, up, data).Cap
		for mask := range 64 {
			some := &fakeGrid{}
			for i, n := range g.nodes {
				if mask>>i&1 == 1 {
					some.nodes = append(some.nodes, n)
				}
			}
			got, err := download(t, newClient(t, some, 3, 1, 6), cp)
			if len(some.nodes) >= 3 {
				if err != nil || !bytes.Equal(got, data) {
					t.Fatalf("%d bytes from %d servers: %v", size, len(some.nodes), err)
				}
				continue
			}
			var e *NotEnoughSharesError
			if !errors.Is(err, ErrNotEnoughShares) || !errors.As(err, &e) || e.Found != len(some.nodes) || e.Needed != 3 || len(got) > 0 {
				t.Fatalf("%d bytes from %d servers: %v", size, len(some.nodes), err)
			}
		}
	}
}

func TestRanges(t *testing.T) {
	g := newGrid(t, 4)
	c := newClient(t, g, 3, 4, 4, func(cfg *Config) { cfg.SegmentSize = 1000 }) // 1002: not a multiple of 16
	data := pattern(25001)
	f, err := c.Open(t.Context(), mustUpload(t, c, data).Cap)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Size() != 25001 {
		t.Fatal(f.Size())
	}
	rng := rand.New(rand.NewPCG(5, 6))
	for range 300 {
		off := rng.IntN(len(data) + 1)
		n := rng.IntN(6000) - 1
		want := data[off:]
		if n >= 0 && n < len(want) {
			want = want[:n]
		}
		var b bytes.Buffer
		if err := f.WriteRange(t.Context(), &b, int64(off), int64(n)); err != nil || !bytes.Equal(b.Bytes(), want) {
			t.Fatalf("%d bytes at %d: %v", n, off, err)
		}
		if n < 0 {
			continue
		}
		p := make([]byte, n)
		got, err := f.ReadAt(t.Context(), p, int64(off))
		if got != len(want) || !bytes.Equal(p[:got], want) || (err == io.EOF) != (got < n) || err != nil && err != io.EOF {
			t.Fatalf("ReadAt %d at %d: %d, %v", n, off, got, err)
		}
	}
	for _, off := range []int64{-1, 25002, 1 << 60} {
		if err := f.WriteRange(t.Context(), io.Discard, off, 1); !errors.Is(err, ErrRange) {
			t.Errorf("offset %d: %v", off, err)
		}
	}
	lit, err := c.Open(t.Context(), caps.DirLIT{LIT: caps.LIT{Data: []byte("hello")}})
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 9)
	if n, err := lit.ReadAt(t.Context(), p, 1); n != 4 || err != io.EOF || string(p[:n]) != "ello" {
		t.Errorf("%q, %v", p[:n], err)
	}
	if err := lit.Close(); err != nil {
		t.Error(err)
	}
}

func TestManyReadersOfOneFile(t *testing.T) {
	g := newGrid(t, 4)
	c := newClient(t, g, 3, 4, 4, func(cfg *Config) { cfg.SegmentSize = 4096 })
	data := pattern(200000)
	f, err := c.Open(t.Context(), mustUpload(t, c, data).Cap)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var w io.Writer = new(bytes.Buffer)
			if i%2 == 1 { // some give up, which must not harm the others
				w = writerFunc(func(p []byte) (int, error) { cancel(); return 0, errDied })
			}
			err := f.WriteRange(ctx, w, int64(i*1000), -1)
			if b, ok := w.(*bytes.Buffer); ok && (err != nil || !bytes.Equal(b.Bytes(), data[i*1000:])) {
				t.Errorf("reader %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	f.Close()
	if err := f.WriteRange(t.Context(), io.Discard, 0, -1); err == nil {
		t.Error("a closed file can be read")
	}
}

// One reader gives up, for a reason of its own, while another waits for the same
// segment: the other fetches it.
func TestAReadersReasonIsItsOwn(t *testing.T) { synctest.Test(t, testAReadersReasonIsItsOwn) }

func testAReadersReasonIsItsOwn(t *testing.T) {
	g := newGrid(t, 3)
	c := newClient(t, g, 2, 3, 3, func(cfg *Config) { cfg.SegmentSize = 40_000 })
	data := pattern(200_000)
	f, err := c.Open(t.Context(), mustUpload(t, c, data).Cap)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := make([]byte, 100)
	if _, err := f.ReadAt(t.Context(), p, 0); err != nil {
		t.Fatal(err)
	}
	for _, n := range g.nodes {
		n.set(func(n *fakeNode) {
			n.onRead = func(ctx context.Context, _ int, _, _ uint64) error { return hang(ctx) }
		})
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	first, second := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := f.ReadAt(ctx, make([]byte, 100), 150_000)
		first <- err
	}()
	synctest.Wait()
	go func() {
		_, err := f.ReadAt(t.Context(), p, 150_000)
		second <- err
	}()
	synctest.Wait()
	for _, n := range g.nodes {
		n.set(func(n *fakeNode) { n.onRead = nil })
	}
	cancel(errDied)
	if err := <-first; !errors.Is(err, errDied) {
		t.Errorf("the first: %v", err)
	}
	if err := <-second; err != nil || !bytes.Equal(p, data[150_000:150_100]) {
		t.Errorf("the second: %v", err)
	}
}

func TestReadsEndWhenTheFileIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGrid(t, 3)
		c := newClient(t, g, 2, 3, 3)
		f, err := c.Open(t.Context(), mustUpload(t, c, pattern(5000)).Cap)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range g.nodes {
			n.set(func(n *fakeNode) {
				n.onRead = func(ctx context.Context, _ int, _, _ uint64) error { return hang(ctx) }
			})
		}
		done := make(chan error, 1)
		go func() { done <- f.WriteRange(t.Context(), io.Discard, 0, -1) }()
		synctest.Wait()
		f.Close()
		if err := <-done; !errors.Is(err, fs.ErrClosed) {
			t.Error(err)
		}
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// In fake time, as TestServersThatHang: what is slow is asked twice.
func TestCostFollowsTheRange(t *testing.T) { synctest.Test(t, testCostFollowsTheRange) }

func testCostFollowsTheRange(t *testing.T) {
	g := newGrid(t, 3)
	c := newClient(t, g, 2, 3, 3, func(cfg *Config) { cfg.SegmentSize = 128 << 10 })
	data := pattern(20 << 20)
	cp := mustUpload(t, c, data).Cap
	f, err := c.Open(t.Context(), cp)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := make([]byte, 1000)
	if _, err := f.ReadAt(t.Context(), p, 15<<20); err != nil || !bytes.Equal(p, data[15<<20:15<<20+1000]) {
		t.Fatal(err)
	}
	total, reads := 0, 0
	for _, n := range g.nodes {
		n.set(func(n *fakeNode) { total += n.bytes; reads += n.reads })
	}
	if total > 256<<10 || reads > 6 {
		t.Errorf("%d bytes in %d reads for 1000", total, reads)
	}
}

func TestSmallFilesTakeOneReadAShare(t *testing.T) {
	synctest.Test(t, testSmallFilesTakeOneReadAShare)
}

func testSmallFilesTakeOneReadAShare(t *testing.T) {
	g := newGrid(t, 3)
	c := newClient(t, g, 2, 3, 3)
	data := pattern(10000)
	cp := mustUpload(t, c, data).Cap
	mustDownload(t, c, cp, data)
	reads := 0
	for _, n := range g.nodes {
		n.set(func(n *fakeNode) { reads += n.reads })
	}
	if reads != 2 {
		t.Errorf("%d reads", reads)
	}
}

func TestServersThatDieMidway(t *testing.T) {
	g := newGrid(t, 5)
	c := newClient(t, g, 3, 5, 5, func(cfg *Config) { cfg.SegmentSize = 64 << 10 })
	data := pattern(3 << 20)
	cp := mustUpload(t, c, data).Cap
	for i := range 2 {
		reads := 0
		g.nodes[i].onRead = func(context.Context, int, uint64, uint64) error {
			g.nodes[i].mu.Lock()
			defer g.nodes[i].mu.Unlock()
			if reads++; reads > 10 {
				return errDied
			}
			return nil
		}
	}
	mustDownload(t, c, cp, data)
	g.nodes[2].onRead = func(context.Context, int, uint64, uint64) error { return errDied }
	_, err := download(t, c, cp)
	if !errors.Is(err, ErrNotEnoughShares) || !errors.Is(err, errDied) {
		t.Fatal(err)
	}
}

// In a bubble of fake time: only a server that truly hangs lets the clock move, so
// that a busy machine makes no healthy server look slow.
func TestServersThatHang(t *testing.T) { synctest.Test(t, testServersThatHang) }

func testServersThatHang(t *testing.T) {
	g := newGrid(t, 6)
	quickly := func(cfg *Config) { cfg.SegmentSize = 64 << 10; cfg.HedgeAfter = 50 * time.Millisecond }
	c := newClient(t, g, 3, 6, 6, quickly)
	data := pattern(2 << 20)
	cp := mustUpload(t, c, data).Cap
	// At the question, from the first read, and midway.
	g.nodes[0].onList = hang
	g.nodes[1].onRead = func(ctx context.Context, _ int, _, _ uint64) error { return hang(ctx) }
	reads := 0
	g.nodes[2].onRead = func(ctx context.Context, _ int, _, _ uint64) error {
		g.nodes[2].mu.Lock()
		reads++
		stuck := reads > 5
		g.nodes[2].mu.Unlock()
		if stuck {
			return hang(ctx)
		}
		return nil
	}
	started := time.Now()
	mustDownload(t, c, cp, data)
	if took := time.Since(started); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
	// What was slow is not waited for again at every segment. (Which servers a
	// download begins with depends on who answers first, so none is ruled out.)
	started = time.Now()
	mustDownload(t, c, cp, data)
	if took := time.Since(started); took > time.Second {
		t.Errorf("the next download took %v", took)
	}
	// Nor is it asked for anything while quicker servers are known to hold enough.
	before, after := 0, 0
	g.nodes[1].set(func(n *fakeNode) {
		n.onRead, before = nil, n.reads
		n.onList = func(context.Context) error { time.Sleep(time.Millisecond); return nil } // in the bubble: after the others
	})
	mustDownload(t, c, cp, data)
	g.nodes[1].set(func(n *fakeNode) { after = n.reads })
	if after != before {
		t.Errorf("%d reads from the slow server", after-before)
	}
}

func TestReadingEndsWithItsContext(t *testing.T) {
	g := newGrid(t, 3)
	c := newClient(t, g, 2, 3, 3)
	data := pattern(5000)
	cp := mustUpload(t, c, data).Cap
	ctx, cancel := context.WithCancel(t.Context())
	for _, n := range g.nodes {
		n.onRead = func(ctx context.Context, _ int, _, _ uint64) error { cancel(); return hang(ctx) }
	}
	f, err := c.Open(ctx, cp)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.WriteRange(ctx, io.Discard, 0, -1); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	for _, n := range g.nodes {
		n.set(func(n *fakeNode) { n.onList = hang })
	}
	ctx, cancel = context.WithCancel(t.Context())
	g.nodes[0].set(func(n *fakeNode) {
		n.onList = func(ctx context.Context) error { cancel(); return hang(ctx) }
	})
	if _, err := c.Open(ctx, cp); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestOpenRefusesWhatIsNotImmutable(t *testing.T) {
	c := newClient(t, newGrid(t, 1), 1, 1, 1)
	for _, cp := range []caps.Cap{
		caps.SSKRead{}, caps.DirWrite{}, caps.CHKVerify{Needed: 1, Total: 1, Size: 100},
		caps.CHK{Needed: 0, Total: 1, Size: 100}, caps.CHK{Needed: 2, Total: 1, Size: 100},
		caps.CHK{Needed: 1, Total: 300, Size: 100}, caps.CHK{Needed: 1, Total: 1, Size: 0},
		caps.CHK{Needed: 1, Total: 1, Size: 1 << 63},
	} {
		if _, err := c.Open(t.Context(), cp); err == nil || errors.Is(err, ErrNotEnoughShares) {
			t.Errorf("%v: %v", cp, err)
		}
	}
}
