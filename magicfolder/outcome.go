package magicfolder

import (
	"bytes"
	"context"
	"errors"
	"slices"

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
	ours, err := f.notBelow(ctx, line[0].Parents, theirs)
	if err != nil {
		return err
	}
	parents := []remote.Cap{theirs}
	if len(ours) > 0 {
		if parents, err = f.joined(ctx, key, ours, parents); err != nil {
			return err
		}
		if slices.Equal(parents, ours) {
			return nil // outvoted
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

// notBelow gives those of ours that none of theirs descends from.
func (f *Folder) notBelow(ctx context.Context, ours []remote.Cap, theirs ...remote.Cap) ([]remote.Cap, error) {
	var out []remote.Cap
	for _, p := range ours {
		old := false
		for _, c := range theirs {
			var err error
			if old, err = snapshot.IsAncestor(ctx, f.parents, p, c, f.deep); err != nil {
				return nil, err
			}
			if old {
				break
			}
		}
		if !old {
			out = append(out, p)
		}
	}
	return out, nil
}
