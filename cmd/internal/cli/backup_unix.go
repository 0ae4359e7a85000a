//go:build unix

package cli

import (
	"io/fs"

	"golang.org/x/sys/unix"

	"warren/cmd/internal/backupdb"
)

// statLocal looks at a file or directory, through links.
func statLocal(path string) (localStat, error) {
	var s unix.Stat_t
	if err := unix.Stat(path, &s); err != nil {
		return localStat{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	seconds := func(t unix.Timespec) float64 {
		sec, nsec := t.Unix()
		return float64(sec) + 1e-9*float64(nsec)
	}
	return localStat{
		backupdb.Attributes{Size: s.Size, Changed: s.Mtim.Nano(), Inode: s.Ctim.Nano()},
		map[string]any{
			"ctime": seconds(s.Ctim), "mtime": seconds(s.Mtim),
			"st_mode": s.Mode, "st_ino": s.Ino, "st_dev": s.Dev, "st_uid": s.Uid, "st_gid": s.Gid,
		},
	}, nil
}
