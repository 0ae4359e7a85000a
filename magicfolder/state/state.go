// Package state is a folder's local memory: one bbolt file for all folders of a
// node, and beside it a directory that holds the contents of captured versions
// until they are on the grid.
//
//	folders/NAME           Folder
//	folder:ID/files/KEY    File       what we know about each path
//	folder:ID/unlinked/KEY empty      the files that are File.Unlinked
//	folder:ID/stash/KEY 0 N  Stashed  captured, not published; N big endian
//	folder:ID/known/SHA    Known      snapshots read; SHA-256 of the cap
//	folder:ID/pins/SLOT    Pin        author keys
//	folder:ID/seen/DIR KEY cap        what another showed last; DIR is half a SHA-256 of its directory, or its key
//
// Values are JSON. All is written through bbolt's transactions: on return it is
// on disk. The file holds secrets and is 0600.
package state

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"warren/magicfolder/fsys"
	"warren/magicfolder/remote"
	"warren/node/durable"
)

// Errors.
var (
	ErrNoFolder = errors.New("no such folder")
	ErrFolder   = errors.New("a folder of that name exists")
	ErrLocked   = errors.New("the folder database is in use by another process")
)

// DB is the database of all folders. Methods may be called concurrently.
type DB struct {
	bolt    *bolt.DB
	stash   string
	group   *durable.Group
	commits *commits
}

// Open opens or makes the database at path; the stash is path + ".stash".
func Open(path string) (*DB, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	db, err := durable.OpenBolt(path, &bolt.Options{Timeout: time.Second, FreelistType: bolt.FreelistMapType})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, ErrLocked
	}
	if err != nil {
		return nil, fmt.Errorf("opening the folder database: %w", err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists([]byte("folders"))
		return err
	})
	if err == nil {
		err = db.Update(indexUnlinked)
	}
	if err == nil {
		err = os.MkdirAll(path+".stash", 0o700)
	}
	if err != nil {
		db.Close()
		return nil, err
	}
	return &DB{bolt: db, stash: path + ".stash", group: durable.NewGroup(path + ".stash"), commits: &commits{bolt: db}}, nil
}

// indexUnlinked makes the index of folders that were made before there was one.
func indexUnlinked(tx *bolt.Tx) error {
	return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
		if !bytes.HasPrefix(name, []byte("folder:")) || b.Bucket([]byte("unlinked")) != nil {
			return nil
		}
		index, err := b.CreateBucket([]byte("unlinked"))
		if err != nil {
			return err
		}
		t := &Tx{files: b.Bucket([]byte("files"))}
		return t.Files(func(key string, f File) error {
			if !f.Unlinked() {
				return nil
			}
			return index.Put([]byte(key), nil)
		})
	})
}

// Close closes the database.
func (d *DB) Close() error { return errors.Join(d.bolt.Close(), d.group.Close()) }

// Folders lists all folders.
func (d *DB) Folders() ([]Folder, error) {
	var out []Folder
	err := d.bolt.View(func(tx *bolt.Tx) error {
		return tx.Bucket([]byte("folders")).ForEach(func(_, v []byte) error {
			var f Folder
			if err := json.Unmarshal(v, &f); err != nil {
				return fmt.Errorf("a folder's record: %w", err)
			}
			out = append(out, f)
			return nil
		})
	})
	return out, err
}

// Add stores a new folder and makes its stash.
func (d *DB) Add(f Folder) (*Store, error) {
	s := d.store(f.ID)
	if err := os.MkdirAll(s.stash, 0o700); err != nil {
		return nil, err
	}
	err := d.bolt.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte("folders"))
		if b.Get([]byte(f.Name)) != nil {
			return ErrFolder
		}
		own, err := tx.CreateBucketIfNotExists(s.bucket)
		if err != nil {
			return err
		}
		for _, name := range []string{"files", "unlinked", "stash", "known", "pins"} {
			if _, err := own.CreateBucketIfNotExists([]byte(name)); err != nil {
				return err
			}
		}
		return put(b, []byte(f.Name), f)
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Put replaces a folder's configuration.
func (d *DB) Put(f Folder) error {
	return d.bolt.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte("folders"))
		if b.Get([]byte(f.Name)) == nil {
			return ErrNoFolder
		}
		return put(b, []byte(f.Name), f)
	})
}

// Remove forgets a folder, its state and its stash. Files in the folder stay.
func (d *DB) Remove(f Folder) error {
	s := d.store(f.ID)
	err := d.bolt.Update(func(tx *bolt.Tx) error {
		if err := tx.Bucket([]byte("folders")).Delete([]byte(f.Name)); err != nil {
			return err
		}
		if tx.Bucket(s.bucket) == nil {
			return nil
		}
		return tx.DeleteBucket(s.bucket)
	})
	if err != nil {
		return err
	}
	return os.RemoveAll(s.stash)
}

// Store gives the state of one folder.
func (d *DB) Store(f Folder) *Store { return d.store(f.ID) }

func (d *DB) store(id string) *Store {
	return &Store{db: d.bolt, commits: d.commits, group: d.group, bucket: []byte("folder:" + id), stash: filepath.Join(d.stash, id)}
}

func put(b *bolt.Bucket, key []byte, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return b.Put(key, raw)
}

// Store is the state of one folder.
type Store struct {
	db      *bolt.DB
	commits *commits
	group   *durable.Group
	bucket  []byte
	stash   string
}

// Tx reads and, inside Update, writes. It is used only inside the function
// that it is given to.
type Tx struct{ all, files, unlinked, stash, known, pins *bolt.Bucket }

func (s *Store) tx(t *bolt.Tx) (*Tx, error) {
	b := t.Bucket(s.bucket)
	if b == nil {
		return nil, ErrNoFolder
	}
	return &Tx{b, b.Bucket([]byte("files")), b.Bucket([]byte("unlinked")), b.Bucket([]byte("stash")), b.Bucket([]byte("known")), b.Bucket([]byte("pins"))}, nil
}

// View reads.
func (s *Store) View(fn func(*Tx) error) error {
	return s.db.View(func(t *bolt.Tx) error {
		tx, err := s.tx(t)
		if err != nil {
			return err
		}
		return fn(tx)
	})
}

// Update writes all or nothing; those that come at the same time share one sync.
// fn may run more than once: it must set what it gives out, not add to it.
func (s *Store) Update(fn func(*Tx) error) error {
	return s.commits.update(func(t *bolt.Tx) error {
		tx, err := s.tx(t)
		if err != nil {
			return err
		}
		return fn(tx)
	})
}

// SyncStash puts a new file of the stash, and its name, on the disk.
func (s *Store) SyncStash(f *os.File) error { return s.group.Sync([]*os.File{f}, s.stash) }

// StashDir is where the contents of captured versions lie.
func (s *Store) StashDir() string { return s.stash }

// File gives a path's record; false when there is none.
func (t *Tx) File(key string) (File, bool, error) {
	var f File
	raw := t.files.Get([]byte(key))
	if raw == nil {
		return f, false, nil
	}
	err := json.Unmarshal(raw, &f)
	return f, true, err
}

// PutFile stores a path's record. Keys are at most 32 KiB, paths far less.
func (t *Tx) PutFile(key string, f File) error {
	var err error
	if f.Unlinked() {
		err = t.unlinked.Put([]byte(key), nil)
	} else {
		err = t.unlinked.Delete([]byte(key))
	}
	if err != nil {
		return err
	}
	return put(t.files, []byte(key), f)
}

// DropFile forgets a path.
func (t *Tx) DropFile(key string) error {
	if err := t.unlinked.Delete([]byte(key)); err != nil {
		return err
	}
	return t.files.Delete([]byte(key))
}

// Unlinked gives the keys of the files whose Head is not Linked.
func (t *Tx) Unlinked() (keys []string, err error) {
	err = t.unlinked.ForEach(func(k, _ []byte) error {
		keys = append(keys, string(k))
		return nil
	})
	return keys, err
}

// Holds says whether a path's record tells of exactly this on disk. It costs a
// fraction of File, which takes the record apart.
func (t *Tx) Holds(key string, st fsys.State) bool {
	raw := t.files.Get([]byte(key))
	if raw == nil {
		return false
	}
	// As encoding/json writes it. Inside of a string the quotes would have a
	// backslash, so this is found nowhere else.
	var buf [160]byte
	b := append(buf[:0], `"disk":{"size":`...)
	b = strconv.AppendInt(b, st.Size, 10)
	b = append(b, `,"modified":`...)
	b = strconv.AppendInt(b, st.Modified, 10)
	if st.Inode != 0 {
		b = append(b, `,"inode":`...)
		b = strconv.AppendUint(b, st.Inode, 10)
	}
	if st.Kind != 0 {
		b = append(b, `,"kind":`...)
		b = strconv.AppendInt(b, int64(st.Kind), 10)
	}
	if st.Exec {
		b = append(b, `,"exec":true`...)
	}
	if bytes.Contains(raw, append(b, '}')) {
		return true
	}
	var f File
	return json.Unmarshal(raw, &f) == nil && f.Disk != nil && *f.Disk == st
}

// Files calls fn for each record.
func (t *Tx) Files(fn func(key string, f File) error) error {
	return t.files.ForEach(func(k, v []byte) error {
		var f File
		if err := json.Unmarshal(v, &f); err != nil {
			return fmt.Errorf("a file's record: %w", err)
		}
		return fn(string(k), f)
	})
}

// FilesUnder gives the records of a path and of all paths below it, "" is all,
// but for those that skip says to leave out; nil: none.
func (t *Tx) FilesUnder(dir string, skip func(key []byte) bool, fn func(key string, f File) error) error {
	each := func(k, v []byte) error {
		if skip != nil && skip(k) {
			return nil
		}
		var f File
		if err := json.Unmarshal(v, &f); err != nil {
			return fmt.Errorf("a file's record: %w", err)
		}
		return fn(string(k), f)
	}
	if dir == "" {
		return t.files.ForEach(each)
	}
	if v := t.files.Get([]byte(dir)); v != nil {
		if err := each([]byte(dir), v); err != nil {
			return err
		}
	}
	prefix := []byte(dir + "/")
	c := t.files.Cursor()
	for k, v := c.Seek(prefix); k != nil && bytes.HasPrefix(k, prefix); k, v = c.Next() {
		if err := each(k, v); err != nil {
			return err
		}
	}
	return nil
}

// Stash appends a captured version and gives it its number.
func (t *Tx) Stash(v Stashed) (Stashed, error) {
	id, err := t.stash.NextSequence()
	if err != nil {
		return v, err
	}
	v.ID = id
	return v, t.PutStashed(v)
}

// PutStashed replaces a captured version's record.
func (t *Tx) PutStashed(v Stashed) error { return put(t.stash, place(v.Key, v.ID), v) }

// DropStashed forgets a captured version; Discard removes its contents.
func (t *Tx) DropStashed(v Stashed) error { return t.stash.Delete(place(v.Key, v.ID)) }

// place orders by path, then by age. A path holds no zero byte.
func place(key string, id uint64) []byte {
	return binary.BigEndian.AppendUint64(append([]byte(key), 0), id)
}

// Lines gives all captured versions, oldest first, by path.
func (t *Tx) Lines() (map[string][]Stashed, error) {
	out := map[string][]Stashed{}
	err := t.stash.ForEach(func(_, raw []byte) error {
		var v Stashed
		if err := json.Unmarshal(raw, &v); err != nil {
			return fmt.Errorf("a stashed version's record: %w", err)
		}
		out[v.Key] = append(out[v.Key], v)
		return nil
	})
	return out, err
}

// Line gives one path's captured versions, oldest first.
func (t *Tx) Line(key string) ([]Stashed, error) {
	var out []Stashed
	prefix := append([]byte(key), 0)
	c := t.stash.Cursor()
	for k, raw := c.Seek(prefix); k != nil && bytes.HasPrefix(k, prefix); k, raw = c.Next() {
		var v Stashed
		if err := json.Unmarshal(raw, &v); err != nil {
			return nil, fmt.Errorf("a stashed version's record: %w", err)
		}
		out = append(out, v)
	}
	return out, nil
}

// Discard removes the contents of versions that were dropped.
func (s *Store) Discard(line []Stashed) {
	for _, v := range line {
		if v.File != "" {
			// What stays behind after an error is swept at the next start.
			os.Remove(filepath.Join(s.stash, v.File))
		}
	}
}

// Known gives a snapshot that was read before.
func (t *Tx) Known(c remote.Cap) (Known, bool, error) {
	var k Known
	raw := t.known.Get(digest(c))
	if raw == nil {
		return k, false, nil
	}
	err := json.Unmarshal(raw, &k)
	return k, true, err
}

// PutKnown remembers a snapshot.
func (t *Tx) PutKnown(c remote.Cap, k Known) error { return put(t.known, digest(c), k) }

func digest(c remote.Cap) []byte {
	sum := sha256.Sum256([]byte(c))
	return sum[:]
}

// Pin gives the key pinned in a slot.
func (t *Tx) Pin(slot string) (Pin, bool, error) {
	var p Pin
	raw := t.pins.Get([]byte(slot))
	if raw == nil {
		return p, false, nil
	}
	err := json.Unmarshal(raw, &p)
	return p, true, err
}

// PutPin pins a key.
func (t *Tx) PutPin(slot string, p Pin) error { return put(t.pins, []byte(slot), p) }

// SweepStash removes the content files that no captured version names. Call it
// while nothing is being captured.
func (s *Store) SweepStash() error {
	used := map[string]bool{}
	err := s.View(func(t *Tx) error {
		lines, err := t.Lines()
		for _, line := range lines {
			for _, v := range line {
				used[v.File] = true
			}
		}
		if err != nil {
			return err
		}
		return t.files.ForEach(func(_, raw []byte) error {
			// A folder has many files, and few of them on the move.
			if !bytes.Contains(raw, []byte(`"stash":`)) {
				return nil
			}
			var f File
			if err := json.Unmarshal(raw, &f); err != nil {
				return fmt.Errorf("a file's record: %w", err)
			}
			if f.Move != nil && f.Move.Stash != nil {
				used[f.Move.Stash.File] = true
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(s.stash)
	if errors.Is(err, fs.ErrNotExist) {
		return os.MkdirAll(s.stash, 0o700) // an empty directory may not outlive a crash
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !used[e.Name()] {
			if err := os.Remove(filepath.Join(s.stash, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}
