// Package durable changes files so that a crash or a power cut leaves either the
// old state or the new one, and so that what it reported as done is on the disk.
//
// A name that did not exist before is durable only when the directory that holds it
// has been synced too, so every function here ends by syncing the directories that
// it changed. (Windows offers no such call and does not need one: NTFS journals its
// names.)
//
// Call WriteFile for whole files. What is too large to hold in memory is written
// under a temporary name and synced by its owner, then moved by Rename.
package durable

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// TempPrefix begins the names of files that WriteFile has not finished. After a
// crash they may be left over; they mean nothing and may be deleted by whoever owns
// the directory.
const TempPrefix = ".warren-tmp-"

// WriteFile makes path hold data, with exactly the permissions perm whatever the
// umask is. When it returns nil the new content is on the disk under its name. When
// it fails, or the machine does, path holds the old content or the new one, whole:
// the new one if the name could not be synced. A symlink at path is replaced, not
// followed.
func WriteFile(path string, data []byte, perm os.FileMode) error {
	return writeFile(path, data, perm, func(string) error { return nil })
}

// writeFile calls step before each of its steps; an error ends it there.
func writeFile(path string, data []byte, perm os.FileMode, step func(name string) error) (err error) {
	dir := filepath.Dir(path)
	if err := step("create"); err != nil {
		return fmt.Errorf("durable: write %s: %w", path, err)
	}
	f, err := createTemp(dir)
	if err != nil {
		return fmt.Errorf("durable: write %s: %w", path, err)
	}
	tmp := f.Name()
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(tmp)
			err = fmt.Errorf("durable: write %s: %w", path, err)
		}
	}()
	if err = step("write"); err != nil {
		return err
	}
	if _, err = f.Write(data); err != nil {
		return err
	}
	// Permissions before the name: a secret is never open to others under its name.
	if err = step("permissions"); err != nil {
		return err
	}
	if err = chmod(f, perm); err != nil {
		return err
	}
	// The content before the name: a name on the disk never leads to a torn file.
	if err = step("sync"); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = step("rename"); err != nil {
		return err
	}
	if err = os.Rename(tmp, path); err != nil {
		return err
	}
	if err = step("sync directory"); err != nil {
		return err
	}
	return SyncDir(dir)
}

// createTemp opens a new file that nobody else may read.
func createTemp(dir string) (*os.File, error) {
	for {
		var b [8]byte
		rand.Read(b[:]) // never fails, see crypto/rand
		name := filepath.Join(dir, TempPrefix+hex.EncodeToString(b[:]))
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if !errors.Is(err, fs.ErrExist) {
			return f, err
		}
	}
}

// Rename moves oldpath to newpath, replacing a file there, and syncs both
// directories. The content must have been synced before.
func Rename(oldpath, newpath string) error {
	if err := os.Rename(oldpath, newpath); err != nil {
		return fmt.Errorf("durable: %w", err)
	}
	from, to := filepath.Dir(oldpath), filepath.Dir(newpath)
	// The new name first: a crash between the two leaves two names, not none.
	if err := SyncDir(to); err != nil {
		return err
	}
	if from == to {
		return nil
	}
	return SyncDir(from)
}

// MkdirAll makes path and the parents that are missing, each with exactly the
// permissions perm, and syncs each directory that got a new entry. Directories that
// exist stay as they are.
func MkdirAll(path string, perm os.FileMode) error {
	path = filepath.Clean(path)
	if info, err := os.Stat(path); err == nil {
		if !info.IsDir() {
			return fmt.Errorf("durable: make %s: a file is in the way: %w", path, fs.ErrExist)
		}
		return nil
	}
	parent := filepath.Dir(path)
	if parent != path {
		if err := MkdirAll(parent, perm); err != nil {
			return err
		}
	}
	if err := os.Mkdir(path, perm); err != nil {
		// Somebody else may have made it meanwhile.
		if info, serr := os.Stat(path); serr == nil && info.IsDir() {
			return nil
		}
		return fmt.Errorf("durable: make %s: %w", path, err)
	}
	// Mkdir obeys the umask, we do not.
	if err := os.Chmod(path, perm); err != nil {
		return fmt.Errorf("durable: make %s: %w", path, err)
	}
	return SyncDir(parent)
}

// Remove deletes a file or an empty directory and syncs its parent. That there is
// none is fs.ErrNotExist, as for os.Remove.
func Remove(path string) error {
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("durable: %w", err)
	}
	return SyncDir(filepath.Dir(path))
}
