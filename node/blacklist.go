package node

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"warren/node/caps"
	"warren/node/webapi"
)

// maxBlacklist bounds the file, which is held in memory.
const maxBlacklist = 16 << 20

// blacklist is Tahoe's access.blacklist: what the web API neither reads nor changes
// for anybody. A line is a storage index, in base32, and the reason; those that begin
// with # are comments. Without the file everything is allowed; one that cannot be
// read allows nothing. It is read again when its time or size changed.
type blacklist struct {
	path string
	log  *slog.Logger

	mu      sync.Mutex // guards all below
	read    time.Time
	size    int64
	reasons map[caps.StorageIndex]string
	err     error
}

// check says whether what c names may be used; else it is a webapi.ProhibitedError,
// or says why that is not known. A nil blacklist allows everything.
func (b *blacklist) check(c caps.Cap) error {
	if b == nil {
		return nil
	}
	si, ok := caps.Index(c)
	if !ok {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	info, err := os.Stat(b.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		b.read, b.reasons, b.err = time.Time{}, nil, nil
		return nil
	case err != nil:
		return fmt.Errorf("access.blacklist: %w", err)
	case !info.ModTime().Equal(b.read) || info.Size() != b.size:
		b.read, b.size = info.ModTime(), info.Size()
		b.reasons, b.err = readBlacklist(b.path)
	}
	if b.err != nil {
		return b.err
	}
	if reason, listed := b.reasons[si]; listed {
		b.log.Warn("access.blacklist prohibits what was asked for", "storage index", si.Text(), "reason", reason)
		return &webapi.ProhibitedError{Reason: reason}
	}
	return nil
}

func readBlacklist(path string) (map[caps.StorageIndex]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("access.blacklist: %w", err)
	}
	defer f.Close()
	reasons := map[caps.StorageIndex]string{}
	lines := bufio.NewScanner(io.LimitReader(f, maxBlacklist+1))
	read := 0
	for n := 1; lines.Scan(); n++ {
		if read += len(lines.Text()) + 1; read > maxBlacklist {
			return nil, fmt.Errorf("access.blacklist is larger than %d MiB", maxBlacklist>>20)
		}
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		fields := strings.Fields(line)
		si, err := caps.ParseStorageIndex(fields[0])
		if err != nil || len(fields) < 2 {
			return nil, fmt.Errorf("access.blacklist, line %d: want a storage index and a reason", n)
		}
		reasons[si] = strings.TrimSpace(strings.TrimPrefix(line, fields[0]))
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("access.blacklist: %w", err)
	}
	return reasons, nil
}
