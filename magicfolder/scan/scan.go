// Package scan finds what has changed in a folder: by comparing the disk with
// what state remembers, and by file events that say where to look.
package scan

import (
	"errors"
	"io/fs"
	"runtime"
	"strings"

	"warren/magicfolder/fsys"
	"warren/magicfolder/snapshot"
	"warren/magicfolder/state"
)

// ConflictMark is in the name of every conflict file; magic-folder never uploads
// a path that holds it, nor do we.
const ConflictMark = ".conflict-"

// Change is a path whose disk differs from its record.
type Change struct {
	Key  string
	Path string // as the disk has it
	Gone bool
}

// Result of a scan.
type Result struct {
	Changes []Change
	// Problems are paths that cannot be synced, Notes those that are but that
	// some participants cannot hold. Both by path, in words.
	Problems map[string]string
	Notes    map[string]string
	Files    int
	Bytes    int64
}

type scanner struct {
	fs     fsys.FS
	tx     *state.Tx
	look   *look
	out    Result
	seen   map[string]string // key -> path
	closed []string          // directories that could not be read, or are ignored
}

// Scan looks at the given paths and all below them; no path means everything.
// It changes nothing. What is ignored is as it was, whatever the disk has.
func Scan(disk fsys.FS, store *state.Store, ignore *Ignore, paths ...string) (Result, error) {
	s := &scanner{fs: disk, look: ignore.look(disk), seen: map[string]string{}}
	s.out.Problems, s.out.Notes = map[string]string{}, map[string]string{}
	if len(paths) == 0 {
		paths = []string{""}
	}
	// Without this an unmounted folder would look like everything deleted.
	if err := disk.Present(); err != nil {
		return s.out, err
	}
	err := store.View(func(tx *state.Tx) error {
		s.tx = tx
		for _, p := range paths {
			if err := s.below(p); err != nil {
				return err
			}
		}
		for _, p := range paths {
			if err := s.missing(p); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = disk.Present()
	}
	for dir, c := range s.look.chain {
		if n := len(c); n > 0 && c[n-1].bad != "" && c[n-1].dir == prefixOf(dir) {
			s.out.Notes[c[n-1].dir+IgnoreFile] = c[n-1].bad
		}
	}
	return s.out, err
}

func prefixOf(dir string) string {
	if dir == "" {
		return ""
	}
	return dir + "/"
}

func (s *scanner) below(p string) error {
	if p != "" {
		it, err := s.fs.Lstat(p)
		if s.look.under(p, it.Kind == fsys.Dir) {
			s.ignore(p)
			return nil
		}
		if errors.Is(err, fs.ErrNotExist) {
			return s.emptied(parent(p))
		}
		if errors.Is(err, fsys.ErrName) {
			return nil
		}
		if errors.Is(err, fs.ErrPermission) {
			return s.unreadable(p)
		}
		if err != nil {
			return err
		}
		if it.Kind != fsys.Dir {
			return s.item(it)
		}
	}
	err := s.fs.Walk(p, s.item)
	switch {
	case p == "":
		return err
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, fs.ErrPermission):
		return s.unreadable(p)
	}
	return err
}

// emptied looks whether what is gone was the last in its directory.
func (s *scanner) emptied(dir string) error {
	if dir == "" || !s.fs.Empty(dir) {
		return nil
	}
	it, err := s.fs.Lstat(dir + "/" + snapshot.DirectoryMark)
	if err != nil {
		return nil // gone as well: somebody tells us
	}
	return s.item(it)
}

// ignore leaves a path and all below it out.
func (s *scanner) ignore(p string) {
	key := snapshot.Key(p)
	s.seen[key] = p
	s.closed = append(s.closed, key+"/")
}

// unreadable notes a path of which nothing can be said: least of all that it is
// gone, or what lies below it.
func (s *scanner) unreadable(p string) error {
	s.seen[snapshot.Key(p)] = p
	return s.item(fsys.Item{Path: p, Kind: fsys.Dir, Problem: "cannot be read: permission denied"})
}

func (s *scanner) item(it fsys.Item) error {
	if it.Problem != "" {
		s.out.Problems[it.Path] = it.Problem
	}
	if it.Kind == fsys.Dir {
		if it.Problem != "" {
			s.closed = append(s.closed, snapshot.Key(it.Path)+"/")
		} else if s.look.at(it.Path, true) {
			s.ignore(it.Path)
			return fs.SkipDir
		}
		return nil
	}
	key := snapshot.Key(it.Path)
	if s.look.at(it.Path, false) {
		s.seen[key] = it.Path
		delete(s.out.Problems, it.Path)
		return nil
	}
	if it.Kind == fsys.Other {
		// In place of a file it is no delete of that file.
		s.seen[key] = it.Path
		return nil
	}
	if strings.Contains(it.Path, ConflictMark) {
		return nil
	}
	if err := fsys.CheckPath(it.Path, runtime.GOOS == "windows"); err != nil {
		s.out.Problems[it.Path] = err.Error()
		return nil
	}
	if why := fsys.WindowsProblem(it.Path); why != "" {
		s.out.Notes[it.Path] = why
	}
	if other, twice := s.seen[key]; twice && other != it.Path {
		rec, known, err := s.tx.File(key)
		if err != nil {
			return err
		}
		// The one that was synced before goes on; the other one is reported.
		loser := it.Path
		if known && rec.Relpath == it.Path {
			loser = other
			s.drop(key)
		} else {
			s.out.Problems[loser] = "the same name as another file, written with other Unicode characters: not synced"
			return nil
		}
		s.out.Problems[loser] = "the same name as another file, written with other Unicode characters: not synced"
	}
	s.seen[key] = it.Path
	if it.Kind != fsys.Mark {
		s.out.Files++
		s.out.Bytes += it.State.Size
	}
	if !s.tx.Holds(key, it.State) {
		s.out.Changes = append(s.out.Changes, Change{Key: key, Path: it.Path})
	}
	return nil
}

func (s *scanner) drop(key string) {
	for i, c := range s.out.Changes {
		if c.Key == key {
			s.out.Changes = append(s.out.Changes[:i], s.out.Changes[i+1:]...)
			return
		}
	}
}

func (s *scanner) missing(p string) error {
	there := func(key []byte) bool {
		_, ok := s.seen[string(key)]
		return ok
	}
	return s.tx.FilesUnder(snapshot.Key(p), there, func(key string, rec state.File) error {
		if rec.Disk == nil {
			return nil
		}
		for _, c := range s.closed {
			if strings.HasPrefix(key, c) {
				return nil
			}
		}
		if rec.Disk.Kind == fsys.Mark {
			if _, err := s.fs.Lstat(rec.Relpath); err == nil {
				return nil // the directory stands, and has something in it
			}
		}
		if s.look.under(rec.Relpath, false) {
			return nil
		}
		s.out.Changes = append(s.out.Changes, Change{Key: key, Path: rec.Relpath, Gone: true})
		return nil
	})
}
