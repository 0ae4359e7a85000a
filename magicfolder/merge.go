package magicfolder

import (
	"context"
	"errors"
	"time"

	"warren/magicfolder/remote"
	"warren/magicfolder/snapshot"
	"warren/magicfolder/state"
)

// maxMerges is how many merges, versions with more than one parent, a file's
// history may have by us. magic-folder 24.3 walks each way through a history by
// itself, so that every merge doubles its work.
const maxMerges = 10

// joined gives the parents of a version that is to descend from ours and others.
// When the history holds as many merges as it may, it is a plain child: of the one
// among them that most participants hold, counting those who will come to it.
func (f *Folder) joined(ctx context.Context, key string, ours, others []remote.Cap) ([]remote.Cap, error) {
	if len(others) == 0 {
		return ours, nil
	}
	both := append(append([]remote.Cap{}, ours...), others...)
	full, err := f.hasMerges(ctx, both)
	if err != nil || !full {
		return both, err
	}
	best, most, err := ours, 0, error(nil)
	if len(ours) > 0 {
		if most, err = f.holders(ctx, key, ours); err != nil {
			return nil, err
		}
		most++ // we ourselves
	}
	for _, c := range others {
		n, err := f.holders(ctx, key, []remote.Cap{c})
		if err != nil {
			return nil, err
		}
		// Of equals theirs: a child of theirs ends the conflict for sure.
		if n >= most {
			best, most = []remote.Cap{c}, n
		}
	}
	return best, nil
}

// hasMerges says whether the histories of these versions hold as many merges as a
// file's may.
func (f *Folder) hasMerges(ctx context.Context, from []remote.Cap) (bool, error) {
	seen, n := map[remote.Cap]bool{}, 0
	var queue []remote.Cap
	add := func(list []remote.Cap) {
		for _, c := range list {
			if !seen[c] {
				seen[c] = true
				queue = append(queue, c)
			}
		}
	}
	for add(from); len(queue) > 0; {
		if len(seen) > f.deep {
			return true, nil // whatever it holds, it is more than enough
		}
		ps, err := f.parents(ctx, queue[0])
		if err != nil {
			return false, err
		}
		queue = queue[1:]
		if n += max(0, len(ps)-1); n >= maxMerges {
			return true, nil
		}
		add(ps)
	}
	return false, nil
}

// holders counts the other participants whose version is one of these or an
// ancestor.
func (f *Folder) holders(ctx context.Context, key string, of []remote.Cap) (int, error) {
	n := 0
	for _, h := range f.headsOf(key) {
		for _, c := range of {
			ok, err := snapshot.IsAncestor(ctx, f.parents, h.cap, c, f.deep)
			if err != nil && !errors.Is(err, snapshot.ErrTooDeep) { // then it is not one that we know of
				return 0, err
			}
			if ok {
				n++
				break
			}
		}
	}
	return n, nil
}

// outvoted says whether theirs, which ours does not descend from, is left aside,
// because there are as many merges as there may be and most hold ours.
func (f *Folder) outvoted(ctx context.Context, key string, rec state.File, line []state.Stashed, theirs remote.Cap) (bool, error) {
	ours, err := f.notBelow(ctx, ourParents(rec, line), theirs)
	if err != nil || len(ours) == 0 {
		return false, err
	}
	parents, err := f.joined(ctx, key, ours, []remote.Cap{theirs})
	return err == nil && len(parents) == len(ours) && parents[0] == ours[0], err
}

// merge stashes a version with our bytes that descends from ours and theirs.
func (f *Folder) merge(ctx context.Context, key string, theirs remote.Cap) error {
	rec, _, err := f.load(key)
	if err != nil {
		return err
	}
	ours, err := f.notBelow(ctx, ourParents(rec, nil), theirs)
	if err != nil {
		return err
	}
	parents, err := f.joined(ctx, key, ours, []remote.Cap{theirs})
	if err != nil {
		return err
	}
	now := f.now()
	alone := len(parents) == 1 && parents[0] == rec.Head // nothing to say
	err = f.store.Update(func(tx *state.Tx) error {
		rec, _, err := tx.File(key)
		if err != nil {
			return err
		}
		rec.Rival = nil
		v := state.Stashed{Key: key, Relpath: rec.Relpath, Parents: parents, Captured: now.Unix(), Modified: now.Unix()}
		if rec.Disk == nil {
			v.Deleted = true
		} else {
			v.Size, v.Sum, v.Content, v.Form = rec.Disk.Size, rec.Sum, rec.Content, rec.Form
			v.Modified = time.Unix(0, rec.Disk.Modified).Unix()
		}
		if !alone {
			if _, err := tx.Stash(v); err != nil {
				return err
			}
		}
		return tx.PutFile(key, rec)
	})
	f.touch()
	poke(f.wakePush)
	return err
}
