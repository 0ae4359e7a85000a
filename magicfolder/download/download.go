// Package download takes participants' versions to the disk. Contents are
// fetched to the staging area and verified on the way by the grid; then they are
// moved into place, compared with what was expected there, and only then is
// anything of the old thrown away. A journal in the file's record lets a restart
// finish or undo what a crash left half done.
package download

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"runtime"
	"time"
	"unicode/utf8"

	"warren/magicfolder/fsys"
	"warren/magicfolder/remote"
	"warren/magicfolder/scan"
	"warren/magicfolder/snapshot"
	"warren/magicfolder/state"
)

// Errors.
var (
	// ErrEdited: the disk does not hold what the record says; the user's bytes
	// are where they were. Capture them first.
	ErrEdited = errors.New("the file on disk has changed")
	// ErrCollision: this file system takes two names of the folder for one.
	ErrCollision = errors.New("the name differs from another file's in case or Unicode form alone, which this file system cannot hold")
	// ErrBlocked: something that is no file stands in the way.
	ErrBlocked = errors.New("something that is not a file stands in the way")
)

// Grid is what downloading needs of the grid.
type Grid interface {
	Get(ctx context.Context, file remote.Cap, w io.Writer) error
}

// Downloader puts versions in place. The caller sees to it that nobody else
// works on the same key at the same time.
type Downloader struct {
	Grid  Grid
	FS    fsys.FS
	Store *state.Store
	// Own is our name, for conflict files that keep our bytes.
	Own string
	// Wrote, when set, hears how many bytes more have arrived.
	Wrote func(n int64)
	Fault func(step string) error
}

func (d *Downloader) fault(step string) error {
	if d.Fault == nil {
		return nil
	}
	return d.Fault(step)
}

// Staged is a fetched content in the staging area.
type Staged struct {
	Name  string
	State fsys.State
	Sum   []byte
}

// Fetch downloads a version's content to the staging area.
func (d *Downloader) Fetch(ctx context.Context, s snapshot.Snapshot) (Staged, error) {
	name := rand.Text()
	w, err := d.FS.Create(name)
	if err != nil {
		return Staged{}, fmt.Errorf("staging: %w", err)
	}
	defer w.Abort()
	h := sha256.New()
	if err := d.Grid.Get(ctx, s.Content, &counted{io.MultiWriter(w, h), d.Wrote}); err != nil {
		return Staged{}, fmt.Errorf("downloading: %w", err)
	}
	st, err := w.Finish(time.Unix(s.Modified, 0))
	if err != nil {
		return Staged{}, fmt.Errorf("staging: %w", err)
	}
	return Staged{Name: name, State: st, Sum: h.Sum(nil)}, d.fault("download.staged")
}

type counted struct {
	w    io.Writer
	hear func(int64)
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	if c.hear != nil {
		c.hear(int64(n))
	}
	return n, err
}

// sum hashes an open file.
func sum(f fsys.File, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return h.Sum(nil), err
}

// Unchanged says whether the disk holds what the record says, by state or else
// by content.
func (d *Downloader) Unchanged(rec state.File) (bool, error) {
	it, err := d.FS.Lstat(rec.Relpath)
	if errors.Is(err, fs.ErrNotExist) {
		return rec.Disk == nil, nil
	}
	if err != nil {
		return false, err
	}
	if (it.Kind == fsys.Dir || it.Kind == fsys.Mark) && rec.Disk == nil {
		// A directory took a deleted file's name; or it is there for what is in it.
		return true, nil
	}
	if !it.Kind.Synced() {
		return false, ErrBlocked
	}
	if rec.Disk == nil {
		return false, nil
	}
	return d.holds(it.State, *rec.Disk, rec.Sum, func() (fsys.File, error) { return d.FS.Open(rec.Relpath) })
}

// Holds says whether the file at path has the bytes of this SHA-256.
func (d *Downloader) Holds(p string, want []byte) (bool, error) {
	got, err := sum(d.FS.Open(p))
	return bytes.Equal(got, want), err
}

func (d *Downloader) holds(now, want fsys.State, wantSum []byte, open func() (fsys.File, error)) (bool, error) {
	if now == want {
		return true, nil
	}
	if now.Size != want.Size || now.Kind != want.Kind || now.Exec != want.Exec {
		return false, nil
	}
	got, err := sum(open())
	return bytes.Equal(got, wantSum), err
}

// Take makes s the version on disk. staged holds its content, unless s is a
// delete. Captured versions of ours must be none, or deletes that give way: they
// are dropped. On ErrEdited nothing has changed.
func (d *Downloader) Take(key string, s snapshot.Snapshot, staged Staged) error {
	return d.TakeAnd(key, s, staged, nil)
}

// TakeAnd is Take; in the same step a version of ours that is to come after s is
// stashed, unless v is nil.
func (d *Downloader) TakeAnd(key string, s snapshot.Snapshot, staged Staged, v *state.Stashed) error {
	rec, err := d.load(key)
	if err != nil {
		return err
	}
	if rec.Move != nil {
		return d.finish(key, rec)
	}
	if rec.Relpath == "" {
		rec.Relpath = s.Relpath
	}
	if err := d.expected(key, rec); err != nil {
		return err
	}
	if s.Deleted() && rec.Disk == nil {
		return d.adopt(key, rec, s, nil, nil, v)
	}
	move := state.Move{Cap: s.Cap, Content: s.Content, Old: rec.Disk, OldSum: rec.Sum, Stash: v, Form: s.Form.After(rec.Form)}
	if !s.Deleted() {
		if err := d.dress(rec, move.Form, &staged); err != nil {
			return err
		}
	}
	if s.Deleted() {
		move.Staged = rand.Text()
	} else {
		move.Staged, move.New, move.Sum = staged.Name, staged.State, staged.Sum
	}
	if err := d.place(key, rec, move, "download"); err != nil {
		return err
	}
	rec.Move = nil
	if s.Deleted() {
		err = d.adopt(key, rec, s, nil, nil, v)
	} else {
		err = d.adopt(key, rec, s, &move.New, move.Sum, v)
	}
	return d.placed(move, "download", err)
}

// Put makes staged the bytes on disk and stashes v, which says the same, as a
// version of ours. Parents of v count while nothing else is in the stash. On
// ErrEdited nothing has changed.
func (d *Downloader) Put(key string, staged Staged, v state.Stashed) error {
	rec, err := d.load(key)
	if err != nil {
		return err
	}
	if rec.Move != nil {
		return d.finish(key, rec)
	}
	if err := d.expected(key, rec); err != nil {
		return err
	}
	if err := d.dress(rec, v.Form, &staged); err != nil {
		return err
	}
	move := state.Move{Staged: staged.Name, New: staged.State, Sum: staged.Sum, Old: rec.Disk, OldSum: rec.Sum, Stash: &v, Form: v.Form}
	if err := d.place(key, rec, move, "put"); err != nil {
		return err
	}
	err = d.Store.Update(func(tx *state.Tx) error {
		rec, _, err := tx.File(key)
		if err != nil {
			return err
		}
		rec.Disk, rec.Sum, rec.Move, rec.Form = &move.New, move.Sum, nil, move.Form
		if err := enqueue(tx, v); err != nil {
			return err
		}
		return tx.PutFile(key, rec)
	})
	return d.placed(move, "put", err)
}

// dress makes a staged file what it is to be at its path.
func (d *Downloader) dress(rec state.File, form snapshot.Form, staged *Staged) error {
	kind, exec := fsys.Regular, (*bool)(nil)
	switch {
	case path.Base(rec.Relpath) == snapshot.DirectoryMark:
		kind = fsys.Mark
	case form.Kind == snapshot.Symlink:
		kind = fsys.Symlink
	case form.Mode != snapshot.ModeUnknown:
		x := form.Mode == snapshot.Executable
		exec = &x
	}
	st, err := d.FS.Dress(staged.Name, rec.Relpath, kind, exec)
	if err != nil {
		return err
	}
	staged.State = st
	return nil
}

// take is FS.Take, and removes the directories that this left empty and that
// nobody made for their own sake.
func (d *Downloader) take(p, staged string) error {
	if err := d.FS.Take(p, staged); err != nil {
		return err
	}
	return d.prune(path.Dir(p))
}

// prune removes a directory, or the nearest above it that is there, and those above
// that, while they are empty and have no mark. It looks and removes in one transaction,
// so that no mark is recorded between.
func (d *Downloader) prune(dir string) error {
	for ; dir != "."; dir = path.Dir(dir) {
		if _, err := d.FS.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if dir == "." || !d.FS.Empty(dir) {
		return nil
	}
	return d.Store.Update(func(tx *state.Tx) error {
		for dir := dir; dir != "."; dir = path.Dir(dir) {
			rec, _, err := tx.File(snapshot.Key(dir + "/" + snapshot.DirectoryMark))
			if err != nil || rec.Disk != nil || rec.Move != nil || d.FS.RemoveDir(dir) != nil {
				return err
			}
		}
		return nil
	})
}

// enqueue appends a version to its line. A delete that nobody has heard of yet is
// taken back.
func enqueue(tx *state.Tx, v state.Stashed) error {
	line, err := tx.Line(v.Key)
	if err != nil {
		return err
	}
	if n := len(line); n > 0 {
		v.Parents = nil
		if tip := line[n-1]; tip.Deleted && tip.Snapshot == "" {
			v.Parents = tip.Parents
			if err := tx.DropStashed(tip); err != nil {
				return err
			}
		}
	}
	_, err = tx.Stash(v)
	return err
}

func (d *Downloader) load(key string) (rec state.File, err error) {
	err = d.Store.View(func(tx *state.Tx) (err error) {
		rec, _, err = tx.File(key)
		return err
	})
	return rec, err
}

// place makes a move, under a journal. After an error the disk is as it was, or
// the journal stands.
func (d *Downloader) place(key string, rec state.File, move state.Move, steps string) error {
	rec.Move = &move
	if err := d.put(key, rec); err != nil {
		return err
	}
	if err := d.fault(steps + ".journalled"); err != nil {
		return err
	}
	if err := d.move(rec.Relpath, move); err != nil {
		if errors.Is(err, ErrEdited) && rec.Disk == nil && d.collides(key, rec.Relpath) {
			err = ErrCollision
		}
		if errors.Is(err, ErrEdited) && !errors.Is(err, errKept) || errors.Is(err, ErrBlocked) || errors.Is(err, ErrCollision) {
			// All is where it was.
			rec.Move = nil
			return errors.Join(err, d.put(key, rec))
		}
		// It may have been made, or the staging area may hold bytes of the user's.
		if ferr := d.finish(key, rec); !errors.Is(ferr, ErrEdited) || errors.Is(err, errKept) {
			return ferr
		}
		return err
	}
	return d.fault(steps + ".placed")
}

// placed ends a move that was made and recorded, or not, as err says.
func (d *Downloader) placed(move state.Move, steps string, err error) error {
	if err != nil {
		return err
	}
	if move.Old != nil {
		if err := d.FS.Discard(move.Staged); err != nil {
			return err
		}
	}
	return d.fault(steps + ".recorded")
}

// expected gives an error unless the disk holds what the record says.
func (d *Downloader) expected(key string, rec state.File) error {
	if ok, err := d.Unchanged(rec); err != nil || ok {
		return err
	}
	if rec.Disk == nil && d.collides(key, rec.Relpath) {
		return ErrCollision
	}
	return ErrEdited
}

// Fits gives the error that Take would end with, as far as that can be told
// before there is a content to take.
func (d *Downloader) Fits(key string, rec state.File) error {
	if err := d.expected(key, rec); err != nil {
		return err
	}
	for dir := path.Dir(rec.Relpath); dir != "."; dir = path.Dir(dir) {
		if it, err := d.FS.Lstat(dir); err == nil && it.Kind != fsys.Dir {
			return ErrBlocked
		}
	}
	if it, err := d.FS.Lstat(rec.Relpath); err == nil && it.Kind == fsys.Dir {
		return ErrBlocked
	}
	return nil
}

// finish ends a move that was left open, before its journal, which is all that
// keeps bytes of the user's in the staging area from being swept, is replaced.
// Look at the file again on ErrEdited; after other errors the journal still stands.
func (d *Downloader) finish(key string, rec state.File) error {
	if err := d.recover(key, rec); err != nil {
		return fmt.Errorf("finishing an earlier change of the file: %w", err)
	}
	return ErrEdited
}

// collides: on a file system that ignores case, the file at path may be the one
// of another record.
func (d *Downloader) collides(key, p string) bool {
	found := false
	d.Store.View(func(tx *state.Tx) error {
		return tx.Files(func(k string, f state.File) error {
			if k != key && (f.Disk != nil || f.Move != nil) && foldEqual(k, key) && d.FS.Same(f.Relpath, p) {
				found = true
			}
			return nil
		})
	})
	return found
}

var errKept = errors.New("the user's version is kept in the staging area")

// move does what the journal says and checks what came out.
func (d *Downloader) move(p string, m state.Move) error {
	if m.Old == nil {
		err := d.FS.Place(m.Staged, p)
		if errors.Is(err, fs.ErrExist) {
			if it, lerr := d.FS.Lstat(p); lerr == nil && it.Kind.Synced() {
				return ErrEdited
			}
			return fmt.Errorf("%w: %w", ErrBlocked, err)
		}
		return err
	}
	var err error
	if m.Deletes() {
		err = d.take(p, m.Staged)
	} else {
		err = d.FS.Swap(m.Staged, p)
	}
	if err == nil && m.Old.Kind == fsys.Mark {
		return nil // there is nothing in it to have changed
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fsys.ErrNotFile) {
		return ErrEdited
	}
	if err != nil {
		return err
	}
	f, err := d.FS.OpenStaged(m.Staged)
	if err != nil {
		return errors.Join(err, errKept)
	}
	now, err := f.State()
	f.Close()
	if err != nil {
		return errors.Join(err, errKept)
	}
	same, err := d.holds(now, *m.Old, m.OldSum, func() (fsys.File, error) { return d.FS.OpenStaged(m.Staged) })
	if err != nil {
		return errors.Join(err, errKept)
	}
	if same {
		return nil
	}
	// The user saved between our look and our move: put it back.
	if m.Deletes() {
		err = d.FS.Place(m.Staged, p)
	} else {
		err = d.FS.Swap(m.Staged, p)
	}
	if err != nil {
		return errors.Join(ErrEdited, err, errKept)
	}
	if !m.Deletes() {
		// And once more, should a save have hit the version just put there.
		got, err := sum(d.FS.OpenStaged(m.Staged))
		if err != nil || !bytes.Equal(got, m.Sum) {
			return errors.Join(ErrEdited, err, errKept)
		}
	}
	return ErrEdited
}

func (d *Downloader) put(key string, rec state.File) error {
	return d.Store.Update(func(tx *state.Tx) error { return tx.PutFile(key, rec) })
}

// Adopt makes s the published version of a file whose disk needs no change.
// Captured versions of ours are dropped.
func (d *Downloader) Adopt(key string, s snapshot.Snapshot) error {
	var rec state.File
	err := d.Store.View(func(tx *state.Tx) (err error) {
		rec, _, err = tx.File(key)
		return err
	})
	if err != nil {
		return err
	}
	if rec.Move != nil {
		return d.finish(key, rec)
	}
	if rec.Relpath == "" {
		rec.Relpath = s.Relpath
	}
	return d.adopt(key, rec, s, rec.Disk, rec.Sum, nil)
}

func (d *Downloader) adopt(key string, rec state.File, s snapshot.Snapshot, disk *fsys.State, sum []byte, next *state.Stashed) error {
	rec.Head, rec.Content, rec.Mine = s.Cap, s.Content, false
	rec.Disk, rec.Sum, rec.Move, rec.Rival = disk, sum, nil, nil
	rec.Form = s.Form.After(rec.Form)
	var line []state.Stashed
	err := d.Store.Update(func(tx *state.Tx) error {
		var err error
		if line, err = tx.Line(key); err != nil {
			return err
		}
		for _, v := range line {
			if err := tx.DropStashed(v); err != nil {
				return err
			}
		}
		if next != nil {
			if _, err := tx.Stash(*next); err != nil {
				return err
			}
		}
		return tx.PutFile(key, rec)
	})
	if err == nil {
		d.Store.Discard(line)
	}
	return err
}

// PlaceConflict puts staged bytes beside the file as a conflict file of the
// named participant and gives its path. It never overwrites: a file that holds
// the same bytes already is as good, else a number is added.
func (d *Downloader) PlaceConflict(relpath, name string, staged Staged) (string, error) {
	// What is for its owner's eyes alone stays so.
	if err := d.FS.CopyMode(relpath, staged.Name); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fsys.ErrNotFile) {
		return "", fmt.Errorf("writing a conflict file: %w", err)
	}
	for n := 1; n <= 1000; n++ {
		p := ConflictPath(relpath, name, n)
		err := d.FS.Place(staged.Name, p)
		if err == nil {
			return p, d.fault("conflict.placed")
		}
		if !errors.Is(err, fs.ErrExist) {
			return "", fmt.Errorf("writing a conflict file: %w", err)
		}
		if it, lerr := d.FS.Lstat(p); lerr != nil || it.Kind != fsys.Regular || it.State.Size != staged.State.Size {
			continue
		}
		have, err := sum(d.FS.Open(p))
		if err == nil && bytes.Equal(have, staged.Sum) {
			return p, d.FS.Discard(staged.Name)
		}
	}
	return "", fmt.Errorf("writing a conflict file: %w", fs.ErrExist)
}

// Copy stages the bytes that the file at path has now, with its time.
func (d *Downloader) Copy(p string) (Staged, error) {
	f, err := d.FS.Open(p)
	if err != nil {
		return Staged{}, err
	}
	defer f.Close()
	return d.copy(f)
}

// Stage stages the bytes of r.
func (d *Downloader) Stage(r io.Reader, modified time.Time) (Staged, error) {
	name := rand.Text()
	w, err := d.FS.Create(name)
	if err != nil {
		return Staged{}, fmt.Errorf("staging: %w", err)
	}
	defer w.Abort()
	h := sha256.New()
	if _, err := io.Copy(io.MultiWriter(w, h), r); err != nil {
		return Staged{}, fmt.Errorf("staging: %w", err)
	}
	st, err := w.Finish(modified)
	if err != nil {
		return Staged{}, fmt.Errorf("staging: %w", err)
	}
	return Staged{Name: name, State: st, Sum: h.Sum(nil)}, nil
}

func (d *Downloader) copy(f fsys.File) (Staged, error) {
	st, err := f.State()
	if err != nil {
		return Staged{}, err
	}
	return d.Stage(f, time.Unix(0, st.Modified))
}

// ConflictPath is where the n-th conflict file of a participant goes. The last
// part of a long path is cut so that it fits, on a character's border.
func ConflictPath(relpath, name string, n int) string {
	dir, base := path.Split(relpath)
	suffix := scan.ConflictMark + name
	if len(suffix) > fsys.MaxName/2 || fsys.CheckPath("x"+suffix, runtime.GOOS == "windows") != nil {
		h := sha256.Sum256([]byte(name))
		suffix = scan.ConflictMark + hex.EncodeToString(h[:8])
	}
	if n > 1 {
		suffix += fmt.Sprintf(".%d", n)
	}
	if len(base)+len(suffix) > fsys.MaxName {
		h := sha256.Sum256([]byte(base))
		suffix = "~" + hex.EncodeToString(h[:4]) + suffix
		cut := fsys.MaxName - len(suffix)
		for cut > 0 && !utf8.RuneStart(base[cut]) {
			cut--
		}
		base = base[:cut]
	}
	return dir + base + suffix
}
