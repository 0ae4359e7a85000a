package cli

import (
	"os"
	"syscall"

	"warren/cmd/internal/backupdb"
)

// statLocal looks at a file or directory, through links. Windows has no time of the
// inode's change; the time of its making takes that place, as in Python.
func statLocal(path string) (localStat, error) {
	info, err := os.Stat(path)
	if err != nil {
		return localStat{}, err
	}
	changed := info.ModTime().UnixNano()
	made := changed
	if data, ok := info.Sys().(*syscall.Win32FileAttributeData); ok {
		made = data.CreationTime.Nanoseconds()
	}
	return localStat{
		backupdb.Attributes{Size: info.Size(), Changed: changed, Inode: made},
		map[string]any{"ctime": float64(made) / 1e9, "mtime": float64(changed) / 1e9},
	}, nil
}
