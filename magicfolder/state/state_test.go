package state

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	bolt "go.etcd.io/bbolt"

	"warren/magicfolder/fsys"
)

func open(t *testing.T) (*DB, *Store, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "private", "db")
	db, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	s, err := db.Add(Folder{ID: "x", Name: "docs", Seed: []byte("secret"), Collective: "URI:DIR2:secret"})
	if err != nil {
		t.Fatal(err)
	}
	return db, s, path
}

func TestFolders(t *testing.T) {
	db, _, path := open(t)
	for p, mode := range map[string]os.FileMode{path: 0o600, path + ".stash": 0o700, filepath.Dir(path): 0o700, path + ".stash/x": 0o700} {
		if info, err := os.Stat(p); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", p, info.Mode(), err)
		}
	}
	if _, err := Open(path); !errors.Is(err, ErrLocked) {
		t.Errorf("opened twice: %v", err)
	}
	if _, err := db.Add(Folder{ID: "y", Name: "docs"}); !errors.Is(err, ErrFolder) {
		t.Errorf("added twice: %v", err)
	}
	if err := db.Put(Folder{ID: "y", Name: "other"}); !errors.Is(err, ErrNoFolder) {
		t.Errorf("put an unknown one: %v", err)
	}
	all, err := db.Folders()
	if err != nil || len(all) != 1 || all[0].Collective != "URI:DIR2:secret" {
		t.Fatalf("%v, %v", all, err)
	}
	if got := fmt.Sprintf("%v %+v %#v", all[0], all[0], all[0]); got != "folder docs folder docs folder docs" {
		t.Errorf("printed as %s", got)
	}
	if err := db.Remove(all[0]); err != nil {
		t.Fatal(err)
	}
	if err := db.Store(all[0]).View(func(*Tx) error { return nil }); !errors.Is(err, ErrNoFolder) {
		t.Errorf("a removed one: %v", err)
	}
	if _, err := os.Stat(path + ".stash/x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its stash: %v", err)
	}
}

// A line is one path's, oldest first, whatever other paths look like.
func TestLines(t *testing.T) {
	_, s, _ := open(t)
	err := s.Update(func(tx *Tx) error {
		for i := range 300 {
			if _, err := tx.Stash(Stashed{Key: []string{"a", "a/b", "a\x01", "aa"}[i%4], Size: int64(i)}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	err = s.View(func(tx *Tx) error {
		all, err := tx.Lines()
		if err != nil || len(all) != 4 {
			t.Errorf("%d lines, %v", len(all), err)
		}
		for key, line := range all {
			alone, err := tx.Line(key)
			if err != nil || len(alone) != 75 || len(line) != 75 {
				t.Errorf("%q: %d and %d versions, %v", key, len(alone), len(line), err)
			}
			for i, v := range alone {
				if v.Key != key || v.ID != line[i].ID || i > 0 && v.Size != alone[i-1].Size+4 {
					t.Errorf("%q: %+v", key, v)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// What no version names is swept; a stash that a crash has taken is made again.
func TestSweepStash(t *testing.T) {
	_, s, _ := open(t)
	for _, name := range []string{"used", "left over"} {
		if err := os.WriteFile(filepath.Join(s.StashDir(), name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Update(func(tx *Tx) error { _, err := tx.Stash(Stashed{Key: "f", File: "used"}); return err }); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.SweepStash(); err != nil {
			t.Fatal(err)
		}
		if left, err := os.ReadDir(s.StashDir()); err != nil || len(left) != 1 || left[0].Name() != "used" {
			t.Errorf("%v, %v", left, err)
		}
	}
	if err := os.RemoveAll(s.StashDir()); err != nil {
		t.Fatal(err)
	}
	if err := s.SweepStash(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(s.StashDir()); err != nil {
		t.Error(err)
	}
}

// The index of what is to be linked follows the records, and is made for folders
// that have none yet; Holds agrees with the records, however they are written.
func TestUnlinkedAndHolds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	db, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := db.Add(Folder{ID: "x", Name: "x"})
	if err != nil {
		t.Fatal(err)
	}
	states := []fsys.State{{}, {Size: 5, Modified: -1, Inode: 7}, {Size: 1, Modified: 1 << 60, Inode: 1 << 63, Exec: true}, {Kind: fsys.Symlink, Size: 3}}
	if err := s.Update(func(tx *Tx) error {
		for i, st := range states {
			// A name that looks like what is searched for.
			rec := File{Relpath: `"disk":{"size":9,"modified":9}`, Disk: &st, Head: "h"}
			if i%2 == 0 {
				rec.Linked = "h"
			}
			if err := tx.PutFile(fmt.Sprint(i), rec); err != nil {
				return err
			}
		}
		return tx.PutFile("gone", File{Relpath: "gone", Head: "h"})
	}); err != nil {
		t.Fatal(err)
	}
	check := func(s *Store, want ...string) {
		t.Helper()
		if err := s.View(func(tx *Tx) error {
			keys, err := tx.Unlinked()
			if err != nil || !slices.Equal(keys, want) {
				t.Errorf("to be linked: %q, %v", keys, err)
			}
			for i, st := range states {
				other := st
				other.Modified++
				if !tx.Holds(fmt.Sprint(i), st) || tx.Holds(fmt.Sprint(i), other) || tx.Holds(fmt.Sprint(i), fsys.State{Size: 9, Modified: 9}) {
					t.Errorf("%d: %+v", i, st)
				}
			}
			if tx.Holds("gone", fsys.State{}) || tx.Holds("never", fsys.State{}) {
				t.Error("holds what is not there")
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	check(s, "1", "3", "gone")
	if err := s.Update(func(tx *Tx) error {
		if err := tx.DropFile("gone"); err != nil {
			return err
		}
		return tx.PutFile("3", File{Disk: &states[3], Head: "h", Linked: "h"})
	}); err != nil {
		t.Fatal(err)
	}
	check(s, "1")
	// As it was before there was an index.
	if err := s.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(s.bucket).DeleteBucket([]byte("unlinked")) }); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if db, err = Open(path); err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	check(db.Store(Folder{ID: "x"}), "1")
}
