package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	bolt "go.etcd.io/bbolt"
)

// leastBolt is the size of the smallest bbolt database there is: four pages, which
// have 4096 bytes or more, by the machine that made it.
const leastBolt = 4 * 4096

// OpenBolt opens a bbolt database, or makes it, readable by its owner alone. bbolt
// itself writes a new one under its name: where the disk is full, or the machine fails,
// there is a piece of one afterwards, and the next to open it dies of SIGBUS. Here it
// gets its name when it is whole, and pieces, which hold nothing, are removed.
//
// Errors are bbolt's (ErrTimeout when another process has it open) and the disk's.
func OpenBolt(path string, options *bolt.Options) (*bolt.DB, error) {
	info, err := os.Stat(path)
	switch {
	case err == nil && info.Mode().IsRegular() && info.Size() < leastBolt:
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		fallthrough
	case errors.Is(err, fs.ErrNotExist):
		if err := makeBolt(path); err != nil {
			return nil, fmt.Errorf("durable: make %s: %w", path, err)
		}
	}
	return bolt.Open(path, 0o600, options)
}

// makeBolt makes an empty database, unless somebody else has.
func makeBolt(path string) error {
	dir := filepath.Dir(path)
	f, err := createTemp(dir)
	if err != nil {
		return err
	}
	tmp := f.Name()
	defer os.Remove(tmp)
	if err := f.Close(); err != nil {
		return err
	}
	db, err := bolt.Open(tmp, 0o600, nil)
	if err != nil {
		return err
	}
	if err := db.Close(); err != nil {
		return err
	}
	// A rename would replace what another process has made and opened meanwhile.
	if err := os.Link(tmp, path); err != nil && !errors.Is(err, fs.ErrExist) {
		if _, lerr := os.Lstat(path); lerr == nil {
			return nil
		}
		if err := os.Rename(tmp, path); err != nil { // a file system without links
			return err
		}
	}
	return SyncDir(dir)
}
