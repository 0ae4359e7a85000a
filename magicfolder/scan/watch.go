package scan

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/fsnotify/fsnotify"

	"warren/magicfolder/fsys"
)

// Event is a place to look at, relative to the folder; or, with All, a reason
// to look everywhere.
type Event struct {
	Path string
	All  bool
}

// ErrWatch says that the system watches no more directories for us: changes are
// found by the periodic scan alone.
var ErrWatch = errors.New("the system does not watch all of the folder: changes are found by scanning")

// Watch sends events to out until ctx ends; it returns nil then, and an error
// when watching is not possible or not complete, or when dir itself goes away.
// It calls standing once everything is watched. Directories that are ignored, by what
// disk has when we come to them, are not. Events may be lost: they are a hint, the
// scan is the truth.
func (g *Ignore) Watch(ctx context.Context, disk fsys.FS, dir string, out chan<- Event, standing func()) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return errors.Join(ErrWatch, err)
	}
	defer w.Close()
	if err := addTree(w, g.look(disk), dir, dir); err != nil {
		return errors.Join(ErrWatch, err)
	}
	send := func(e Event) bool {
		select {
		case out <- e:
			return true
		case <-ctx.Done():
			return false
		}
	}
	standing()
	// What changed before the watches stood.
	if !send(Event{All: true}) {
		return nil
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case err, ok := <-w.Errors:
			if !ok {
				return ErrWatch
			}
			if !errors.Is(err, fsnotify.ErrEventOverflow) {
				return errors.Join(ErrWatch, err)
			}
			if !send(Event{All: true}) {
				return nil
			}
		case ev, ok := <-w.Events:
			if !ok {
				return ErrWatch
			}
			rel, err := filepath.Rel(dir, ev.Name)
			if err != nil {
				continue
			}
			if rel == "." {
				if ev.Has(fsnotify.Remove) || ev.Has(fsnotify.Rename) {
					// What comes to stand there is another directory.
					return ErrWatch
				}
				continue
			}
			rel = filepath.ToSlash(rel)
			if rel == fsys.Staging {
				continue
			}
			if ev.Has(fsnotify.Create) {
				if info, err := os.Lstat(ev.Name); err == nil && info.IsDir() {
					if err := addTree(w, g.look(disk), dir, ev.Name); err != nil {
						return errors.Join(ErrWatch, err)
					}
				}
			}
			if !send(Event{Path: rel}) {
				return nil
			}
		}
	}
}

func addTree(w *fsnotify.Watcher, look *look, root, dir string) error {
	within := false // the directories above are known not to be ignored
	return filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			if p == root {
				return err
			}
			// Gone again, or unreadable: the scan reports it.
			return nil
		}
		if !d.IsDir() {
			return nil
		}
		if filepath.Dir(p) == root && d.Name() == fsys.Staging {
			return filepath.SkipDir
		}
		if rel, err := filepath.Rel(root, p); err == nil && rel != "." {
			rel = filepath.ToSlash(rel)
			if ignored := !within && look.under(rel, true) || within && look.at(rel, true); ignored {
				return filepath.SkipDir
			}
		}
		within = true
		if err := w.Add(p); err != nil && !errors.Is(err, fs.ErrNotExist) && (p == root || !errors.Is(err, fs.ErrPermission)) {
			return err
		}
		return nil
	})
}
