package durable

import (
	"fmt"
	"os"
)

// SyncDir checks that path is a directory. Windows has no way to sync one.
func SyncDir(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("durable: sync %s: %w", path, err)
	}
	if !info.IsDir() {
		return fmt.Errorf("durable: sync %s: not a directory", path)
	}
	return nil
}

// chmod does nothing: access follows the directory's list on Windows, and the only
// bit that os.Chmod knows there, read-only, would stop the next rename.
func chmod(*os.File, os.FileMode) error { return nil }
