package download

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"warren/magicfolder/state"
)

// removal is a conflict file that is being removed.
type removal struct {
	key string
	c   state.Conflict
}

// RemoveConflict removes a conflict file that still holds the bytes that it was
// made with, and forgets it. It says whether the file is gone. It goes by way of
// the staging area, under a journal: what somebody saves to it meanwhile comes back.
func (d *Downloader) RemoveConflict(key string, c state.Conflict) (bool, error) {
	got, err := sum(d.FS.Open(c.Path))
	if errors.Is(err, fs.ErrNotExist) {
		return true, d.forget(key, c.Path)
	}
	if err != nil || !bytes.Equal(got, c.Sum) {
		return false, err
	}
	c.Staged = rand.Text()
	if err := d.changeConflict(key, c); err != nil {
		return false, err
	}
	if err := d.fault("remove.journalled"); err != nil {
		return false, err
	}
	if err := d.take(c.Path, c.Staged); err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.Staged = ""
		return false, errors.Join(err, d.changeConflict(key, c))
	}
	if err := d.fault("remove.taken"); err != nil {
		return false, err
	}
	gone, err := d.endRemoval(key, c)
	if err != nil {
		return false, err
	}
	return gone, d.fault("remove.recorded")
}

// endRemoval finishes a removal, or takes it back when the file was not as
// recorded or has not moved.
func (d *Downloader) endRemoval(key string, c state.Conflict) (bool, error) {
	staged := c.Staged
	c.Staged = ""
	got, err := sum(d.FS.OpenStaged(staged))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := d.FS.Lstat(c.Path); err == nil {
			return false, d.changeConflict(key, c)
		}
		return true, d.forget(key, c.Path)
	case err != nil:
		return false, err
	case bytes.Equal(got, c.Sum):
		if err := errors.Join(d.prune(path.Dir(c.Path)), d.FS.Discard(staged)); err != nil {
			return false, err
		}
		return true, d.forget(key, c.Path)
	}
	// Back, or beside what has taken its place.
	to := c.Path
	for n := 2; ; n++ {
		err := d.FS.Place(staged, to)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrExist) || n > 1000 {
			return false, fmt.Errorf("putting a conflict file back: %w", err)
		}
		to = fmt.Sprintf("%s.%d", c.Path, n)
	}
	return false, d.changeConflict(key, c)
}

// changeConflict replaces the record of a conflict file.
func (d *Downloader) changeConflict(key string, c state.Conflict) error {
	return d.Store.Update(func(tx *state.Tx) error {
		rec, _, err := tx.File(key)
		if err != nil {
			return err
		}
		for i := range rec.Conflicts {
			if rec.Conflicts[i].Path == c.Path {
				rec.Conflicts[i] = c
			}
		}
		return tx.PutFile(key, rec)
	})
}

func (d *Downloader) forget(key, p string) error {
	return d.Store.Update(func(tx *state.Tx) error {
		rec, _, err := tx.File(key)
		if err != nil {
			return err
		}
		rec.Conflicts = slices.DeleteFunc(rec.Conflicts, func(c state.Conflict) bool { return c.Path == p })
		return tx.PutFile(key, rec)
	})
}
