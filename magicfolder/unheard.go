package magicfolder

import (
	"slices"

	"warren/magicfolder/state"
)

// A file that was made and deleted before anything of it was published leaves a line
// that ends where it began: in nothing. It is published as a whole, for the history's
// sake alone, and the others take over a delete of what they never had.
//
// magic-folder 24.3 takes that over, too, and notes a file of no size and no time.
// From then on it finds the disk to differ from its note: a file made at that path
// reaches it as a conflict file only, and it stays in that conflict; a second delete
// stops the whole folder (it moves the contents to the conflict file, and there are
// none). So where any participant is not known to run this program, such a line is
// held back: it stays in the stash of who wrote it, where history, restore and
// undelete find it, and goes out with the next version that has bytes, as ancestors,
// or when the last of those participants has gone.

// unheard says whether a line tells of nothing but versions of a file that the others
// do not have, and of their end.
func unheard(tx *state.Tx, line []state.Stashed) (bool, error) {
	if len(line) < 2 || !line[len(line)-1].Deleted || slices.ContainsFunc(line, func(v state.Stashed) bool { return v.Snapshot != "" }) {
		return false, nil
	}
	for _, c := range line[0].Parents {
		if k, ok, err := tx.Known(c); err != nil || !ok || k.Content != "" {
			return false, err
		}
	}
	return true, nil
}

// allOurs says whether each participant is known to run this program. While the
// Collective has not been read, nothing is known.
func (f *Folder) allOurs() (bool, error) {
	f.mu.Lock()
	seats := slices.Clone(f.men.seats)
	ours := map[Cap]bool{}
	for _, p := range f.peers {
		ours[p.dir] = p.card != nil
	}
	f.mu.Unlock()
	for _, s := range seats {
		if s.self || ours[s.dir] {
			continue
		}
		if pin, err := f.pinned(s.name); err != nil || !pin.Ours {
			return false, err
		}
	}
	return len(seats) > 0, nil
}

// withheld gives the keys among lines that are held back, and those that are to be
// published whole or not at all.
func (f *Folder) withheld(lines map[string][]state.Stashed) (held, whole map[string]bool, err error) {
	found := map[string]bool{}
	err = f.store.View(func(tx *state.Tx) error {
		for key, line := range lines {
			is, err := unheard(tx, line)
			if err != nil {
				return err
			}
			if is {
				found[key] = true
			}
		}
		return nil
	})
	if err != nil || len(found) == 0 {
		return nil, nil, err
	}
	ours, err := f.allOurs()
	if err != nil || !ours {
		return found, nil, err
	}
	return nil, found, nil
}
