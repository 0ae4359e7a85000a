// Package disk is a storage backend in a directory, laid out as Tahoe-LAFS's: the
// directory moves between the two programs, which never use it at the same time.
//
//	shares/XX/SI/N           share N of storage index SI, in base32; XX its first two letters
//	shares/incoming/         shares in the making, in files SI-N; emptied at each start
//	corruption-advisories/   what clients reported
//
// A share file changes by a rename of a synced file, or, for leases, by small
// writes in place that are synced one by one. Shares that arrive at the same time
// are synced together (durable.Group). What only Tahoe makes in there
// (states of its crawlers) is left alone. Files that are no share number are
// not looked at.
package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"

	"warren/node/caps"
	"warren/node/durable"
	"warren/node/storage"
	"warren/node/storage/container"
)

// Backend implements storage.Backend in a directory.
type Backend struct {
	shares, incoming, advisories string
	group                        group

	mu      sync.Mutex      // guards settled
	settled map[string]bool // prefix directories that have been on the disk since this process began

	advising sync.Mutex // held while an advisory's name is chosen and taken
}

// group is a durable.Group.
type group interface {
	Sync(files []*os.File, dirs ...string) error
	Close() error
}

// Open opens the storage directory dir ("storage" in a node directory), making
// what is missing. Drafts that an earlier process left are deleted. The caller
// sees to it that there is no other process (the node's lock does).
func Open(dir string) (*Backend, error) {
	b := &Backend{
		shares:     filepath.Join(dir, "shares"),
		incoming:   filepath.Join(dir, "shares", "incoming"),
		advisories: filepath.Join(dir, "corruption-advisories"),
		settled:    map[string]bool{},
	}
	if err := os.RemoveAll(b.incoming); err != nil {
		return nil, fmt.Errorf("disk: dropping incomplete shares: %w", err)
	}
	for _, d := range []string{b.incoming, b.advisories} {
		if err := durable.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("disk: %w", err)
		}
	}
	b.group = durable.NewGroup(b.shares)
	return b, nil
}

// Close lets go of the directory. The Backend is not used afterwards.
func (b *Backend) Close() error { return b.group.Close() }

// below is the directory of a storage index below top.
func below(top string, si caps.StorageIndex) string {
	text := si.Text()
	return filepath.Join(top, text[:2], text)
}

func (b *Backend) path(si caps.StorageIndex, share int) string {
	return filepath.Join(below(b.shares, si), strconv.Itoa(share))
}

// Shares implements storage.Backend.
func (b *Backend) Shares(si caps.StorageIndex) ([]int, error) {
	entries, err := os.ReadDir(below(b.shares, si))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("disk: %w", err)
	}
	var all []int
	for _, e := range entries {
		n, err := strconv.Atoi(e.Name())
		if err == nil && n >= 0 && n <= storage.MaxShare && strconv.Itoa(n) == e.Name() {
			all = append(all, n)
		}
	}
	slices.Sort(all)
	return all, nil
}

// Open implements storage.Backend.
func (b *Backend) Open(si caps.StorageIndex, share int) (storage.File, error) {
	f, err := b.open(si, share, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	return file{f}, nil
}

func (b *Backend) open(si caps.StorageIndex, share, flag int) (*os.File, error) {
	f, err := os.OpenFile(b.path(si, share), flag, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, storage.ErrNoShare
	}
	if err != nil {
		return nil, fmt.Errorf("disk: %w", err)
	}
	return f, nil
}

type file struct{ *os.File }

func (f file) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// Draft implements storage.Backend.
func (b *Backend) Draft(si caps.StorageIndex, share int, copied bool) (storage.Draft, error) {
	d, err := b.create(si, share)
	if err != nil {
		return nil, full(fmt.Errorf("disk: %w", err))
	}
	if !copied {
		return d, nil
	}
	old, err := b.open(si, share, os.O_RDONLY)
	if err == nil {
		_, err = io.Copy(d.file.File, old)
		old.Close()
	}
	if err != nil {
		d.Discard()
		return nil, full(fmt.Errorf("disk: copying a share: %w", err))
	}
	return d, nil
}

func (b *Backend) create(si caps.StorageIndex, share int) (*draft, error) {
	path := filepath.Join(b.incoming, fmt.Sprintf("%s-%d", si.Text(), share))
	name := path
	for i := 1; ; i++ {
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, fs.ErrExist) {
			name = fmt.Sprintf("%s.%d", path, i) // an upload beside a change of the slot
			continue
		}
		if err != nil {
			return nil, err
		}
		return &draft{file: file{f}}, nil
	}
}

// draft is a file below incoming.
type draft struct {
	file
	used bool
}

func (d *draft) WriteAt(p []byte, off int64) (int, error) {
	n, err := d.file.WriteAt(p, off)
	return n, full(err)
}

// Discard implements storage.Draft.
func (d *draft) Discard() error {
	if d.used {
		return nil
	}
	d.used = true
	d.file.Close()
	return os.Remove(d.Name())
}

// Publish implements storage.Backend. The drafts' contents come first, so that a
// name never leads to a torn share; then the names, and all directories on the way
// to them that may be new.
func (b *Backend) Publish(si caps.StorageIndex, drafts map[int]storage.Draft, remove []int) (err error) {
	prefix := filepath.Dir(below(b.shares, si))
	defer func() {
		for _, d := range drafts {
			d.Discard()
		}
		if err != nil {
			b.settle(prefix, false)
			err = full(fmt.Errorf("disk: %w", err))
		}
	}()
	files := make([]*os.File, 0, len(drafts))
	for _, d := range drafts {
		files = append(files, d.(*draft).File)
	}
	if len(files) > 0 {
		if err := b.group.Sync(files); err != nil {
			return err
		}
	}
	changed, err := b.home(si, len(drafts) > 0)
	if err != nil {
		return err
	}
	for n, d := range drafts {
		d := d.(*draft)
		if err := d.file.Close(); err != nil { // Windows renames no open file
			return err
		}
		if err := os.Rename(d.Name(), b.path(si, n)); err != nil {
			return err
		}
		d.used = true
	}
	for _, n := range remove {
		if err := os.Remove(b.path(si, n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	dir := below(b.shares, si)
	if len(remove) > 0 && os.Remove(dir) == nil {
		return b.group.Sync(nil, prefix) // the last share went, and its directory
	}
	if len(drafts) == 0 {
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
	}
	if err := b.group.Sync(nil, changed...); err != nil {
		return err
	}
	b.settle(prefix, true)
	return nil
}

// home makes the directory of a storage index if it is to be made, and names
// those that must be synced before what stands in it is durable.
func (b *Backend) home(si caps.StorageIndex, create bool) (changed []string, err error) {
	dir := below(b.shares, si)
	prefix := filepath.Dir(dir)
	changed = []string{dir}
	fresh := false
	if create {
		err := os.Mkdir(dir, 0o700)
		if errors.Is(err, fs.ErrNotExist) {
			if err := os.Mkdir(prefix, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
				return nil, err
			}
			err = os.Mkdir(dir, 0o700)
		}
		if fresh = err == nil; !fresh && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case !b.settled[prefix]:
		// Made by us or by a publish at this moment, or left by a process that ended
		// before it had synced it.
		changed = append(changed, prefix, b.shares)
	case fresh:
		changed = append(changed, prefix)
	}
	return changed, nil
}

// settle notes whether all that leads to what stands below a prefix is durable.
func (b *Backend) settle(prefix string, yes bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.settled[prefix] = yes
}

// Amend implements storage.Backend.
func (b *Backend) Amend(si caps.StorageIndex, share int, patches []container.Patch) error {
	f, err := b.open(si, share, os.O_RDWR)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, p := range patches {
		if _, err := f.WriteAt(p.Data, p.Offset); err != nil {
			return full(fmt.Errorf("disk: %w", err))
		}
		if err := b.group.Sync([]*os.File{f}); err != nil {
			return full(fmt.Errorf("disk: %w", err))
		}
	}
	return nil
}

// Available implements storage.Backend.
func (b *Backend) Available() (uint64, error) {
	free, err := available(b.shares)
	if err != nil {
		return 0, fmt.Errorf("disk: asking for free space: %w", err)
	}
	return free, nil
}

// Advise implements storage.Backend.
func (b *Backend) Advise(name string, text []byte) error {
	b.advising.Lock()
	defer b.advising.Unlock()
	path := filepath.Join(b.advisories, name)
	for i := 1; ; i++ {
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			break
		} else if err != nil {
			return fmt.Errorf("disk: %w", err)
		}
		path = filepath.Join(b.advisories, fmt.Sprintf("%s.%d", name, i))
	}
	return full(durable.WriteFile(path, text, 0o600))
}

// full turns the system's word for a full medium into ours.
func full(err error) error {
	if err != nil && isFull(err) {
		return fmt.Errorf("%w: %w", storage.ErrNoSpace, err)
	}
	return err
}
