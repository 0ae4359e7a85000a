package introducer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"

	"warren/node/durable"
)

// FileSequence numbers announcements from a node's announcement-seqnum file, as
// Tahoe does: each call adds one and is on disk before the number is used, so that
// no number is used twice for different contents. Safe for concurrent use.
func FileSequence(path string) func() (int64, error) {
	var mu sync.Mutex // guards the file
	return func() (int64, error) {
		mu.Lock()
		defer mu.Unlock()
		text, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return 0, fmt.Errorf("introducer: announcement number: %w", err)
		}
		var n int64
		if s := strings.TrimSpace(string(text)); s != "" {
			if n, err = strconv.ParseInt(s, 10, 64); err != nil || n < 0 || n == 1<<63-1 {
				return 0, fmt.Errorf("introducer: %s holds no number", path)
			}
		}
		n++
		if err := durable.WriteFile(path, []byte(strconv.FormatInt(n, 10)+"\n"), 0o600); err != nil {
			return 0, fmt.Errorf("introducer: announcement number: %w", err)
		}
		return n, nil
	}
}
