package magicfolder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"warren/magicfolder/fsys"
	"warren/magicfolder/remote"
	"warren/magicfolder/snapshot"
	"warren/magicfolder/state"
)

// ConflictFile is a conflict file that is still there. Paths are as the disk has
// them: escape them before they are shown.
type ConflictFile struct {
	Path        string    `json:"path"` // of the file in conflict
	File        string    `json:"file"`
	Participant string    `json:"participant"`   // whose bytes File has
	Own         bool      `json:"own,omitempty"` // they are ours, and somebody else's stand at Path
	Size        int64     `json:"size"`
	Modified    time.Time `json:"modified"`
	Edited      bool      `json:"edited,omitempty"` // it is not as it was made
}

// Stuck is a participant whose version is still the one that was in conflict. One
// on magic-folder 24.3 that saw the other version never gets out of that, and
// uploads this file no more; any other follows at its next poll.
type Stuck struct {
	Path        string `json:"path"`
	Participant string `json:"participant"`
	// Warren: its program is this one, so that it will follow.
	Warren bool `json:"warren,omitempty"`
}

// Conflicts is what `warren folder conflicts` shows.
type Conflicts struct {
	Folder string         `json:"folder"`
	Files  []ConflictFile `json:"conflicts"`
	Stuck  []Stuck        `json:"stuck"`
}

// Conflicts lists the conflict files, and the participants who stay with a version
// that was in conflict. It reads the disk and asks the grid nothing.
func (f *Folder) Conflicts(ctx context.Context) (Conflicts, error) {
	out := Conflicts{Folder: f.Name(), Files: []ConflictFile{}, Stuck: []Stuck{}}
	disk, err := f.open()
	if err != nil {
		return out, err
	}
	type record struct {
		key string
		rec state.File
	}
	var open, behind []record
	heads := f.otherHeads()
	err = f.store.View(func(tx *state.Tx) error {
		return tx.Files(func(key string, rec state.File) error {
			if len(rec.Conflicts) > 0 {
				open = append(open, record{key, rec})
			}
			if slices.ContainsFunc(heads[key], func(h head) bool { return rec.Head != "" && h.cap != rec.Head }) {
				behind = append(behind, record{key, rec})
			}
			return nil
		})
	})
	if err != nil {
		return out, err
	}
	own := f.Participant()
	for _, r := range open {
		for _, c := range r.rec.Conflicts {
			it, err := disk.Lstat(c.Path)
			if err != nil || it.Kind != fsys.Regular {
				continue
			}
			same, err := f.downloader(disk).Holds(c.Path, c.Sum)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return out, err
			}
			out.Files = append(out.Files, ConflictFile{Path: r.rec.Relpath, File: c.Path, Participant: c.Name, Own: c.Name == own,
				Size: it.State.Size, Modified: time.Unix(0, it.State.Modified), Edited: !same})
		}
	}
	for _, r := range behind {
		for _, h := range heads[r.key] {
			stuck, err := f.isStuck(r.rec, h)
			if err != nil {
				return out, err
			}
			if stuck {
				var pin state.Pin
				err := f.store.View(func(tx *state.Tx) (err error) {
					pin, _, err = tx.Pin("name:" + snapshot.Key(h.name))
					return err
				})
				if err != nil {
					return out, err
				}
				out.Stuck = append(out.Stuck, Stuck{r.rec.Relpath, h.name, pin.Ours})
			}
		}
	}
	return out, ctx.Err()
}

// otherHeads gives the others' versions by path.
func (f *Folder) otherHeads() map[string][]head {
	out := map[string][]head{}
	for _, p := range f.allPeers() {
		f.mu.Lock()
		for key, c := range p.heads {
			out[key] = append(out[key], head{p.name, p.dir, c})
		}
		f.mu.Unlock()
	}
	return out
}

// isStuck says whether a participant's version, of its own making, is one that a
// version of ours was joined with or stands beside. Only what has been read already
// is looked at.
func (f *Folder) isStuck(rec state.File, h head) (bool, error) {
	if h.cap == rec.Head || rec.Head == "" {
		return false, nil
	}
	stuck := false
	err := f.store.View(func(tx *state.Tx) error {
		stuck = false
		k, ok, err := tx.Known(h.cap)
		if err != nil || !ok || snapshot.Key(k.Author) != snapshot.Key(h.name) {
			return err // whoever took it from another follows
		}
		of := func(c state.Conflict) bool { return c.Cap == h.cap }
		if stuck = rec.Rival != nil && rec.Rival.Cap == h.cap; stuck {
			return nil
		}
		seen, queue := map[remote.Cap]bool{rec.Head: true}, []remote.Cap{rec.Head}
		for len(queue) > 0 && len(seen) < f.deep {
			next, _, err := tx.Known(queue[0])
			if err != nil {
				return err
			}
			queue = queue[1:]
			if slices.Contains(next.Parents, h.cap) {
				stuck = len(next.Parents) > 1
				return nil
			}
			for _, p := range next.Parents {
				if !seen[p] {
					seen[p] = true
					queue = append(queue, p)
				}
			}
		}
		stuck = slices.ContainsFunc(rec.Conflicts, of)
		return nil
	})
	return stuck, err
}

// Locate gives the path inside the folder that a user means: relative to the
// folder, else (relative to cwd, when that is given) where it is on this machine.
func (f *Folder) Locate(p, cwd string) (string, error) {
	if p == "" {
		return "", fmt.Errorf("%w: empty", ErrPath)
	}
	inside := ""
	if !filepath.IsAbs(p) {
		rel := path.Clean(filepath.ToSlash(p))
		if f.knows(rel) {
			return rel, nil
		}
		inside = rel
	}
	full := p
	if !filepath.IsAbs(p) && cwd != "" {
		full = filepath.Join(cwd, p)
	}
	if filepath.IsAbs(full) {
		root, err := filepath.EvalSymlinks(f.Dir())
		if err != nil {
			root = f.Dir()
		}
		// The parent may be a link to the folder; the file itself may be gone.
		if rel, err := filepath.Rel(root, resolved(full)); err == nil && filepath.IsLocal(rel) && rel != "." {
			return filepath.ToSlash(rel), nil
		}
	}
	if inside == "" {
		return "", fmt.Errorf("%w %q", ErrPath, f.Name())
	}
	if err := fsys.CheckPath(inside, runtime.GOOS == "windows"); err != nil {
		return "", fmt.Errorf("%w: %w", ErrPath, err)
	}
	return inside, nil
}

// knows says whether the folder has, or had, a file or a conflict file at a path.
func (f *Folder) knows(rel string) bool {
	if rec, line, err := f.load(snapshot.Key(rel)); err == nil && (rec.Relpath != "" || len(line) > 0) {
		return true
	}
	if len(f.headsOf(snapshot.Key(rel))) > 0 {
		return true
	}
	disk, err := f.open()
	if err != nil {
		return false
	}
	_, err = disk.Lstat(rel)
	return err == nil
}
