package durable

import (
	"os"
	"slices"
	"sync"
	"time"
)

// Group puts on the disk together what many goroutines wrote by themselves. Each
// of them says what must be durable and waits; what comes while a sync is running
// is done in one go by the next. On Linux a large round is one sync of the whole
// filesystem instead of hundreds of small ones: each of those would wait for the
// medium's own cache.
//
// Make one with NewGroup for files that lie on one filesystem. Sync may be called
// concurrently; there is no goroutine between calls. Close it when nobody uses it
// any more.
type Group struct {
	whole interface {
		Sync() error
		Close() error
	}

	mu      sync.Mutex // guards what follows
	running bool
	next    *round
	patient int  // rounds until a sync of the whole filesystem is tried again
	failed  bool // a sync of the whole filesystem failed: there is none any more
}

// round is what one go makes durable. One of those who wait for it leads it.
type round struct {
	wants []*want
	lead  chan struct{} // capacity 1: the one who receives leads
	done  chan struct{}
}

// want is one caller's share of a round.
type want struct {
	files []*os.File
	dirs  []string
	err   error
}

// NewGroup returns a Group for files below dir.
func NewGroup(dir string) *Group { return &Group{whole: openWhole(dir)} }

// Close lets go of the filesystem.
func (g *Group) Close() error { return g.whole.Close() }

// Sync returns when the contents of the files and the entries of the directories
// are on the disk as they were when it was called. The files stay open. After an
// error nothing is known of the files and directories of this call.
func (g *Group) Sync(files []*os.File, dirs ...string) error {
	w := &want{files: files, dirs: dirs}
	g.mu.Lock()
	if g.next == nil {
		g.next = &round{lead: make(chan struct{}, 1), done: make(chan struct{})}
	}
	r := g.next
	r.wants = append(r.wants, w)
	if !g.running {
		g.running = true
		r.lead <- struct{}{}
	}
	g.mu.Unlock()
	select {
	case <-r.done:
		return w.err
	case <-r.lead:
	}
	g.mu.Lock()
	g.next = nil // whoever comes from here on waits for the next round
	g.mu.Unlock()
	g.do(r)
	g.mu.Lock()
	if g.next == nil {
		g.running = false
	} else {
		g.next.lead <- struct{}{}
	}
	g.mu.Unlock()
	close(r.done)
	return w.err
}

// Rounds of fewer files and directories are synced one by one; so are the rounds
// after a sync of the whole filesystem that took longer than that would have,
// because others write there too.
const (
	manyTargets   = 4
	fairPerTarget = 20 * time.Millisecond
	patience      = 16
)

func (g *Group) do(r *round) {
	targets := 0
	for _, w := range r.wants {
		targets += len(w.files) + len(w.dirs)
	}
	g.mu.Lock()
	alone := targets < manyTargets || g.patient > 0 || g.failed
	g.patient = max(0, g.patient-1)
	g.mu.Unlock()
	if alone {
		g.each(r)
		return
	}
	started := time.Now()
	err := g.whole.Sync()
	g.mu.Lock()
	if err == nil && time.Since(started) > time.Duration(targets)*fairPerTarget {
		g.patient = patience
	}
	// It cannot, or it failed, and does not say for whom: one by one tells. Nor does
	// the system tell twice: the file that it failed for may come in a later round,
	// in which a sync of everything would succeed, and only its own sync fails.
	g.failed = err != nil
	g.mu.Unlock()
	if err != nil {
		g.each(r)
	}
}

// each syncs one by one, a few at the same time.
func (g *Group) each(r *round) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, 8)
	var mu sync.Mutex // guards every want's err
	run := func(sync func() error, wants ...*want) {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := sync(); err != nil {
				mu.Lock()
				defer mu.Unlock()
				for _, w := range wants {
					w.err = err
				}
			}
		})
	}
	dirs := map[string][]*want{}
	for _, w := range r.wants {
		for _, f := range w.files {
			run(f.Sync, w)
		}
		for _, d := range w.dirs {
			if !slices.Contains(dirs[d], w) {
				dirs[d] = append(dirs[d], w)
			}
		}
	}
	for d, wants := range dirs {
		run(func() error { return SyncDir(d) }, wants...)
	}
	wg.Wait()
}
