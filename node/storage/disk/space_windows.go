package disk

import (
	"errors"

	"golang.org/x/sys/windows"

	"warren/node/storage"
)

// usage counts as Tahoe does: what this user may still write is free.
func usage(dir string) (storage.Usage, error) {
	name, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return storage.Usage{}, err
	}
	var u storage.Usage
	err = windows.GetDiskFreeSpaceEx(name, &u.Free, &u.Total, &u.FreeForRoot)
	u.Used = u.Total - u.FreeForRoot
	return u, err
}

func isFull(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL)
}
