package fsys

import "golang.org/x/sys/unix"

func exchangeAt(afd int, a string, bfd int, b string) error {
	return unix.Renameat2(afd, a, bfd, b, unix.RENAME_EXCHANGE)
}

func renameNewAt(afd int, a string, bfd int, b string) error {
	return unix.Renameat2(afd, a, bfd, b, unix.RENAME_NOREPLACE)
}
