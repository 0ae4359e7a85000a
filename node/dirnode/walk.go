package dirnode

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"

	"warren/node/caps"
)

// Class is what a capability names, as far as a walk is concerned.
type Class int

const (
	// UnknownClass: of a kind that we do not know, or no capability at all, or a
	// verifycap of what can be listed or read.
	UnknownClass Class = iota
	FileClass
	DirectoryClass
)

// ClassOf tells what c names; c may be nil.
func ClassOf(c caps.Cap) Class {
	switch c.(type) {
	case caps.DirWrite, caps.DirRead, caps.DirMDMFWrite, caps.DirMDMFRead, caps.DirCHK, caps.DirLIT:
		return DirectoryClass
	case caps.LIT, caps.CHK, caps.CHKVerify, caps.SSKWrite, caps.SSKRead, caps.MDMFWrite, caps.MDMFRead:
		return FileClass
	}
	return UnknownClass
}

// Step is one thing that a walk came to.
type Step struct {
	// Path leads there from the root, whose own path is empty.
	Path []string
	// Entry is as the directory lists it; of the root it has no name.
	Entry Entry
	Class Class
	// Of a directory: the size in bytes of the file that holds it, and the number of
	// its entries.
	Size    uint64
	Entries int
	// Err is why a directory could not be read. A visitor that returns nil walks on
	// without what is in it.
	Err error
}

// How much is read ahead: directories at the same time, and entries of those that
// wait for their turn.
const (
	listing    = 4
	maxWaiting = 20_000
)

// Walk visits root and everything that can be reached from it, each file and
// directory once, in Tahoe's order: a directory that has been read, then its entries
// of unknown kinds, then its files, then, each with all that is in it, its
// directories; all by name. What two directories hold is met in the one of which it
// was learnt first.
//
// visit is called by one goroutine at a time. It may return fs.SkipDir to stay out of
// a directory, or fs.SkipAll; any other error ends the walk and is its result.
//
// A few directories are read ahead. The memory taken is that of the directories on
// the way from the root; what was met is kept in a file, see Dirs.TempDir, when there
// is much of it.
func (d *Dirs) Walk(ctx context.Context, root caps.Cap, visit func(Step) error) error {
	ctx, cancel := context.WithCancel(ctx)
	w := &walk{dirs: d, visit: visit, met: newMet(d.TempDir)}
	defer w.met.close()
	defer w.reading.Wait()
	defer cancel()
	err := w.run(ctx, root)
	if errors.Is(err, fs.SkipAll) {
		return nil
	}
	return err
}

type walk struct {
	dirs  *Dirs
	visit func(Step) error
	met   *met // verifiers

	todo    []*pending // the last one is the next
	reading sync.WaitGroup
	active  atomic.Int64 // directories being read ahead
	waiting atomic.Int64 // entries that were
}

// pending is a directory whose turn will come.
type pending struct {
	at    *trail
	entry Entry
	ahead *reading // nil: not begun
}

// trail is a path, which its children share.
type trail struct {
	above *trail
	name  string
	depth int
}

func (t *trail) path(more ...string) []string {
	n := 0
	if t != nil {
		n = t.depth
	}
	path := make([]string, n, n+len(more))
	for ; t != nil; t = t.above {
		path[t.depth-1] = t.name
	}
	return append(path, more...)
}

func (t *trail) to(name string) *trail {
	if t == nil {
		return &trail{nil, name, 1}
	}
	return &trail{t, name, t.depth + 1}
}

// reading is the contents of a directory, once done is closed.
type reading struct {
	done    chan struct{}
	entries []Entry
	size    uint64
	err     error
}

func (w *walk) run(ctx context.Context, root caps.Cap) error {
	if _, err := w.first(root); err != nil {
		return err
	}
	w.todo = []*pending{{entry: NewEntry("", root, nil)}}
	for len(w.todo) > 0 {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		w.readAhead(ctx)
		last := len(w.todo) - 1
		p := w.todo[last]
		w.todo[last] = nil
		w.todo = w.todo[:last]
		if err := w.directory(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// first says that c was not met before. Literals and unknown kinds have no
// verifier and cannot make loops.
func (w *walk) first(c caps.Cap) (bool, error) {
	v := caps.Verifier(c)
	if v == nil {
		return true, nil
	}
	return w.met.add(v.Text())
}

// readAhead begins to read the next directories.
func (w *walk) readAhead(ctx context.Context) {
	for i := len(w.todo) - 1; i >= max(0, len(w.todo)-listing); i-- {
		p := w.todo[i]
		if p.ahead != nil {
			continue
		}
		if w.active.Load() >= listing || w.waiting.Load() >= maxWaiting {
			return
		}
		p.ahead = &reading{done: make(chan struct{})}
		w.active.Add(1)
		w.reading.Go(func() {
			r := p.ahead
			r.entries, r.size, r.err = w.dirs.contents(ctx, p.entry.Cap())
			w.waiting.Add(int64(len(r.entries)))
			w.active.Add(-1)
			close(r.done)
		})
	}
}

// read gives a directory's contents. What failed ahead of its turn is tried again.
func (w *walk) read(ctx context.Context, p *pending) ([]Entry, uint64, error) {
	if r := p.ahead; r != nil {
		<-r.done
		w.waiting.Add(-int64(len(r.entries)))
		if r.err == nil {
			return r.entries, r.size, nil
		}
	}
	return w.dirs.contents(ctx, p.entry.Cap())
}

func (w *walk) directory(ctx context.Context, p *pending) error {
	entries, size, failed := w.read(ctx, p)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	step := Step{Path: p.at.path(), Entry: p.entry, Class: DirectoryClass, Size: size, Entries: len(entries)}
	if failed != nil {
		step.Err = fmt.Errorf("reading a directory, %d below the root: %w", len(step.Path), failed)
	}
	err := w.visit(step)
	if errors.Is(err, fs.SkipDir) || err == nil && failed != nil {
		return nil
	}
	if err != nil {
		return err
	}
	var dirs []*pending
	files := entries[:0]
	for _, e := range entries {
		class := ClassOf(e.Cap())
		if class == UnknownClass {
			if err := w.leaf(ctx, p, e, class); err != nil {
				return err
			}
			continue
		}
		switch first, err := w.first(e.Cap()); {
		case err != nil:
			return err
		case !first:
		case class == FileClass:
			files = append(files, e)
		default:
			dirs = append(dirs, &pending{at: p.at.to(e.Name), entry: e})
		}
	}
	for i, e := range files {
		if err := w.leaf(ctx, p, e, FileClass); err != nil {
			return err
		}
		files[i] = Entry{}
	}
	for _, d := range slices.Backward(dirs) {
		w.todo = append(w.todo, d)
	}
	return nil
}

func (w *walk) leaf(ctx context.Context, p *pending, e Entry, class Class) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	err := w.visit(Step{Path: p.at.path(e.Name), Entry: e, Class: class})
	if errors.Is(err, fs.SkipDir) {
		return nil
	}
	return err
}
