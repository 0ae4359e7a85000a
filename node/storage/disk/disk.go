// Package disk is a storage backend in a directory, laid out as Tahoe-LAFS's: the
// directory moves between the two programs, which never use it at the same time.
//
//	shares/XX/SI/N           share N of storage index SI, in base32; XX its first two letters
//	shares/incoming/XX/SI/N  a share in the making; emptied at each start
//	corruption-advisories/   what clients reported
//
// A share file changes by a rename of a synced file, or, for leases, by small
// writes in place that are synced one by one. What only Tahoe makes in there
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

	mu sync.Mutex
	// mu guards the directories below incoming: one goes away with the last draft
	// in it, while another draft may be about to be made there. And the choice of an
	// advisory's name.
}

// Open opens the storage directory dir ("storage" in a node directory), making
// what is missing. Drafts that an earlier process left are deleted. The caller
// sees to it that there is no other process (the node's lock does).
func Open(dir string) (*Backend, error) {
	b := &Backend{
		shares:     filepath.Join(dir, "shares"),
		incoming:   filepath.Join(dir, "shares", "incoming"),
		advisories: filepath.Join(dir, "corruption-advisories"),
	}
	if err := os.RemoveAll(b.incoming); err != nil {
		return nil, fmt.Errorf("disk: dropping incomplete shares: %w", err)
	}
	for _, d := range []string{b.incoming, b.advisories} {
		if err := durable.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("disk: %w", err)
		}
	}
	return b, nil
}

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

// Draft implements storage.Backend. The name is the one that Tahoe gives an
// incoming share, if it is free.
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
	b.mu.Lock()
	defer b.mu.Unlock()
	dir := below(b.incoming, si)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	name := strconv.Itoa(share)
	for i := 1; ; i++ {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, fs.ErrExist) {
			name = fmt.Sprintf("%d.%d", share, i)
			continue
		}
		if err != nil {
			return nil, err
		}
		return &draft{file: file{f}, backend: b}, nil
	}
}

// draft is a file below incoming.
type draft struct {
	file
	backend *Backend
	used    bool
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
	err := os.Remove(d.Name())
	d.tidy()
	return err
}

// tidy removes the incoming directories that the draft was the last in, as Tahoe does.
func (d *draft) tidy() {
	d.backend.mu.Lock()
	defer d.backend.mu.Unlock()
	// A directory that is not empty stays: os.Remove refuses.
	dir := filepath.Dir(d.Name())
	if os.Remove(dir) == nil {
		os.Remove(filepath.Dir(dir))
	}
}

// sync puts the content on the disk and closes the file: the first half of Publish.
func (d *draft) sync() error {
	if err := d.file.Sync(); err != nil {
		return full(err)
	}
	return full(d.file.Close())
}

// Publish implements storage.Backend. The drafts are synced side by side, then
// renamed; the directory is synced once for all.
func (b *Backend) Publish(si caps.StorageIndex, drafts map[int]storage.Draft, remove []int) (err error) {
	defer func() {
		for _, d := range drafts {
			d.Discard()
		}
		if err != nil {
			err = fmt.Errorf("disk: %w", err)
		}
	}()
	var wg sync.WaitGroup
	failed := make(chan error, len(drafts))
	for _, d := range drafts {
		wg.Go(func() { failed <- d.(*draft).sync() })
	}
	wg.Wait()
	for range drafts {
		if err := <-failed; err != nil {
			return err
		}
	}
	dir := below(b.shares, si)
	if len(drafts) > 0 {
		if err := durable.MkdirAll(dir, 0o700); err != nil {
			return full(err)
		}
	}
	for n, d := range drafts {
		if err := os.Rename(d.(*draft).Name(), b.path(si, n)); err != nil {
			return full(err)
		}
		d.(*draft).used = true
		d.(*draft).tidy()
	}
	for _, n := range remove {
		if err := os.Remove(b.path(si, n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if len(remove) > 0 && os.Remove(dir) == nil {
		return durable.SyncDir(filepath.Dir(dir)) // the last share went, and its directory
	}
	err = durable.SyncDir(dir)
	if len(drafts) == 0 && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
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
		if err := f.Sync(); err != nil {
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
	b.mu.Lock() // names are taken one at a time
	defer b.mu.Unlock()
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
