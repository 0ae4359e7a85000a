// Package backupdb remembers what `warren backup` has stored, so that what did not
// change is not read and stored again: one bbolt file, private/warren_backup.db. It
// takes the place of Tahoe's backupdb.sqlite and decides as that does
// (allmydata/scripts/backupdb.py).
//
//	files/PATH         File       an absolute path; its size and times when it was stored
//	caps/CAP           Stored     when a file of this content was stored and checked
//	directories/HASH   Directory  the contents, hashed as Tahoe does
//
// Values are JSON. What a method has written is on disk on return. The file holds
// capabilities and is 0600. Losing it loses no data: the next backup reads all files
// again.
package backupdb

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"warren/node/durable"
	"warren/node/taghash"
)

// ErrLocked: another backup is running on this node directory.
var ErrLocked = errors.New("the backup database is in use by another backup")

// What is stored is believed for a month; from then on it is checked now and then,
// and always after two.
const (
	noCheckBefore    = 30 * 24 * time.Hour
	alwaysCheckAfter = 60 * 24 * time.Hour
)

const tagDirectory = "allmydata_backupdb_dirhash_v1"

var (
	files       = []byte("files")
	caps        = []byte("caps")
	directories = []byte("directories")
)

// Attributes tell whether a file has changed. The times are in nanoseconds since
// 1970 (Tahoe compares whole seconds, and misses two changes in one).
type Attributes struct {
	Size    int64 `json:"size"`
	Changed int64 `json:"mtime"`
	Inode   int64 `json:"ctime"`
}

// File is a stored file.
type File struct {
	Attributes
	Cap string `json:"cap"`
}

// Stored says when something was stored and last found healthy.
type Stored struct {
	Uploaded time.Time `json:"uploaded"`
	Checked  time.Time `json:"checked"`
}

// Directory is a stored immutable directory.
type Directory struct {
	Stored
	Cap string `json:"cap"`
}

// DB is the database. Its methods may be called concurrently.
type DB struct {
	bolt *bolt.DB
	now  func() time.Time
	// chance returns a number in [0, 1).
	chance func() float64
}

// Open opens or makes the database at path. chance gives random numbers in [0, 1).
func Open(path string, now func() time.Time, chance func() float64) (*DB, error) {
	db, err := durable.OpenBolt(path, &bolt.Options{Timeout: time.Second})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, ErrLocked
	}
	if err != nil {
		return nil, fmt.Errorf("opening the backup database: %w", err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{files, caps, directories} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &DB{db, now, chance}, nil
}

// Close ends the use of the database.
func (d *DB) Close() error { return d.bolt.Close() }

// Known is what the database says of a file or directory.
type Known struct {
	Cap   string // "": it must be stored
	Check bool   // find out whether it is healthy before the capability is used again
}

// File says what is known of a file as it is now.
func (d *DB) File(path string, now Attributes) (known Known, err error) {
	err = d.bolt.View(func(tx *bolt.Tx) error {
		var f File
		var s Stored
		if !get(tx, files, path, &f) || f.Attributes != now || !get(tx, caps, f.Cap, &s) {
			return nil
		}
		known = Known{f.Cap, d.due(s.Checked)}
		return nil
	})
	return known, err
}

// StoredFile notes that a file was stored, as it was then.
func (d *DB) StoredFile(path string, was Attributes, cap string) error {
	now := d.now()
	return d.bolt.Update(func(tx *bolt.Tx) error {
		return errors.Join(put(tx, caps, cap, Stored{now, now}), put(tx, files, path, File{was, cap}))
	})
}

// HealthyFile notes that what a file's capability names was found healthy.
func (d *DB) HealthyFile(cap string) error {
	return d.bolt.Update(func(tx *bolt.Tx) error {
		var s Stored
		if !get(tx, caps, cap, &s) {
			return nil
		}
		s.Checked = d.now()
		return put(tx, caps, cap, s)
	})
}

// Hash is the hash of a directory's contents: name -> capability.
func Hash(contents map[string]string) string {
	var data []byte
	for _, name := range slices.Sorted(maps.Keys(contents)) {
		data = append(data, taghash.Netstring([]byte(name))...)
		data = append(data, taghash.Netstring([]byte(contents[name]))...)
	}
	h := taghash.Tagged(tagDirectory, data)
	return taghash.EncodeBase32(h[:])
}

// Directory says what is known of a directory with these contents (Hash).
func (d *DB) Directory(hash string) (known Known, err error) {
	err = d.bolt.View(func(tx *bolt.Tx) error {
		var dir Directory
		if get(tx, directories, hash, &dir) {
			known = Known{dir.Cap, d.due(dir.Checked)}
		}
		return nil
	})
	return known, err
}

// StoredDirectory notes that a directory with these contents was stored, or found
// healthy.
func (d *DB) StoredDirectory(hash, cap string) error {
	return d.bolt.Update(func(tx *bolt.Tx) error {
		now := d.now()
		dir := Directory{Stored{now, now}, cap}
		var old Directory
		if get(tx, directories, hash, &old) && old.Cap == cap {
			dir.Uploaded = old.Uploaded
		}
		return put(tx, directories, hash, dir)
	})
}

// due says whether something is to be checked again: not within a month, always
// after two, and between with a chance that grows.
func (d *DB) due(checked time.Time) bool {
	age := d.now().Sub(checked)
	return d.chance() < float64(age-noCheckBefore)/float64(alwaysCheckAfter-noCheckBefore)
}

// get reads a value; one that makes no sense is none.
func get(tx *bolt.Tx, bucket []byte, key string, into any) bool {
	b := tx.Bucket(bucket).Get([]byte(key))
	return b != nil && json.Unmarshal(b, into) == nil
}

func put(tx *bolt.Tx, bucket []byte, key string, value any) error {
	b, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return tx.Bucket(bucket).Put([]byte(key), b)
}
