package magicfolder

import (
	"path"
	"time"

	"warren/magicfolder/state"
)

// patience is for how many lingers the others may take to follow a delete before
// what lies below that path is told as well.
const patience = 12

// belowDeletes gives the keys among lines that are to wait, since a file stood
// where one of their directories is now. A participant on magic-folder 24.3 that
// hears of the new file while it still has the old one stops the whole folder, and
// it works at once on all that it hears in one poll. So the delete goes first, and
// the rest when the others have followed, or have had a while to.
func (f *Folder) belowDeletes(lines map[string][]state.Stashed, now time.Time) (map[string]bool, error) {
	if f.opt.Linger < 0 {
		return nil, nil
	}
	wait, going := map[string]bool{}, map[string]bool{}
	for key, line := range lines {
		exists := !line[len(line)-1].Deleted
		for dir := path.Dir(key); dir != "."; dir = path.Dir(dir) {
			if exists && f.isFile(dir, lines[dir]) {
				// Something lies below it, so its delete is about to be captured: the
				// scan takes the two in any order.
				wait[key] = true
				break
			}
			is, known := going[dir]
			if !known {
				var err error
				if is, err = f.isGoing(dir, lines[dir], now); err != nil {
					return nil, err
				}
				going[dir] = is
			}
			if is {
				wait[key] = true
				break
			}
		}
	}
	return wait, nil
}

// isFile says whether a path is a file by all that has been captured so far.
func (f *Folder) isFile(key string, line []state.Stashed) bool {
	if len(line) > 0 {
		return !line[len(line)-1].Deleted
	}
	rec, _, err := f.load(key)
	return err == nil && rec.Disk != nil
}

// isGoing says whether a path is a file that we delete and others may still have.
func (f *Folder) isGoing(key string, line []state.Stashed, now time.Time) (bool, error) {
	if len(line) > 0 {
		return line[len(line)-1].Deleted, nil
	}
	var rec state.File
	var made time.Time
	err := f.store.View(func(tx *state.Tx) (err error) {
		if rec, _, err = tx.File(key); err != nil || rec.Head == "" {
			return err
		}
		k, _, err := tx.Known(rec.Head)
		made = time.Unix(k.Modified, 0)
		return err
	})
	if err != nil || rec.Head == "" || rec.Content != "" || !rec.Mine || now.Sub(made) > patience*f.opt.Linger {
		return false, err
	}
	for _, h := range f.headsOf(key) {
		if h.cap != rec.Head {
			return true, nil
		}
	}
	return false, nil
}
