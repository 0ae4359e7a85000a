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
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"warren/node/caps"
	"warren/node/durable"
	"warren/node/storage"
	"warren/node/storage/container"
)

// Backend implements storage.Backend in a directory.
type Backend struct {
	shares, incoming, advisories string
	fs                           filesystem

	mu       sync.Mutex      // guards what follows
	settled  map[string]bool // prefix directories that have been on the disk since this process began
	failures int             // publishes that failed

	advising sync.Mutex  // held while an advisory's name is chosen and taken; guards advised
	advised  *advisories // nil until it is asked
}

// Open opens the storage directory dir ("storage" in a node directory), making
// what is missing. Drafts that an earlier process left are deleted, and what it left
// half written. The caller sees to it that there is no other process (the node's
// lock does).
func Open(dir string) (*Backend, error) {
	fs, err := newSystem(dir)
	if err != nil {
		return nil, fmt.Errorf("disk: %w", err)
	}
	return open(dir, fs)
}

// open is Open on a filesystem, which the Backend closes.
func open(dir string, fs filesystem) (b *Backend, err error) {
	b = &Backend{
		shares:     filepath.Join(dir, "shares"),
		incoming:   filepath.Join(dir, "shares", "incoming"),
		advisories: filepath.Join(dir, "corruption-advisories"),
		fs:         fs,
		settled:    map[string]bool{},
	}
	defer func() {
		if err != nil {
			fs.close()
		}
	}()
	if err := fs.removeAll(b.incoming); err != nil {
		return nil, fmt.Errorf("disk: dropping incomplete shares: %w", err)
	}
	for _, d := range []string{b.incoming, b.advisories} {
		if err := fs.makeAll(d); err != nil {
			return nil, fmt.Errorf("disk: %w", err)
		}
	}
	names, err := fs.list(b.advisories)
	if err != nil {
		return nil, fmt.Errorf("disk: %w", err)
	}
	for _, name := range names {
		if strings.HasPrefix(name, durable.TempPrefix) {
			if err := fs.remove(filepath.Join(b.advisories, name)); err != nil {
				return nil, fmt.Errorf("disk: dropping an incomplete advisory: %w", err)
			}
		}
	}
	return b, nil
}

// Close lets go of the directory. The Backend is not used afterwards.
func (b *Backend) Close() error { return b.fs.close() }

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
	names, err := b.fs.list(below(b.shares, si))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("disk: %w", err)
	}
	return shareNumbers(names), nil
}

// Open implements storage.Backend.
func (b *Backend) Open(si caps.StorageIndex, share int) (storage.File, error) {
	f, err := b.open(si, share, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (b *Backend) open(si caps.StorageIndex, share, flag int) (handle, error) {
	f, err := b.fs.open(b.path(si, share), flag)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, storage.ErrNoShare
	}
	if err != nil {
		return nil, fmt.Errorf("disk: %w", err)
	}
	return f, nil
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
		err = b.fs.copy(d.handle, old)
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
		f, err := b.fs.open(name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
		if errors.Is(err, fs.ErrExist) {
			name = fmt.Sprintf("%s.%d", path, i) // an upload beside a change of the slot
			continue
		}
		if err != nil {
			return nil, err
		}
		return &draft{handle: f, fs: b.fs}, nil
	}
}

// draft is a file below incoming.
type draft struct {
	handle
	fs   filesystem
	used bool
}

func (d *draft) WriteAt(p []byte, off int64) (int, error) {
	n, err := d.handle.WriteAt(p, off)
	return n, full(err)
}

// Discard implements storage.Draft.
func (d *draft) Discard() error {
	if d.used {
		return nil
	}
	d.used = true
	d.handle.Close()
	return d.fs.remove(d.Name())
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
			b.unsettle(prefix)
			err = full(fmt.Errorf("disk: %w", err))
		}
	}()
	files := make([]handle, 0, len(drafts))
	for _, d := range drafts {
		files = append(files, d.(*draft).handle)
	}
	if len(files) > 0 {
		if err := b.fs.sync(files); err != nil {
			return err
		}
	}
	changed, failures, err := b.home(si, len(drafts) > 0)
	if err != nil {
		return err
	}
	for _, n := range slices.Sorted(maps.Keys(drafts)) {
		d := drafts[n].(*draft)
		if err := d.handle.Close(); err != nil { // Windows renames no open file
			return err
		}
		if err := b.fs.rename(d.Name(), b.path(si, n)); err != nil {
			return err
		}
		d.used = true
	}
	for _, n := range remove {
		if err := b.fs.remove(b.path(si, n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	dir := below(b.shares, si)
	if len(remove) > 0 && b.fs.remove(dir) == nil {
		return b.fs.sync(nil, prefix) // the last share went, and its directory
	}
	if len(drafts) == 0 {
		if there, err := b.fs.exists(dir); err == nil && !there {
			return nil
		}
	}
	if err := b.fs.sync(nil, changed...); err != nil {
		return err
	}
	b.settle(prefix, failures)
	return nil
}

// home makes the directory of a storage index if it is to be made, and names
// those that must be synced before what stands in it is durable; settle wants to know
// how many publishes had failed by then.
func (b *Backend) home(si caps.StorageIndex, create bool) (changed []string, failures int, err error) {
	dir := below(b.shares, si)
	prefix := filepath.Dir(dir)
	changed = []string{dir}
	fresh := false
	if create {
		err := b.fs.mkdir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			if err := b.fs.mkdir(prefix); err != nil && !errors.Is(err, fs.ErrExist) {
				return nil, 0, err
			}
			err = b.fs.mkdir(dir)
		}
		if fresh = err == nil; !fresh && !errors.Is(err, fs.ErrExist) {
			return nil, 0, err
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
	return changed, b.failures, nil
}

// settle notes that all that leads to what stands below a prefix is durable: unless
// a publish failed since, which may have left names there that nobody has synced.
func (b *Backend) settle(prefix string, failures int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failures == failures {
		b.settled[prefix] = true
	}
}

// unsettle notes that a publish failed.
func (b *Backend) unsettle(prefix string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.settled[prefix] = false
	b.failures++
}

// Amend implements storage.Backend.
func (b *Backend) Amend(si caps.StorageIndex, share int, patches []container.Patch) error {
	return b.AmendAll(si, map[int][]container.Patch{share: patches})
}

// AmendAll implements storage.Amender: the first patches of all files are synced
// together, then the second ones, and so on.
func (b *Backend) AmendAll(si caps.StorageIndex, patches map[int][]container.Patch) error {
	files := map[int]handle{}
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	shares := slices.Sorted(maps.Keys(patches))
	for _, n := range shares {
		f, err := b.open(si, n, os.O_RDWR)
		if err != nil {
			return err
		}
		files[n] = f
	}
	for round := 0; ; round++ {
		var changed []handle
		for _, n := range shares {
			if round < len(patches[n]) {
				p := patches[n][round]
				if _, err := files[n].WriteAt(p.Data, p.Offset); err != nil {
					return full(fmt.Errorf("disk: %w", err))
				}
				changed = append(changed, files[n])
			}
		}
		if len(changed) == 0 {
			return nil
		}
		if err := b.fs.sync(changed); err != nil {
			return full(fmt.Errorf("disk: %w", err))
		}
	}
}

// Available implements storage.Backend.
func (b *Backend) Available() (uint64, error) {
	free, err := b.fs.available(b.shares)
	if err != nil {
		return 0, fmt.Errorf("disk: asking for free space: %w", err)
	}
	return free, nil
}

// full turns the system's word for a full medium into ours.
func full(err error) error {
	if err != nil && isFull(err) {
		return fmt.Errorf("%w: %w", storage.ErrNoSpace, err)
	}
	return err
}
