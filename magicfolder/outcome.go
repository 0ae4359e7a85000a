package magicfolder

import (
	"bytes"
	"context"
	"errors"
	"time"

	"warren/magicfolder/download"
	"warren/magicfolder/fsys"
	"warren/magicfolder/remote"
	"warren/magicfolder/snapshot"
	"warren/magicfolder/state"
)

// tidyConflicts removes conflict files whose bytes are those of the file itself
// now, and forgets those that the user has removed.
func (f *Folder) tidyConflicts(disk fsys.FS, key string) error {
	rec, _, err := f.load(key)
	if err != nil {
		return err
	}
	d := f.downloader(disk)
	for _, c := range rec.Conflicts {
		if _, err := disk.Lstat(c.Path); err == nil && !bytes.Equal(c.Sum, rec.Sum) {
			continue
		}
		// One that cannot be removed now stays, and so does its record.
		if _, err := d.RemoveConflict(key, c); errors.Is(err, errCrash) {
			return err
		}
	}
	return nil
}

func (f *Folder) change(key string, fn func(*state.File)) error {
	return f.store.Update(func(tx *state.Tx) error {
		rec, _, err := tx.File(key)
		if err != nil {
			return err
		}
		fn(&rec)
		return tx.PutFile(key, rec)
	})
}

func (f *Folder) conflictFile(ctx context.Context, key string, rec state.File, h head, s snapshot.Snapshot, x *fetched) error {
	for _, c := range rec.Conflicts {
		if c.Cap == h.cap {
			return nil
		}
	}
	st, err := x.get(ctx)
	if err != nil {
		return err
	}
	p, err := x.d.PlaceConflict(rec.Relpath, h.name, st)
	if err != nil {
		return err
	}
	x.have = nil
	f.log.Warn("conflict: both versions are kept", "path", fsys.Printable(key), "theirs", fsys.Printable(p))
	return f.noteConflict(key, state.Conflict{Path: p, Name: h.name, Cap: h.cap, Sum: st.Sum})
}

func (f *Folder) noteConflict(key string, c state.Conflict) error {
	f.touch()
	return f.change(key, func(r *state.File) {
		for i := range r.Conflicts {
			if r.Conflicts[i].Path == c.Path {
				r.Conflicts[i] = c
				return
			}
		}
		r.Conflicts = append(r.Conflicts, c)
	})
}

// rebase makes our captured versions descend from theirs.
func (f *Folder) rebase(ctx context.Context, key string, theirs remote.Cap) error {
	_, line, err := f.load(key)
	if err != nil || len(line) == 0 {
		return err
	}
	parents := []remote.Cap{theirs}
	for _, p := range line[0].Parents {
		old, err := snapshot.IsAncestor(ctx, f.parents, p, theirs, f.deep)
		if err != nil {
			return err
		}
		if !old {
			parents = append(parents, p)
		}
	}
	err = f.store.Update(func(tx *state.Tx) error {
		now, err := tx.Line(key)
		if err != nil {
			return err
		}
		for i, v := range now {
			if i == 0 {
				v.Parents = parents
			}
			v.Snapshot = ""
			if err := tx.PutStashed(v); err != nil {
				return err
			}
		}
		rec, _, err := tx.File(key)
		if err != nil {
			return err
		}
		rec.Rival = nil
		return tx.PutFile(key, rec)
	})
	f.touch()
	poke(f.wakePush)
	return err
}

// merge stashes a version with our bytes that descends from both.
func (f *Folder) merge(key string, theirs remote.Cap) error {
	now := f.now()
	err := f.store.Update(func(tx *state.Tx) error {
		rec, _, err := tx.File(key)
		if err != nil {
			return err
		}
		if rec.Disk == nil {
			return download.ErrEdited
		}
		rec.Rival = nil
		if _, err := tx.Stash(state.Stashed{Key: key, Relpath: rec.Relpath, Parents: []remote.Cap{rec.Head, theirs},
			Size: rec.Disk.Size, Sum: rec.Sum, Content: rec.Content,
			Modified: time.Unix(0, rec.Disk.Modified).Unix(), Captured: now.Unix()}); err != nil {
			return err
		}
		return tx.PutFile(key, rec)
	})
	f.touch()
	poke(f.wakePush)
	return err
}
