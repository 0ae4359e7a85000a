// Package upload takes a folder's own versions to the grid, in two steps that a
// crash may separate: Capture copies a changed file to the stash and records it,
// Line stores captured versions on the grid as snapshots. Linking them into the
// Personal directory is the folder's work.
package upload

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	"warren/magicfolder/fsys"
	"warren/magicfolder/snapshot"
	"warren/magicfolder/state"
)

// ErrChanging: the file is being written to; capture it later.
var ErrChanging = errors.New("the file is changing")

// Capturer copies changed files to the stash.
type Capturer struct {
	FS    fsys.FS
	Store *state.Store
	Now   func() time.Time
	// Settle is how long a file must have been left alone; negative: not at all.
	Settle time.Duration
	// Supersede is how old a captured version may be for the next edit to take its
	// place instead of following it, and how long a file must have been there for
	// its delete to leave a trace, see Gone; at or below zero none is replaced.
	Supersede time.Duration
	// Sending, when set, says whether a path's versions are being uploaded: those
	// are followed and not replaced, or a file that is saved all the time would
	// never arrive.
	Sending func(key string) bool
	// Fault, when set, may fail at a named step: tests crash us there.
	Fault func(step string) error
}

func (c *Capturer) fault(step string) error {
	if c.Fault == nil {
		return nil
	}
	return c.Fault(step)
}

// dirSettle is how long a directory must have been empty: most are filled at once,
// or about to be removed.
const dirSettle = 3 * time.Second

// File captures the file at path if its bytes differ from its record. It says
// whether it did. The caller sees to it that nobody else works on this key.
func (c *Capturer) File(ctx context.Context, key, path string) (bool, error) {
	f, err := c.FS.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	before, err := f.State()
	if err != nil {
		return false, err
	}
	now := c.Now()
	settle := c.Settle
	if before.Kind == fsys.Mark {
		settle = max(settle, dirSettle)
	}
	if quiet := now.Sub(time.Unix(0, before.Modified)); c.Settle >= 0 && quiet < settle && quiet > -time.Minute {
		return false, ErrChanging
	}
	name := rand.Text()
	sum, size, err := c.copy(ctx, f, name)
	drop := func() { os.Remove(filepath.Join(c.Store.StashDir(), name)) }
	if err != nil {
		drop()
		return false, err
	}
	after, err := f.State()
	if err == nil && (after != before || size != before.Size) {
		err = ErrChanging
	}
	if err == nil {
		var it fsys.Item
		// A file that was saved by renaming another one over it.
		if it, err = c.FS.Lstat(path); err == nil && (!it.Kind.Synced() || it.State != before) {
			err = ErrChanging
		}
	}
	if err != nil {
		drop()
		return false, err
	}
	if err := c.fault("capture.stashed"); err != nil {
		return false, err
	}
	captured, bare := false, false // bare: the contents are on the grid already
	var replaced []state.Stashed
	err = c.Store.Update(func(tx *state.Tx) error {
		captured, replaced = false, nil
		rec, _, err := tx.File(key)
		if err != nil {
			return err
		}
		same := rec.Disk != nil && bytes.Equal(rec.Sum, sum)
		if same && rec.Disk.Kind == before.Kind && rec.Disk.Exec == before.Exec {
			// Touched, or recorded with a time that the disk rounds.
			rec.Disk = &before
			return tx.PutFile(key, rec)
		}
		rec.Form = formOf(before, c.FS.Modes(), rec.Form)
		v := state.Stashed{Key: key, Relpath: path, File: name, Size: size, Sum: sum, Form: rec.Form,
			Modified: floorSecond(before.Modified), Captured: now.Unix()}
		if same && rec.Content != "" && rec.Disk.Kind == before.Kind {
			line, err := tx.Line(key)
			if err != nil {
				return err
			}
			if len(line) == 0 { // else the newest contents are another version's
				v.File, v.Content = "", rec.Content
			}
		}
		bare = v.File == ""
		if replaced, err = c.stash(tx, rec, v); err != nil {
			return err
		}
		rec.Relpath, rec.Disk, rec.Sum = path, &before, sum
		captured = true
		return tx.PutFile(key, rec)
	})
	if err != nil || !captured || bare {
		drop()
	}
	if err != nil || !captured {
		return false, err
	}
	c.Store.Discard(replaced)
	return true, c.fault("capture.recorded")
}

// formOf is the form of a file that looks so. Where the disk keeps no modes the
// file has the one that its last version had.
func formOf(st fsys.State, modes bool, last snapshot.Form) snapshot.Form {
	switch {
	case st.Kind == fsys.Symlink:
		return snapshot.Form{Kind: snapshot.Symlink}
	case st.Kind == fsys.Mark:
		return snapshot.Form{Kind: snapshot.Directory}
	case !modes:
		return snapshot.Form{Mode: last.Mode}
	case st.Exec:
		return snapshot.Form{Mode: snapshot.Executable}
	}
	return snapshot.Form{Mode: snapshot.Ordinary}
}

func floorSecond(ns int64) int64 { return time.Unix(0, ns).Unix() }

// stash appends v to its line; the first of a line descends from what is
// published. It gives the version whose place v took.
func (c *Capturer) stash(tx *state.Tx, rec state.File, v state.Stashed) (replaced []state.Stashed, err error) {
	line, err := tx.Line(v.Key)
	if err != nil {
		return nil, err
	}
	n := len(line)
	if n == 0 {
		if rec.Head != "" {
			v.Parents = append(v.Parents, rec.Head)
		}
	} else if last := line[n-1]; c.supersedes(v, last) {
		v.Parents, replaced = last.Parents, line[n-1:]
		if !last.Deleted {
			v.Begun = begun(last)
		}
		if err := tx.DropStashed(last); err != nil {
			return nil, err
		}
	}
	_, err = tx.Stash(v)
	return replaced, err
}

// supersedes says whether v takes the place of the version before it. One that is
// stored whole may have been linked, and stays.
func (c *Capturer) supersedes(v, last state.Stashed) bool {
	switch {
	case v.Deleted || last.Snapshot != "":
		return false
	case last.Deleted:
		return true // made again before the delete was told: one edit
	}
	age := v.Captured - last.Captured
	return age >= 0 && time.Duration(age)*time.Second < c.Supersede && (c.Sending == nil || !c.Sending(v.Key))
}

func (c *Capturer) copy(ctx context.Context, f io.Reader, name string) ([]byte, int64, error) {
	out, err := os.OpenFile(filepath.Join(c.Store.StashDir(), name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, 0, err
	}
	h := sha256.New()
	size, err := io.Copy(io.MultiWriter(out, h), reader{ctx, f})
	if err == nil {
		// The record that comes next promises this file.
		err = c.Store.SyncStash(out)
	}
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	return h.Sum(nil), size, err
}

// begun is when the first of the versions was captured whose place v has taken.
func begun(v state.Stashed) int64 { return cmp.Or(v.Begun, v.Captured) }

// Gone captures a delete, if path is still missing. The versions before it stay in
// the line, so that the history has them even when nobody has heard of the file.
//
// Of two kinds nothing is left, as long as nothing of the path is published or
// stored whole: a file that was deleted no later than Supersede, in whole seconds,
// after it was first captured, which is how editors and build tools treat their
// temporary files, and how the rule for edits in a row has it; and an empty
// directory, which holds no bytes of anybody. The time of the file says nothing: a
// backup copy that an editor moves aside for a moment has an old one. A rename
// inside the rule loses nothing: the bytes are at the other name.
func (c *Capturer) Gone(key, path string) (bool, error) {
	if it, err := c.FS.Lstat(path); err == nil && it.Kind != fsys.Dir {
		return false, nil
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if err := c.FS.Present(); err != nil {
		return false, err
	}
	captured := false
	var dropped []state.Stashed
	err := c.Store.Update(func(tx *state.Tx) error {
		captured, dropped = false, nil
		rec, ok, err := tx.File(key)
		if err != nil || !ok || rec.Disk == nil {
			return err
		}
		line, err := tx.Line(key)
		if err != nil {
			return err
		}
		now := c.Now().Unix()
		if rec.Head == "" && rec.Linked == "" && c.passing(key, line, now) {
			for _, v := range line {
				if err := tx.DropStashed(v); err != nil {
					return err
				}
			}
			dropped = line
			return tx.DropFile(key)
		}
		v := state.Stashed{Key: key, Relpath: rec.Relpath, Deleted: true, Modified: now, Captured: now}
		if _, err := c.stash(tx, rec, v); err != nil {
			return err
		}
		rec.Disk, rec.Sum = nil, nil
		captured = true
		return tx.PutFile(key, rec)
	})
	if err != nil {
		return false, err
	}
	c.Store.Discard(dropped)
	if !captured {
		return false, nil
	}
	return true, c.fault("capture.recorded")
}

// passing says whether a line leaves no trace when its file is deleted now, see Gone.
func (c *Capturer) passing(key string, line []state.Stashed, now int64) bool {
	if len(line) == 0 {
		return true
	}
	if len(line[0].Parents) > 0 || slices.ContainsFunc(line, func(v state.Stashed) bool { return v.Snapshot != "" }) {
		return false // others have the path, or it may have been linked
	}
	life := now - begun(line[0])
	return path.Base(key) == snapshot.DirectoryMark || life >= 0 && c.Supersede > 0 && time.Duration(life)*time.Second <= c.Supersede
}

type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, fmt.Errorf("copying: %w", err)
	}
	return r.r.Read(p)
}
