package mutable

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"warren/node/caps"
	"warren/node/durable"
)

// maxSeen is how many files are remembered. When there are more, the eighth that was
// not met for the longest time is forgotten.
const maxSeen = 1 << 16

// seenDelay is how long what was seen may wait to be written, and so what a process
// that is killed forgets.
const seenDelay = 2 * time.Second

// Seen remembers the sequence numbers of files: what a Store needs to know that
// servers show an older version than before. It is safe for concurrent use.
//
// The bbolt file holds, in the bucket "slots", by storage index and in 24 bytes, big
// endian: the highest sequence number of any share; the highest one that was read
// from or stored on the grid, 0 after AcceptRollback; the Unix time of the last change.
type Seen struct {
	db   *bolt.DB      // nil: in memory only
	stop chan struct{} // closed by Close
	wake chan struct{} // something is to be written
	wg   sync.WaitGroup

	mu      sync.Mutex // guards what follows
	limit   int
	slots   map[caps.StorageIndex]sight
	unsaved map[caps.StorageIndex]bool // changed or forgotten since they were written
	problem error                      // of the last write
}

// sight is what is known of one file.
type sight struct {
	any   uint64 // of whatever share: what is written must exceed it
	given uint64 // of a version that was read or stored whole
	at    int64  // Unix time
}

var slotsBucket = []byte("slots")

// NewSeen remembers until the process ends.
func NewSeen() *Seen {
	return &Seen{limit: maxSeen, slots: map[caps.StorageIndex]sight{}, unsaved: map[caps.StorageIndex]bool{}, stop: make(chan struct{}), wake: make(chan struct{}, 1)}
}

// OpenSeen remembers in a file, which it makes where there is none. Nobody else may
// have it open.
func OpenSeen(path string) (*Seen, error) {
	db, err := durable.OpenBolt(path, &bolt.Options{Timeout: time.Second, FreelistType: bolt.FreelistMapType})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("mutable: %s is in use by another process", path)
	}
	if err != nil {
		return nil, fmt.Errorf("mutable: open %s, which remembers the versions of files: %w", path, err)
	}
	s := NewSeen()
	s.db = db
	err = db.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(slotsBucket)
		if err != nil {
			return err
		}
		return b.ForEach(func(k, v []byte) error {
			if len(k) != 16 || len(v) != 24 {
				return fmt.Errorf("a record of %d and %d bytes", len(k), len(v))
			}
			be := binary.BigEndian
			s.slots[caps.StorageIndex(k)] = sight{be.Uint64(v), be.Uint64(v[8:]), int64(be.Uint64(v[16:]))}
			return nil
		})
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("mutable: read %s, which remembers the versions of files: %w", path, err), db.Close())
	}
	s.wg.Go(s.run)
	return s, nil
}

// Close writes what is not written yet.
func (s *Seen) Close() error {
	if s.db == nil {
		return nil
	}
	close(s.stop)
	s.wg.Wait()
	s.save()
	return errors.Join(s.problem, s.db.Close())
}

// run writes now and then what has changed: one commit for all of it.
func (s *Seen) run() {
	for {
		select {
		case <-s.wake:
		case <-s.stop:
			return
		}
		timer := time.NewTimer(seenDelay)
		select {
		case <-timer.C:
			s.save()
		case <-s.stop:
			timer.Stop()
			return
		}
	}
}

func (s *Seen) save() {
	s.mu.Lock()
	changed := s.unsaved
	s.unsaved = map[caps.StorageIndex]bool{}
	now := make(map[caps.StorageIndex]sight, len(changed))
	for si := range changed {
		if v, ok := s.slots[si]; ok {
			now[si] = v
		}
	}
	s.mu.Unlock()
	if len(changed) == 0 {
		return
	}
	err := s.db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket(slotsBucket)
		for si := range changed {
			v, ok := now[si]
			if !ok {
				if err := b.Delete(si[:]); err != nil {
					return err
				}
				continue
			}
			be := binary.BigEndian
			rec := be.AppendUint64(be.AppendUint64(be.AppendUint64(nil, v.any), v.given), uint64(v.at))
			if err := b.Put(si[:], rec); err != nil {
				return err
			}
		}
		return nil
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.problem = err; err != nil { // a full disk, say: tried again with the next change
		for si := range changed {
			s.unsaved[si] = true
		}
	}
}

func (s *Seen) get(si caps.StorageIndex) sight {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.slots[si]
}

// saw notes a share's sequence number, gave that of a version that was read or stored.
func (s *Seen) saw(si caps.StorageIndex, seqnum uint64) { s.note(si, seqnum, 0) }

func (s *Seen) gave(si caps.StorageIndex, seqnum uint64) { s.note(si, seqnum, seqnum) }

func (s *Seen) note(si caps.StorageIndex, share, given uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, known := s.slots[si]
	v := sight{max(old.any, share), max(old.given, given), time.Now().Unix()}
	if !known && len(s.slots) >= s.limit {
		s.forget()
	}
	// That it was met again is worth a write once a day.
	if v.any != old.any || v.given != old.given || v.at-old.at > 24*60*60 {
		s.change(si)
	} else {
		v.at = old.at
	}
	s.slots[si] = v
}

// accept has whatever the servers show be the newest. What is written still gets a
// higher sequence number than all that was seen.
func (s *Seen) accept(si caps.StorageIndex) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v, ok := s.slots[si]; ok {
		v.given = 0
		s.slots[si] = v
		s.change(si)
	}
}

// change has a record written. The caller holds mu.
func (s *Seen) change(si caps.StorageIndex) {
	if s.db == nil {
		return
	}
	s.unsaved[si] = true
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// forget makes room. The caller holds mu.
func (s *Seen) forget() {
	list := make([]caps.StorageIndex, 0, len(s.slots))
	for si := range s.slots {
		list = append(list, si)
	}
	slices.SortFunc(list, func(a, b caps.StorageIndex) int { return cmp.Compare(s.slots[a].at, s.slots[b].at) })
	for _, si := range list[:max(1, len(list)/8)] {
		delete(s.slots, si)
		s.change(si)
	}
}

// ErrRolledBack: the servers in sight show an older version than was read or stored
// here before. Errors that match it are a *RolledBackError.
var ErrRolledBack = errors.New("mutable: the servers show an older version than before")

// RolledBackError refuses a change to an older version: made, it would be the newest
// version, and the one that is missing lost for good.
type RolledBackError struct {
	Index       caps.StorageIndex
	Seen, Found uint64 // sequence numbers
}

func (e *RolledBackError) Error() string {
	return fmt.Sprintf("%v: version %d, and not %d, of storage index %s; nothing was written. Those who have the newer one may be away: "+
		"try again when all servers are connected. When it is lost, accept what is left: warren accept-rollback", ErrRolledBack, e.Found, e.Seen, e.Index.Text())
}

// Is matches ErrRolledBack.
func (e *RolledBackError) Is(target error) bool { return target == ErrRolledBack }

// Rollback is a file that went back, as far as was seen.
type Rollback struct {
	Index caps.StorageIndex
	Seen  uint64 // the highest sequence number that was read or stored
	Found uint64 // the highest that can be read now
	Since time.Time
}

// maxRollbacks bounds the list of those that are told; what is refused does not hang on it.
const maxRollbacks = 1000

// Rollbacks lists the files that went back and were not accepted so, oldest first.
func (s *Store) Rollbacks() []Rollback {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Rollback, 0, len(s.back))
	for _, r := range s.back {
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b Rollback) int { return a.Since.Compare(b.Since) })
	return list
}

// AcceptRollback takes what the servers show of a file for the newest there is, so
// that it can be changed again, and reports whether it had gone back.
func (s *Store) AcceptRollback(si caps.StorageIndex) bool {
	s.opts.Seen.accept(si)
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.back[si]
	delete(s.back, si)
	return ok
}

// alarm notes whether a file went back: whether the newest version that can be read
// is older than one that was. It is called when all servers were asked, or the version
// found is as new as any.
func (v *survey) alarm(best *version) *RolledBackError {
	si, found, seen := v.id.index, best.header.Seqnum, v.store.opts.Seen.get(v.id.index).given
	s := v.store
	s.mu.Lock()
	old, known := s.back[si]
	if found >= seen {
		delete(s.back, si)
		s.mu.Unlock()
		return nil
	}
	now := Rollback{si, seen, found, old.Since}
	if !known {
		now.Since = time.Now()
	}
	if known || len(s.back) < maxRollbacks {
		s.back[si] = now
	}
	s.mu.Unlock()
	if tell := s.opts.RolledBack; tell != nil && now != old {
		tell(si, seen, found)
	}
	return &RolledBackError{si, seen, found}
}
