package gbs_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"warren/node/caps"
	"warren/node/storage"
	"warren/node/storage/gbs"
	"warren/node/storage/mem"
	"warren/node/storage/storagetest"
)

type tags = map[caps.StorageIndex]storage.Tag

// ready is a client that knows what its server can do.
func ready(t testing.TB, c *gbs.Client) *gbs.Client {
	t.Helper()
	if _, err := c.Version(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

// clients are several of one server: each waits for one thing at a time.
type clients struct {
	*gbs.Client
	next atomic.Int64
	all  []*gbs.Client
}

func (c *clients) Watch(ctx context.Context, have tags, wait time.Duration) (tags, error) {
	return c.all[int(c.next.Add(1))%len(c.all)].Watch(ctx, have, wait)
}

func TestWatchers(t *testing.T) {
	cert := certificate(t, false)
	storagetest.Watchers(t, func(t *testing.T) (storage.Client, *storage.Server) {
		server := storage.NewServer(mem.New(0), storage.Options{})
		nurl := serve(t, server, gbs.Options{}, cert)
		c := &clients{Client: ready(t, dial(t, nurl))}
		for range 4 {
			c.all = append(c.all, ready(t, dial(t, nurl)))
		}
		return c, server
	})
}

func TestWatchRequests(t *testing.T) {
	server := storage.NewServer(mem.New(0), storage.Options{})
	s := gbs.NewServer(server.As(storage.Account{}), swissnum, gbs.Options{})
	ask := func(method, path, authorization string, body io.Reader) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, path, body)
		if authorization != "" {
			r.Header.Set("Authorization", authorization)
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		return w
	}
	right := gbs.Authorization(swissnum)
	slot := "\x82\x50" + strings.Repeat("s", 16) + "\x50" + strings.Repeat("t", 16)
	good := "\xa2\x64wait\x00\x65slots\x81" + slot
	for _, c := range []struct {
		name, method, path, authorization, body string
		want                                    int
	}{
		{"right", "POST", "/warren/v1/watch", right, good, 200},
		{"no authorization", "POST", "/warren/v1/watch", "", good, 401},
		{"wrong authorization", "POST", "/warren/v1/watch", gbs.Authorization("wrong"), good, 401},
		{"get", "GET", "/warren/v1/watch", right, "", 405},
		{"below", "POST", "/warren/v1/watch/x", right, good, 404},
		{"among Tahoe's", "POST", "/storage/v1/warren/v1/watch", right, good, 404},
		{"encoded", "POST", "/warren%2fv1/watch", right, good, 404},
		{"empty", "POST", "/warren/v1/watch", right, "", 400},
		{"no slots", "POST", "/warren/v1/watch", right, "\xa1\x64wait\x00", 400},
		{"short index", "POST", "/warren/v1/watch", right, "\xa2\x64wait\x00\x65slots\x81\x82\x4fsssssssssssssss\x50tttttttttttttttt", 400},
		{"one of a pair", "POST", "/warren/v1/watch", right, "\xa2\x64wait\x00\x65slots\x81\x81\x50ssssssssssssssss", 400},
		{"something behind", "POST", "/warren/v1/watch", right, good + "\x00", 400},
		{"too large", "POST", "/warren/v1/watch", right, "\xa2\x64wait\x00\x65slots\x99\x08\x00" + strings.Repeat(slot, 2048), 413},
	} {
		if w := ask(c.method, c.path, c.authorization, strings.NewReader(c.body)); w.Code != c.want {
			t.Errorf("%s: %d %s, want %d", c.name, w.Code, w.Body, c.want)
		}
	}
	w := ask("POST", "/warren/v1/watch", right, strings.NewReader(good))
	none := storage.TagOf(nil)
	if want := "\xa1\x67changed\x81\x82\x50" + strings.Repeat("s", 16) + "\x50" + string(none[:]); w.Body.String() != want {
		t.Errorf("answered %x, want %x", w.Body, want)
	}
}

// TestWatchCrowded: who comes when too many wait is refused, and told so by the client
// as if the server had no such thing, until the client asks for its version again.
func TestWatchCrowded(t *testing.T) {
	server := storage.NewServer(mem.New(0), storage.Options{})
	nurl := serve(t, server, gbs.Options{MaxWatchers: 2, MaxWatched: 5}, certificate(t, false))
	here := storage.TagOf(nil)
	two := tags{{1}: here, {2}: here}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	// waits has another one wait for as long as the test. Who asks to be refused
	// meanwhile may have been there first: then it tries again.
	waits := func(have tags) {
		c := ready(t, dial(t, nurl))
		wg.Go(func() {
			for ctx.Err() == nil {
				_, err := c.Watch(ctx, have, time.Hour)
				if errors.Is(err, errors.ErrUnsupported) {
					_, err = c.Version(ctx)
				}
				if err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
			}
		})
	}
	// refused asks until it is not let in, which is when all that wait are.
	refused := func(have tags) *gbs.Client {
		c := ready(t, dial(t, nurl))
		for {
			_, err := c.Watch(ctx, have, time.Millisecond)
			if errors.Is(err, errors.ErrUnsupported) {
				return c
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	waits(two)
	c := refused(tags{{1}: here, {2}: here, {3}: here, {4}: here}) // 2 of 5 slots are taken
	if c.Watches() {
		t.Error("refused, and still to be tried")
	}
	ready(t, c)
	if _, err := c.Watch(t.Context(), tags{{1}: here, {2}: here, {3}: here}, time.Millisecond); err != nil {
		t.Errorf("three slots: %v", err)
	}
	waits(tags{{3}: here})
	c = ready(t, refused(tags{{9}: here}))
	// Asking without waiting is no waiting.
	if _, err := c.Watch(t.Context(), two, 0); err != nil {
		t.Errorf("not waiting: %v", err)
	}
}

// TestWatchOfOthers: a server that does not say that it has it is not asked, and one
// that has it no more is asked once.
func TestWatchOfOthers(t *testing.T) {
	cert := certificate(t, false)
	inner := gbs.NewServer(storage.NewServer(mem.New(0), storage.Options{}).As(storage.Account{}), swissnum, gbs.Options{})
	var says atomic.Bool
	var asked atomic.Int64
	others := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/warren/v1/watch" {
			asked.Add(1)
			http.NotFound(w, r)
			return
		}
		rec := httptest.NewRecorder()
		inner.ServeHTTP(rec, r)
		maps.Copy(w.Header(), rec.Header())
		if !says.Load() {
			w.Header().Del("Warren-Watch")
		}
		w.WriteHeader(rec.Code)
		w.Write(rec.Body.Bytes())
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- others.Serve(tls.NewListener(l, gbs.TLSConfig(cert))) }()
	defer func() {
		others.Close()
		<-served
	}()
	nurl, err := gbs.NURL(cert, "127.0.0.1", l.Addr().(*net.TCPAddr).Port, false, swissnum)
	if err != nil {
		t.Fatal(err)
	}
	c := dial(t, nurl)
	for _, s := range []struct {
		says bool
		want int64
	}{{false, 0}, {true, 1}, {true, 2}, {false, 2}} {
		says.Store(s.says)
		if ready(t, c); c.Watches() != s.says {
			t.Errorf("to be tried: %v", c.Watches())
		}
		for range 2 {
			if _, err := c.Watch(t.Context(), tags{{1}: {}}, 0); !errors.Is(err, errors.ErrUnsupported) || asked.Load() != s.want {
				t.Errorf("%v, asked %d times", err, asked.Load())
			}
		}
	}
}

// TestWatchAtTheEnd: a server that ends lets go at once of those who wait.
func TestWatchAtTheEnd(t *testing.T) {
	cert := certificate(t, false)
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{T: t, pipes: make(pipes)}
		ctx, stop := context.WithCancel(t.Context())
		served := make(chan error, 1)
		handler := gbs.NewServer(storage.NewServer(mem.New(0), storage.Options{}).As(storage.Account{}), swissnum, gbs.Options{})
		go func() { served <- handler.Serve(ctx, b.pipes, cert) }()
		c := ready(t, b.client(cert))
		began := time.Now()
		done := make(chan error, 1)
		go func() {
			changed, err := c.Watch(t.Context(), tags{{1}: storage.TagOf(nil)}, time.Hour)
			if len(changed) > 0 {
				t.Errorf("changed: %x", changed)
			}
			done <- err
		}()
		time.Sleep(30 * time.Second)
		select {
		case err := <-done:
			t.Errorf("it did not wait: %v", err)
		default:
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		c.Close()
		close(b.pipes)
		if err := <-served; err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took >= 31*time.Second {
			t.Errorf("held up for %v", took-30*time.Second)
		}
	})
}

// TestWatchStalls: a server that never answers is given up, though not before its time.
func TestWatchStalls(t *testing.T) {
	cert := certificate(t, false)
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{T: t, pipes: make(pipes)}
		gone := make(chan struct{})
		handler := gbs.NewServer(storage.NewServer(mem.New(0), storage.Options{}).As(storage.Account{}), swissnum, gbs.Options{})
		silent := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/warren/v1/watch" {
				<-gone
				return
			}
			handler.ServeHTTP(w, r)
		})}
		served := make(chan error, 1)
		go func() { served <- silent.Serve(tls.NewListener(b.pipes, gbs.TLSConfig(cert))) }()
		c := ready(t, b.client(cert))
		began := time.Now()
		if _, err := c.Watch(t.Context(), tags{{1}: {}}, 40*time.Second); !errors.Is(err, gbs.ErrStalled) {
			t.Error(err)
		}
		if took := time.Since(began).Round(time.Second); took != 70*time.Second {
			t.Errorf("given up after %v", took)
		}
		close(gone)
		c.Close()
		close(b.pipes)
		silent.Close()
		<-served
	})
}
