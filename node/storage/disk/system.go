package disk

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"warren/node/durable"
)

// filesystem is all that a Backend asks of the system, step by step. In tests
// another one takes its place: one that kills the process, that is full, or that
// loses what was not synced.
type filesystem interface {
	// open is os.OpenFile; a new file is its owner's alone.
	open(name string, flag int) (handle, error)
	mkdir(name string) error
	// makeAll makes a directory and those above it, durably.
	makeAll(dir string) error
	rename(from, to string) error
	remove(name string) error
	removeAll(dir string) error
	exists(name string) (bool, error)
	list(dir string) ([]string, error)
	// copy appends what a file holds to an empty one.
	copy(to, from handle) error
	// sync returns when the contents of the files and the entries of the directories
	// are on the disk.
	sync(files []handle, dirs ...string) error
	// writeFile makes a whole file, durably.
	writeFile(name string, data []byte) error
	available(dir string) (uint64, error)
	close() error
}

// handle is an open file.
type handle interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Name() string
	Size() (int64, error)
}

// system is the real one; files that are open at the same time are synced together.
type system struct{ group *durable.Group }

func newSystem(dir string) (system, error) {
	shares := filepath.Join(dir, "shares")
	// Made here, as it is opened to sync the filesystem that it lies on.
	if err := durable.MkdirAll(shares, 0o700); err != nil {
		return system{}, err
	}
	return system{durable.NewGroup(shares)}, nil
}

type file struct{ *os.File }

func (f file) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (system) open(name string, flag int) (handle, error) {
	f, err := os.OpenFile(name, flag, 0o600)
	if err != nil {
		return nil, err
	}
	return file{f}, nil
}

func (system) mkdir(name string) error    { return os.Mkdir(name, 0o700) }
func (system) makeAll(dir string) error   { return durable.MkdirAll(dir, 0o700) }
func (system) rename(a, b string) error   { return os.Rename(a, b) }
func (system) remove(name string) error   { return os.Remove(name) }
func (system) removeAll(dir string) error { return os.RemoveAll(dir) }

func (system) exists(name string) (bool, error) {
	_, err := os.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func (system) list(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

// copy has the kernel do it, where it can.
func (system) copy(to, from handle) error {
	_, err := io.Copy(to.(file).File, from.(file).File)
	return err
}

func (s system) sync(files []handle, dirs ...string) error {
	var open []*os.File
	for _, f := range files {
		open = append(open, f.(file).File)
	}
	return s.group.Sync(open, dirs...)
}

func (system) writeFile(name string, data []byte) error {
	return durable.WriteFile(name, data, 0o600)
}

func (system) available(dir string) (uint64, error) { return available(dir) }

func (s system) close() error { return s.group.Close() }
