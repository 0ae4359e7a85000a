package node

import (
	"context"
	"io"
	"slices"
	"sync"
	"time"

	"warren/node/caps"
	"warren/node/dirnode"
	"warren/node/immutable"
	"warren/node/mutable"
	"warren/node/webapi"
)

// recorded is the grid of the web API, which keeps an account of what it did, for
// /status and /statistics. What folders do goes past it: they have a status of
// their own.
type recorded struct {
	files
	history *history
}

// kept is how many finished operations of a kind are remembered, Tahoe's numbers.
var kept = map[string]int{"upload": 10, "download": 10, "mapupdate": 20, "publish": 20, "retrieve": 40}

// counted are the names of Tahoe's counters: things and bytes.
var counted = map[string][2]string{
	"upload":   {"uploader.files_uploaded", "uploader.bytes_uploaded"},
	"download": {"downloader.files_downloaded", "downloader.bytes_downloaded"},
	"publish":  {"mutable.files_published", "mutable.bytes_published"},
	"retrieve": {"mutable.files_retrieved", "mutable.bytes_retrieved"},
}

type history struct {
	mu       sync.Mutex // guards all below, and the operations
	numbers  map[string]int
	all      []*webapi.Operation // in the order of their beginning
	counters map[string]uint64
}

func newHistory() *history {
	return &history{numbers: map[string]int{}, counters: map[string]uint64{}}
}

// record is one operation under way.
type record struct {
	h  *history
	op *webapi.Operation
}

// begin records that something begins; size is below zero when it is not known.
func (h *history) begin(kind string, c caps.Cap, size int64) *record {
	h.mu.Lock()
	defer h.mu.Unlock()
	op := &webapi.Operation{Type: kind, Number: h.numbers[kind], Size: size, Started: time.Now(), Status: "Started"}
	h.numbers[kind]++
	h.all = append(h.all, op)
	r := &record{h: h, op: op}
	r.names(c)
	return r
}

// names says what it is about; h.mu is held.
func (r *record) names(c caps.Cap) {
	if c == nil {
		return
	}
	if si, ok := caps.Index(c); ok {
		r.op.Index = si.Text()
	}
}

// about says what it turned out to be about, and how large that is.
func (r *record) about(c caps.Cap, size int64) {
	r.h.mu.Lock()
	defer r.h.mu.Unlock()
	r.names(c)
	r.op.Size = size
}

// progress says how many bytes are done.
func (r *record) progress(done, of uint64) {
	r.h.mu.Lock()
	defer r.h.mu.Unlock()
	if of > 0 {
		r.op.Progress = min(1, float64(done)/float64(of))
	}
}

// end records how it ended, counts what was done, and forgets the oldest.
func (r *record) end(err error, bytes int64) {
	r.h.mu.Lock()
	defer r.h.mu.Unlock()
	r.op.Finished = time.Now()
	r.op.Status = "Failed"
	if err == nil {
		r.op.Status, r.op.Progress = "Finished", 1
		if names, ok := counted[r.op.Type]; ok {
			r.h.counters[names[0]]++
			r.h.counters[names[1]] += uint64(max(0, bytes))
		}
	}
	finished := 0
	for _, op := range slices.Backward(r.h.all) {
		if op.Type == r.op.Type && !op.Finished.IsZero() {
			finished++
		}
	}
	if finished > kept[r.op.Type] {
		i := slices.IndexFunc(r.h.all, func(op *webapi.Operation) bool { return op.Type == r.op.Type && !op.Finished.IsZero() })
		r.h.all = slices.Delete(r.h.all, i, i+1)
	}
}

// Operations are what is under way and what was done last, the newest first.
func (f recorded) Operations() []webapi.Operation {
	f.history.mu.Lock()
	defer f.history.mu.Unlock()
	list := make([]webapi.Operation, 0, len(f.history.all))
	for _, op := range slices.Backward(f.history.all) {
		list = append(list, *op)
	}
	return list
}

// Counters count what was done since the node began, under Tahoe's names.
func (f recorded) Counters() map[string]uint64 {
	f.history.mu.Lock()
	defer f.history.mu.Unlock()
	out := make(map[string]uint64, len(f.history.counters))
	for name, n := range f.history.counters {
		out[name] = n
	}
	return out
}

func (f recorded) PutFile(ctx context.Context, r io.Reader, size int64) (immutable.Result, error) {
	rec := f.history.begin("upload", nil, size)
	res, err := f.files.PutFile(immutable.WithProgress(ctx, func(p immutable.Progress) { rec.progress(p.Written, p.Total) }), r, size)
	if err == nil {
		rec.about(res.Cap, int64(res.Size))
	}
	rec.end(err, int64(res.Size))
	return res, err
}

func (f recorded) PutMutable(ctx context.Context, kind mutable.Kind, contents []byte) (caps.Cap, error) {
	rec := f.history.begin("publish", nil, int64(len(contents)))
	c, err := f.files.PutMutable(ctx, kind, contents)
	rec.about(c, int64(len(contents)))
	rec.end(err, int64(len(contents)))
	return c, err
}

func (f recorded) Overwrite(ctx context.Context, c caps.Cap, contents []byte) error {
	rec := f.history.begin("publish", c, int64(len(contents)))
	err := f.files.Overwrite(ctx, c, contents)
	rec.end(err, int64(len(contents)))
	return err
}

func (f recorded) Update(ctx context.Context, c caps.Cap, offset uint64, data []byte) error {
	rec := f.history.begin("publish", c, int64(len(data)))
	err := f.files.Update(ctx, c, offset, data)
	rec.end(err, int64(len(data)))
	return err
}

// Open records the question where a mutable file is, and of every file what is read.
func (f recorded) Open(ctx context.Context, c caps.Cap) (webapi.File, error) {
	if !caps.IsMutable(c) {
		file, err := f.files.Open(ctx, c)
		if _, ok := caps.Index(c); !ok || err != nil {
			return file, err // a literal: there is nothing to fetch
		}
		return &recordedFile{File: file, begin: func() *record { return f.history.begin("download", c, file.Size()) }}, nil
	}
	rec := f.history.begin("mapupdate", c, -1)
	file, err := f.files.Open(ctx, c)
	rec.end(err, 0)
	if err != nil {
		return nil, err
	}
	return &recordedFile{File: file, begin: func() *record { return f.history.begin("retrieve", c, file.Size()) }}, nil
}

// recordedFile records what is read of a file.
type recordedFile struct {
	webapi.File
	begin func() *record
}

func (f *recordedFile) WriteRange(ctx context.Context, w io.Writer, offset, size int64) error {
	rec := f.begin()
	counting := &countingWriter{w: w, rec: rec, size: uint64(size)}
	err := f.File.WriteRange(ctx, counting, offset, size)
	rec.end(err, int64(counting.n))
	return err
}

// countingWriter tells how much has gone through it.
type countingWriter struct {
	w       io.Writer
	rec     *record
	n, size uint64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += uint64(n)
	c.rec.progress(c.n, c.size)
	return n, err
}

func (f recorded) List(ctx context.Context, dir caps.Cap) ([]dirnode.Entry, error) {
	kind, size := "retrieve", int64(-1)
	switch d := dir.(type) {
	case caps.DirLIT:
		return f.files.List(ctx, dir)
	case caps.DirCHK:
		kind, size = "download", int64(d.Size)
	}
	rec := f.history.begin(kind, dir, size)
	entries, err := f.files.List(ctx, dir)
	rec.end(err, size)
	return entries, err
}

func (f recorded) Edit(ctx context.Context, dir caps.Cap, changes []dirnode.Change) error {
	rec := f.history.begin("publish", dir, -1)
	err := f.files.Edit(ctx, dir, changes)
	rec.end(err, 0)
	return err
}

func (f recorded) MakeDir(ctx context.Context, kind mutable.Kind, entries []dirnode.Entry) (caps.Cap, error) {
	rec := f.history.begin("publish", nil, -1)
	c, err := f.files.MakeDir(ctx, kind, entries)
	rec.about(c, -1)
	rec.end(err, 0)
	return c, err
}

func (f recorded) MakeImmutableDir(ctx context.Context, entries []dirnode.Entry) (caps.Cap, error) {
	rec := f.history.begin("upload", nil, -1)
	c, err := f.files.MakeImmutableDir(ctx, entries)
	size := int64(-1)
	switch d := c.(type) {
	case caps.DirCHK:
		size = int64(d.Size)
	case caps.DirLIT:
		size = int64(len(d.Data))
	}
	rec.about(c, size)
	rec.end(err, size)
	return c, err
}
