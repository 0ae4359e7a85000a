//go:build unix && !linux && !darwin

package fsys

import "golang.org/x/sys/unix"

func exchangeAt(int, string, int, string) error { return unix.ENOSYS }

func renameNewAt(int, string, int, string) error { return unix.ENOSYS }
