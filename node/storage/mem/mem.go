// Package mem is a storage backend in memory: for tests, and for a grid that
// lives in one process. Call New; what it holds is gone with it.
package mem

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"

	"warren/node/caps"
	"warren/node/storage"
	"warren/node/storage/container"
)

// Backend implements storage.Backend in memory.
type Backend struct {
	capacity uint64

	mu sync.Mutex
	// mu guards the maps and used; published bytes are never changed in place.
	shares     map[caps.StorageIndex]map[int][]byte
	advisories map[string][]byte
	used       uint64
}

// New makes an empty backend for capacity bytes; 0 means no limit.
func New(capacity uint64) *Backend {
	if capacity == 0 {
		capacity = math.MaxInt64
	}
	return &Backend{
		capacity:   capacity,
		shares:     map[caps.StorageIndex]map[int][]byte{},
		advisories: map[string][]byte{},
	}
}

// Shares implements storage.Backend.
func (b *Backend) Shares(si caps.StorageIndex) ([]int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Sorted(maps.Keys(b.shares[si])), nil
}

// Open implements storage.Backend. What is open stays as it was.
func (b *Backend) Open(si caps.StorageIndex, share int) (storage.File, error) {
	data, ok := b.File(si, share)
	if !ok {
		return nil, storage.ErrNoShare
	}
	return &file{data: data}, nil
}

// File returns a share file's bytes, leases and all; they must not be changed.
func (b *Backend) File(si caps.StorageIndex, share int) ([]byte, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	data, ok := b.shares[si][share]
	return data, ok
}

// SetFile puts bytes in place of a share file, whatever they are: damage for
// tests. Nil removes it.
func (b *Backend) SetFile(si caps.StorageIndex, share int, data []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.set(si, share, slices.Clone(data))
}

// set replaces a share file; b.mu is held.
func (b *Backend) set(si caps.StorageIndex, share int, data []byte) {
	b.used -= uint64(len(b.shares[si][share]))
	if data == nil {
		delete(b.shares[si], share)
		if len(b.shares[si]) == 0 {
			delete(b.shares, si)
		}
		return
	}
	b.used += uint64(len(data))
	if b.shares[si] == nil {
		b.shares[si] = map[int][]byte{}
	}
	b.shares[si][share] = data
}

// Indexes implements storage.Shelf.
func (b *Backend) Indexes(prefix string) ([]caps.StorageIndex, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []caps.StorageIndex
	for si := range b.shares {
		if strings.HasPrefix(si.Text(), prefix) {
			all = append(all, si)
		}
	}
	slices.SortFunc(all, func(x, y caps.StorageIndex) int { return strings.Compare(x.Text(), y.Text()) })
	return all, nil
}

// Usage implements storage.Gauge.
func (b *Backend) Usage() (storage.Usage, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	free := b.capacity - min(b.used, b.capacity)
	return storage.Usage{Total: b.capacity, Used: b.used, FreeForRoot: free, Free: free}, nil
}

// Draft implements storage.Backend.
func (b *Backend) Draft(si caps.StorageIndex, share int, copied bool) (storage.Draft, error) {
	d := &file{}
	if copied {
		data, ok := b.File(si, share)
		if !ok {
			return nil, storage.ErrNoShare
		}
		d.data = slices.Clone(data)
	}
	return d, nil
}

// Publish implements storage.Backend; all changes at once.
func (b *Backend) Publish(si caps.StorageIndex, drafts map[int]storage.Draft, remove []int) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	used := b.used
	for n, d := range drafts {
		used += uint64(len(content(d))) - uint64(len(b.shares[si][n]))
	}
	if used > b.capacity && used > b.used {
		return fmt.Errorf("mem: %w", storage.ErrNoSpace)
	}
	for n, d := range drafts {
		b.set(si, n, content(d))
	}
	for _, n := range remove {
		b.set(si, n, nil)
	}
	return nil
}

// content is what a draft of ours holds; never nil.
func content(d storage.Draft) []byte {
	return append([]byte{}, d.(*file).data...)
}

// Amend implements storage.Backend.
func (b *Backend) Amend(si caps.StorageIndex, share int, patches []container.Patch) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	data, ok := b.shares[si][share]
	if !ok {
		return storage.ErrNoShare
	}
	f := &file{data: slices.Clone(data)}
	if err := container.Apply(f, patches); err != nil {
		return err
	}
	if grown := uint64(len(f.data) - len(data)); grown > 0 && b.used+grown > b.capacity {
		return fmt.Errorf("mem: %w", storage.ErrNoSpace)
	}
	b.set(si, share, f.data)
	return nil
}

// Available implements storage.Backend.
func (b *Backend) Available() (uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.capacity - min(b.used, b.capacity), nil
}

// Advise implements storage.Backend.
func (b *Backend) Advise(name string, text []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for free, i := name, 1; ; i++ {
		if _, taken := b.advisories[free]; !taken {
			b.advisories[free] = slices.Clone(text)
			break
		}
		free = fmt.Sprintf("%s.%d", name, i)
	}
	b.used += uint64(len(text))
	return nil
}

// Advisories returns a copy of the advisories, by name.
func (b *Backend) Advisories() map[string][]byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.advisories)
}

// file is a share file's content: open for reading, or a draft.
type file struct{ data []byte }

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= int64(len(f.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	end := off + int64(len(p))
	if off < 0 || end < off {
		return 0, fmt.Errorf("mem: offset out of range")
	}
	if end > int64(len(f.data)) {
		f.data = append(f.data, make([]byte, end-int64(len(f.data)))...)
	}
	return copy(f.data[off:], p), nil
}

func (f *file) Size() (int64, error) { return int64(len(f.data)), nil }

func (f *file) Close() error { return nil }

func (f *file) Discard() error { return nil }
