package disk

import "golang.org/x/sys/unix"

// available is what an ordinary user may still write, as Tahoe counts it.
func available(dir string) (uint64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return s.Bavail * uint64(s.Frsize), nil
}
