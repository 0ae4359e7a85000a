package download

import (
	"bytes"
	"errors"
	"io/fs"
	"path"

	"golang.org/x/text/cases"

	"warren/magicfolder/fsys"
	"warren/magicfolder/snapshot"
	"warren/magicfolder/state"
)

func foldEqual(a, b string) bool {
	fold := cases.Fold()
	return fold.String(a) == fold.String(b)
}

// Recover finishes or undoes the moves that a crash left half done, and empties
// the staging area. Call it before anything else looks at the folder.
func (d *Downloader) Recover() error {
	if err := d.FS.Present(); err != nil {
		return err
	}
	open := map[string]state.File{}
	var removing []removal
	err := d.Store.View(func(tx *state.Tx) error {
		return tx.Files(func(key string, rec state.File) error {
			if rec.Move != nil {
				open[key] = rec
			}
			for _, c := range rec.Conflicts {
				if c.Staged != "" {
					removing = append(removing, removal{key, c})
				}
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	for key, rec := range open {
		if err := d.recover(key, rec); err != nil {
			return err
		}
	}
	for _, r := range removing {
		if _, err := d.endRemoval(r.key, r.c); err != nil {
			return err
		}
	}
	if err := d.tidy(); err != nil {
		return err
	}
	left, err := d.FS.Staged()
	if err != nil {
		return err
	}
	// What no journal names was on its way in, and is on the grid.
	for _, name := range left {
		if err := d.FS.Discard(name); err != nil {
			return err
		}
	}
	return nil
}

// tidy removes the conflict files that the version in place, another's that has just
// been taken, makes needless.
func (d *Downloader) tidy() error {
	var needless []removal
	err := d.Store.View(func(tx *state.Tx) error {
		return tx.Files(func(key string, rec state.File) error {
			if len(rec.Conflicts) == 0 || rec.Mine || rec.Move != nil || rec.Disk == nil {
				return nil
			}
			line, err := tx.Line(key)
			if err != nil || len(line) > 0 {
				return err
			}
			for _, c := range rec.Conflicts {
				if bytes.Equal(c.Sum, rec.Sum) {
					needless = append(needless, removal{key, c})
				}
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	for _, r := range needless {
		// One that cannot be removed now stays, and so does its record.
		d.RemoveConflict(r.key, r.c)
	}
	return nil
}

func sameForm(a, b fsys.State) bool { return a.Kind == b.Kind && a.Exec == b.Exec }

func (d *Downloader) recover(key string, rec state.File) error {
	m := *rec.Move
	it, err := d.FS.Lstat(rec.Relpath)
	there := err == nil && it.Kind.Synced()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// setAside's middle state: the old file under a third name.
	staged, stagedSum, stagedState := m.Staged, []byte(nil), fsys.State{}
	for _, name := range []string{m.Staged + ".old", m.Staged} {
		f, err := d.FS.OpenStaged(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		st, serr := f.State()
		got, err := sum(f, nil)
		if err := errors.Join(serr, err); err != nil {
			return err
		}
		staged, stagedSum, stagedState = name, got, st
		break
	}
	var have []byte
	if there {
		if have, err = sum(d.FS.Open(rec.Relpath)); err != nil {
			return err
		}
	}
	// The same bytes may be executable before and not after, or a link's target.
	alike := m.Old != nil && !m.Deletes() && bytes.Equal(m.Sum, m.OldSum)
	isOld := stagedSum != nil && bytes.Equal(stagedSum, m.OldSum) && (!alike || sameForm(stagedState, *m.Old))
	middle := isOld && !there && staged != m.Staged
	done := false
	switch {
	case m.Deletes():
		done = isOld
	case there && bytes.Equal(have, m.Sum) && (!alike || sameForm(it.State, m.New)):
		done = true
	default:
		// The old version in the staging area: the move was made, and the file
		// was edited or deleted since.
		done = isOld && !middle
	}
	// Bytes in the staging area that are neither the old nor the new version are
	// the user's.
	if stagedSum != nil && !isOld && !bytes.Equal(stagedSum, m.Sum) || middle {
		if !there {
			if err := d.FS.Place(staged, rec.Relpath); err != nil {
				return err
			}
		} else if !bytes.Equal(have, stagedSum) {
			f, err := d.FS.OpenStaged(staged)
			if err != nil {
				return err
			}
			cp, err := d.copy(f)
			f.Close()
			if err != nil {
				return err
			}
			p, err := d.PlaceConflict(rec.Relpath, d.Own, cp)
			if err != nil {
				return err
			}
			rec.Conflicts = append(rec.Conflicts, state.Conflict{Path: p, Name: d.Own, Sum: cp.Sum})
		}
	}
	// Of a delete the directories may be left that it emptied, of a new file those that
	// were made for it: nobody's, and a scan would take them for somebody's.
	if done && m.Deletes() || !done && m.Old == nil && !there {
		dir := path.Dir(rec.Relpath)
		if path.Base(rec.Relpath) == snapshot.DirectoryMark {
			d.FS.RemoveDir(dir) // unless there is something in it
		}
		if err := d.prune(dir); err != nil {
			return err
		}
	}
	rec.Move = nil
	ours := m.Stash != nil && m.Cap == ""
	if done {
		if !ours {
			rec.Head, rec.Content, rec.Mine, rec.Rival = m.Cap, m.Content, false, nil
		}
		rec.Disk, rec.Sum = nil, nil
		if !m.Deletes() {
			rec.Disk, rec.Sum, rec.Form = &m.New, m.Sum, m.Form
		}
	}
	err = d.Store.Update(func(tx *state.Tx) error {
		if done && !ours {
			line, err := tx.Line(key)
			if err != nil {
				return err
			}
			for _, v := range line {
				if err := tx.DropStashed(v); err != nil {
					return err
				}
			}
		}
		if done && m.Stash != nil {
			if err := enqueue(tx, *m.Stash); err != nil {
				return err
			}
		}
		return tx.PutFile(key, rec)
	})
	if err != nil {
		return err
	}
	return errors.Join(d.FS.Discard(m.Staged), d.FS.Discard(m.Staged+".old"))
}
