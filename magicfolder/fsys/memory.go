package fsys

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"warren/magicfolder/snapshot"
)

// Memory is a folder's directory in memory. Beside FS it has what a user does
// to files: Write, Remove, Read, Files.
type Memory struct {
	// Fold makes names that differ in case alone the same, as on Windows and
	// macOS. Set before use.
	Fold bool
	// Before, when set, runs before each Place, Swap and Take, without any lock
	// held: a test edits files there.
	Before func(op, path string)

	mu     sync.Mutex // guards all below
	files  map[string]*node
	staged map[string]*node
	dirs   map[string]*node // those that are there without a file in them
	ticks  int64
	inodes uint64
	gone   bool
}

type node struct {
	path     string
	data     []byte
	modified int64
	inode    uint64
	kind     Kind
	exec     bool
}

// NewMemory makes an empty one.
func NewMemory() *Memory {
	return &Memory{files: map[string]*node{}, staged: map[string]*node{}, dirs: map[string]*node{}}
}

func (m *Memory) key(p string) string {
	if m.Fold {
		return strings.ToLower(p)
	}
	return p
}

// tick is a clock that never stands still, so that each edit is seen.
func (m *Memory) tick() int64 { m.ticks++; return 1e18 + m.ticks*1e6 }

func (n *node) state() State {
	return State{Size: int64(len(n.data)), Modified: n.modified, Inode: n.inode, Kind: n.kind, Exec: n.exec}
}

// Write is a user who saves a file.
func (m *Memory) Write(p string, data []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.files[m.key(p)]
	if n == nil || n.kind != Regular {
		m.inodes++
		n = &node{path: p, inode: m.inodes}
		m.files[m.key(p)] = n
	}
	n.data, n.modified = bytes.Clone(data), m.tick()
}

// Symlink is a user who makes a link in the place of whatever stands there.
func (m *Memory) Symlink(target, p string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.inodes++
	m.files[m.key(p)] = &node{path: p, data: []byte(target), modified: m.tick(), inode: m.inodes, kind: Symlink}
}

// Chmod is a user who makes a file executable, or no longer so.
func (m *Memory) Chmod(p string, exec bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.files[m.key(p)].exec = exec
}

// Mkdir is a user who makes a directory.
func (m *Memory) Mkdir(p string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mkdir(p)
}

func (m *Memory) mkdir(p string) {
	if m.dirs[m.key(p)] == nil {
		m.inodes++
		m.dirs[m.key(p)] = &node{path: p, modified: m.tick(), inode: m.inodes, kind: Mark}
	}
}

// Rmdir is a user who removes an empty directory.
func (m *Memory) Rmdir(p string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.dirs, m.key(p))
}

// Stat gives a file's State, and a directory's mark's.
func (m *Memory) Stat(p string) (State, bool) {
	it, err := m.Lstat(p)
	return it.State, err == nil
}

// Remove is a user who deletes a file.
func (m *Memory) Remove(p string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.files, m.key(p))
}

// Read gives a file's bytes.
func (m *Memory) Read(p string) ([]byte, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.files[m.key(p)]
	if n == nil {
		return nil, false
	}
	return bytes.Clone(n.data), true
}

// Files lists all paths, sorted.
func (m *Memory) Files() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for _, n := range m.files {
		out = append(out, n.path)
	}
	slices.Sort(out)
	return out
}

// Unmount makes the directory vanish, or come back.
func (m *Memory) Unmount(gone bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gone = gone
}

// Present implements FS.
func (m *Memory) Present() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.gone {
		return ErrMissing
	}
	return nil
}

// Walk implements FS.
func (m *Memory) Walk(dir string, fn func(Item) error) error {
	m.mu.Lock()
	items := map[string]Item{}
	above := func(p string) {
		for d := path.Dir(p); d != "." && d != dir; d = path.Dir(d) {
			items[d] = Item{Path: d, Kind: Dir}
		}
	}
	for _, n := range m.files {
		if dir == "" || strings.HasPrefix(n.path, dir+"/") {
			items[n.path] = m.item(n.path, n)
			above(n.path)
		}
	}
	for _, n := range m.dirs {
		if dir == "" || n.path == dir || strings.HasPrefix(n.path, dir+"/") {
			p := n.path + "/" + snapshot.DirectoryMark
			if m.empty(n.path) {
				items[p] = Item{Path: p, Kind: Mark, State: n.state()}
			}
			above(p)
		}
	}
	m.mu.Unlock()
	skip := ""
	for _, p := range slices.Sorted(maps.Keys(items)) {
		if skip != "" && strings.HasPrefix(p, skip) {
			continue
		}
		if err := fn(items[p]); err != nil {
			if items[p].Kind == Dir && errors.Is(err, fs.SkipDir) {
				skip = p + "/"
				continue
			}
			return err
		}
	}
	return nil
}

// item describes a node.
func (m *Memory) item(p string, n *node) Item {
	it := Item{Path: p, Kind: n.kind, State: n.state()}
	if n.kind == Symlink && CheckTarget(p, string(n.data)) != nil {
		it.Kind, it.Problem = Other, ErrTarget.Error()+": not synced"
	}
	return it
}

func (m *Memory) isDir(p string) bool { return m.dirs[m.key(p)] != nil || !m.hollow(p) }

// hollow says that nothing lies below p.
func (m *Memory) hollow(p string) bool {
	prefix := m.key(p) + "/"
	for k := range m.files {
		if strings.HasPrefix(k, prefix) {
			return false
		}
	}
	for k := range m.dirs {
		if strings.HasPrefix(k, prefix) {
			return false
		}
	}
	return true
}

func (m *Memory) empty(p string) bool { return m.dirs[m.key(p)] != nil && m.hollow(p) }

// Empty implements FS.
func (m *Memory) Empty(p string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.empty(p)
}

// Modes implements FS.
func (m *Memory) Modes() bool { return true }

// Lstat implements FS.
func (m *Memory) Lstat(p string) (Item, error) {
	if err := CheckPath(p, false); err != nil {
		return Item{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if isMark(p) {
		dir := path.Dir(p)
		if n := m.dirs[m.key(dir)]; n != nil {
			return Item{Path: p, Kind: Mark, State: n.state()}, nil
		}
		if m.isDir(dir) {
			return Item{Path: p, Kind: Mark, State: State{Kind: Mark}}, nil
		}
		return Item{}, fs.ErrNotExist
	}
	if n := m.files[m.key(p)]; n != nil {
		return m.item(p, n), nil
	}
	if m.isDir(p) {
		return Item{Path: p, Kind: Dir}, nil
	}
	return Item{}, fs.ErrNotExist
}

// Same implements FS.
func (m *Memory) Same(a, b string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	x, y := m.files[m.key(a)], m.files[m.key(b)]
	return x != nil && x == y
}

type memFile struct {
	*bytes.Reader
	m *Memory
	n *node
}

func (f *memFile) Close() error { return nil }

func (f *memFile) State() (State, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	return f.n.state(), nil
}

func (m *Memory) open(n *node) (File, error) {
	if n == nil {
		return nil, fs.ErrNotExist
	}
	return &memFile{Reader: bytes.NewReader(n.data), m: m, n: n}, nil
}

// Open implements FS.
func (m *Memory) Open(p string) (File, error) {
	if err := CheckPath(p, false); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if isMark(p) {
		if dir := path.Dir(p); m.isDir(dir) {
			if n := m.dirs[m.key(dir)]; n != nil {
				return m.open(n)
			}
			return m.open(&node{kind: Mark})
		}
		return nil, fs.ErrNotExist
	}
	if m.isDir(p) {
		return nil, ErrNotFile
	}
	return m.open(m.files[m.key(p)])
}

// OpenStaged implements FS.
func (m *Memory) OpenStaged(staged string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.open(m.staged[staged])
}

type memWriter struct {
	m    *Memory
	name string
	buf  bytes.Buffer
	done bool
}

func (w *memWriter) Write(p []byte) (int, error) { return w.buf.Write(p) }

func (w *memWriter) Finish(modified time.Time) (State, error) {
	w.done = true
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	w.m.inodes++
	n := &node{data: w.buf.Bytes(), modified: modified.UnixNano(), inode: w.m.inodes}
	w.m.staged[w.name] = n
	return n.state(), nil
}

func (w *memWriter) Abort() {
	if !w.done {
		w.done = true
		w.m.Discard(w.name)
	}
}

// Create implements FS.
func (m *Memory) Create(staged string) (Writer, error) {
	if err := stagedName(staged); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.gone {
		return nil, ErrMissing
	}
	if m.staged[staged] != nil {
		return nil, fs.ErrExist
	}
	m.staged[staged] = &node{}
	return &memWriter{m: m, name: staged}, nil
}

func (m *Memory) before(op, p string) error {
	if err := CheckPath(p, false); err != nil {
		return err
	}
	if m.Before != nil {
		m.Before(op, p)
	}
	return nil
}

func (m *Memory) blocked(p string) error {
	for d := path.Dir(p); d != "."; d = path.Dir(d) {
		if m.files[m.key(d)] != nil {
			return fmt.Errorf("a part of the path is no directory: %w", fs.ErrExist)
		}
	}
	if m.isDir(p) {
		return fs.ErrExist
	}
	return nil
}

// Place implements FS.
func (m *Memory) Place(staged, p string) error {
	if err := m.before("place", p); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.staged[staged]
	if n == nil {
		return fs.ErrNotExist
	}
	if isMark(p) {
		dir := path.Dir(p)
		if m.files[m.key(dir)] != nil {
			return fs.ErrExist
		}
		if err := m.blocked(p); err != nil {
			return err
		}
		m.mkdir(dir)
		delete(m.staged, staged)
		return nil
	}
	if err := m.blocked(p); err != nil {
		return err
	}
	if m.files[m.key(p)] != nil {
		return fs.ErrExist
	}
	n.path = p
	m.files[m.key(p)] = n
	delete(m.staged, staged)
	return nil
}

// Swap implements FS.
func (m *Memory) Swap(staged, p string) error {
	if err := m.before("swap", p); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if isMark(p) {
		if !m.isDir(path.Dir(p)) {
			return fs.ErrNotExist
		}
		return nil
	}
	n, old := m.staged[staged], m.files[m.key(p)]
	if n == nil || old == nil {
		return fs.ErrNotExist
	}
	n.path = old.path
	m.files[m.key(p)], m.staged[staged] = n, old
	return nil
}

// Rename implements FS.
func (m *Memory) Rename(from, to string) error {
	if err := m.before("rename", from); err != nil {
		return err
	}
	if err := CheckPath(to, false); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.files[m.key(from)]
	if n == nil {
		return fs.ErrNotExist
	}
	if m.files[m.key(to)] != nil {
		return fs.ErrExist
	}
	if err := m.blocked(to); err != nil {
		return err
	}
	n.path = to
	delete(m.files, m.key(from))
	m.files[m.key(to)] = n
	return nil
}

// CopyMode implements FS.
func (m *Memory) CopyMode(p, staged string) error {
	if err := CheckPath(p, false); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	from, to := m.files[m.key(p)], m.staged[staged]
	switch {
	case from == nil || to == nil:
		return fs.ErrNotExist
	case from.kind != Regular:
		return ErrNotFile
	}
	to.exec = from.exec
	return nil
}

// Dress implements FS.
func (m *Memory) Dress(staged, p string, kind Kind, exec *bool) (State, error) {
	if err := CheckPath(p, false); err != nil {
		return State{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.staged[staged]
	if n == nil {
		return State{}, fs.ErrNotExist
	}
	if kind == Symlink {
		if err := CheckTarget(p, string(n.data)); err != nil {
			return State{}, err
		}
	}
	n.kind = kind
	if old := m.files[m.key(p)]; kind == Regular && old != nil && old.kind == Regular {
		n.exec = old.exec
	}
	if kind == Regular && exec != nil {
		n.exec = *exec
	}
	return n.state(), nil
}

// RemoveDir implements FS.
func (m *Memory) RemoveDir(p string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.hollow(p) {
		return fs.ErrExist
	}
	delete(m.dirs, m.key(p))
	return nil
}

// Take implements FS.
func (m *Memory) Take(p, staged string) error {
	if err := m.before("take", p); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if dir := path.Dir(p); isMark(p) {
		if !m.isDir(dir) {
			return fs.ErrNotExist
		}
		m.staged[staged] = &node{kind: Mark}
		if m.hollow(dir) {
			delete(m.dirs, m.key(dir))
		}
		return nil
	}
	old := m.files[m.key(p)]
	if old == nil {
		return fs.ErrNotExist
	}
	delete(m.files, m.key(p))
	m.staged[staged] = old
	return nil
}

// Discard implements FS.
func (m *Memory) Discard(staged string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.staged, staged)
	return nil
}

// Staged implements FS.
func (m *Memory) Staged() ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.gone {
		return nil, ErrMissing
	}
	var out []string
	for k := range m.staged {
		out = append(out, k)
	}
	slices.Sort(out)
	return out, nil
}

// Close implements FS; the files stay, so that a test can restart on them.
func (m *Memory) Close() error { return nil }
