//go:build !windows

package disk

import (
	"errors"

	"golang.org/x/sys/unix"

	"warren/node/storage"
)

// usage counts as Tahoe does: what an ordinary user may still write is free.
func usage(dir string) (storage.Usage, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return storage.Usage{}, err
	}
	size := blockSize(&s)
	return storage.Usage{
		Total: s.Blocks * size, Used: (s.Blocks - s.Bfree) * size,
		FreeForRoot: s.Bfree * size, Free: s.Bavail * size,
	}, nil
}

func isFull(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}
