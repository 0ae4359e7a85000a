package durable

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// wholeSync syncs the filesystem of a directory; the zero value cannot.
type wholeSync struct{ dir *os.File }

// trusted are the filesystems whose syncfs waits for data, names and the medium's
// cache. Others (FUSE, network, overlays) may not, or not in every version.
var trusted = [...]int64{unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC}

func openWhole(path string) wholeSync {
	var stat unix.Statfs_t
	if unix.Statfs(path, &stat) != nil || !slices.Contains(trusted[:], int64(stat.Type)) || !tellsErrors() {
		return wholeSync{}
	}
	// Opened once: the descriptor hears of every failed write since.
	dir, err := os.Open(path)
	if err != nil {
		return wholeSync{}
	}
	return wholeSync{dir}
}

// tellsErrors says whether this kernel's syncfs reports data that could not be
// written: since 5.8.
func tellsErrors() bool {
	var name unix.Utsname
	if unix.Uname(&name) != nil {
		return false
	}
	var major, minor int
	_, err := fmt.Sscanf(unix.ByteSliceToString(name.Release[:]), "%d.%d", &major, &minor)
	return err == nil && (major > 5 || major == 5 && minor >= 8)
}

func (w wholeSync) Sync() error {
	if w.dir == nil {
		return errors.ErrUnsupported
	}
	return unix.Syncfs(int(w.dir.Fd()))
}

func (w wholeSync) Close() error {
	if w.dir == nil {
		return nil
	}
	return w.dir.Close()
}
