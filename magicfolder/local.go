package magicfolder

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"warren/magicfolder/fsys"
	"warren/magicfolder/remote"
	"warren/magicfolder/scan"
	"warren/magicfolder/state"
	"warren/magicfolder/upload"
)

// scan looks at the given paths (all, when none is given) and captures what
// changed. Files that are changing are remembered for the next time.
func (f *Folder) scan(ctx context.Context, paths ...string) error {
	f.scanMu.Lock()
	defer f.scanMu.Unlock()
	disk, err := f.open()
	if err != nil {
		f.setDisk(err)
		return err
	}
	begun := f.now()
	res, err := scan.Scan(disk, f.store, &f.ignore, paths...)
	if turn := f.ignore.Turn(); err == nil && turn != f.turn {
		// Whoever met the other patterns first: each path may be a change, or none.
		if len(paths) > 0 {
			poke(f.wakeScan)
		} else {
			f.turn = turn
			f.mu.Lock()
			if f.unwatch != nil {
				f.unwatch()
			}
			f.mu.Unlock()
		}
	}
	f.setDisk(err)
	if err != nil {
		return err
	}
	f.noteScan(res, f.now().Sub(begun), len(paths) == 0)
	found := map[string]bool{}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(f.opt.Workers)
	for _, c := range res.Changes {
		found[c.Path] = true
		g.Go(func() error { return f.captureChange(gctx, disk, c) })
	}
	err = g.Wait()
	changed := map[string]bool{}
	for _, c := range res.Changes {
		changed[c.Key] = true
	}
	f.prune(atScan, func(key string, e fileError) bool {
		return changed[key] || len(paths) > 0 && !slices.Contains(paths, e.path)
	})
	f.mu.Lock()
	for p := range f.recheck {
		if !found[p] && (len(paths) == 0 || slices.Contains(paths, p)) {
			delete(f.recheck, p)
		}
	}
	f.mu.Unlock()
	return err
}

func (f *Folder) captureChange(ctx context.Context, disk fsys.FS, c scan.Change) error {
	if !f.keys.try(c.Key) {
		// A download works on it; it compares before it replaces.
		f.lookAgain(c.Path)
		return nil
	}
	defer f.keys.unlock(c.Key)
	captured, err := f.capture(ctx, disk, c)
	switch {
	case errors.Is(err, upload.ErrChanging):
		f.lookAgain(c.Path)
		return nil
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, fsys.ErrNotFile):
		f.lookAgain(c.Path)
		return nil
	case err != nil && (ctx.Err() != nil || errors.Is(err, errCrash)):
		return err
	case err != nil:
		f.setFileError(atScan, c.Key, c.Path, err)
		return nil
	}
	f.mu.Lock()
	delete(f.recheck, c.Path)
	f.mu.Unlock()
	f.clearFileError(c.Key)
	if captured {
		f.touch()
		poke(f.wakePush)
	}
	return nil
}

// errCrash is what a test's Fault wraps to end everything at once.
var errCrash = errors.New("crashed by a test")

// capture works under the key's lock.
func (f *Folder) capture(ctx context.Context, disk fsys.FS, c scan.Change) (bool, error) {
	if c.Gone {
		// Programs that save by deleting and making anew are not caught between.
		if f.opt.Settle >= 0 && !f.goneLongEnough(c.Path) {
			return false, upload.ErrChanging
		}
		return f.capturer(disk).Gone(c.Key, c.Path)
	}
	return f.capturer(disk).File(ctx, c.Key, c.Path)
}

func (f *Folder) goneLongEnough(path string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	since, ok := f.recheck[path]
	return ok && f.now().Sub(since) >= f.opt.Settle
}

func (f *Folder) lookAgain(path string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.recheck[path]; !ok {
		f.recheck[path] = f.now()
	}
}

// A round of uploads is published when it has so many files or bytes: many
// files cost one update of the directory, and a long upload still shows.
const (
	roundFiles = 256
	roundBytes = 32 << 20
)

// push uploads what is in the stash and publishes it, until nothing is left
// that can be done now.
func (f *Folder) push(ctx context.Context) error {
	f.pushMu.Lock()
	defer f.pushMu.Unlock()
	if f.config().Membership.ReadOnly {
		return nil // what is written here stays in the stash
	}
	failed := map[string]bool{}
	tried := map[string]int{}
	for {
		lines, err := f.due()
		if err != nil {
			return err
		}
		var keys []string
		for key := range lines {
			// Not for ever: what is uploaded and cannot be published because somebody
			// works on it comes back each time.
			if !failed[key] && tried[key] < 8 {
				keys = append(keys, key)
			}
		}
		// Small ones first: a film does not hold up a letter.
		slices.SortFunc(keys, func(a, b string) int {
			if x, y := bytesOf(lines[a]), bytesOf(lines[b]); x != y {
				return int(min(max(x-y, -1), 1))
			}
			return strings.Compare(a, b)
		})
		var total int64
		for i, key := range keys {
			if total += bytesOf(lines[key]); i > 0 && total > f.round {
				keys = keys[:i]
				break
			}
		}
		keys = keys[:min(len(keys), roundFiles)]
		for _, key := range keys {
			tried[key]++
		}
		if err := f.uploadAll(ctx, keys, lines, failed); err != nil {
			f.setWaiting(err)
			return err
		}
		if err := f.publish(ctx); err != nil {
			f.setWaiting(err)
			return err
		}
		f.setWaiting(nil)
		if len(keys) == 0 {
			break
		}
	}
	if len(failed) > 0 {
		return errors.New("some files could not be uploaded")
	}
	return nil
}

func (f *Folder) setSending(keys []string) {
	sending := make(map[string]bool, len(keys))
	for _, key := range keys {
		sending[key] = true
	}
	f.sendMu.Lock()
	defer f.sendMu.Unlock()
	f.sending = sending
}

func (f *Folder) isSending(key string) bool {
	f.sendMu.Lock()
	defer f.sendMu.Unlock()
	return f.sending[key]
}

func bytesOf(line []state.Stashed) int64 {
	var n int64
	for _, v := range line {
		n += v.Size
	}
	return n
}

// due gives the captured versions that are to be uploaded now, and notes when
// the next that waits, a delete or what took a deleted file's place, is to be
// looked at again.
func (f *Folder) due() (map[string][]state.Stashed, error) {
	lines, err := f.lines()
	if err != nil {
		return nil, err
	}
	f.prune(atUpload, func(key string, _ fileError) bool { return len(lines[key]) > 0 })
	now := f.now()
	held, whole, err := f.withheld(lines)
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(lines, func(key string, _ []state.Stashed) bool { return held[key] })
	below, err := f.belowDeletes(lines, now)
	if err != nil {
		return nil, err
	}
	var next time.Time
	if len(below) > 0 {
		next = now.Add(f.opt.Poll)
	}
	for key, line := range lines {
		if below[key] {
			delete(lines, key)
			continue
		}
		for i, v := range line {
			at := time.Unix(v.Captured, 0).Add(f.opt.Linger)
			// A clock that has been set back is no reason to wait longer.
			if !v.Deleted || v.Snapshot != "" || f.opt.Linger < 0 || !now.Before(at) || at.Sub(now) > f.opt.Linger+time.Second {
				continue
			}
			if next.IsZero() || at.Before(next) {
				next = at
			}
			if line = line[:i]; whole[key] {
				line = nil // else the others would get it, and lose it again
			}
			break
		}
		if lines[key] = line; len(line) == 0 {
			delete(lines, key)
		}
	}
	f.mu.Lock()
	f.nextDue, f.stat.withholds = next, len(held) > 0
	f.mu.Unlock()
	return lines, nil
}

func (f *Folder) lines() (lines map[string][]state.Stashed, err error) {
	err = f.store.View(func(tx *state.Tx) error {
		lines, err = tx.Lines()
		return err
	})
	return lines, err
}

// heavy files are uploaded a few at a time: each holds some ten MiB of buffers.
const heavy = 256 << 10

func (f *Folder) uploadAll(ctx context.Context, keys []string, lines map[string][]state.Stashed, failed map[string]bool) error {
	author := f.config().Author
	f.setSending(keys)
	defer f.setSending(nil)
	g, gctx := errgroup.WithContext(ctx)
	slots := semaphore.NewWeighted(int64(f.opt.Workers))
	errs := make([]error, len(keys))
	for i, key := range keys {
		weight := int64(1)
		if bytesOf(lines[key]) > heavy {
			weight = int64(max(1, f.opt.Workers/6))
		}
		if slots.Acquire(gctx, weight) != nil {
			break
		}
		g.Go(func() error {
			defer slots.Release(weight)
			up := &upload.Uploader{Grid: f.opt.Grid, Store: f.store, Key: f.key, Now: f.now, Fault: f.opt.Fault,
				Read: f.sentBytes}
			err := up.Line(gctx, author, lines[key])
			switch {
			case err == nil:
				f.clearFileError(key)
			case errors.Is(err, upload.ErrMoved):
			case errors.Is(err, remote.ErrUnhappy), gctx.Err() != nil, errors.Is(err, errCrash):
				return err
			default:
				errs[i] = err
				f.setFileError(atUpload, key, lines[key][0].Relpath, err)
			}
			return nil
		})
	}
	err := g.Wait()
	all := len(keys) > 0
	for i, key := range keys {
		if errs[i] != nil {
			failed[key] = true
		} else {
			all = false
		}
	}
	if err == nil && all {
		// When nothing at all goes, it is the grid and not the files.
		err = errs[0]
	}
	return err
}
