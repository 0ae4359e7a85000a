//go:build unix

package magicfolder

import "golang.org/x/sys/unix"

func mkfifo(p string) error { return unix.Mkfifo(p, 0o644) }

// mkdevice makes the character device that is /dev/null on Linux; it needs root.
func mkdevice(p string) error { return unix.Mknod(p, unix.S_IFCHR|0o644, 1<<8|3) }
