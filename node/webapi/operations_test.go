package webapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"warren/node/caps"
	"warren/node/dirnode"
)

// walks is a grid whose walks stand still behind their first step until they are let go.
type walks struct {
	Grid
	letGo     chan error // what a walk ends with
	cancelled atomic.Int64
	ended     atomic.Int64
}

func (g *walks) Walk(ctx context.Context, root caps.Cap, visit func(dirnode.Step) error) error {
	defer g.ended.Add(1)
	if err := visit(dirnode.Step{Path: []string{}, Entry: dirnode.NewEntry("", root, nil), Class: dirnode.DirectoryClass, Size: 7}); err != nil {
		return err
	}
	select {
	case err := <-g.letGo:
		return err
	case <-ctx.Done():
		g.cancelled.Add(1)
		return ctx.Err()
	}
}

func (g *walks) Check(context.Context, caps.Cap, CheckOptions) (*Health, error) {
	return &Health{Healthy: true, Recoverable: true}, nil
}

func (g *walks) CheckAndRepair(context.Context, caps.Cap, CheckOptions) (*Repaired, error) {
	return nil, errors.ErrUnsupported
}

// held is a web API on them.
type heldAPI struct {
	t *testing.T
	*walks
	do func(want int, method, path string) string
}

func held(t *testing.T) *heldAPI {
	g := &walks{letGo: make(chan error)}
	h := New(Config{Grid: g})
	return &heldAPI{t, g, func(want int, method, path string) string {
		t.Helper()
		req := httptest.NewRequest(method, "http://127.0.0.1"+path, nil)
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, req)
		synctest.Wait()
		if rec.Code != want {
			t.Errorf("%s %s: %d, want %d: %s", method, path, rec.Code, want, rec.Body)
		}
		return rec.Body.String()
	}}
}

// start begins an operation that stands still.
func (h *heldAPI) start(verb, handle string) {
	h.t.Helper()
	h.do(302, "POST", "/uri/URI:DIR2-LIT:?t="+verb+"&ophandle="+handle)
}

// end lets one go.
func (h *heldAPI) end() {
	h.letGo <- nil
	synctest.Wait()
}

func (h *heldAPI) there(handle string) { h.t.Helper(); h.do(200, "GET", "/operations/"+handle) }
func (h *heldAPI) gone(handle string)  { h.t.Helper(); h.do(404, "GET", "/operations/"+handle) }

// How long handles are kept, as Tahoe keeps them.
func TestRetention(t *testing.T) {
	const day = 24 * time.Hour
	for name, run := range map[string]func(h *heldAPI){
		"not collected": func(h *heldAPI) {
			h.start("start-deep-stats", "a")
			h.end()
			time.Sleep(4*day + time.Second)
			h.gone("a")
		},
		"as long as it took": func(h *heldAPI) {
			h.start("start-deep-stats", "a")
			time.Sleep(10 * day)
			h.end()
			time.Sleep(10*day - time.Minute)
			h.there("a")
		},
		"not longer": func(h *heldAPI) {
			h.start("start-deep-stats", "a")
			time.Sleep(10 * day)
			h.end()
			time.Sleep(10*day + time.Second)
			h.gone("a")
		},
		"collected": func(h *heldAPI) {
			h.start("start-deep-stats", "a")
			h.end()
			time.Sleep(4*day - time.Minute)
			for range 10 {
				h.there("a")
				time.Sleep(23 * time.Hour)
			}
			h.there("a")
			time.Sleep(day + time.Second)
			h.gone("a")
		},
		"looked at while it runs": func(h *heldAPI) {
			h.start("start-deep-stats", "a")
			h.there("a")
			time.Sleep(40 * day)
			h.there("a")
			h.do(200, "GET", "/operations/a?release-after-complete=true")
			h.there("a")
			h.end()
			if text := h.do(200, "GET", "/operations/a?release-after-complete=true"); !strings.Contains(text, `"finished": true`) {
				h.t.Error(text)
			}
			h.gone("a")
		},
		"retain-for at the start": func(h *heldAPI) {
			h.start("start-manifest", "a&retain-for=60")
			h.start("start-deep-check", "b&retain-for=60")
			time.Sleep(61 * time.Second)
			synctest.Wait()
			h.gone("a")
			h.gone("b")
			if n := h.cancelled.Load(); n != 1 {
				h.t.Errorf("%d were cancelled: the manifest alone is of no use any more", n)
			}
			h.end()
		},
		"retain-for later": func(h *heldAPI) {
			h.start("start-deep-check", "a&retain-for=60")
			h.do(200, "GET", "/operations/a?retain-for=3600")
			time.Sleep(59 * time.Minute)
			h.there("a")
			time.Sleep(2 * time.Minute)
			h.gone("a")
			h.end()
		},
		"retain-for of what is finished": func(h *heldAPI) {
			h.start("start-deep-size", "a")
			h.end()
			h.do(200, "GET", "/operations/a?retain-for=3600")
			time.Sleep(time.Hour + time.Second)
			h.gone("a")
		},
		"cancelled": func(h *heldAPI) {
			h.start("start-deep-check", "a")
			h.do(200, "GET", "/operations/a?t=cancel")
			h.there("a")
			if text := h.do(200, "POST", "/operations/a?t=cancel&output=JSON"); !strings.Contains(text, `"finished": false`) || h.cancelled.Load() != 1 {
				h.t.Error(text)
			}
			h.gone("a")
		},
		"used again": func(h *heldAPI) {
			h.start("start-manifest", "a&retain-for=60")
			h.start("start-deep-stats", "a")
			if h.cancelled.Load() != 1 {
				h.t.Error("the first goes on for nobody")
			}
			time.Sleep(time.Hour) // the time of the first is not that of the second
			if text := h.do(200, "GET", "/operations/a"); !strings.Contains(text, `"count-directories": 1`) || !strings.Contains(text, `"finished": false`) {
				h.t.Error(text)
			}
			h.end()
		},
		"failed": func(h *heldAPI) {
			h.start("start-deep-size", "a")
			h.letGo <- dirnode.ErrUnsupported
			synctest.Wait()
			h.do(501, "GET", "/operations/a")
			h.do(501, "GET", "/operations/a?release-after-complete=1")
			h.gone("a")
		},
		"bad requests": func(h *heldAPI) {
			for _, bad := range []string{"", "a&retain-for=soon", "a&retain-for=-1", "a&retain-for=99999999999999999999", strings.Repeat("a", 2000)} {
				h.do(400, "POST", "/uri/URI:DIR2-LIT:?t=start-deep-stats&ophandle="+bad)
			}
			h.start("start-deep-stats", "a%2F%C3%BC%25")
			h.do(200, "GET", "/operations/a%2F%C3%BC%25/")
			for _, bad := range []string{"?retain-for=soon", "?release-after-complete=soon"} {
				h.do(400, "GET", "/operations/a%2F%C3%BC%25"+bad)
			}
			h.do(404, "GET", "/operations/a%2F%C3%BC%25/below")
			h.do(405, "DELETE", "/operations/a%2F%C3%BC%25")
			h.gone("")
			h.end()
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { run(held(t)) })
		})
	}
}

// The handles, the operations under way, and the memory that results take are bounded.
func TestOperationsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := held(t)
		for i := range maxHandles {
			h.start("start-deep-stats", fmt.Sprint("f", i))
			h.end()
			time.Sleep(time.Second)
		}
		for i := range maxRunning {
			h.start("start-deep-check", fmt.Sprint("r", i))
			h.gone(fmt.Sprint("f", i)) // the oldest made room
		}
		h.there(fmt.Sprint("f", maxRunning))
		h.do(503, "POST", "/uri/URI:DIR2-LIT:?t=start-manifest&ophandle=more")
		h.do(200, "POST", "/operations/r3?t=cancel")
		h.start("start-manifest", "more")
		h.do(503, "POST", "/uri/URI:DIR2-LIT:?t=start-manifest&ophandle=more2")
		for range maxRunning {
			h.end()
		}
	})

	table := newOperations(nil)
	op := &operation{form: manifest{}, cancel: func() {}}
	big := found{Step: dirnode.Step{Entry: dirnode.Entry{Name: strings.Repeat("x", 1<<20)}}}
	n := 0
	for ; table.keep(op, big) == nil; n++ {
	}
	if n < maxKept>>21 || n > maxKept>>20 {
		t.Errorf("%d MiB were kept", n)
	}
	if err := table.keep(&operation{form: deepStats{}}, big); err != nil {
		t.Errorf("figures take no memory: %v", err)
	}
	table.release(&handle{operation: op})
	if err := table.keep(op, big); err != nil || op.list != nil || table.kept != 0 {
		t.Errorf("what was released keeps %d bytes: %v", table.kept, err)
	}
}

// Who goes away ends the walk that was streamed to him.
func TestStreamEnds(t *testing.T) {
	for _, verb := range []string{"stream-manifest", "stream-deep-check"} {
		synctest.Test(t, func(t *testing.T) {
			g := &walks{letGo: make(chan error)}
			h := New(Config{Grid: g})
			ctx, cancel := context.WithCancel(t.Context())
			rec := httptest.NewRecorder()
			done := make(chan struct{})
			go func() {
				defer close(done)
				h.ServeHTTP(rec, httptest.NewRequest("POST", "http://127.0.0.1/uri/URI:DIR2-LIT:?t="+verb, nil).WithContext(ctx))
			}()
			synctest.Wait()
			if g.ended.Load() != 0 {
				t.Fatal("it ended by itself")
			}
			cancel()
			<-done
			first, last, _ := strings.Cut(rec.Body.String(), "\n")
			var l line
			if err := json.Unmarshal([]byte(first), &l); err != nil || l.Type != "directory" || *l.Cap != "URI:DIR2-LIT:" || g.ended.Load() != 1 || !strings.HasPrefix(last, "ERROR: Error(The node is stopping") {
				t.Errorf("%v, %q, %q", err, first, last)
			}
		})
	}
	// A grid that is none.
	rec := httptest.NewRecorder()
	New(Config{Grid: struct{ Grid }{}}).ServeHTTP(rec, httptest.NewRequest("POST", "http://127.0.0.1/uri/URI:DIR2-LIT:?t=stream-manifest", nil))
	if rec.Code != 501 {
		t.Error(rec.Code, rec.Body)
	}
}
