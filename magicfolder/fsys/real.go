package fsys

import (
	"cmp"
	"crypto/rand"
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

	"warren/magicfolder/snapshot"
)

type real struct {
	dir   string
	root  *os.Root
	info  os.FileInfo // of dir when it was opened
	modes bool
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
	r.modes = r.keepsModes()
	return r, nil
}

// keepsModes tries whether a file that may be executed differs from one that may
// not: on FAT, for one, all are the same.
func (r *real) keepsModes() bool {
	if runtime.GOOS == "windows" {
		return false
	}
	name := stagedPath(rand.Text())
	f, err := r.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return true // a full disk says nothing of it
	}
	f.Close()
	defer r.root.Remove(name)
	before, err := r.root.Lstat(name)
	if err != nil || before.Mode()&0o100 != 0 || r.root.Chmod(name, 0o700) != nil {
		return false
	}
	after, err := r.root.Lstat(name)
	return err == nil && after.Mode()&0o100 != 0
}

func (r *real) Modes() bool { return r.modes }

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

func (r *real) state(info os.FileInfo) State {
	return State{Size: info.Size(), Modified: info.ModTime().UnixNano(), Inode: inode(info),
		Exec: r.modes && info.Mode().IsRegular() && info.Mode()&0o100 != 0}
}

// item describes what stands at p; readlink reads it.
func (r *real) item(p string, info os.FileInfo, readlink func() (string, error)) Item {
	it := Item{Path: p, State: r.state(info)}
	switch {
	case info.Mode().IsRegular():
		it.Kind = Regular
	case info.IsDir():
		it.Kind = Dir
	case info.Mode()&fs.ModeSymlink != 0:
		it.Kind = Other
		target, err := readlink()
		switch {
		case runtime.GOOS == "windows":
			it.Problem = "a symbolic link: not synced"
		case err != nil:
			it.Problem = "a symbolic link that cannot be read: " + cause(err)
		case CheckTarget(p, target) != nil:
			it.Problem = ErrTarget.Error() + ": not synced"
		default:
			it.Kind, it.State.Kind, it.State.Size = Symlink, Symlink, int64(len(target))
		}
	default:
		it.Kind, it.Problem = Other, "neither a file nor a directory: not synced"
	}
	return it
}

// markOf is the mark in a directory.
func (r *real) markOf(dir string, info os.FileInfo) Item {
	return Item{Path: dir + "/" + snapshot.DirectoryMark, Kind: Mark,
		State: State{Modified: info.ModTime().UnixNano(), Inode: inode(info), Kind: Mark}}
}

func isMark(p string) bool { return path.Base(p) == snapshot.DirectoryMark }

func (r *real) Walk(dir string, fn func(Item) error) error {
	if dir == "" {
		return r.walk(r.root, "", r.info, fn)
	}
	info, err := r.root.Lstat(dir)
	if err != nil {
		return err
	}
	sub, err := r.root.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer sub.Close()
	return r.walk(sub, dir, info, fn)
}

// walk is Walk in the directory at is, which was seen as info. Each name is looked
// up in the directory that is open already: a path costs a call for each part.
func (r *real) walk(at *os.Root, dir string, info os.FileInfo, fn func(Item) error) error {
	d, err := at.Open(".")
	if err != nil {
		return err
	}
	defer d.Close()
	if now, err := d.Stat(); err != nil || !os.SameFile(now, info) {
		return fs.ErrNotExist // replaced by a link meanwhile: the next scan sees it
	}
	prefix := ""
	if dir != "" {
		prefix = dir + "/"
	}
	empty := dir != ""
	for {
		names, err := d.Readdirnames(256)
		for _, name := range names {
			empty = false
			if dir == "" && name == Staging {
				continue
			}
			if err := r.visit(at, name, prefix+name, fn); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if !empty {
		return nil
	}
	return fn(r.markOf(dir, info))
}

// visit is walk for one name.
func (r *real) visit(at *os.Root, name, p string, fn func(Item) error) error {
	switch {
	case !utf8.ValidString(name):
		return fn(Item{Path: p, Kind: Other, Problem: "the name is not UTF-8: not synced"})
	case name == snapshot.DirectoryMark:
		return fn(Item{Path: p, Kind: Other, Problem: "a name that is reserved: not synced"})
	}
	info, err := at.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fn(Item{Path: p, Kind: Other, Problem: "cannot be looked at: " + cause(err)})
	}
	it := r.item(p, info, func() (string, error) { return at.Readlink(name) })
	if err := fn(it); err != nil || it.Kind != Dir {
		if it.Kind == Dir && errors.Is(err, fs.SkipDir) {
			return nil
		}
		return err
	}
	sub, err := at.OpenRoot(name)
	if err == nil {
		err = r.walk(sub, p, info, fn)
		sub.Close()
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if errors.Is(err, fs.ErrPermission) {
		return fn(Item{Path: p, Kind: Dir, Problem: "cannot be read: " + cause(err)})
	}
	return err
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
	if isMark(p) {
		dir := path.Dir(p)
		info, err := r.root.Lstat(dir)
		if err != nil {
			return Item{}, err
		}
		if !info.IsDir() {
			return Item{}, fs.ErrNotExist
		}
		return r.markOf(dir, info), nil
	}
	info, err := r.root.Lstat(p)
	if err != nil {
		return Item{}, err
	}
	return r.item(p, info, func() (string, error) { return r.root.Readlink(p) }), nil
}

func (r *real) Empty(p string) bool {
	if r.check(p) != nil {
		return false
	}
	before, err := r.root.Lstat(p)
	if err != nil || !before.IsDir() {
		return false
	}
	d, err := r.root.Open(p)
	if err != nil {
		return false
	}
	defer d.Close()
	if now, err := d.Stat(); err != nil || !os.SameFile(now, before) {
		return false
	}
	_, err = d.Readdirnames(1)
	return errors.Is(err, io.EOF)
}

func (r *real) Same(a, b string) bool {
	x, err := r.root.Lstat(a)
	if err != nil {
		return false
	}
	y, err := r.root.Lstat(b)
	return err == nil && os.SameFile(x, y)
}

type realFile struct {
	*os.File
	r *real
}

func (f realFile) State() (State, error) {
	info, err := f.Stat()
	if err != nil {
		return State{}, err
	}
	return f.r.state(info), nil
}

// textFile is a symlink or a mark, read.
type textFile struct {
	*strings.Reader
	state State
}

func (f textFile) Close() error { return nil }

func (f textFile) State() (State, error) { return f.state, nil }

func (r *real) open(p string) (File, error) {
	before, err := r.root.Lstat(p)
	if err != nil {
		return nil, err
	}
	if before.Mode()&fs.ModeSymlink != 0 && runtime.GOOS != "windows" {
		return r.openLink(p, before)
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
	return realFile{f, r}, nil
}

func (r *real) openLink(p string, before os.FileInfo) (File, error) {
	target, err := r.root.Readlink(p)
	if err != nil {
		return nil, err
	}
	after, err := r.root.Lstat(p)
	if err != nil {
		return nil, err
	}
	st := r.state(before)
	if now := r.state(after); now != st || after.Mode()&fs.ModeSymlink == 0 {
		return nil, ErrNotFile
	}
	st.Kind, st.Size = Symlink, int64(len(target))
	return textFile{strings.NewReader(target), st}, nil
}

func (r *real) Open(p string) (File, error) {
	if err := r.check(p); err != nil {
		return nil, err
	}
	it, err := r.Lstat(p)
	if err != nil {
		return nil, err
	}
	switch it.Kind {
	case Mark:
		return textFile{strings.NewReader(""), it.State}, nil
	case Regular, Symlink:
		return r.open(p)
	}
	return nil, ErrNotFile
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
	return w.r.state(info), nil
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
	if isMark(p) {
		return r.Discard(staged) // the directory is made
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
	if err := stagedName(staged); err != nil {
		return err
	}
	if err := r.check(p); err != nil {
		return err
	}
	it, err := r.Lstat(p)
	switch {
	case err != nil || it.Kind == Mark:
		return err
	case !it.Kind.Synced():
		return ErrNotFile
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
	it, err := r.Lstat(p)
	switch {
	case err != nil:
		return err
	case it.Kind == Mark:
		w, err := r.Create(staged)
		if err != nil {
			return err
		}
		if _, err := w.Finish(time.Unix(0, it.State.Modified)); err != nil {
			return err
		}
		r.RemoveDir(path.Dir(p)) // what is in it stays, and so does the directory
		return nil
	case !it.Kind.Synced():
		return ErrNotFile
	}
	if err := r.root.Rename(p, stagedPath(staged)); err != nil {
		return err
	}
	return r.syncParents(stagedPath(staged), p)
}

func (r *real) RemoveDir(p string) error {
	if err := r.check(p); err != nil {
		return err
	}
	if it, err := r.Lstat(p); err != nil || it.Kind != Dir {
		return cmp.Or(err, ErrNotFile)
	}
	// Remove fails for one that holds something.
	return r.root.Remove(p)
}

func (r *real) Dress(staged, p string, kind Kind, exec *bool) (State, error) {
	if err := cmp.Or(stagedName(staged), r.check(p)); err != nil {
		return State{}, err
	}
	name := stagedPath(staged)
	info, err := r.root.Lstat(name)
	if err != nil {
		return State{}, err
	}
	switch {
	case kind == Symlink && info.Mode()&fs.ModeSymlink != 0:
		return r.linkState(name) // once is enough
	case !info.Mode().IsRegular():
		return State{}, ErrNotFile
	case kind == Symlink:
		return r.dressLink(name, p, info.Size())
	case kind == Mark:
		st := r.state(info)
		st.Kind = Mark
		return st, nil
	}
	perm := info.Mode().Perm()
	if old, err := r.root.Lstat(p); err == nil && old.Mode().IsRegular() {
		perm = old.Mode().Perm()
	}
	if exec != nil && r.modes {
		if perm &^= 0o111; *exec {
			perm |= perm & 0o444 >> 2
		}
	}
	if perm != info.Mode().Perm() {
		if err := r.root.Chmod(name, perm); err != nil {
			return State{}, err
		}
		if info, err = r.root.Lstat(name); err != nil {
			return State{}, err
		}
	}
	return r.state(info), nil
}

func (r *real) dressLink(name, p string, size int64) (State, error) {
	if runtime.GOOS == "windows" {
		return State{}, ErrNoLinks
	}
	if size > MaxTarget {
		return State{}, ErrTarget
	}
	target, err := r.root.ReadFile(name)
	if err != nil {
		return State{}, err
	}
	if err := CheckTarget(p, string(target)); err != nil {
		return State{}, err
	}
	link := name + ".link"
	if err := r.root.Symlink(string(target), link); err != nil {
		return State{}, err
	}
	if err := r.root.Rename(link, name); err != nil {
		return State{}, err
	}
	return r.linkState(name)
}

func (r *real) linkState(name string) (State, error) {
	f, err := r.open(name)
	if err != nil {
		return State{}, err
	}
	return f.State()
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
