package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"warren/node/caps"
	"warren/node/storage"
	"warren/node/taghash"
)

// Shelf reads the shares of a storage directory and changes nothing there: what is
// in it can be surveyed while a server, ours or Tahoe's, runs on it.
type Shelf struct{ shares string }

var _ storage.Shelf = Shelf{}

// Browse opens the storage directory dir for reading alone.
func Browse(dir string) (Shelf, error) {
	s := Shelf{filepath.Join(dir, "shares")}
	if _, err := os.ReadDir(s.shares); err != nil {
		return Shelf{}, fmt.Errorf("disk: no storage directory: %w", err)
	}
	return s, nil
}

// Shares implements storage.Shelf.
func (s Shelf) Shares(si caps.StorageIndex) ([]int, error) {
	names, err := list(below(s.shares, si))
	if err != nil {
		return nil, err
	}
	return shareNumbers(names), nil
}

// Open implements storage.Shelf.
func (s Shelf) Open(si caps.StorageIndex, share int) (storage.File, error) {
	f, err := os.Open(filepath.Join(below(s.shares, si), strconv.Itoa(share)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, storage.ErrNoShare
	}
	if err != nil {
		return nil, fmt.Errorf("disk: %w", err)
	}
	return file{f}, nil
}

// Indexes implements storage.Shelf.
func (s Shelf) Indexes(prefix string) ([]caps.StorageIndex, error) {
	names, err := list(filepath.Join(s.shares, prefix))
	if err != nil {
		return nil, err
	}
	return storageIndexes(prefix, names), nil
}

// Indexes implements storage.Shelf.
func (b *Backend) Indexes(prefix string) ([]caps.StorageIndex, error) {
	names, err := b.fs.list(filepath.Join(b.shares, prefix))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("disk: %w", err)
	}
	return storageIndexes(prefix, names), nil
}

// list names what is in a directory; nothing when it is not there.
func list(dir string) ([]string, error) {
	names, err := system{}.list(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("disk: %w", err)
	}
	return names, nil
}

// shareNumbers are those of the names that are a share number, ascending.
func shareNumbers(names []string) (all []int) {
	for _, name := range names {
		n, err := strconv.Atoi(name)
		if err == nil && n >= 0 && n <= storage.MaxShare && strconv.Itoa(n) == name {
			all = append(all, n)
		}
	}
	slices.Sort(all)
	return all
}

// storageIndexes are those of the names that are a storage index, ascending. What
// stands in the wrong directory is nobody's.
func storageIndexes(prefix string, names []string) (all []caps.StorageIndex) {
	slices.Sort(names)
	for _, name := range names {
		raw, err := taghash.DecodeBase32(name)
		if err == nil && len(raw) == len(caps.StorageIndex{}) && strings.HasPrefix(name, prefix) {
			all = append(all, caps.StorageIndex(raw))
		}
	}
	return all
}

// Usage implements storage.Gauge.
func (b *Backend) Usage() (storage.Usage, error) {
	u, err := usage(b.shares)
	if err != nil {
		return storage.Usage{}, fmt.Errorf("disk: asking for free space: %w", err)
	}
	return u, nil
}

// available is what an ordinary user may still write.
func available(dir string) (uint64, error) {
	u, err := usage(dir)
	return u.Free, err
}
