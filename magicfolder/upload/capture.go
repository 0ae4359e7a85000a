// Package upload takes a folder's own versions to the grid, in two steps that a
// crash may separate: Capture copies a changed file to the stash and records it,
// Line stores captured versions on the grid as snapshots. Linking them into the
// Personal directory is the folder's work.
package upload

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"warren/magicfolder/fsys"
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
	// Fault, when set, may fail at a named step: tests crash us there.
	Fault func(step string) error
}

func (c *Capturer) fault(step string) error {
	if c.Fault == nil {
		return nil
	}
	return c.Fault(step)
}

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
	if quiet := now.Sub(time.Unix(0, before.Modified)); c.Settle >= 0 && quiet < c.Settle && quiet > -time.Minute {
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
		if it, err = c.FS.Lstat(path); err == nil && (it.Kind != fsys.Regular || it.State != before) {
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
	captured := false
	err = c.Store.Update(func(tx *state.Tx) error {
		captured = false
		rec, _, err := tx.File(key)
		if err != nil {
			return err
		}
		if rec.Disk != nil && bytes.Equal(rec.Sum, sum) {
			// Touched, or recorded with a time that the disk rounds.
			rec.Disk = &before
			return tx.PutFile(key, rec)
		}
		v := state.Stashed{Key: key, Relpath: path, File: name, Size: size, Sum: sum,
			Modified: floorSecond(before.Modified), Captured: now.Unix()}
		if err := stash(tx, &rec, v); err != nil {
			return err
		}
		rec.Relpath, rec.Disk, rec.Sum = path, &before, sum
		captured = true
		return tx.PutFile(key, rec)
	})
	if err != nil || !captured {
		drop()
		return false, err
	}
	return true, c.fault("capture.recorded")
}

func floorSecond(ns int64) int64 { return time.Unix(0, ns).Unix() }

// stash appends v to its line; the first of a line descends from what is
// published.
func stash(tx *state.Tx, rec *state.File, v state.Stashed) error {
	line, err := tx.Line(v.Key)
	if err != nil {
		return err
	}
	if len(line) == 0 && rec.Head != "" {
		v.Parents = append(v.Parents, rec.Head)
	}
	if n := len(line); n > 0 && line[n-1].Deleted && line[n-1].Snapshot == "" {
		// Made again before the delete was told: one edit.
		v.Parents = line[n-1].Parents
		if err := tx.DropStashed(line[n-1]); err != nil {
			return err
		}
	}
	_, err = tx.Stash(v)
	return err
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

// Gone captures a delete, if path is still missing.
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
		if rec.Head == "" {
			// Made and deleted before anybody heard of it.
			line, err := tx.Line(key)
			if err != nil {
				return err
			}
			for _, v := range line {
				if err := tx.DropStashed(v); err != nil {
					return err
				}
			}
			dropped = line
			return tx.DropFile(key)
		}
		now := c.Now().Unix()
		v := state.Stashed{Key: key, Relpath: rec.Relpath, Deleted: true, Modified: now, Captured: now}
		if err := stash(tx, &rec, v); err != nil {
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
