package immutable

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"warren/node/caps"
	"warren/node/storage"
)

var errDied = errors.New("the server died")

func TestEveryKindOfSourceGivesTheSameCapability(t *testing.T) {
	g := newGrid(t, 3)
	c := newClient(t, g, 2, 3, 3, func(cfg *Config) { cfg.SegmentSize = 4096 })
	for _, size := range []int{0, 55, 56, 4095, 4096, 4097, 50000} {
		data := pattern(size)
		pr, pw, err := os.Pipe() // has a Seek method that fails
		if err != nil {
			t.Fatal(err)
		}
		go func() { // ends when the upload has read everything
			_, _ = pw.Write(data)
			_ = pw.Close()
		}()
		defer pr.Close()
		middle := bytes.NewReader(append([]byte("skip"), data...))
		if _, err := middle.Seek(4, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		want := mustUpload(t, c, data).Cap.Text()
		for name, in := range map[string]struct {
			r    io.Reader
			size int64
		}{
			"seekable, size known": {bytes.NewReader(data), int64(size)},
			"stream, size known":   {onlyReader{bytes.NewReader(data)}, int64(size)},
			"stream":               {onlyReader{bytes.NewReader(data)}, -1},
			"pipe":                 {pr, -1},
			"from the middle":      {middle, -1},
			"more than announced":  {onlyReader{bytes.NewReader(append(bytes.Clone(data), 'x'))}, int64(size)},
		} {
			res, err := c.Upload(t.Context(), in.r, in.size)
			if err != nil {
				t.Fatalf("%s, %d bytes: %v", name, size, err)
			}
			if res.Cap.Text() != want || res.Size != uint64(size) {
				t.Errorf("%s, %d bytes: another capability", name, size)
			}
		}
	}
	left, err := os.ReadDir(c.cfg.TempDir)
	if err != nil || len(left) != 0 {
		t.Errorf("left in the temporary directory: %v, %v", left, err)
	}
}

func TestSpoolIsHiddenAndEncrypted(t *testing.T) {
	dir := t.TempDir()
	sp, err := newSpool(dir, bytes.NewReader(make([]byte, 16)))
	if err != nil {
		t.Fatal(err)
	}
	defer sp.close()
	body := bytes.Repeat([]byte("secret plaintext"), 40000)
	if n, err := sp.fill(bytes.NewReader(body), nil); err != nil || n != uint64(len(body)) {
		t.Fatal(n, err)
	}
	if runtime.GOOS != "windows" {
		if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
			t.Errorf("the spool has a name: %v, %v", left, err)
		}
		if st, err := sp.f.Stat(); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v", st.Mode(), err)
		}
	}
	if _, err := sp.f.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(sp.f)
	if err != nil || bytes.Contains(raw, []byte("secret")) {
		t.Errorf("plaintext on disk (%v)", err)
	}
	for range 2 {
		r, err := sp.reader()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, body) {
			t.Errorf("it does not come back: %v", err)
		}
	}
}

func TestWithoutConvergenceEveryUploadHasItsOwnKey(t *testing.T) {
	g := newGrid(t, 3)
	c := newClient(t, g, 2, 3, 3, func(cfg *Config) { cfg.Convergence = nil; cfg.SegmentSize = 4096 })
	data := pattern(20000)
	a, b := mustUpload(t, c, data), mustUpload(t, c, data)
	if a.Cap == b.Cap {
		t.Fatal("the same key twice")
	}
	mustDownload(t, c, a.Cap, data)
	res, err := c.Upload(t.Context(), onlyReader{bytes.NewReader(data)}, int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	mustDownload(t, c, res.Cap, data)
}

// changing gives other bytes on the second pass.
type changing struct {
	*bytes.Reader
	passes int
	second []byte
}

func (c *changing) Seek(off int64, whence int) (int64, error) {
	if off == 0 && whence == io.SeekStart {
		if c.passes++; c.passes == 3 { // measured, hashed, read
			c.Reset(c.second)
		}
	}
	return c.Reader.Seek(off, whence)
}

func TestSourceThatChangesIsNotEncrypted(t *testing.T) {
	data := pattern(20000)
	flipped := bytes.Clone(data)
	flipped[15000] ^= 1
	for name, second := range map[string][]byte{"changed": flipped, "shorter": data[:17000]} {
		g := newGrid(t, 3)
		c := newClient(t, g, 2, 3, 3, func(cfg *Config) { cfg.SegmentSize = 4096 })
		_, err := c.Upload(t.Context(), &changing{Reader: bytes.NewReader(data), second: second}, -1)
		if !errors.Is(err, ErrSourceChanged) {
			t.Errorf("%s: %v", name, err)
		}
		for _, n := range g.nodes {
			if n.aborted == 0 {
				t.Errorf("%s: a share was not aborted", name)
			}
		}
	}
	c := newClient(t, newGrid(t, 3), 2, 3, 3)
	for _, size := range []int64{100, 5 << 20} {
		if _, err := c.Upload(t.Context(), onlyReader{bytes.NewReader(data[:60])}, size); !errors.Is(err, ErrSourceChanged) {
			t.Errorf("shorter than announced: %v", err)
		}
	}
}

type failingReader struct{ n int }

func (f *failingReader) Read(p []byte) (int, error) {
	if f.n -= len(p); f.n < 0 {
		return 0, errDied
	}
	return len(p), nil
}

func TestSourceThatFails(t *testing.T) {
	for _, conv := range []Secret{nil, testConvergence} {
		for _, size := range []int64{-1, 3 << 20} {
			g := newGrid(t, 3)
			c := newClient(t, g, 2, 3, 3, func(cfg *Config) { cfg.Convergence = conv })
			if _, err := c.Upload(t.Context(), &failingReader{2 << 20}, size); !errors.Is(err, errDied) {
				t.Errorf("%v", err)
			}
		}
	}
}

// The same from the real thing: a client that dies in a chunked request.
func TestBrokenRequestsAreNotStored(t *testing.T) {
	c := newClient(t, newGrid(t, 3), 2, 3, 3)
	got := make(chan error, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		// Not the request's context, which may, or may not, end in time.
		_, err := c.Upload(t.Context(), r.Body, r.ContentLength)
		got <- err
	}))
	defer srv.Close()
	resp, err := srv.Client().Post(srv.URL, "", io.MultiReader(bytes.NewReader(pattern(2<<20)), &failingReader{}))
	if err == nil {
		resp.Body.Close()
		t.Error("the request went through")
	}
	if err := <-got; !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("half a request: %v", err)
	}
}

// unmeasured is a file as those in /proc: it seeks, and says that it is empty.
type unmeasured struct{ *bytes.Reader }

func (u unmeasured) Seek(off int64, whence int) (int64, error) {
	if whence == io.SeekEnd {
		return 0, nil
	}
	return u.Reader.Seek(off, whence)
}

func TestFilesThatSayTheyAreEmpty(t *testing.T) {
	c := newClient(t, newGrid(t, 3), 2, 3, 3)
	for _, size := range []int{0, 20, 1000, 2 << 20} {
		data := pattern(size)
		res, err := c.Upload(t.Context(), unmeasured{bytes.NewReader(data)}, -1)
		if err != nil || res.Cap.Text() != mustUpload(t, c, data).Cap.Text() {
			t.Errorf("%d bytes: stored %d, %v", size, res.Size, err)
		}
	}
}

// cut is a body whose connection breaks, as net/http says it.
type cut struct{ r io.Reader }

func (c cut) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// What came of a body that broke off must not be stored as if it were all.
func TestBrokenBodiesAreNotStored(t *testing.T) {
	for _, conv := range []Secret{nil, testConvergence} {
		for _, size := range []int{10, 1000, 1 << 20, 3<<20 + 100} {
			for _, known := range []bool{false, true} {
				g := newGrid(t, 3)
				c := newClient(t, g, 2, 3, 3, func(cfg *Config) { cfg.Convergence = conv })
				announced := int64(-1)
				if known {
					announced = int64(size) + 1
				}
				res, err := c.Upload(t.Context(), cut{bytes.NewReader(pattern(size))}, announced)
				if !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, ErrSourceChanged) {
					t.Errorf("%d bytes, length known %v: %+v, %v", size, known, res, err)
				}
			}
		}
	}
}

func TestUploadingAgainFindsTheShares(t *testing.T) {
	g := newGrid(t, 5)
	c := newClient(t, g, 3, 5, 5)
	data := pattern(100000)
	first := mustUpload(t, c, data)
	for _, n := range g.nodes {
		n.set(func(n *fakeNode) { n.writes, n.leases = 0, nil })
	}
	again := mustUpload(t, c, data)
	if again.Cap != first.Cap || again.Pushed != 0 || again.Existing != 5 || again.Happiness != 5 {
		t.Fatalf("%+v", again)
	}
	for _, n := range g.nodes {
		if n.writes != 0 || len(n.leases) != 1 {
			t.Errorf("%s: %d writes, %d leases", n.id, n.writes, len(n.leases))
		}
	}
	// One server gone, a new one there: only its share is written.
	g.nodes[2] = newGrid(t, 1).nodes[0]
	g.nodes[2].id = "v0-new"
	healed := mustUpload(t, c, data)
	if healed.Pushed != 1 || healed.Existing != 4 || healed.Happiness != 5 {
		t.Fatalf("%+v", healed)
	}
}

func TestTooFewServersIsUnhappy(t *testing.T) {
	data := pattern(100000)
	for name, prepare := range map[string]func(g *fakeGrid){
		"none":      func(g *fakeGrid) { g.nodes = nil },
		"two":       func(g *fakeGrid) { g.nodes = g.nodes[:2] },
		"read-only": func(g *fakeGrid) { g.nodes[0].readonly = true },
		"dead": func(g *fakeGrid) {
			g.nodes[1].onList = func(context.Context) error { return errDied }
			g.nodes[1].onMake = func(context.Context, []int) error { return errDied }
		},
		"full": func(g *fakeGrid) {
			g.nodes[2].onMake = func(context.Context, []int) error { return storage.ErrNoSpace }
		},
		"dies at the question": func(g *fakeGrid) {
			g.nodes[0].onMake = func(context.Context, []int) error { return errDied }
		},
		"dies at the first write": func(g *fakeGrid) {
			g.nodes[0].onWrite = func(context.Context, int, uint64) error { return errDied }
		},
	} {
		g := newGrid(t, 3)
		prepare(g)
		c := newClient(t, g, 2, 3, 3)
		_, err := c.Upload(t.Context(), bytes.NewReader(data), -1)
		var e *UnhappyError
		if !errors.Is(err, ErrUnhappy) || !errors.As(err, &e) || e.Happy != 3 || e.Got > 2 {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if strings.HasPrefix(name, "dies") && !errors.Is(err, errDied) {
			t.Errorf("%s: the cause is lost: %v", name, err)
		}
		for _, n := range g.nodes {
			if held, err := n.Client.ListShares(t.Context(), storage.Immutable, mustIndex(t, c, data)); err != nil || len(held) > 1 {
				t.Errorf("%s: %s holds %v, %v", name, n.id, held, err)
			}
		}
	}
}

// mustIndex is where data would be stored.
func mustIndex(t *testing.T, c *Client, data []byte) caps.StorageIndex {
	t.Helper()
	src, err := c.newSource(t.Context(), bytes.NewReader(data), -1)
	if err != nil {
		t.Fatal(err)
	}
	defer src.close()
	return storageIndex(src.key)
}

// In fake time, as TestServersThatHang.
func TestFailingServersAreDoneWithout(t *testing.T) {
	synctest.Test(t, testFailingServersAreDoneWithout)
}

func testFailingServersAreDoneWithout(t *testing.T) {
	g := newGrid(t, 5)
	data := pattern(3 << 20)
	c := newClient(t, g, 2, 3, 5, func(cfg *Config) { cfg.StallTimeout = 200 * time.Millisecond })
	// One dies midway, one hangs midway: three are enough.
	g.nodes[0].onWrite = func(_ context.Context, _ int, offset uint64) error {
		if offset > 0 {
			return errDied
		}
		return nil
	}
	g.nodes[1].onWrite = func(ctx context.Context, _ int, offset uint64) error {
		if offset > 0 {
			return hang(ctx)
		}
		return nil
	}
	res := mustUpload(t, c, data)
	if res.Happiness != 3 || res.Pushed != 3 {
		t.Fatalf("%+v", res)
	}
	if g.nodes[0].aborted != 1 || g.nodes[1].aborted != 1 {
		t.Error("the failed shares were not aborted")
	}
	mustDownload(t, c, res.Cap, data)
}

func TestFailingServersAreReplaced(t *testing.T) {
	g := newGrid(t, 6)
	data := pattern(3 << 20)
	c := newClient(t, g, 2, 4, 4)
	var died atomic.Int32
	for _, s := range g.Permuted(mustIndex(t, c, data))[:2] {
		g.node(s.ID).onWrite = func(_ context.Context, _ int, offset uint64) error {
			if offset > 0 {
				died.Add(1)
				return errDied
			}
			return nil
		}
	}
	res := mustUpload(t, c, data)
	if died.Load() == 0 {
		t.Fatal("nobody was asked to fail")
	}
	if res.Happiness != 4 || len(res.Shares) != 4 {
		t.Fatalf("%+v", res)
	}
	mustDownload(t, c, res.Cap, data)
}

// In fake time, as TestServersThatHang.
func TestServersThatHangAtTheQuestion(t *testing.T) {
	synctest.Test(t, testServersThatHangAtTheQuestion)
}

func testServersThatHangAtTheQuestion(t *testing.T) {
	g := newGrid(t, 4)
	g.nodes[0].onList = hang
	g.nodes[1].onMake = func(ctx context.Context, _ []int) error { return hang(ctx) }
	c := newClient(t, g, 1, 2, 3, func(cfg *Config) { cfg.QueryTimeout = 100 * time.Millisecond })
	data := pattern(5000)
	res := mustUpload(t, c, data)
	if res.Happiness != 2 || len(res.Shares) != 3 {
		t.Fatalf("%+v", res)
	}
}

// The one that hangs is told to forget its share, and nobody waits for long until it
// has heard.
func TestTheHangingHoldNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGrid(t, 4)
		g.nodes[0].Client = hung{g.nodes[0].Client}
		g.nodes[0].onMake = func(ctx context.Context, _ []int) error { return hang(ctx) }
		c := newClient(t, g, 2, 3, 4)
		started := time.Now()
		mustUpload(t, c, pattern(5000))
		if took := time.Since(started); took > 45*time.Second {
			t.Errorf("it took %v", took)
		}
		if g.nodes[0].aborted == 0 {
			t.Error("it was not told")
		}
	})
}

// When nobody answers, the error comes soon: each question is waited for once.
func TestTheSilentHoldNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGrid(t, 4)
		for _, n := range g.nodes {
			n.Client = silent{n.Client}
		}
		c := newClient(t, g, 2, 3, 4)
		started := time.Now()
		if _, err := c.Upload(t.Context(), bytes.NewReader(pattern(5000)), -1); !errors.Is(err, ErrUnhappy) || !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if took := time.Since(started); took > 45*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// hung is a server that never answers when it is told to drop something.
type hung struct{ storage.Client }

func (hung) AbortImmutable(ctx context.Context, _ caps.StorageIndex, _ int, _ storage.Secret) error {
	return hang(ctx)
}

func TestServersThatLieAboutWriting(t *testing.T) {
	for _, done := range []bool{false, true} {
		g := newGrid(t, 3)
		g.nodes[0].Client = always{g.nodes[0].Client, done}
		c := newClient(t, g, 2, 3, 3)
		if _, err := c.Upload(t.Context(), bytes.NewReader(pattern(500_000)), -1); !errors.Is(err, ErrUnhappy) || !errors.Is(err, errIncomplete) {
			t.Fatalf("done is always %v: %v", done, err)
		}
	}
}

// always says the same after every write.
type always struct {
	storage.Client
	done bool
}

func (a always) WriteImmutable(ctx context.Context, si caps.StorageIndex, share int, upload storage.Secret, offset uint64, data []byte) (bool, error) {
	_, err := a.Client.WriteImmutable(ctx, si, share, upload, offset, data)
	return a.done, err
}

func TestOneContentUploadedManyTimesAtOnce(t *testing.T) {
	g := newGrid(t, 3)
	c := newClient(t, g, 2, 3, 3)
	data := pattern(2 << 20)
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			if _, err := c.Upload(t.Context(), bytes.NewReader(data), -1); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestBadConfigurations(t *testing.T) {
	g := newGrid(t, 1)
	for _, c := range []Config{
		{Needed: 1, Happy: 1, Total: 1},
		{Servers: g, Needed: 0, Happy: 1, Total: 1},
		{Servers: g, Needed: 2, Happy: 1, Total: 1},
		{Servers: g, Needed: 1, Happy: 1, Total: 257},
		{Servers: g, Needed: 1, Happy: 2, Total: 1},
		{Servers: g, Needed: 1, Happy: 0, Total: 1},
		{Servers: g, Needed: 3, Happy: 1, Total: 3, SegmentSize: 2},
		{Servers: g, Needed: 3, Happy: 1, Total: 3, SegmentSize: -1},
		{Servers: g, Needed: 3, Happy: 1, Total: 3, SegmentSize: 1 << 40},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%+v is accepted", c)
		}
	}
	c := Config{Convergence: testConvergence, LeaseSecret: testLeaseSecret}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		if s := fmt.Sprintf(verb, c); strings.Contains(s, "vectors") || strings.Contains(s, "636f6e76") || strings.Contains(s, "99 111") {
			t.Errorf("%s prints the secrets", verb)
		}
	}
}
