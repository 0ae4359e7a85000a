package magicfolder

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"warren/magicfolder/conflict"
	"warren/magicfolder/download"
	"warren/magicfolder/fsys"
	"warren/magicfolder/remote"
	"warren/magicfolder/scan"
	"warren/magicfolder/snapshot"
	"warren/magicfolder/state"
	"warren/magicfolder/upload"
)

// checkRemotePath is what a path that came from the grid must pass here.
func checkRemotePath(relpath string) error {
	if err := fsys.CheckPath(relpath, runtime.GOOS == "windows"); err != nil {
		return err
	}
	if strings.Contains(relpath, scan.ConflictMark) {
		return fmt.Errorf("%w: the name of a conflict file", fsys.ErrName)
	}
	return nil
}

// poll asks the grid for changes and applies them. What comes of it is linked
// beside, by linkLoop: a write that hangs holds up no reading.
func (f *Folder) poll(ctx context.Context) error {
	f.pollMu.Lock()
	defer f.pollMu.Unlock()
	err := f.pollOnce(ctx)
	if ctx.Err() == nil {
		f.setPolled(err)
	}
	if err == nil {
		poke(f.wakeLink)
		f.mu.Lock()
		withholds := f.stat.withholds
		f.mu.Unlock()
		if withholds {
			if ours, err := f.allOurs(); err == nil && ours {
				poke(f.wakePush)
			}
		}
	}
	return err
}

func (f *Folder) pollOnce(ctx context.Context) error {
	disk, err := f.open()
	f.setDisk(err)
	if err != nil {
		return err
	}
	if err := f.refresh(ctx); err != nil {
		return err
	}
	f.setReached()
	// When our own directory cannot be read, files in which we changed nothing are
	// taken over all the same.
	unread := f.compareOwn(ctx)
	var waiting map[string][]state.Stashed
	if unread != nil {
		if waiting, err = f.lines(); err != nil {
			return err
		}
	}
	if err := f.introduce(ctx); err != nil {
		return err
	}
	work := map[string][]head{}
	todo := map[string]bool{}
	for _, p := range f.allPeers() {
		f.mu.Lock()
		for key := range p.todo {
			todo[key] = true
			if !f.failsAlone(key) && len(waiting[key]) == 0 {
				work[key] = append(work[key], head{p.name, p.dir, p.heads[key]})
			}
		}
		f.mu.Unlock()
	}
	f.prune(atDownload, func(key string, _ fileError) bool { return todo[key] })
	// What else is taken depends on the patterns.
	first := map[string][]head{}
	for key, heads := range work {
		if path.Base(key) == scan.IgnoreFile {
			first[key] = heads
			delete(work, key)
		}
	}
	f.setToLook(len(first) + len(work))
	if err := f.reconcileAll(ctx, disk, first); err != nil {
		return err
	}
	ignored, passed := f.ignore.Look(disk), map[string]string{}
	for key, heads := range work {
		if ignored(key) {
			passed[key] = heads[0].name
			delete(work, key)
			f.setLooked()
		}
	}
	f.setPassed(passed)
	return cmp.Or(f.reconcileAll(ctx, disk, work), unread)
}

// reconcileAll is reconcile for many paths.
func (f *Folder) reconcileAll(ctx context.Context, disk fsys.FS, work map[string][]head) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(max(1, f.opt.Workers/3)) // how large a file is shows late
	// In the order of the paths, a directory's files come together.
	for _, key := range slices.Sorted(maps.Keys(work)) {
		if gctx.Err() != nil {
			break
		}
		g.Go(func() error {
			defer f.setLooked()
			return f.reconcile(gctx, disk, key, work[key])
		})
	}
	err := g.Wait()
	return cmp.Or(ctx.Err(), err)
}

// reconcile brings our version of a path and the given versions of others
// together. An error ends the whole poll; what concerns this file alone is
// noted, and tried again at the next poll.
func (f *Folder) reconcile(ctx context.Context, disk fsys.FS, key string, heads []head) error {
	if err := f.keys.lock(ctx, key); err != nil {
		return err
	}
	defer func() {
		f.keys.unlock(key)
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.missed {
			f.missed = false
			poke(f.wakePush)
		}
	}()
	for _, h := range heads {
		done, err := f.meet(ctx, disk, key, h)
		switch {
		case err == nil && done:
			f.settle(key, h)
			f.clearFileError(key)
		case err == nil:
		case ctx.Err() != nil || errors.Is(err, errCrash):
			return err
		case errors.Is(err, upload.ErrChanging):
			// The user is writing to it.
		case condemned(err):
			f.alarm("version:"+h.name+":"+key, fmt.Sprintf("a version of participant %q is ignored: %v: %s", h.name, err, fsys.Printable(key)))
			f.settle(key, h)
		case errors.Is(err, remote.ErrUnhappy):
			return err
		default:
			f.setFileError(atDownload, key, key, err)
		}
	}
	return nil
}

// settle notes that a head needs no more work until it changes.
func (f *Folder) settle(key string, h head) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p := f.peers[h.dir.Text()]; p != nil && p.heads[key] == h.cap {
		delete(p.todo, key)
	}
}

// unsettle makes the next poll look at a path again.
func (f *Folder) unsettle(key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.peers {
		if _, ok := p.heads[key]; ok {
			p.todo[key] = true
		}
	}
}

// fetched is a version's content, downloaded at most once in a meeting.
type fetched struct {
	d    *download.Downloader
	s    snapshot.Snapshot
	have *download.Staged
}

func (x *fetched) get(ctx context.Context) (download.Staged, error) {
	if x.have != nil {
		// What went wrong with it before may have cleared the staging area.
		f, err := x.d.FS.OpenStaged(x.have.Name)
		if err == nil {
			now, serr := f.State()
			if f.Close(); serr == nil && now.Kind == fsys.Regular {
				return *x.have, nil
			} // else it is a link already
		}
		x.drop()
		x.have = nil
	}
	st, err := x.d.Fetch(ctx, x.s)
	if err != nil {
		return st, err
	}
	x.have = &st
	return st, nil
}

func (x *fetched) drop() {
	if x.have != nil {
		x.d.FS.Discard(x.have.Name)
	}
}

// meet works under the key's lock. done is false when the same head has to be
// looked at again later.
func (f *Folder) meet(ctx context.Context, disk fsys.FS, key string, h head) (done bool, err error) {
	s, err := f.trusted(ctx, key, h)
	if err != nil {
		return false, err
	}
	x := &fetched{d: f.downloader(disk), s: s}
	x.d.Wrote = f.receivedBytes
	defer x.drop()
	for range 8 {
		done, err = f.meetOnce(ctx, disk, key, h, s, x)
		if !errors.Is(err, download.ErrEdited) {
			return done, err
		}
		// The user's edit becomes a version of its own first.
		if _, err := f.captureNow(ctx, disk, key, s.Relpath); err != nil {
			return false, err
		}
	}
	return false, upload.ErrChanging
}

// trusted gives the version that a head names if it is what it says: of this
// path, and signed by who its author is known to be.
func (f *Folder) trusted(ctx context.Context, key string, h head) (snapshot.Snapshot, error) {
	s, err := f.version(ctx, h.cap)
	if err != nil {
		return s, err
	}
	if snapshot.Key(s.Relpath) != key {
		return s, fmt.Errorf("%w: the path inside is not that of its entry", snapshot.ErrFormat)
	}
	if err := checkRemotePath(s.Relpath); err != nil {
		return s, err
	}
	if size, _ := remote.Size(s.Content); path.Base(key) == snapshot.DirectoryMark && size > 0 {
		return s, fmt.Errorf("%w: a directory's mark with contents", snapshot.ErrFormat)
	}
	return s, f.checkAuthor(h, s)
}

// condemned says whether err is about the version itself and for good.
func condemned(err error) bool {
	return snapshot.Malformed(err) || errors.Is(err, snapshot.ErrTooDeep) || errors.Is(err, errForged) || errors.Is(err, errUnproven) || errors.Is(err, fsys.ErrName)
}

// captureNow captures whatever the disk has for a key.
func (f *Folder) captureNow(ctx context.Context, disk fsys.FS, key, relpath string) (bool, error) {
	rec, _, err := f.load(key)
	if err != nil {
		return false, err
	}
	if rec.Relpath != "" {
		relpath = rec.Relpath
	}
	it, err := disk.Lstat(relpath)
	gone := errors.Is(err, fs.ErrNotExist) || (err == nil && it.Kind == fsys.Dir)
	if err != nil && !gone {
		return false, err
	}
	ok, err := f.capture(ctx, disk, scan.Change{Key: key, Path: relpath, Gone: gone})
	if errors.Is(err, upload.ErrChanging) {
		f.lookAgain(relpath)
		poke(f.wakeScan)
	}
	if ok {
		poke(f.wakePush)
	}
	return ok, err
}

func (f *Folder) load(key string) (rec state.File, line []state.Stashed, err error) {
	err = f.store.View(func(tx *state.Tx) error {
		if rec, _, err = tx.File(key); err != nil {
			return err
		}
		line, err = tx.Line(key)
		return err
	})
	return rec, line, err
}

func (f *Folder) meetOnce(ctx context.Context, disk fsys.FS, key string, h head, s snapshot.Snapshot, x *fetched) (bool, error) {
	rec, line, err := f.load(key)
	if err != nil {
		return false, err
	}
	if rec.Relpath == "" {
		rec.Relpath = s.Relpath
	}
	if h.cap == rec.Head && len(line) == 0 {
		return true, nil
	}
	c, err := f.caseOf(ctx, rec, line, h.cap, s)
	if err != nil {
		return false, err
	}
	if c.Relation == conflict.Same || c.Relation == conflict.Older {
		return true, nil
	}
	if same, err := x.d.Unchanged(rec); err != nil {
		return false, err
	} else if !same && rec.Disk != nil {
		return false, download.ErrEdited
	}
	bothEdits := !c.None && !c.Ours.Deleted && !c.Theirs.Deleted && c.Relation == conflict.Unrelated
	if bothEdits {
		if c.Equal, err = f.equal(ctx, rec, s, x); err != nil {
			return false, err
		}
	}
	c.Waited = rec.Rival != nil && rec.Rival.Cap == h.cap && f.now().UnixNano()-rec.Rival.Since >= int64(f.opt.Grace)
	act := conflict.Decide(c)
	if hasEdits(line) {
		// What gives way stays in the history: the line goes on top of theirs, and
		// where theirs is the outcome, that ends it.
		switch act {
		case conflict.Adopt:
			act = conflict.Rebase
		case conflict.Take, conflict.Unite:
			if err := f.endWith(ctx, key, rec, s, x); err != nil {
				return false, err
			}
			return f.meetOnce(ctx, disk, key, h, s, x)
		}
	}
	if act == conflict.Rebase || act == conflict.Conflict || act == conflict.Merge {
		out, err := f.outvoted(ctx, key, rec, line, h.cap)
		if err != nil {
			return false, err
		}
		if out {
			if bothEdits && !c.Equal {
				err = f.conflictFile(ctx, key, rec, h, s, x)
			}
			return err == nil, err
		}
	}
	f.log.Debug("versions meet", "path", fsys.Printable(key), "participant", h.name, "action", act.String())
	switch act {
	case conflict.Nothing:
		return true, nil
	case conflict.Take:
		return f.take(ctx, key, rec, line, h, s, x, nil)
	case conflict.Unite:
		v, err := f.united(ctx, key, rec, line, s)
		if err != nil {
			return false, err
		}
		return f.take(ctx, key, rec, line, h, s, x, v)
	case conflict.Merge:
		return true, f.merge(ctx, key, h.cap)
	case conflict.Adopt:
		if m := s.Form.Mode; m != snapshot.ModeUnknown && rec.Disk != nil && rec.Disk.Kind == fsys.Regular && disk.Modes() && rec.Disk.Exec != (m == snapshot.Executable) {
			return f.take(ctx, key, rec, line, h, s, x, nil) // the bytes are the same, the mode is not
		}
		if err := x.d.Adopt(key, s); err != nil {
			return false, err
		}
		f.touch()
		f.unsettle(key)
		return true, nil
	case conflict.Rebase:
		return true, f.rebase(ctx, key, h.cap)
	case conflict.Conflict:
		if err := f.conflictFile(ctx, key, rec, h, s, x); err != nil {
			return false, err
		}
		if len(line) > 0 {
			return true, f.rebase(ctx, key, h.cap)
		}
		return true, f.merge(ctx, key, h.cap)
	}
	// Await: theirs is kept beside ours meanwhile.
	if rec.Rival == nil || rec.Rival.Cap != h.cap {
		if bothEdits && !c.Equal {
			if err := f.conflictFile(ctx, key, rec, h, s, x); err != nil {
				return false, err
			}
		}
		return false, f.change(key, func(r *state.File) {
			r.Rival = &state.Rival{Cap: h.cap, Name: h.name, Since: f.now().UnixNano()}
		})
	}
	return false, nil
}

// hasEdits says whether a line has bytes that its last version does not have.
func hasEdits(line []state.Stashed) bool {
	for i, v := range line {
		if i < len(line)-1 && !v.Deleted {
			return true
		}
	}
	return false
}

// endWith puts the bytes of their version in place, as the next of ours instead of the
// delete that gives way to them.
func (f *Folder) endWith(ctx context.Context, key string, rec state.File, s snapshot.Snapshot, x *fetched) error {
	if err := x.d.Fits(key, rec); err != nil {
		return err
	}
	st, err := x.get(ctx)
	if err != nil {
		return err
	}
	err = x.d.Put(key, st, state.Stashed{Key: key, Relpath: rec.Relpath, Size: st.State.Size, Sum: st.Sum, Content: s.Content,
		Modified: s.Modified, Captured: f.now().Unix(), Form: s.Form})
	if now, _, lerr := f.load(key); err == nil || lerr != nil || now.Move != nil {
		x.have = nil // it is in place, or a journal names it
	}
	if err == nil {
		f.touch()
		poke(f.wakePush)
	}
	return err
}

func (f *Folder) caseOf(ctx context.Context, rec state.File, line []state.Stashed, theirs remote.Cap, s snapshot.Snapshot) (conflict.Case, error) {
	c := conflict.Case{
		Theirs:  conflict.Version{Cap: theirs, Deleted: s.Deleted()},
		None:    rec.Head == "" && len(line) == 0,
		Pending: len(line) > 0,
		Mine:    rec.Mine,
	}
	if c.None {
		return c, nil
	}
	var err error
	is := func(old, young remote.Cap) bool {
		if err != nil || old == "" {
			return false
		}
		var ok bool
		ok, err = snapshot.IsAncestor(ctx, f.parents, old, young, f.deep)
		if errors.Is(err, snapshot.ErrTooDeep) && young == theirs {
			f.condemn(theirs, err)
		}
		return ok
	}
	if !c.Pending {
		c.Ours = conflict.Version{Cap: rec.Head, Deleted: rec.Content == ""}
		switch {
		case rec.Head == theirs:
			c.Relation = conflict.Same
		case is(rec.Head, theirs):
			c.Relation = conflict.Newer
		case is(theirs, rec.Head):
			c.Relation = conflict.Older
		}
		if err == nil && c.Relation == conflict.Unrelated {
			err = f.forked(ctx, &c, rec, line)
		}
		return c, err
	}
	c.Ours = conflict.Version{Deleted: line[len(line)-1].Deleted}
	// Walked for its error alone: a history that is too long to build on.
	is(max(rec.Head, "none"), theirs)
	for _, v := range line {
		if v.Snapshot == theirs {
			c.Relation = conflict.Older
		}
	}
	for _, p := range line[0].Parents {
		if is(theirs, p) {
			c.Relation = conflict.Older
		}
	}
	if err == nil && c.Relation == conflict.Unrelated {
		err = f.forked(ctx, &c, rec, line)
	}
	return c, err
}

// forked finds out Case.Forked, for versions of which neither descends from the
// other.
func (f *Folder) forked(ctx context.Context, c *conflict.Case, rec state.File, line []state.Stashed) error {
	below := ourParents(rec, line)
	if !c.Pending {
		var err error
		if below, err = f.parents(ctx, rec.Head); err != nil {
			return err
		}
	}
	apart, err := f.notBelow(ctx, below, c.Theirs.Cap)
	c.Forked = len(apart) > 0
	return err
}

// equal compares the bytes of their version with ours.
func (f *Folder) equal(ctx context.Context, rec state.File, s snapshot.Snapshot, x *fetched) (bool, error) {
	if size, ok := remote.Size(s.Content); ok && rec.Disk != nil && size != rec.Disk.Size {
		return false, nil
	}
	if rec.Disk != nil && rec.Disk.Kind != fsys.Mark && (rec.Disk.Kind == fsys.Symlink) != (s.Form.Kind == snapshot.Symlink) {
		return false, nil
	}
	st, err := x.get(ctx)
	return bytes.Equal(st.Sum, rec.Sum), err
}

func (f *Folder) take(ctx context.Context, key string, rec state.File, line []state.Stashed, h head, s snapshot.Snapshot, x *fetched, next *state.Stashed) (bool, error) {
	var st download.Staged
	if !s.Deleted() {
		// Before the download, which may be large.
		if err := x.d.Fits(key, rec); err != nil {
			return false, err
		}
		if size, ok := remote.Size(s.Content); s.Form.Kind == snapshot.Symlink && (!ok || size > fsys.MaxTarget) {
			return false, fsys.ErrTarget
		}
		var err error
		if st, err = x.get(ctx); err != nil {
			return false, err
		}
	}
	// A version that joins ours with another resolved a conflict, its way: our
	// bytes stay beside it.
	joined := rec.Rival != nil || (len(s.Parents) > 1 && slices.Contains(s.Parents, rec.Head))
	if joined && rec.Mine && rec.Disk != nil && len(line) == 0 && !bytes.Equal(rec.Sum, st.Sum) {
		own, err := x.d.Copy(rec.Relpath)
		if err != nil {
			return false, err
		}
		p, err := x.d.PlaceConflict(rec.Relpath, f.config().Author, own)
		if err != nil {
			return false, err
		}
		if err := f.noteConflict(key, state.Conflict{Path: p, Name: f.config().Author, Cap: rec.Head, Sum: own.Sum}); err != nil {
			return false, err
		}
	}
	if next != nil {
		next.Size, next.Sum = st.State.Size, st.Sum
		defer poke(f.wakePush)
	}
	if err := x.d.TakeAnd(key, s, st, next); err != nil {
		if now, _, lerr := f.load(key); lerr != nil || now.Move != nil {
			// A journal that stands names it: the user's bytes may be in it now.
			x.have = nil
		}
		return false, err
	}
	x.have = nil
	f.touch()
	f.unsettle(key)
	return true, f.tidyConflicts(x.d.FS, key)
}

// united gives the version that is to follow theirs, with its bytes, so that what
// we published before a delete of ours stays in the history. nil: there are as many
// merges as there may be.
func (f *Folder) united(ctx context.Context, key string, rec state.File, line []state.Stashed, s snapshot.Snapshot) (*state.Stashed, error) {
	ours, err := f.notBelow(ctx, ourParents(rec, line), s.Cap)
	if err != nil {
		return nil, err
	}
	parents, err := f.joined(ctx, key, []remote.Cap{s.Cap}, ours)
	if err != nil || len(parents) < 2 {
		return nil, err
	}
	return &state.Stashed{Key: key, Relpath: rec.Relpath, Parents: parents, Content: s.Content,
		Modified: s.Modified, Captured: f.now().Unix(), Form: s.Form}, nil
}

// version gives a checked snapshot, from memory when it was read before.
func (f *Folder) version(ctx context.Context, c remote.Cap) (snapshot.Snapshot, error) {
	f.mu.Lock()
	err := f.bad[c]
	f.mu.Unlock()
	if err != nil {
		return snapshot.Snapshot{}, err
	}
	var k state.Known
	var ok bool
	err = f.store.View(func(tx *state.Tx) error {
		var err error
		k, ok, err = tx.Known(c)
		return err
	})
	if err != nil {
		return snapshot.Snapshot{}, err
	}
	if ok {
		return snapshot.Snapshot{Cap: c, Content: k.Content, Metadata: snapshot.Metadata{Relpath: k.Relpath,
			Author: snapshot.Author{Name: k.Author, Key: k.Key}, Modified: k.Modified, Parents: k.Parents, Form: k.Form}}, nil
	}
	s, err := snapshot.Read(ctx, f.opt.Grid, c)
	if err != nil {
		if snapshot.Malformed(err) {
			f.condemn(c, err)
		}
		return s, err
	}
	return s, f.store.Update(func(tx *state.Tx) error {
		return tx.PutKnown(c, state.Known{Relpath: s.Relpath, Author: s.Author.Name, Key: s.Author.Key,
			Modified: s.Modified, Content: s.Content, Parents: s.Parents, Form: s.Form})
	})
}

// condemn remembers a version that is not to be read again.
func (f *Folder) condemn(c remote.Cap, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.bad) < 10000 {
		f.bad[c] = err
	}
}

func (f *Folder) parents(ctx context.Context, c remote.Cap) ([]remote.Cap, error) {
	s, err := f.version(ctx, c)
	return s.Parents, err
}
