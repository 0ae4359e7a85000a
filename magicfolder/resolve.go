package magicfolder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"runtime"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"warren/magicfolder/download"
	"warren/magicfolder/fsys"
	"warren/magicfolder/remote"
	"warren/magicfolder/scan"
	"warren/magicfolder/snapshot"
	"warren/magicfolder/state"
	"warren/magicfolder/upload"
)

// Errors of resolving conflicts and looking back.
var (
	// ErrNoConflict: the file is in no conflict.
	ErrNoConflict = errors.New("there is no conflict at that path")
	// ErrWhose: it takes a participant's name to say which version is meant.
	ErrWhose = errors.New("name the participant whose version you want")
	// ErrOnlyCopy: nothing else holds the bytes of a conflict file.
	ErrOnlyCopy = errors.New("a conflict file holds bytes that are in no version")
	// ErrBusy: somebody writes to the file.
	ErrBusy = errors.New("the file is being written to: try again when it is saved")
	// ErrPath: no path of the folder.
	ErrPath = errors.New("not a path in the folder")
)

// Keep says how a conflict ends.
type Keep string

// The outcomes.
const (
	KeepMine   Keep = "mine"
	KeepTheirs Keep = "theirs"
	KeepBoth   Keep = "both"
)

// Resolution asks for the end of a conflict.
type Resolution struct {
	// Path of the file in conflict, or of one of its conflict files, which then also
	// names the participant.
	Path string
	Keep Keep
	// Participant is needed with KeepTheirs when there are several; with KeepBoth
	// only that one's conflict files become files of their own.
	Participant string
}

// Resolved is what came of it.
type Resolved struct {
	Path    string   `json:"path"`
	Kept    Keep     `json:"kept"`
	From    string   `json:"participant,omitempty"` // whose bytes stand at Path now, if not ours
	Removed []string `json:"removed"`               // conflict files
	Made    []string `json:"made"`                  // files that conflict files became
}

// Resolve ends a file's conflict. The outcome is captured before it returns, as a
// version that descends from both sides, and published when the grid can be
// reached. Edits that were not captured yet are captured first.
func (f *Folder) Resolve(ctx context.Context, q Resolution) (Resolved, error) {
	out := Resolved{Kept: q.Keep, Removed: []string{}, Made: []string{}}
	if q.Keep == KeepMine && q.Participant != "" {
		return out, fmt.Errorf("%w: to keep ours needs no participant", ErrPath)
	}
	disk, err := f.open()
	if err != nil {
		return out, err
	}
	key, err := f.conflictAt(&q)
	if err != nil {
		return out, err
	}
	if err := f.keys.lock(ctx, key); err != nil {
		return out, err
	}
	defer f.keys.unlock(key)
	for range 8 {
		err = f.resolve(ctx, disk, key, q, &out)
		if !errors.Is(err, download.ErrEdited) {
			break
		}
	}
	if errors.Is(err, download.ErrEdited) {
		err = ErrBusy
	}
	f.touch()
	poke(f.wakePush)
	return out, err
}

// conflictAt finds the file that a conflict file belongs to.
func (f *Folder) conflictAt(q *Resolution) (key string, err error) {
	if !strings.Contains(q.Path, scan.ConflictMark) {
		return snapshot.Key(q.Path), nil
	}
	err = f.store.View(func(tx *state.Tx) error {
		return tx.Files(func(k string, rec state.File) error {
			for _, c := range rec.Conflicts {
				if snapshot.Key(c.Path) == snapshot.Key(q.Path) {
					key = k
					if q.Keep != KeepMine && q.Participant == "" {
						q.Participant = c.Name
					}
				}
			}
			return nil
		})
	})
	if err == nil && key == "" {
		err = ErrNoConflict
	}
	return key, err
}

// resolve works under the key's lock; on download.ErrEdited it is to be repeated.
func (f *Folder) resolve(ctx context.Context, disk fsys.FS, key string, q Resolution, out *Resolved) error {
	rec, line, err := f.saved(ctx, disk, key)
	if err != nil {
		return err
	}
	d := f.downloader(disk)
	var files []state.Conflict
	for _, c := range rec.Conflicts {
		if _, err := disk.Lstat(c.Path); err == nil {
			files = append(files, c)
		}
	}
	if len(files) == 0 && rec.Rival == nil {
		return ErrNoConflict
	}
	out.Path = rec.Relpath
	chosen, err := f.choose(rec, files, q)
	if err != nil {
		return err
	}
	if q.Keep != KeepBoth {
		for _, c := range files {
			same, err := d.Holds(c.Path, c.Sum)
			if err != nil {
				return err
			}
			if c.Cap == "" || !same {
				return fmt.Errorf("%w: %s: keep both, or rename or delete it yourself", ErrOnlyCopy, fsys.Printable(c.Path))
			}
		}
	}
	apart, err := f.apart(ctx, rec, line, files)
	if err != nil {
		return err
	}
	if chosen == nil || bytes.Equal(chosen.Sum, rec.Sum) {
		err = f.join(ctx, key, apart)
	} else {
		err = f.putVersion(ctx, d, key, rec, line, apart, *chosen)
	}
	if err != nil {
		return err
	}
	if err := f.fault("resolve.joined"); err != nil {
		return err
	}
	if chosen != nil && chosen.Name != f.Participant() {
		out.From = chosen.Name
	}
	for _, c := range files {
		if q.Keep == KeepBoth {
			if q.Participant != "" && snapshot.Key(c.Name) != snapshot.Key(q.Participant) {
				continue
			}
			to, err := f.plainName(disk, rec.Relpath, c)
			if err != nil {
				return err
			}
			out.Made = append(out.Made, to)
			continue
		}
		gone, err := d.RemoveConflict(key, c)
		if err != nil {
			return err
		}
		if !gone {
			return fmt.Errorf("%w: %s: keep both, or rename or delete it yourself", ErrOnlyCopy, fsys.Printable(c.Path))
		}
		out.Removed = append(out.Removed, c.Path)
	}
	if len(out.Made) > 0 {
		if err := f.fault("resolve.renamed"); err != nil {
			return err
		}
		poke(f.wakeScan)
	}
	return f.change(key, func(r *state.File) {
		r.Conflicts = slices.DeleteFunc(r.Conflicts, func(c state.Conflict) bool {
			_, err := disk.Lstat(c.Path)
			return errors.Is(err, fs.ErrNotExist)
		})
	})
}

// saved captures what the user has changed in a file and not told us yet, and gives
// what stands then. While the file is being written to it waits for a while.
func (f *Folder) saved(ctx context.Context, disk fsys.FS, key string) (state.File, []state.Stashed, error) {
	for try := 0; ; try++ {
		rec, line, err := f.load(key)
		if err != nil {
			return rec, line, err
		}
		if rec.Relpath == "" {
			rec.Relpath = key
		}
		same, err := f.downloader(disk).Unchanged(rec)
		if err != nil || same {
			return rec, line, err
		}
		_, err = f.captureNow(ctx, disk, key, rec.Relpath)
		switch {
		case err == nil:
			if try > 8 {
				return rec, line, ErrBusy
			}
		case !errors.Is(err, upload.ErrChanging):
			return rec, line, err
		case try >= 20:
			return rec, line, ErrBusy
		default:
			if !f.wait(ctx, max(f.opt.Settle, 50*time.Millisecond), nil) {
				return rec, line, ctx.Err()
			}
		}
	}
}

// choose gives the conflict file whose bytes are to stand at the path; nil: what
// stands there stays.
func (f *Folder) choose(rec state.File, files []state.Conflict, q Resolution) (*state.Conflict, error) {
	own := f.Participant()
	var ours *state.Conflict // the newest that has our bytes, when others' are in place
	theirs := map[string]*state.Conflict{}
	for i, c := range files {
		if c.Name == own {
			ours = &files[i]
		} else {
			theirs[snapshot.Key(c.Name)] = &files[i]
		}
	}
	if ours != nil {
		if name := snapshot.Key(f.author(rec.Head)); name != "" && name != own && theirs[name] == nil {
			theirs[name] = nil
		}
	}
	switch q.Keep {
	case KeepMine:
		return ours, nil
	case KeepBoth:
		if q.Participant != "" && !slices.ContainsFunc(files, func(c state.Conflict) bool { return snapshot.Key(c.Name) == snapshot.Key(q.Participant) }) {
			return nil, fmt.Errorf("%w: no conflict file is of %q", ErrNoConflict, fsys.Printable(q.Participant))
		}
		return nil, nil
	case KeepTheirs:
		var names []string
		for name := range theirs {
			names = append(names, fsys.Printable(name))
		}
		slices.Sort(names)
		if q.Participant != "" {
			c, ok := theirs[snapshot.Key(q.Participant)]
			if !ok {
				return nil, fmt.Errorf("%w with %q; it is with %s", ErrNoConflict, fsys.Printable(q.Participant), strings.Join(names, ", "))
			}
			return c, nil
		}
		if len(names) == 0 {
			return nil, ErrNoConflict
		}
		if len(names) > 1 {
			return nil, fmt.Errorf("%w: %s", ErrWhose, strings.Join(names, ", "))
		}
		for _, c := range theirs {
			return c, nil
		}
	}
	return nil, fmt.Errorf("%w: keep mine, theirs or both", ErrPath)
}

// author is who made a version that has been read; "" when it has not.
func (f *Folder) author(c remote.Cap) (name string) {
	f.store.View(func(tx *state.Tx) error {
		k, _, err := tx.Known(c)
		name = k.Author
		return err
	})
	return name
}

// apart gives the versions in conflict that our newest does not descend from.
func (f *Folder) apart(ctx context.Context, rec state.File, line []state.Stashed, files []state.Conflict) ([]remote.Cap, error) {
	var wanted []remote.Cap
	for _, c := range files {
		wanted = append(wanted, c.Cap)
	}
	if rec.Rival != nil {
		wanted = append(wanted, rec.Rival.Cap)
	}
	var out []remote.Cap
	for _, c := range wanted {
		if c == "" || slices.Contains(out, c) {
			continue
		}
		below, err := f.descends(ctx, rec, line, c)
		if err != nil {
			return nil, err
		}
		if !below {
			out = append(out, c)
		}
	}
	// One that another descends from comes with it.
	for i := 0; i < len(out); {
		rest := slices.Delete(slices.Clone(out), i, i+1)
		alone, err := f.notBelow(ctx, out[i:i+1], rest...)
		if err != nil {
			return nil, err
		}
		if len(alone) == 0 {
			out = rest
		} else {
			i++
		}
	}
	return out, nil
}

// descends says whether our newest version descends from c.
func (f *Folder) descends(ctx context.Context, rec state.File, line []state.Stashed, c remote.Cap) (bool, error) {
	for _, v := range line {
		if v.Snapshot == c {
			return true, nil
		}
	}
	for _, p := range ourParents(rec, line) {
		if ok, err := snapshot.IsAncestor(ctx, f.parents, c, p, f.deep); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

// ourParents is what our next version, or what waits to be published, descends from.
func ourParents(rec state.File, line []state.Stashed) []remote.Cap {
	if len(line) > 0 {
		return line[0].Parents
	}
	if rec.Head != "" {
		return []remote.Cap{rec.Head}
	}
	return nil
}

// putVersion makes a conflict file's bytes, which are on the grid, our next version.
func (f *Folder) putVersion(ctx context.Context, d *download.Downloader, key string, rec state.File, line []state.Stashed, apart []remote.Cap, c state.Conflict) error {
	s, err := f.version(ctx, c.Cap)
	if err != nil {
		return err
	}
	file, err := d.FS.Open(c.Path)
	if err != nil {
		return err
	}
	now := f.now()
	st, err := d.Stage(file, now)
	file.Close()
	if err != nil {
		return err
	}
	defer func() { f.dropStaged(d.FS, key, st) }()
	if !bytes.Equal(st.Sum, c.Sum) {
		return download.ErrEdited
	}
	if len(line) > 0 {
		if err := f.join(ctx, key, apart); err != nil {
			return err
		}
	}
	v := state.Stashed{Key: key, Relpath: rec.Relpath, Size: st.State.Size, Sum: st.Sum, Content: s.Content,
		Modified: now.Unix(), Captured: now.Unix(), Form: s.Form.After(rec.Form)}
	ours, err := f.notBelow(ctx, ourParents(rec, nil), apart...)
	if err != nil {
		return err
	}
	if v.Parents, err = f.joined(ctx, key, ours, apart); err != nil {
		return err
	}
	if err := d.Put(key, st, v); err != nil {
		return err
	}
	return f.change(key, func(r *state.File) { r.Rival = nil })
}

// dropStaged discards what was staged, unless a journal names it.
func (f *Folder) dropStaged(disk fsys.FS, key string, st download.Staged) {
	if rec, _, err := f.load(key); err == nil && rec.Move == nil {
		disk.Discard(st.Name)
	}
}

// join makes our newest version descend from others too, with our bytes. It
// captures one for that, unless one waits to be published.
func (f *Folder) join(ctx context.Context, key string, others []remote.Cap) error {
	for _, c := range others {
		_, line, err := f.load(key)
		if err != nil {
			return err
		}
		if len(line) > 0 {
			err = f.rebase(ctx, key, c)
		} else {
			err = f.merge(ctx, key, c)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// plainName gives a conflict file a name of its own, under which it syncs:
// "NAME (PARTICIPANT).ext".
func (f *Folder) plainName(disk fsys.FS, relpath string, c state.Conflict) (string, error) {
	for n := 1; n <= 1000; n++ {
		to := PlainName(relpath, c.Name, n)
		err := disk.Rename(c.Path, to)
		if err == nil {
			return to, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return "", fmt.Errorf("naming a conflict file: %w", err)
		}
	}
	return "", fmt.Errorf("naming a conflict file: %w", fs.ErrExist)
}

// PlainName is the n-th name for a participant's version of a file as a file of its
// own. A long name is cut so that it fits.
func PlainName(relpath, participant string, n int) string {
	dir, base := path.Split(relpath)
	ext := path.Ext(base)
	if ext == base || len(ext) > fsys.MaxName/4 {
		ext = ""
	}
	base = strings.TrimSuffix(base, ext)
	if len(participant) > fsys.MaxName/2 || strings.Contains(participant, scan.ConflictMark) ||
		fsys.CheckPath("x ("+participant+")", runtime.GOOS == "windows") != nil {
		participant = "another"
	}
	mark := " (" + participant + ")"
	if n > 1 {
		mark = fmt.Sprintf(" (%s %d)", participant, n)
	}
	for len(base)+len(mark)+len(ext) > fsys.MaxName {
		_, size := utf8.DecodeLastRuneInString(base)
		base = base[:len(base)-size]
	}
	return dir + base + mark + ext
}
