package webapi

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"warren/node/immutable"
)

// ToldType is the media type of an answer that tells how far an upload is.
const ToldType = "application/x-ndjson"

// Told is a line of such an answer. The first ones, if there are any, hold Written
// and Total alone: bytes of all shares, as servers take them. They begin when the
// request's body has arrived. The last one holds what came of it: Status and Text are
// what the answer would have been without them; the rest is there when a file was
// stored. When nothing was told before, the answer's own status is Status, too, and a
// failure is answered as if nobody had asked for lines.
type Told struct {
	Written uint64 `json:"written,omitempty"`
	Total   uint64 `json:"total,omitempty"`

	Status int     `json:"status,omitempty"`
	Text   string  `json:"text,omitempty"` // the capability, or what went wrong
	Stored *Stored `json:"stored,omitempty"`
}

// Stored says how a file was stored.
type Stored struct {
	Size      uint64 `json:"size"`
	Happiness int    `json:"happiness"`
	Pushed    int    `json:"shares_pushed"`
	Existing  int    `json:"shares_existing"`
	// Resumed is how many bytes servers had from a try that broke off.
	Resumed uint64 `json:"resumed_bytes"`
}

// tellEvery is the least time between two lines.
const tellEvery = 200 * time.Millisecond

type tellerKey struct{}

func wantsTold(r *http.Request) bool {
	return r.Method == http.MethodPut && r.Header.Get("Accept") == ToldType
}

// teller is the ResponseWriter of a PUT that wants to be told: it keeps the answer
// that is written to it for the last line.
type teller struct {
	w       http.ResponseWriter
	arrived atomic.Bool // the request's body has

	mu      sync.Mutex // guards what follows, and writing to w
	header  http.Header
	code    int
	text    bytes.Buffer
	result  *Stored
	started bool
	last    time.Time
}

// newTeller returns a teller and the request to handle with it.
func newTeller(w http.ResponseWriter, r *http.Request) (*teller, *http.Request) {
	t := &teller{w: w, header: http.Header{}}
	ctx := immutable.WithProgress(r.Context(), t.progress)
	r = r.WithContext(context.WithValue(ctx, tellerKey{}, t))
	r.Body = &watched{r.Body, r.ContentLength, &t.arrived}
	return t, r
}

// watched notes when a body has been read to its end.
type watched struct {
	io.ReadCloser
	left int64 // below zero: not known
	end  *atomic.Bool
}

func (b *watched) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	if err == io.EOF || b.left == 0 {
		b.end.Store(true)
	}
	return n, err
}

func (t *teller) Header() http.Header { return t.header }

func (t *teller) WriteHeader(code int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.code == 0 {
		t.code = code
	}
}

func (t *teller) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.code == 0 {
		t.code = http.StatusOK
	}
	return t.text.Write(b)
}

// progress tells how far the upload is. As long as the body is on its way nothing is:
// a client that gets its answer early may stop sending.
func (t *teller) progress(p immutable.Progress) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.arrived.Load() || time.Since(t.last) < tellEvery {
		return
	}
	t.last = time.Now()
	t.line(http.StatusOK, Told{Written: p.Written, Total: p.Total})
}

// line writes a line; t.mu is held.
func (t *teller) line(code int, v Told) {
	if !t.started {
		t.started = true
		t.w.Header().Set("Content-Type", ToldType)
		t.w.WriteHeader(code)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return // it is numbers and text
	}
	// Who does not listen any more ends the request's context.
	_, _ = t.w.Write(append(b, '\n'))
	_ = http.NewResponseController(t.w).Flush()
}

func (t *teller) stored(res immutable.Result) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.result = &Stored{Size: res.Size, Happiness: res.Happiness, Pushed: res.Pushed, Existing: res.Existing, Resumed: res.Resumed}
}

// finish sends what the handler answered.
func (t *teller) finish() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.code == 0 {
		return // the handler gave up on the connection
	}
	if t.code/100 != 2 && !t.started {
		for k, v := range t.header {
			t.w.Header()[k] = v
		}
		t.w.WriteHeader(t.code)
		_, _ = t.w.Write(t.text.Bytes())
		return
	}
	t.line(t.code, Told{Status: t.code, Text: strings.TrimSpace(t.text.String()), Stored: t.result})
}
