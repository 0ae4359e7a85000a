package disk

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"warren/node/durable"
)

// A model is a filesystem in memory that knows what of it is on the disk. It
// promises what POSIX does and not more: a file's content is on the disk when the
// file was synced, a name when its directory was, and until then any part of it may
// be, in any order: a sector of a write, a name without the file's content, the new
// name of a renamed file without the loss of the old one.
type model struct {
	capacity int64
	// step is called before each step that changes something, with its name; an
	// error is what the step ends with. A write that fails has then written its
	// first half, if it was to make the file longer.
	step func(name string) error

	mu sync.Mutex
	// mu guards what follows, and is not held while step is called.
	root *inode
	temp int
}

// inode is a directory, if names is not nil, or a file.
type inode struct {
	names map[string]*inode
	data  []byte // replaced, never changed in place

	// What was there when it was last synced, and what came since.
	syncedNames map[string]*inode
	syncedData  []byte
	changes     []naming
	writes      []write
}

type naming struct {
	name string
	to   *inode // nil: removed
}

type write struct {
	off  int64
	data []byte
}

// sector is what a disk writes whole or not at all.
const sector = 512

func newDirectory() *inode {
	return &inode{names: map[string]*inode{}, syncedNames: map[string]*inode{}}
}

func newModel(capacity int64) *model {
	return &model{capacity: capacity, root: newDirectory(), step: func(string) error { return nil }}
}

func split(name string) []string {
	return strings.FieldsFunc(name, func(c rune) bool { return c == '/' || c == filepath.Separator })
}

// find returns an inode, nil if there is none; m.mu is held.
func (m *model) find(parts []string) *inode {
	at := m.root
	for _, p := range parts {
		if at == nil || at.names == nil {
			return nil
		}
		at = at.names[p]
	}
	return at
}

// at finds a name and the directory that it is in.
func (m *model) at(op, name string) (dir, n *inode, base string, err error) {
	parts := split(name)
	base = parts[len(parts)-1]
	dir = m.find(parts[:len(parts)-1])
	if dir == nil || dir.names == nil {
		return nil, nil, "", &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	}
	return dir, dir.names[base], base, nil
}

func (d *inode) set(name string, to *inode) {
	if to == nil {
		delete(d.names, name)
	} else {
		d.names[name] = to
	}
	d.changes = append(d.changes, naming{name, to})
}

// kind is how steps call what a path leads to.
func kind(name string) string {
	parts := split(name)
	at := slices.Index(parts, "shares")
	switch rest := len(parts) - at - 1; {
	case len(parts) == 0:
		return "root"
	case at < 0 && strings.HasPrefix(parts[len(parts)-1], durable.TempPrefix):
		return "temporary advisory"
	case at < 0 && parts[len(parts)-1] == "corruption-advisories":
		return "advisories"
	case at < 0 && slices.Contains(parts, "corruption-advisories"):
		return "advisory"
	case at < 0 || rest == 0:
		return parts[len(parts)-1]
	case parts[at+1] == "incoming" && rest == 1:
		return "incoming"
	case parts[at+1] == "incoming":
		return "draft"
	default:
		return []string{"prefix", "bucket", "share"}[min(rest, 3)-1]
	}
}

func (m *model) open(name string, flag int) (handle, error) {
	if flag&os.O_CREATE != 0 {
		if err := m.step("create " + kind(name)); err != nil {
			return nil, err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, n, base, err := m.at("open", name)
	if err != nil {
		return nil, err
	}
	switch {
	case n != nil && flag&os.O_EXCL != 0:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrExist}
	case n == nil && flag&os.O_CREATE == 0:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	case n == nil:
		n = &inode{}
		dir.set(base, n)
	}
	return &modelFile{m, n, name}, nil
}

func (m *model) mkdir(name string) error {
	if exists, err := m.exists(name); err != nil || !exists {
		if err := m.step("make " + kind(name)); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, n, base, err := m.at("mkdir", name)
	if err == nil && n != nil {
		err = &fs.PathError{Op: "mkdir", Path: name, Err: fs.ErrExist}
	}
	if err != nil {
		return err
	}
	dir.set(base, newDirectory())
	return nil
}

// makeAll does what durable.MkdirAll does.
func (m *model) makeAll(name string) error {
	path := string(filepath.Separator)
	for _, p := range split(name) {
		parent := path
		path = filepath.Join(path, p)
		if there, err := m.exists(path); err != nil || there {
			continue
		}
		if err := m.mkdir(path); err != nil {
			return err
		}
		if err := m.sync(nil, parent); err != nil {
			return err
		}
	}
	return nil
}

func (m *model) rename(from, to string) error {
	if err := m.step("rename " + kind(from) + " to " + kind(to)); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	source, n, old, err := m.at("rename", from)
	if err == nil && n == nil {
		err = &fs.PathError{Op: "rename", Path: from, Err: fs.ErrNotExist}
	}
	if err != nil {
		return err
	}
	target, _, base, err := m.at("rename", to)
	if err != nil {
		return err
	}
	target.set(base, n)
	source.set(old, nil)
	return nil
}

func (m *model) remove(name string) error {
	m.mu.Lock()
	_, n, _, err := m.at("remove", name)
	switch {
	case err == nil && n == nil:
		err = &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	case err == nil && len(n.names) > 0:
		err = &fs.PathError{Op: "remove", Path: name, Err: errors.New("directory not empty")}
	}
	m.mu.Unlock()
	if err != nil {
		return err
	}
	if err := m.step("remove " + kind(name)); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, _, base, err := m.at("remove", name)
	if err == nil {
		dir.set(base, nil)
	}
	return err
}

func (m *model) removeAll(name string) error {
	names, err := m.list(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, n := range names {
		if err := m.removeAll(filepath.Join(name, n)); err != nil {
			return err
		}
	}
	return m.remove(name)
}

func (m *model) exists(name string) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.find(split(name)) != nil, nil
}

func (m *model) list(name string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.find(split(name))
	if n == nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return slices.Sorted(maps.Keys(n.names)), nil
}

func (m *model) copy(to, from handle) error {
	size, err := from.Size()
	if err != nil {
		return err
	}
	// In two parts, as no kernel promises more.
	for _, part := range [][2]int64{{0, size / 2}, {size / 2, size}} {
		b := make([]byte, part[1]-part[0])
		if n, err := from.ReadAt(b, part[0]); n < len(b) {
			return err
		}
		if _, err := to.WriteAt(b, part[0]); err != nil {
			return err
		}
	}
	return nil
}

func (m *model) sync(files []handle, dirs ...string) error {
	var kinds []string
	for _, f := range files {
		kinds = append(kinds, kind(f.Name()))
	}
	for _, d := range dirs {
		kinds = append(kinds, kind(d))
	}
	slices.Sort(kinds)
	// Not each by itself: that some of them are on the disk and others not is among
	// the states before.
	if err := m.step("sync " + strings.Join(slices.Compact(kinds), ", ")); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range files {
		n := f.(*modelFile).inode
		n.syncedData, n.writes = n.data, nil
	}
	for _, d := range dirs {
		n := m.find(split(d))
		if n == nil {
			return &fs.PathError{Op: "open", Path: d, Err: fs.ErrNotExist}
		}
		n.syncedNames, n.changes = maps.Clone(n.names), nil
	}
	return nil
}

// writeFile does what durable.WriteFile does.
func (m *model) writeFile(name string, data []byte) error {
	m.mu.Lock()
	m.temp++
	temp := filepath.Join(filepath.Dir(name), fmt.Sprintf("%s%d", durable.TempPrefix, m.temp))
	m.mu.Unlock()
	f, err := m.open(temp, os.O_CREATE|os.O_EXCL|os.O_WRONLY)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(data, 0); err == nil {
		err = m.sync([]handle{f})
	}
	if err == nil {
		err = m.rename(temp, name)
	}
	if err != nil {
		m.remove(temp)
		return err
	}
	return m.sync(nil, filepath.Dir(name))
}

func (m *model) available(string) (uint64, error) {
	return uint64(m.capacity - m.used()), nil
}

func (m *model) used() (used int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.root.walk("", func(_ string, n *inode) { used += int64(len(n.data)) })
	return used
}

func (m *model) close() error { return nil }

// files are the paths of all files.
func (m *model) files() (all []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.root.walk("", func(path string, _ *inode) { all = append(all, path) })
	return all
}

// walk calls f for each file.
func (n *inode) walk(path string, f func(path string, n *inode)) {
	if n.names == nil {
		f(path, n)
		return
	}
	for _, name := range slices.Sorted(maps.Keys(n.names)) {
		n.names[name].walk(path+"/"+name, f)
	}
}

// modelFile is an open file.
type modelFile struct {
	m     *model
	inode *inode
	name  string
}

func (f *modelFile) Name() string { return f.name }
func (f *modelFile) Close() error { return nil }

func (f *modelFile) content() []byte {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	return f.inode.data
}

func (f *modelFile) Size() (int64, error) { return int64(len(f.content())), nil }

func (f *modelFile) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(f.content()).ReadAt(p, off)
}

func (f *modelFile) WriteAt(p []byte, off int64) (int, error) {
	serr := f.m.step("write " + kind(f.name))
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if serr != nil && off+int64(len(p)) <= int64(len(f.inode.data)) {
		return 0, serr
	}
	if serr != nil {
		p = p[:len(p)/2]
	}
	f.inode.data = patch(f.inode.data, off, p)
	f.inode.writes = append(f.inode.writes, write{off, bytes.Clone(p)})
	return len(p), serr
}

// patch returns data with p written into it.
func patch(data []byte, off int64, p []byte) []byte {
	out := make([]byte, max(int64(len(data)), off+int64(len(p))))
	copy(out, data)
	copy(out[off:], p)
	return out
}

// crash is what is on the disk when the power goes now, for one choice of what had
// reached it already. choose is asked for each piece in the same order each time,
// as long as its answers are the same; chance is asked for drafts, which nobody may
// look at any more.
func (m *model) crash(choose, chance func() bool) *model {
	m.mu.Lock()
	defer m.mu.Unlock()
	known := map[*inode]*inode{}
	return &model{capacity: m.capacity, root: m.root.survive("/", known, choose, chance), step: func(string) error { return nil }}
}

func (n *inode) survive(path string, known map[*inode]*inode, choose, chance func() bool) *inode {
	if out := known[n]; out != nil {
		return out
	}
	out := &inode{}
	known[n] = out
	if kind(path+"/x") == "draft" || kind(path) == "draft" {
		choose = chance
	}
	if n.names == nil {
		out.data = n.tear(choose)
		out.syncedData = out.data
		return out
	}
	names := maps.Clone(n.syncedNames)
	for _, c := range n.changes {
		if !choose() {
			continue
		}
		if c.to == nil {
			delete(names, c.name)
		} else {
			names[c.name] = c.to
		}
	}
	out.names = map[string]*inode{}
	order := slices.Sorted(maps.Keys(names))
	// Incoming last: what has a share's name already is a share.
	if i := slices.Index(order, "incoming"); i >= 0 {
		order = append(slices.Delete(order, i, i+1), "incoming")
	}
	for _, name := range order {
		out.names[name] = names[name].survive(path+"/"+name, known, choose, chance)
	}
	out.syncedNames = maps.Clone(out.names)
	return out
}

// tear is a file's content with any sectors of what was not synced.
func (n *inode) tear(choose func() bool) []byte {
	data := n.syncedData
	for _, w := range n.writes {
		for off, rest := w.off, w.data; len(rest) > 0; {
			size := min(int64(len(rest)), sector-off%sector)
			if choose() {
				data = grow(data, off, choose)
				data = patch(data, off, rest[:size])
			}
			off, rest = off+size, rest[size:]
		}
	}
	if len(data) < len(n.data) && choose() {
		data = grow(data, int64(len(n.data)), choose)
	}
	return data
}

// grow makes data longer by what was never written: zeros, or what lay there before.
func grow(data []byte, size int64, choose func() bool) []byte {
	if int64(len(data)) >= size {
		return data
	}
	fill := byte(0)
	if choose() {
		fill = 0xa5
	}
	return append(bytes.Clone(data), bytes.Repeat([]byte{fill}, int(size)-len(data))...)
}
