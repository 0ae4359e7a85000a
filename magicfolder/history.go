package magicfolder

import (
	"bytes"
	"container/heap"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"warren/magicfolder/download"
	"warren/magicfolder/fsys"
	"warren/magicfolder/remote"
	"warren/magicfolder/snapshot"
	"warren/magicfolder/state"
)

// Errors of looking back.
var (
	// ErrNoVersion: the folder has no such version, or no such file.
	ErrNoVersion = errors.New("there is no such version")
	// ErrNotDeleted: the file is there.
	ErrNotDeleted = errors.New("the file is not deleted")
	// ErrCyclic: a history that leads back to itself.
	ErrCyclic = errors.New("the file's history leads back to itself")
	// ErrTooDeep: a history longer than we follow.
	ErrTooDeep = snapshot.ErrTooDeep
)

// MaxHistory is how many versions of a file can be looked at.
const MaxHistory = snapshot.MaxAncestors

// FileVersion is one version of a file. Strings are as others gave them: escape
// them before they are shown.
type FileVersion struct {
	Number  int       `json:"number"` // 1 is the newest
	ID      string    `json:"id"`     // stays when newer versions come
	Time    time.Time `json:"time"`
	Author  string    `json:"author"`
	Own     bool      `json:"own,omitempty"`
	Size    int64     `json:"size"` // bytes
	Deleted bool      `json:"deleted,omitempty"`
	Link    bool      `json:"link,omitempty"`     // a symbolic link; Size is that of its target's name
	Merge   bool      `json:"merge,omitempty"`    // it has several parents
	Waiting bool      `json:"waiting,omitempty"`  // captured, not published yet
	Current bool      `json:"current,omitempty"`  // our newest
	Apart   bool      `json:"conflict,omitempty"` // our newest does not descend from it
	Holders []string  `json:"holders,omitempty"`  // other participants whose newest it is
	// Unproven: it names an author whose key is known to be another.
	Unproven bool   `json:"unproven,omitempty"`
	Problem  string `json:"problem,omitempty"` // why it cannot be restored
}

// version of a file on the way through its history.
type past struct {
	cap    remote.Cap
	s      snapshot.Snapshot
	err    error
	stash  *state.Stashed // not published: cap is empty
	apart  bool
	when   int64
	serial int // in the order of their finding
}

// frontier is a heap of versions, newest first.
type frontier []*past

func (q frontier) Len() int { return len(q) }
func (q frontier) Less(i, j int) bool {
	if q[i].when != q[j].when {
		return q[i].when > q[j].when
	}
	return q[i].serial < q[j].serial
}
func (q frontier) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *frontier) Push(x any)   { *q = append(*q, x.(*past)) }
func (q *frontier) Pop() any {
	old := *q
	x := old[len(old)-1]
	*q = old[:len(old)-1]
	return x
}

// errEnough ends a walk.
var errEnough = errors.New("enough")

// History gives a file's versions to fn, newest first and children before their
// parents, at most limit (0: MaxHistory), each as soon as it is read. It ends
// without an error when there are no more.
func (f *Folder) History(ctx context.Context, relpath string, limit int, fn func(FileVersion) error) error {
	n := 0
	err := f.walk(ctx, snapshot.Key(relpath), func(v FileVersion, _ *past) error {
		if limit > 0 && n == limit {
			return errEnough
		}
		n++
		return fn(v)
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// walk gives each version to fn. It reads one at a time, holds no more than the
// versions that it has met, and does not recurse.
func (f *Folder) walk(ctx context.Context, key string, fn func(FileVersion, *past) error) error {
	rec, line, err := f.load(key)
	if err != nil {
		return err
	}
	cfg := f.config()
	holders := map[remote.Cap][]string{}
	met := map[remote.Cap]*past{}
	done := map[remote.Cap]bool{}
	var queue frontier
	add := func(c remote.Cap, apart bool, when int64) {
		if p := met[c]; p != nil {
			p.apart = p.apart && apart
			return
		}
		p := &past{cap: c, apart: apart, serial: len(met)}
		if p.s, p.err = f.version(ctx, c); p.err == nil && snapshot.Key(p.s.Relpath) != key {
			p.err = fmt.Errorf("%w: it is of another path", snapshot.ErrFormat)
		}
		p.when = when
		if p.err == nil {
			p.when = p.s.Modified
		}
		met[c] = p
		heap.Push(&queue, p)
	}
	heads := f.headsOf(key)
	if rec.Relpath == "" && len(line) == 0 && len(heads) == 0 {
		return fmt.Errorf("%w: the folder has never had %s", ErrNoVersion, fsys.Printable(key))
	}
	for _, c := range ourParents(rec, line) {
		add(c, false, 0)
	}
	for _, h := range heads {
		holders[h.cap] = append(holders[h.cap], h.name)
		if _, err := f.trusted(ctx, key, h); err != nil {
			continue // there is an alarm, or it cannot be read
		}
		if below, err := f.descends(ctx, rec, line, h.cap); err == nil && !below {
			add(h.cap, true, 0)
		}
	}
	number := 0
	emit := func(p *past) error {
		if number++; number > f.deep {
			return ErrTooDeep
		}
		v := FileVersion{Number: number, Current: number == 1 && !p.apart || p.cap != "" && p.cap == rec.Head && len(line) == 0,
			Apart: p.apart, Holders: holders[p.cap]}
		switch {
		case p.stash != nil:
			v.ID, v.Waiting, v.Own, v.Author = "waiting-"+strconv.FormatUint(p.stash.ID, 10), true, true, cfg.Author
			v.Link = p.stash.Form.Kind == snapshot.Symlink
			v.Time, v.Size, v.Deleted, v.Merge = time.Unix(p.stash.Modified, 0), p.stash.Size, p.stash.Deleted, len(p.stash.Parents) > 1
		case p.err != nil:
			v.ID, v.Problem = versionID(p.cap), "cannot be read now"
			if condemned(p.err) {
				v.Problem = "is no version of this file: what comes before it is not looked at"
			}
		default:
			v.Link = p.s.Form.Kind == snapshot.Symlink
			v.ID, v.Author, v.Time = versionID(p.cap), p.s.Author.Name, time.Unix(p.s.Modified, 0)
			v.Deleted, v.Merge = p.s.Deleted(), len(p.s.Parents) > 1
			v.Size, _ = remote.Size(p.s.Content)
			v.Own = bytes.Equal(p.s.Author.Key, f.AuthorKey())
			var err error
			if v.Unproven, err = f.unproven(p.s.Author); err != nil {
				return err
			}
		}
		return fn(v, p)
	}
	for i, v := range slices.Backward(line) {
		if i > 0 {
			v.Parents = nil // of which there is one, the version before
		}
		if err := emit(&past{stash: &v}); err != nil {
			return err
		}
	}
	for len(queue) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		p := heap.Pop(&queue).(*past)
		done[p.cap] = true
		if p.apart {
			// Clocks may differ: ours may come to it later.
			if below, err := f.descends(ctx, rec, line, p.cap); err == nil && below {
				p.apart = false
			}
		}
		if err := emit(p); err != nil {
			return err
		}
		if p.err != nil {
			continue
		}
		for _, c := range p.s.Parents {
			if done[c] {
				if circle, err := snapshot.IsAncestor(ctx, f.parents, p.cap, c, f.deep); err == nil && circle {
					return ErrCyclic
				}
			}
			add(c, p.apart, p.when)
		}
	}
	return nil
}

// versionID names a version without telling its capability.
func versionID(c remote.Cap) string {
	sum := sha256.Sum256([]byte("warren-version-v1\n" + c.Text()))
	return hex.EncodeToString(sum[:6])
}

// unproven says whether an author's name is known to stand for another key.
func (f *Folder) unproven(a snapshot.Author) (bad bool, err error) {
	err = f.store.View(func(tx *state.Tx) error {
		pin, ok, err := tx.Pin("name:" + snapshot.Key(a.Name))
		bad = ok && !bytes.Equal(pin.Key, a.Key) && !slices.ContainsFunc(pin.Past, func(k []byte) bool { return bytes.Equal(k, a.Key) })
		return err
	})
	return bad, err
}

// find gives the version that a number or an ID of History names.
func (f *Folder) find(ctx context.Context, key, which string) (found FileVersion, p *past, err error) {
	n, nerr := strconv.Atoi(which)
	if len(which) > 6 {
		n, nerr = 0, nil // an ID may be all digits
	}
	if which == "" || nerr == nil && n <= 0 && len(which) <= 6 || nerr != nil && !strings.HasPrefix(which, "waiting-") {
		return found, nil, fmt.Errorf("%w: versions are named by the number or the id that history gives", ErrNoVersion)
	}
	err = f.walk(ctx, key, func(v FileVersion, have *past) error {
		if v.Number == n || v.ID == which {
			found, p = v, have
			return errEnough
		}
		return nil
	})
	switch {
	case errors.Is(err, errEnough):
		err = nil
	case err == nil:
		err = fmt.Errorf("%w: %s", ErrNoVersion, fsys.Printable(which))
	}
	if err == nil && found.Problem != "" {
		err = fmt.Errorf("%w: it %s", ErrNoVersion, found.Problem)
		if !condemned(p.err) {
			err = p.err
		}
	}
	return found, p, err
}

// Version finds the version that History's number or ID names.
func (f *Folder) Version(ctx context.Context, relpath, which string) (FileVersion, error) {
	v, _, err := f.find(ctx, snapshot.Key(relpath), which)
	return v, err
}

// WriteVersion writes the bytes of a version, which History's number or ID names.
func (f *Folder) WriteVersion(ctx context.Context, relpath, which string, w io.Writer) (FileVersion, error) {
	v, p, err := f.find(ctx, snapshot.Key(relpath), which)
	if err != nil {
		return v, err
	}
	if p.form().Kind != "" {
		return v, fmt.Errorf("%w: in that version it is no file", ErrNoVersion)
	}
	return v, f.writePast(ctx, v, p, w)
}

// form is what a version is beside its bytes.
func (p *past) form() snapshot.Form {
	if p.stash != nil {
		return p.stash.Form
	}
	return p.s.Form
}

func (f *Folder) writePast(ctx context.Context, v FileVersion, p *past, w io.Writer) error {
	if v.Deleted {
		return fmt.Errorf("%w: in that version the file is deleted", ErrNoVersion)
	}
	content := p.s.Content
	if p.stash != nil {
		content = p.stash.Content
	}
	if content != "" {
		return f.opt.Grid.Get(ctx, content, heard{w, f.receivedBytes})
	}
	file, err := os.Open(filepath.Join(f.store.StashDir(), p.stash.File))
	if err != nil {
		return fmt.Errorf("the stash: %w", err)
	}
	defer file.Close()
	_, err = io.Copy(w, file)
	return err
}

// heard tells how many bytes more went through it.
type heard struct {
	w    io.Writer
	hear func(n int64)
}

func (h heard) Write(p []byte) (int, error) {
	n, err := h.w.Write(p)
	h.hear(int64(n))
	return n, err
}

// Restored is what came of Restore and Undelete.
type Restored struct {
	Path    string      `json:"path"`
	Version FileVersion `json:"version"`        // that was restored
	Same    bool        `json:"same,omitempty"` // the file had those bytes
	// Remade: the file was deleted. magic-folder 24.3 puts a file that is made again
	// beside its place, as a conflict file.
	Remade bool `json:"remade,omitempty"`
}

// Restore makes the bytes of an earlier version, which History's number or ID names,
// the newest version: nothing of what came between is lost. What the user has not
// saved to us yet is captured first. Before it returns the outcome is captured; it is
// published when the grid can be reached.
func (f *Folder) Restore(ctx context.Context, relpath, which string) (Restored, error) {
	return f.restore(ctx, snapshot.Key(relpath), func() (FileVersion, *past, error) {
		return f.find(ctx, snapshot.Key(relpath), which)
	})
}

func (f *Folder) restore(ctx context.Context, key string, find func() (FileVersion, *past, error)) (Restored, error) {
	var out Restored
	disk, err := f.open()
	if err != nil {
		return out, err
	}
	if err := f.keys.lock(ctx, key); err != nil {
		return out, err
	}
	defer f.keys.unlock(key)
	// Before anything is captured, which would shift the numbers.
	v, p, err := find()
	if err != nil {
		return out, err
	}
	out.Version = v
	// What was never anybody's newest version here has not been checked yet.
	switch {
	case v.Deleted:
	case v.Link && v.Size > fsys.MaxTarget:
		return out, fsys.ErrTarget
	case path.Base(key) == snapshot.DirectoryMark && v.Size > 0:
		return out, fmt.Errorf("%w: a directory's mark with contents", snapshot.ErrFormat)
	}
	now := f.now()
	d := f.downloader(disk)
	read, write := io.Pipe()
	go func() { write.CloseWithError(f.writePast(ctx, v, p, write)) }()
	st, err := d.Stage(read, now)
	read.Close()
	if err != nil {
		return out, fmt.Errorf("reading the version: %w", err)
	}
	defer func() { f.dropStaged(disk, key, st) }()
	if err := f.fault("restore.staged"); err != nil {
		return out, err
	}
	for range 8 {
		rec, line, err := f.saved(ctx, disk, key)
		if err != nil {
			return out, err
		}
		out.Path, out.Remade = rec.Relpath, rec.Disk == nil
		form := p.form().After(rec.Form)
		if rec.Disk != nil && bytes.Equal(rec.Sum, st.Sum) && form == rec.Form {
			out.Same = true
			return out, nil
		}
		if rec.Head == "" && len(line) == 0 {
			return out, fmt.Errorf("%w: it has not arrived here yet", ErrNoVersion)
		}
		if err := d.Fits(key, rec); err != nil {
			return out, err
		}
		next := state.Stashed{Key: key, Relpath: rec.Relpath, Parents: ourParents(rec, line), Size: st.State.Size, Sum: st.Sum,
			Content: p.s.Content, Modified: now.Unix(), Captured: now.Unix(), Form: form}
		if p.stash != nil {
			if next.Content = p.stash.Content; next.Content == "" {
				if next.File, err = f.stashAgain(disk, st); err != nil {
					return out, err
				}
			}
		}
		err = d.Put(key, st, next)
		if !errors.Is(err, download.ErrEdited) {
			f.touch()
			poke(f.wakePush)
			return out, err
		}
		if next.File != "" {
			os.Remove(filepath.Join(f.store.StashDir(), next.File))
		}
	}
	return out, ErrBusy
}

// stashAgain copies what is staged to the stash, under a name of its own.
func (f *Folder) stashAgain(disk fsys.FS, st download.Staged) (string, error) {
	from, err := disk.OpenStaged(st.Name)
	if err != nil {
		return "", err
	}
	defer from.Close()
	name := rand.Text()
	out, err := os.OpenFile(filepath.Join(f.store.StashDir(), name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	if _, err = io.Copy(out, from); err == nil {
		err = f.store.SyncStash(out)
	}
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		os.Remove(filepath.Join(f.store.StashDir(), name))
		return "", fmt.Errorf("the stash: %w", err)
	}
	return name, nil
}
