package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"warren/node/storage"
)

// How many advisories are kept: any client may leave some, of any share, and what
// they say is for the operator to read. Beyond that the first reports stand.
const (
	maxAdvisories     = 4096
	maxAdvisoryBytes  = 16 << 20
	maxAdvisoriesEach = 16 // of one share
)

// advisories is what lies in the directory of that name.
type advisories struct {
	names int
	bytes int64
	each  map[string]int // by storage index and share number, as they are in the names
}

// about is the part of an advisory's name that tells the share.
func about(name string) string {
	_, rest, _ := strings.Cut(name, "--")
	share, _, _ := strings.Cut(rest, ".")
	return share
}

// count looks at the directory.
func (b *Backend) count(names []string) (*advisories, error) {
	a := &advisories{names: len(names), each: map[string]int{}}
	for _, name := range names {
		a.each[about(name)]++
		f, err := b.fs.open(filepath.Join(b.advisories, name), os.O_RDONLY)
		if err != nil {
			return nil, err
		}
		size, err := f.Size()
		f.Close()
		if err != nil {
			return nil, err
		}
		a.bytes += size
	}
	return a, nil
}

func (a *advisories) full(name string, size int) bool {
	return a.names >= maxAdvisories || a.bytes+int64(size) > maxAdvisoryBytes || a.each[about(name)] >= maxAdvisoriesEach
}

// Advise implements storage.Backend. When so many advisories are kept as may be, the
// error is storage.ErrNoSpace.
func (b *Backend) Advise(name string, text []byte) error {
	b.advising.Lock()
	defer b.advising.Unlock()
	if b.advised == nil || b.advised.full(name, len(text)) {
		names, err := b.fs.list(b.advisories)
		if err != nil {
			return fmt.Errorf("disk: %w", err)
		}
		if b.advised == nil || len(names) < b.advised.names { // the operator has read some, and removed them
			if b.advised, err = b.count(names); err != nil {
				return fmt.Errorf("disk: %w", err)
			}
		}
		if b.advised.full(name, len(text)) {
			return fmt.Errorf("%w: %w", storage.ErrNoSpace, errAdvisories)
		}
	}
	path := filepath.Join(b.advisories, name)
	for i := 1; ; i++ {
		taken, err := b.fs.exists(path)
		if err != nil {
			return fmt.Errorf("disk: %w", err)
		}
		if !taken {
			break
		}
		path = filepath.Join(b.advisories, fmt.Sprintf("%s.%d", name, i))
	}
	if err := full(b.fs.writeFile(path, text)); err != nil {
		b.advised = nil // it may be there
		return err
	}
	b.advised.names++
	b.advised.bytes += int64(len(text))
	b.advised.each[about(name)]++
	return nil
}

var errAdvisories = errors.New("disk: corruption-advisories holds as many as are kept: read and remove them")
