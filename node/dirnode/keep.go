package dirnode

import (
	"context"
	"hash/maphash"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"warren/node/caps"
)

// Bounds of what a Keeper remembers: directories, and entries set in one of them.
const (
	maxKept        = 32
	maxKeptEntries = 10_000
)

// keeperLooks are how long after the last edit of a directory it is looked at: Tahoe
// waits a second, then longer, before it tries again.
func keeperLooks() []time.Duration {
	return []time.Duration{2 * time.Second, 10 * time.Second, 40 * time.Second}
}

// Keeper sees to it that entries stand which Edit has set. Tahoe-LAFS 1.20, when its
// write was refused because of ours, may replace the directory by what it was before and
// its own change; so a directory is looked at for some time after it was edited, and what
// is gone is set again (Uphold).
//
// What somebody removed on purpose stays removed, as far as can be told: when all that
// changed is that entries are gone. It is safe for concurrent use. Close it.
type Keeper struct {
	dirs     *Dirs
	restored func(entries int, err error)
	looks    []time.Duration
	seed     maphash.Seed
	ctx      context.Context
	cancel   context.CancelFunc
	running  sync.WaitGroup

	mu   sync.Mutex // guards what follows
	kept map[caps.StorageIndex]*kept
}

// kept is a directory that was edited lately.
type kept struct {
	dir   caps.WriteDir
	state map[uint64]bool   // hashes of the entries that it held after our last edit, and at looks since
	set   map[string]Change // by name, what we set
	at    time.Time         // of that edit
	look  int               // the next one
	timer *time.Timer
}

// NewKeeper makes a Keeper of d, which takes it as its Keeper. restored, when not nil,
// hears of entries that were set again, and of what kept them from it.
func NewKeeper(d *Dirs, restored func(entries int, err error)) *Keeper {
	k := &Keeper{dirs: d, restored: restored, looks: keeperLooks(), seed: maphash.MakeSeed(), kept: map[caps.StorageIndex]*kept{}}
	k.ctx, k.cancel = context.WithCancel(context.Background())
	return k
}

// Close ends what the Keeper does, and waits for it.
func (k *Keeper) Close() {
	k.mu.Lock()
	k.cancel()
	for _, d := range k.kept {
		d.timer.Stop()
	}
	clear(k.kept)
	k.mu.Unlock()
	k.running.Wait()
}

// note remembers an edit that left data.
func (k *Keeper) note(dir caps.WriteDir, changes []Change, data []byte) {
	state, _, err := k.stateOf(dir, data)
	if err != nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ctx.Err() != nil {
		return
	}
	index := dir.StorageIndex()
	d := k.kept[index]
	if d == nil {
		if !slices.ContainsFunc(changes, sets) {
			return
		}
		k.makeRoom()
		d = &kept{dir: dir, set: map[string]Change{}}
		k.kept[index] = d
	} else {
		d.timer.Stop()
	}
	d.state, d.at, d.look = state, time.Now(), 0
	for _, ch := range changes {
		delete(d.set, Normalize(ch.Entry.Name))
		delete(d.set, Normalize(ch.From))
		if sets(ch) && len(d.set) < maxKeptEntries {
			d.set[Normalize(ch.Entry.Name)] = ch
		}
	}
	k.schedule(d)
}

// sets says that a change sets an entry: removals and moves, undone, lose nothing.
func sets(ch Change) bool { return !ch.Delete && ch.From == "" }

// makeRoom forgets the directory whose last edit is the oldest. The caller holds mu.
func (k *Keeper) makeRoom() {
	if len(k.kept) < maxKept {
		return
	}
	var oldest caps.StorageIndex
	for index, d := range k.kept {
		if o := k.kept[oldest]; o == nil || d.at.Before(o.at) {
			oldest = index
		}
	}
	k.kept[oldest].timer.Stop()
	delete(k.kept, oldest)
}

// schedule has the directory looked at when it is due. The caller holds mu.
func (k *Keeper) schedule(d *kept) {
	if d.look == len(k.looks) || len(d.set) == 0 {
		delete(k.kept, d.dir.StorageIndex())
		return
	}
	at := d.at
	d.timer = time.AfterFunc(time.Until(at.Add(k.looks[d.look])), func() {
		k.mu.Lock()
		if k.ctx.Err() != nil || k.kept[d.dir.StorageIndex()] != d || d.at != at {
			k.mu.Unlock()
			return // closed, forgotten, or edited since
		}
		k.running.Add(1)
		k.mu.Unlock()
		defer k.running.Done()
		k.lookAt(d, at)
	})
}

// lookAt sets again what is gone.
func (k *Keeper) lookAt(d *kept, at time.Time) {
	k.mu.Lock()
	was := maps.Clone(d.state)
	changes := make([]Change, 0, len(d.set))
	for _, ch := range d.set {
		changes = append(changes, ch)
	}
	k.mu.Unlock()
	slices.SortFunc(changes, func(a, b Change) int { return strings.Compare(a.Entry.Name, b.Entry.Name) })

	gone := 0
	var state map[uint64]bool
	data, _, _, err := k.dirs.read(k.ctx, d.dir)
	if err == nil {
		var names map[string]bool
		if state, names, err = k.stateOf(d.dir, data); err == nil {
			missing := slices.DeleteFunc(changes, func(ch Change) bool { return names[Normalize(ch.Entry.Name)] })
			if len(missing) > 0 && !within(state, was) {
				gone, err = k.dirs.Uphold(k.ctx, d.dir, missing)
			}
		}
	}
	if k.restored != nil && k.ctx.Err() == nil && (gone > 0 || err != nil) {
		k.restored(gone, err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ctx.Err() != nil || k.kept[d.dir.StorageIndex()] != d || d.at != at {
		return
	}
	for h := range state {
		d.state[h] = true // when entries go from there, that is not Tahoe's retry
	}
	d.look++
	k.schedule(d)
}

// within says that all of now was there before.
func within(now, before map[uint64]bool) bool {
	for h := range now {
		if !before[h] {
			return false
		}
	}
	return true
}

// stateOf is what a directory holds: its entries, hashed, and its names.
func (k *Keeper) stateOf(dir caps.WriteDir, data []byte) (state map[uint64]bool, names map[string]bool, err error) {
	children, err := Writable(dir).children(data)
	if err != nil {
		return nil, nil, err
	}
	state, names = make(map[uint64]bool, len(children)), make(map[string]bool, len(children))
	for _, c := range children {
		state[maphash.Bytes(k.seed, c.raw)], names[c.name] = true, true
	}
	return state, names, nil
}
