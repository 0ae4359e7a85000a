package upload

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"warren/magicfolder/remote"
	"warren/magicfolder/snapshot"
	"warren/magicfolder/state"
	"warren/node/caps"
)

// ErrMoved: the version was changed or dropped while it was uploaded. Look at
// the stash again.
var ErrMoved = errors.New("the captured version is not what it was")

// Grid is what uploading needs of the grid.
type Grid interface {
	PutFile(ctx context.Context, r io.Reader, size int64) (remote.Cap, error)
	PutDirectory(ctx context.Context, entries []remote.Entry) (remote.Cap, error)
}

// Uploader stores captured versions as snapshots.
type Uploader struct {
	Grid  Grid
	Store *state.Store
	Key   ed25519.PrivateKey
	Now   func() time.Time
	// Read, when set, hears how many bytes more were read for an upload.
	Read  func(n int64)
	Fault func(step string) error
}

func (u *Uploader) fault(step string) error {
	if u.Fault == nil {
		return nil
	}
	return u.Fault(step)
}

// Line stores a path's captured versions, oldest first, each as the child of
// the one before. Each step is recorded, so that a retry goes on from there.
func (u *Uploader) Line(ctx context.Context, author string, line []state.Stashed) error {
	for i := range line {
		v := &line[i]
		if v.Snapshot != "" {
			continue
		}
		m := snapshot.Metadata{
			// In NFC, whatever the disk has: Tahoe normalises the names of entries,
			// and magic-folder 24.3 fetches a file again at every poll when the
			// path inside is another than that of the entry.
			Relpath:  snapshot.Key(v.Relpath),
			Author:   snapshot.Author{Name: author, Key: u.Key.Public().(ed25519.PublicKey)},
			Modified: v.Modified,
			Parents:  v.Parents,
			Form:     v.Form,
		}
		if i > 0 {
			m.Parents = []remote.Cap{line[i-1].Snapshot}
		}
		// Neither names the other; most files are small, and it is the way to the
		// servers and back that takes the time.
		var meta remote.Cap
		both, bctx := errgroup.WithContext(ctx)
		both.Go(func() error { return u.content(bctx, v) })
		both.Go(func() (err error) {
			if meta, err = u.metadata(bctx, m.Encode()); err != nil {
				return err
			}
			return u.fault("upload.metadata")
		})
		if err := both.Wait(); err != nil {
			return err
		}
		c, err := u.Grid.PutDirectory(ctx, snapshot.Entries(u.Key, m, v.Content, meta, v.Captured))
		if err != nil {
			return fmt.Errorf("storing a snapshot: %w", err)
		}
		if err := u.fault("upload.snapshot"); err != nil {
			return err
		}
		v.Snapshot = c
		if err := u.record(*v, c, state.Known{Relpath: m.Relpath, Author: author, Key: m.Author.Key,
			Modified: m.Modified, Content: v.Content, Parents: m.Parents, Form: m.Form}); err != nil {
			return err
		}
		if err := u.fault("upload.recorded"); err != nil {
			return err
		}
	}
	return nil
}

// inline is the size up to which metadata stands in its own capability, a LIT, and so in
// the directory of the snapshot: one object in three need not be stored, found and
// fetched. Tahoe makes a LIT of at most 55 bytes and reads one of any length, and
// magic-folder 24.3 asks Tahoe. The bound keeps the address of a request for it (GET
// /uri/URI:LIT:...) below what web servers take.
const inline = 2 << 10

// metadata makes the file of a snapshot's metadata.
func (u *Uploader) metadata(ctx context.Context, raw []byte) (remote.Cap, error) {
	if len(raw) <= inline {
		return remote.Cap(caps.LIT{Data: raw}.Text()), nil
	}
	c, err := u.Grid.PutFile(ctx, bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		return "", fmt.Errorf("storing a snapshot's metadata: %w", err)
	}
	return c, nil
}

// worthRecording is the size from which content that was stored is recorded
// before its snapshot is: after a crash, what is smaller is sooner stored again
// (the same bytes give the same capability) than recorded each time.
const worthRecording = 1 << 20

func (u *Uploader) content(ctx context.Context, v *state.Stashed) error {
	if v.Deleted || v.Content != "" {
		return nil
	}
	f, err := os.Open(filepath.Join(u.Store.StashDir(), v.File))
	if errors.Is(err, fs.ErrNotExist) {
		// Dropped since we looked, for a version of somebody else's: no error of the
		// file's.
		if gone := u.Store.View(func(tx *state.Tx) error { _, _, err := find(tx, *v); return err }); gone != nil {
			return gone
		}
	}
	if err != nil {
		return fmt.Errorf("the stash: %w", err)
	}
	defer f.Close()
	c, err := u.Grid.PutFile(ctx, &counted{f, u.Read}, v.Size)
	if err != nil {
		return fmt.Errorf("storing a file: %w", err)
	}
	if err := u.fault("upload.content"); err != nil {
		return err
	}
	v.Content = c
	if v.Size < worthRecording {
		return nil
	}
	return u.Store.Update(func(tx *state.Tx) error {
		now, _, err := find(tx, *v)
		if err != nil {
			return err
		}
		now.Content = c
		return tx.PutStashed(now)
	})
}

func (u *Uploader) record(v state.Stashed, c remote.Cap, k state.Known) error {
	return u.Store.Update(func(tx *state.Tx) error {
		now, parents, err := find(tx, v)
		if err != nil {
			return err
		}
		if !slices.Equal(parents, k.Parents) {
			return ErrMoved
		}
		now.Content, now.Snapshot = v.Content, c
		if err := tx.PutKnown(c, k); err != nil {
			return err
		}
		return tx.PutStashed(now)
	})
}

// find gives a captured version as it is stored now, and its parents.
func find(tx *state.Tx, v state.Stashed) (state.Stashed, []remote.Cap, error) {
	line, err := tx.Line(v.Key)
	if err != nil {
		return v, nil, err
	}
	for i, have := range line {
		if have.ID != v.ID {
			continue
		}
		if i > 0 {
			return have, []remote.Cap{line[i-1].Snapshot}, nil
		}
		return have, have.Parents, nil
	}
	return v, nil, ErrMoved
}

type counted struct {
	r    io.Reader
	hear func(int64)
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if c.hear != nil {
		c.hear(int64(n))
	}
	return n, err
}
