//go:build !windows

package durable

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// SyncDir puts a directory's entries on the disk.
func SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("durable: sync %s: %w", path, err)
	}
	defer d.Close()
	err = d.Sync()
	// Some network and FUSE filesystems cannot sync directories; there is nothing
	// more that could be done on them.
	if err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, errors.ErrUnsupported) {
		return fmt.Errorf("durable: sync %s: %w", path, err)
	}
	return nil
}

func chmod(f *os.File, perm os.FileMode) error { return f.Chmod(perm) }
