package storage

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"warren/node/caps"
)

// A Tag stands for what one server holds of a slot: the numbers of its shares, and
// of each the first TagHead bytes, which in Tahoe's mutable shares are the sequence
// number and the root hash. Equal tags, the same versions of the same shares. It is a
// hash, the same after a restart. The zero Tag is no slot's.
type Tag [16]byte

// TagHead is how much of each share a Tag is of, in bytes.
const TagHead = 64

// TagOf is the Tag of shares by number, from their first bytes: TagHead of each, or
// all of it.
func TagOf(heads map[int][]byte) Tag {
	h := sha256.New()
	for _, n := range slices.Sorted(maps.Keys(heads)) {
		head := heads[n][:min(len(heads[n]), TagHead)]
		h.Write([]byte{byte(n), byte(len(head))})
		h.Write(head)
	}
	return Tag(h.Sum(nil))
}

// Bounds of one Watch.
const (
	MaxWatched = 1024             // slots
	MaxWait    = 60 * time.Second // it takes no longer, whatever is asked
)

// Watcher is a Client whose server tells when slots change. Ours does, Tahoe's does not.
type Watcher interface {
	// Watch returns those of the slots whose tag is not the one that have names, with
	// the tags that they have: at once when there are any, else as soon as there is
	// one, and none after wait (0: now). It is safe to repeat. errors.ErrUnsupported
	// when the server has no such thing, or no room for another who waits.
	Watch(ctx context.Context, have map[caps.StorageIndex]Tag, wait time.Duration) (changed map[caps.StorageIndex]Tag, err error)
	// Watches says whether Watch is worth a try, as far as is known now.
	Watches() bool
}

// Watch asks c, if it is a Watcher.
func Watch(ctx context.Context, c Client, have map[caps.StorageIndex]Tag, wait time.Duration) (map[caps.StorageIndex]Tag, error) {
	if w, ok := c.(Watcher); ok {
		return w.Watch(ctx, have, wait)
	}
	return nil, fmt.Errorf("storage: watching: %w", errors.ErrUnsupported)
}

// Watches says whether c is a Watcher that can be tried.
func Watches(c Client) bool {
	w, ok := c.(Watcher)
	return ok && w.Watches()
}

// watchers are those who wait for slots to change.
type watchers struct {
	mu sync.Mutex
	// mu guards what follows, and the fields of watcher that say so.
	of map[caps.StorageIndex]map[*watcher]bool
}

// A watcher waits for some slots.
type watcher struct {
	wake chan struct{} // has one value when dirty is not empty

	// watchers.mu guards it.
	dirty map[caps.StorageIndex]bool // may have changed since they were looked at
}

func (ws *watchers) add(have map[caps.StorageIndex]Tag) *watcher {
	w := &watcher{wake: make(chan struct{}, 1), dirty: map[caps.StorageIndex]bool{}}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.of == nil {
		ws.of = map[caps.StorageIndex]map[*watcher]bool{}
	}
	for si := range have {
		if ws.of[si] == nil {
			ws.of[si] = map[*watcher]bool{}
		}
		ws.of[si][w] = true
	}
	return w
}

func (ws *watchers) remove(w *watcher, have map[caps.StorageIndex]Tag) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for si := range have {
		if delete(ws.of[si], w); len(ws.of[si]) == 0 {
			delete(ws.of, si)
		}
	}
}

// changed wakes those who wait for a slot.
func (ws *watchers) changed(si caps.StorageIndex) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for w := range ws.of[si] {
		w.dirty[si] = true
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

func (ws *watchers) take(w *watcher) []caps.StorageIndex {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	list := slices.Collect(maps.Keys(w.dirty))
	clear(w.dirty)
	return list
}

// Watches implements Watcher.
func (ss *Session) Watches() bool { return true }

// Watch implements Watcher.
func (ss *Session) Watch(ctx context.Context, have map[caps.StorageIndex]Tag, wait time.Duration) (map[caps.StorageIndex]Tag, error) {
	return ss.WatchInTurns(ctx, have, wait, nil, func(look func() error) error { return look() })
}

// lookAtOnce is how many slots are looked at in one turn.
const lookAtOnce = 32

// WatchInTurns is Watch for those who share out the storage among many: what reads
// shares goes through turn, bit by bit, and waiting does not. A closed quit ends the
// waiting, as if its time was over.
func (ss *Session) WatchInTurns(ctx context.Context, have map[caps.StorageIndex]Tag, wait time.Duration, quit <-chan struct{}, turn func(look func() error) error) (map[caps.StorageIndex]Tag, error) {
	if len(have) > MaxWatched {
		return nil, fmt.Errorf("%w: more than %d slots are watched", ErrTooLarge, MaxWatched)
	}
	look := func(list []caps.StorageIndex) (map[caps.StorageIndex]Tag, error) {
		changed := map[caps.StorageIndex]Tag{}
		for some := range slices.Chunk(list, lookAtOnce) {
			err := turn(func() error {
				for _, si := range some {
					tag, err := ss.tag(ctx, si)
					if err != nil {
						return err
					}
					if tag != have[si] {
						changed[si] = tag
					}
				}
				return nil
			})
			if err != nil {
				return nil, err
			}
		}
		return changed, nil
	}
	all := slices.Collect(maps.Keys(have))
	if wait <= 0 {
		return look(all)
	}
	// Who waits is known before the first look: nothing changes between unseen.
	w := ss.watchers.add(have)
	defer ss.watchers.remove(w, have)
	changed, err := look(all)
	if err != nil || len(changed) > 0 {
		return changed, err
	}
	timer := time.NewTimer(min(wait, MaxWait))
	defer timer.Stop()
	for {
		select {
		case <-w.wake:
			if changed, err := look(ss.watchers.take(w)); err != nil || len(changed) > 0 {
				return changed, err
			}
		case <-timer.C:
			return nil, nil
		case <-quit:
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// tag is the Tag of a slot as it is now. Shares that cannot be read do not count, nor
// immutable ones.
func (ss *Session) tag(ctx context.Context, si caps.StorageIndex) (Tag, error) {
	if err := ctx.Err(); err != nil {
		return Tag{}, err
	}
	defer ss.locks.read(si)()
	all, err := ss.openAll(si, true)
	if err != nil {
		return Tag{}, err
	}
	defer closeAll(all)
	heads := map[int][]byte{}
	for _, sh := range all {
		if sh.mutable == nil {
			continue
		}
		if heads[sh.number], err = sh.mutable.Read(0, TagHead); err != nil {
			return Tag{}, err
		}
	}
	return TagOf(heads), nil
}
