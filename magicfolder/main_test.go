package magicfolder

import (
	"fmt"
	"os"
	"testing"
)

// These tests sync to disk some ten thousand times; in memory that costs nothing.
func TestMain(m *testing.M) {
	if os.Getenv(killVariable) != "" {
		if err := beKilled(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if dir, err := os.MkdirTemp("/dev/shm", "magicfolder-*"); err == nil {
		os.Setenv("TMPDIR", dir)
		code := m.Run()
		os.RemoveAll(dir)
		os.Exit(code)
	}
	os.Exit(m.Run())
}
