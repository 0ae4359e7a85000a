package magicfolder

import (
	"os"
	"testing"
)

// These tests sync to disk some ten thousand times; in memory that costs nothing.
func TestMain(m *testing.M) {
	if dir, err := os.MkdirTemp("/dev/shm", "magicfolder-*"); err == nil {
		os.Setenv("TMPDIR", dir)
		code := m.Run()
		os.RemoveAll(dir)
		os.Exit(code)
	}
	os.Exit(m.Run())
}
