package magicfolder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"warren/magicfolder/fsys"
	"warren/magicfolder/snapshot"
	"warren/magicfolder/state"
)

// Undelete is Restore of the newest version of a deleted file that is no delete. When
// that cannot be read now it is an error: an older one would pass for it.
func (f *Folder) Undelete(ctx context.Context, relpath string) (Restored, error) {
	key := snapshot.Key(relpath)
	rec, line, err := f.load(key)
	if err != nil {
		return Restored{}, err
	}
	if rec.Relpath != "" && rec.Disk != nil {
		disk, err := f.open()
		if err != nil {
			return Restored{}, err
		}
		if it, err := disk.Lstat(rec.Relpath); err == nil && it.Kind != fsys.Dir {
			return Restored{}, ErrNotDeleted
		}
	}
	if rec.Head == "" && len(line) == 0 {
		return Restored{}, fmt.Errorf("%w: the folder has never had %s", ErrNoVersion, fsys.Printable(relpath))
	}
	return f.restore(ctx, key, func() (FileVersion, *past, error) {
		var found FileVersion
		var p *past
		err := f.walk(ctx, key, func(v FileVersion, have *past) error {
			switch {
			case have.err != nil && !condemned(have.err):
				return have.err
			case v.Deleted || v.Problem != "":
				return nil
			}
			found, p = v, have
			return errEnough
		})
		if err == nil {
			return found, nil, fmt.Errorf("%w: it was never there", ErrNoVersion)
		}
		if errors.Is(err, errEnough) {
			err = nil
		}
		return found, p, err
	})
}

// Below is what came of UndeleteBelow.
type Below struct {
	Path string `json:"path"` // of the directory
	// Files are those that are there again, in the order of their paths. A path that
	// ends in a slash is of an empty directory that was made for its own sake.
	Files []Restored `json:"files"`
	// Failed are those that could not be brought back, and why.
	Failed []FileStatus `json:"failed"`
}

// IsDirectory says whether to undelete a path is to undelete what is below it: a
// directory stands there, or no file ever did and one below it is deleted.
func (f *Folder) IsDirectory(ctx context.Context, relpath string) (bool, error) {
	disk, err := f.open()
	if err != nil {
		return false, err
	}
	if it, err := disk.Lstat(relpath); err == nil {
		return it.Kind == fsys.Dir, nil
	}
	key := snapshot.Key(relpath)
	if rec, line, err := f.load(key); err != nil || rec.Relpath != "" || len(line) > 0 {
		return false, err
	}
	err = f.eachDeleted(ctx, key, func(string, DeletedFile) error { return errEnough })
	if errors.Is(err, errEnough) {
		return true, nil
	}
	return false, err
}

// UndeleteBelow is Undelete of all that is deleted below a directory. What cannot be
// brought back does not hold up the rest. An error says that nothing was tried, or
// that it broke off; what is there again by then stays.
func (f *Folder) UndeleteBelow(ctx context.Context, dir string) (Below, error) {
	key := snapshot.Key(dir)
	out := Below{Path: dir, Files: []Restored{}, Failed: []FileStatus{}}
	var files, marks []string
	err := f.eachDeleted(ctx, key, func(k string, d DeletedFile) error {
		switch {
		case k == key:
		case path.Base(k) == snapshot.DirectoryMark:
			marks = append(marks, d.Path)
		default:
			files = append(files, d.Path)
		}
		return nil
	})
	if err != nil {
		return out, err
	}
	if len(files)+len(marks) == 0 {
		return out, fmt.Errorf("%w: nothing below %s is deleted", ErrNoVersion, fsys.Printable(dir))
	}
	disk, err := f.open()
	if err != nil {
		return out, err
	}
	var mu sync.Mutex // guards out
	bring := func(paths []string, shown func(string) string) error {
		g, gctx := errgroup.WithContext(ctx)
		g.SetLimit(max(1, f.opt.Workers/3))
		for _, p := range paths {
			if gctx.Err() != nil {
				break
			}
			g.Go(func() error {
				r, err := f.Undelete(gctx, p)
				r.Path = shown(p)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case gctx.Err() != nil:
					return gctx.Err()
				case errors.Is(err, errCrash):
					return err
				case errors.Is(err, ErrNotDeleted): // somebody was faster
				case err != nil:
					out.Failed = append(out.Failed, FileStatus{Path: r.Path, Message: err.Error()})
				default:
					out.Files = append(out.Files, r)
				}
				return nil
			})
		}
		return cmp.Or(g.Wait(), ctx.Err())
	}
	err = bring(files, func(p string) string { return p })
	if err == nil {
		marks = slices.DeleteFunc(marks, func(p string) bool {
			_, err := disk.Lstat(path.Dir(p))
			return err == nil // it is there again with what is in it
		})
		err = bring(marks, func(p string) string { return path.Dir(p) + "/" })
	}
	slices.SortFunc(out.Files, func(a, b Restored) int { return strings.Compare(a.Path, b.Path) })
	slices.SortFunc(out.Failed, func(a, b FileStatus) int { return strings.Compare(a.Path, b.Path) })
	return out, err
}

// DeletedFile can be undeleted.
type DeletedFile struct {
	Path   string    `json:"path"`
	Time   time.Time `json:"time,omitzero"` // of the delete
	Author string    `json:"author,omitempty"`
}

// Deleted lists the deleted files of the folder, in the order of their paths.
func (f *Folder) Deleted(ctx context.Context) ([]DeletedFile, error) {
	out := []DeletedFile{}
	err := f.eachDeleted(ctx, "", func(key string, d DeletedFile) error {
		if path.Base(key) != snapshot.DirectoryMark {
			out = append(out, d)
		}
		return nil
	})
	slices.SortFunc(out, func(a, b DeletedFile) int { return strings.Compare(a.Path, b.Path) })
	return out, err
}

// eachDeleted gives what is deleted at a path and below it, "" is all, with the marks
// of directories. fn must not ask the store.
func (f *Folder) eachDeleted(ctx context.Context, dir string, fn func(key string, d DeletedFile) error) error {
	own := f.Participant()
	return f.store.View(func(tx *state.Tx) error {
		return tx.FilesUnder(dir, nil, func(key string, rec state.File) error {
			if rec.Disk != nil || rec.Relpath == "" {
				return ctx.Err()
			}
			line, err := tx.Line(key)
			if err != nil {
				return err
			}
			d := DeletedFile{Path: rec.Relpath}
			if n := len(line); n > 0 {
				d.Time, d.Author = time.Unix(line[n-1].Modified, 0), own
			} else if rec.Head == "" {
				return nil
			} else if k, ok, err := tx.Known(rec.Head); err != nil {
				return err
			} else if ok {
				if k.Content == "" && len(k.Parents) == 0 {
					return nil // it was deleted before anybody had it
				}
				d.Time, d.Author = time.Unix(k.Modified, 0), k.Author
			}
			return fn(key, d)
		})
	})
}
