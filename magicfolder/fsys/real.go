package fsys

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"time"
	"unicode/utf8"
)

type real struct {
	dir  string
	root *os.Root
	info os.FileInfo // of dir when it was opened
}

// Make prepares a directory to be a folder: it and its staging area are made
// when missing. Files that are there stay.
func Make(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	err := os.Mkdir(filepath.Join(dir, Staging), 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// Open opens a directory that Make has prepared.
func Open(dir string) (FS, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, ErrMissing
		}
		return nil, err
	}
	info, err := root.Stat(".")
	if err != nil {
		root.Close()
		return nil, err
	}
	r := &real{dir: dir, root: root, info: info}
	if err := r.Present(); err != nil {
		root.Close()
		return nil, err
	}
	return r, nil
}

func (r *real) Close() error { return r.root.Close() }

func (r *real) Present() error {
	now, err := os.Stat(r.dir)
	if err != nil || !os.SameFile(now, r.info) {
		return ErrMissing
	}
	// Where a disk is mounted, the empty directory below it has no staging area.
	if st, err := r.root.Lstat(Staging); err != nil || !st.IsDir() {
		return fmt.Errorf("%w; a directory is there, without the %s of the folder: if it is the right one, make that in it", ErrMissing, Staging)
	}
	return nil
}

func state(info os.FileInfo) State {
	return State{Size: info.Size(), Modified: info.ModTime().UnixNano(), Inode: inode(info)}
}

func item(p string, info os.FileInfo) Item {
	it := Item{Path: p, State: state(info)}
	switch {
	case info.Mode().IsRegular():
		it.Kind = Regular
	case info.IsDir():
		it.Kind = Dir
	case info.Mode()&fs.ModeSymlink != 0:
		it.Kind, it.Problem = Other, "a symbolic link: not synced"
	default:
		it.Kind, it.Problem = Other, "neither a file nor a directory: not synced"
	}
	return it
}

func (r *real) Walk(dir string, fn func(Item) error) error {
	name := dir
	if name == "" {
		name = "."
	}
	d, err := r.root.Open(name)
	if err != nil {
		return err
	}
	defer d.Close()
	for {
		entries, err := d.ReadDir(256)
		for _, e := range entries {
			p := path.Join(dir, e.Name())
			if dir == "" && e.Name() == Staging {
				continue
			}
			if !utf8.ValidString(e.Name()) {
				if err := fn(Item{Path: p, Kind: Other, Problem: "the name is not UTF-8: not synced"}); err != nil {
					return err
				}
				continue
			}
			info, err := r.root.Lstat(p)
			if err != nil {
				if errors.Is(err, fs.ErrNotExist) {
					continue
				}
				if err := fn(Item{Path: p, Kind: Other, Problem: "cannot be looked at: " + cause(err)}); err != nil {
					return err
				}
				continue
			}
			it := item(p, info)
			if err := fn(it); err != nil {
				return err
			}
			if it.Kind != Dir {
				continue
			}
			if err := r.Walk(p, fn); err != nil {
				if errors.Is(err, fs.ErrNotExist) {
					continue
				}
				if !errors.Is(err, fs.ErrPermission) {
					return err
				}
				if err := fn(Item{Path: p, Kind: Dir, Problem: "cannot be read: " + cause(err)}); err != nil {
					return err
				}
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// cause is an error's reason without the paths around it.
func cause(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}

// noLinks refuses a path that leads through a symlink: it would stay inside the
// root, but in another place than the name says.
func (r *real) noLinks(p string) error {
	for i := 0; i < len(p); i++ {
		if p[i] != '/' {
			continue
		}
		info, err := r.root.Lstat(p[:i])
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if !info.IsDir() {
			return fmt.Errorf("a part of the path is no directory: %w", fs.ErrExist)
		}
	}
	return nil
}

func (r *real) check(p string) error {
	if err := CheckPath(p, runtime.GOOS == "windows"); err != nil {
		return err
	}
	return r.noLinks(p)
}

func (r *real) Lstat(p string) (Item, error) {
	if err := CheckPath(p, runtime.GOOS == "windows"); err != nil {
		return Item{}, err
	}
	if err := r.noLinks(p); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return Item{}, fmt.Errorf("a part of the path is no directory: %w", fs.ErrNotExist)
		}
		return Item{}, err
	}
	info, err := r.root.Lstat(p)
	if err != nil {
		return Item{}, err
	}
	return item(p, info), nil
}

func (r *real) Same(a, b string) bool {
	x, err := r.root.Lstat(a)
	if err != nil {
		return false
	}
	y, err := r.root.Lstat(b)
	return err == nil && os.SameFile(x, y)
}

type realFile struct{ *os.File }

func (f realFile) State() (State, error) {
	info, err := f.Stat()
	if err != nil {
		return State{}, err
	}
	return state(info), nil
}

func (r *real) open(p string) (File, error) {
	before, err := r.root.Lstat(p)
	if err != nil {
		return nil, err
	}
	if !before.Mode().IsRegular() {
		return nil, ErrNotFile
	}
	f, err := r.root.OpenFile(p, os.O_RDONLY|nonblock, 0)
	if err != nil {
		return nil, err
	}
	after, err := f.Stat()
	if err != nil || !os.SameFile(before, after) {
		f.Close()
		return nil, ErrNotFile
	}
	return realFile{f}, nil
}

func (r *real) Open(p string) (File, error) {
	if err := r.check(p); err != nil {
		return nil, err
	}
	return r.open(p)
}

func stagedPath(name string) string { return Staging + "/" + name }

type realWriter struct {
	r    *real
	f    *os.File
	name string
	done bool
}

func (r *real) Create(staged string) (Writer, error) {
	if err := stagedName(staged); err != nil {
		return nil, err
	}
	f, err := r.root.OpenFile(stagedPath(staged), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, err
	}
	return &realWriter{r: r, f: f, name: staged}, nil
}

func (w *realWriter) Write(p []byte) (int, error) { return w.f.Write(p) }

func (w *realWriter) Finish(modified time.Time) (State, error) {
	err := w.f.Sync()
	if cerr := w.f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = w.r.root.Chtimes(stagedPath(w.name), modified, modified)
	}
	var info os.FileInfo
	if err == nil {
		info, err = w.r.root.Lstat(stagedPath(w.name))
	}
	if err != nil {
		w.Abort()
		return State{}, err
	}
	w.done = true
	return state(info), nil
}

func (w *realWriter) Abort() {
	if w.done {
		return
	}
	w.done = true
	w.f.Close()
	w.r.root.Remove(stagedPath(w.name))
}

func (r *real) OpenStaged(staged string) (File, error) {
	if err := stagedName(staged); err != nil {
		return nil, err
	}
	return r.open(stagedPath(staged))
}

func (r *real) Place(staged, p string) error {
	if err := r.prepare(staged, p); err != nil {
		return err
	}
	if err := r.renameNew(stagedPath(staged), p); err != nil {
		return err
	}
	return r.syncParents(stagedPath(staged), p)
}

func (r *real) prepare(staged, p string) error {
	if err := stagedName(staged); err != nil {
		return err
	}
	if err := r.check(p); err != nil {
		return err
	}
	if dir := path.Dir(p); dir != "." {
		return r.root.MkdirAll(dir, 0o777)
	}
	return nil
}

func (r *real) Swap(staged, p string) error {
	if err := r.prepare(staged, p); err != nil {
		return err
	}
	// A replaced script stays executable.
	if err := r.CopyMode(p, staged); err != nil {
		return err
	}
	if err := r.exchange(stagedPath(staged), p); err != nil {
		return err
	}
	return r.syncParents(stagedPath(staged), p)
}

func (r *real) CopyMode(p, staged string) error {
	if err := stagedName(staged); err != nil {
		return err
	}
	if err := r.check(p); err != nil {
		return err
	}
	from, err := r.root.Lstat(p)
	if err != nil {
		return err
	}
	if !from.Mode().IsRegular() {
		return ErrNotFile
	}
	return r.root.Chmod(stagedPath(staged), from.Mode().Perm())
}

func (r *real) Take(p, staged string) error {
	if err := stagedName(staged); err != nil {
		return err
	}
	if err := r.check(p); err != nil {
		return err
	}
	it, err := r.root.Lstat(p)
	if err != nil {
		return err
	}
	if !it.Mode().IsRegular() {
		return ErrNotFile
	}
	if err := r.root.Rename(p, stagedPath(staged)); err != nil {
		return err
	}
	if err := r.syncParents(stagedPath(staged), p); err != nil {
		return err
	}
	// Remove fails on the first directory that holds something.
	for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
		if r.root.Remove(dir) != nil {
			break
		}
	}
	return nil
}

func (r *real) Rename(from, to string) error {
	if path.Dir(from) != path.Dir(to) {
		return fmt.Errorf("%w: in another directory", ErrName)
	}
	for _, p := range []string{from, to} {
		if err := r.check(p); err != nil {
			return err
		}
	}
	it, err := r.root.Lstat(from)
	if err != nil {
		return err
	}
	if !it.Mode().IsRegular() {
		return ErrNotFile
	}
	if err := r.renameNew(from, to); err != nil {
		return err
	}
	return r.syncParents(to)
}

func (r *real) syncParents(names ...string) error {
	done := ""
	for _, n := range names {
		dir := path.Dir(n)
		if dir == done {
			continue
		}
		done = dir
		if err := r.syncDir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (r *real) Discard(staged string) error {
	if err := stagedName(staged); err != nil {
		return err
	}
	err := r.root.Remove(stagedPath(staged))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (r *real) Staged() ([]string, error) {
	d, err := r.root.Open(Staging)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	out := names[:0]
	for _, n := range names {
		if !strings.HasPrefix(n, ".") {
			out = append(out, n)
		}
	}
	return out, err
}

// setAside is exchange for systems without such a call. Between the two
// renames path names nothing; the journal of whoever swaps covers a crash there.
func (r *real) setAside(staged, p string) error {
	aside := staged + asideSuffix
	if err := r.root.Rename(p, aside); err != nil {
		return err
	}
	if err := r.renameNew(staged, p); err != nil {
		if back := r.renameNew(aside, p); back != nil {
			return fmt.Errorf("%w (and what stood there is kept in the staging area: %w)", err, back)
		}
		return err
	}
	return r.root.Rename(aside, staged)
}

const asideSuffix = ".old"

// linkNew is a rename that replaces nothing, for systems without such a call.
func (r *real) linkNew(from, to string) error {
	err := r.root.Link(from, to)
	if err == nil {
		return r.root.Remove(from)
	}
	if errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// A file system without hard links (FAT): look, then rename.
	if _, lerr := r.root.Lstat(to); lerr == nil {
		return &fs.PathError{Op: "place", Path: "", Err: fs.ErrExist}
	}
	return r.root.Rename(from, to)
}

// Unmake removes the staging area of a folder that is one no longer. The files
// of the user's stay.
func Unmake(dir string) error {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer root.Close()
	return root.RemoveAll(Staging)
}
