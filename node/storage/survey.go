package storage

import (
	"errors"
	"fmt"

	"warren/node/caps"
	"warren/node/storage/container"
)

// Shelf is what a survey needs of a backend: reading alone. A directory can be
// surveyed while its server, ours or Tahoe's, runs.
type Shelf interface {
	Shares(si caps.StorageIndex) ([]int, error)
	Open(si caps.StorageIndex, share int) (File, error)
	// Indexes lists the storage indexes that may have shares and whose text begins
	// with prefix, one of Prefixes; ascending by their text.
	Indexes(prefix string) ([]caps.StorageIndex, error)
}

// Held is a share file as whoever keeps house sees it.
type Held struct {
	Index caps.StorageIndex
	Share int
	// Bytes is the size of the file: data, leases and all.
	Bytes uint64
	Kind  ShareKind
	// Leases are all leases in the file. Their secrets are in there: print none.
	Leases []container.Stored
	// Err says why the file cannot be read; Kind and Leases are not known then, nor
	// maybe Bytes.
	Err error
}

// base32 in the order of the characters' codes.
const digits = "234567abcdefghijklmnopqrstuvwxyz"

// Prefixes are the first two characters that the text of a storage index can have,
// ascending: the directories that shares lie in.
func Prefixes() []string {
	all := make([]string, 0, len(digits)*len(digits))
	for _, a := range digits {
		for _, b := range digits {
			all = append(all, string(a)+string(b))
		}
	}
	return all
}

// Survey looks at every share file of a storage index, of either kind. A file that
// vanishes meanwhile is not among them.
func Survey(shelf Shelf, si caps.StorageIndex) ([]Held, error) {
	numbers, err := shelf.Shares(si)
	if err != nil {
		return nil, err
	}
	var all []Held
	for _, n := range numbers {
		h := Held{Index: si, Share: n}
		if h.Err = h.read(shelf); errors.Is(h.Err, ErrNoShare) {
			continue
		}
		all = append(all, h)
	}
	return all, nil
}

func (h *Held) read(shelf Shelf) error {
	f, err := shelf.Open(h.Index, h.Share)
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return err
	}
	h.Bytes = uint64(size)
	sh, err := parse(f, h.Share)
	if err != nil {
		return err
	}
	leases, err := sh.leases()
	if err != nil {
		return err
	}
	h.Kind, h.Leases = sh.kind(), leases
	return nil
}

func (sh *share) leases() ([]container.Stored, error) {
	if sh.mutable != nil {
		return sh.mutable.Leases()
	}
	return sh.immutable.Leases()
}

// Indexes lists what may be held below a prefix, as a Shelf does; errors.ErrUnsupported
// when the backend cannot tell.
func (s *Server) Indexes(prefix string) ([]caps.StorageIndex, error) {
	shelf, ok := s.backend.(Shelf)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return shelf.Indexes(prefix)
}

// Survey looks at every share of a storage index; nobody writes to it meanwhile.
func (s *Server) Survey(si caps.StorageIndex) ([]Held, error) {
	shelf, ok := s.backend.(Shelf)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	defer s.locks.read(si)()
	return Survey(shelf, si)
}

// Remove removes the shares of a storage index that drop says so of, looked at
// under the lock under which they go: a lease that was acknowledged before is
// seen. What cannot be read is not shown to drop, and stays. Uploads under way are
// no shares yet, and go on. On return what is removed is durably gone; after an
// error some of it may be.
func (s *Server) Remove(si caps.StorageIndex, drop func(Held) bool) (removed []Held, err error) {
	shelf, ok := s.backend.(Shelf)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	defer s.locks.write(si)()
	all, err := Survey(shelf, si)
	if err != nil {
		return nil, err
	}
	var numbers []int
	for _, h := range all {
		if h.Err == nil && drop(h) {
			removed, numbers = append(removed, h), append(numbers, h.Share)
		}
	}
	if len(numbers) == 0 {
		return nil, nil
	}
	defer s.watchers.changed(si)
	if err := s.backend.Publish(si, nil, numbers); err != nil {
		return nil, fmt.Errorf("storage: removing shares: %w", err)
	}
	return removed, nil
}
