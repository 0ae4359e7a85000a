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
// cache. Others (FUSE, network, overlays) may not, or not in every version; F2FS
// answers that all is well when its checkpoints have failed or are switched off.
var trusted = [...]int64{unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC}

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
// written (since 5.8) and what the filesystem itself failed at, as the journal
// (since 5.17).
func tellsErrors() bool {
	var name unix.Utsname
	return unix.Uname(&name) == nil && tellsErrorsSince(unix.ByteSliceToString(name.Release[:]))
}

func tellsErrorsSince(release string) bool {
	var major, minor int
	_, err := fmt.Sscanf(release, "%d.%d", &major, &minor)
	return err == nil && (major > 5 || major == 5 && minor >= 17)
}

func (w wholeSync) Sync() error {
	if w.dir == nil {
		return errors.ErrUnsupported
	}
	// Not Fd: closed at this moment, its number could be another filesystem's file.
	conn, err := w.dir.SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	if err := conn.Control(func(fd uintptr) { serr = unix.Syncfs(int(fd)) }); err != nil {
		return err
	}
	return serr
}

func (w wholeSync) Close() error {
	if w.dir == nil {
		return nil
	}
	return w.dir.Close()
}
