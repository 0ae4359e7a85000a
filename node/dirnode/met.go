package dirnode

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
)

// How what a walk has met is kept: the latest in memory, the rest in a file of pages
// that are filled to three quarters at most, on average.
const (
	maxRecent    = 1 << 16
	cellSize     = 16
	pageCells    = 256
	pageSize     = pageCells * cellSize
	fillingNew   = pageCells * 3 / 8
	fillingLimit = 2 * fillingNew
)

type cell [cellSize]byte

// met is the set of what a walk has met. Its memory is bounded; a long walk has a file,
// which lives as long as the set, of 20 to 45 bytes for each member. The file tells
// nothing: members are hashed with a key that is never stored.
type met struct {
	dir    string // for the file; "": the system's
	key    [32]byte
	recent map[cell]struct{} // not in the file
	file   *os.File          // nil: not needed yet
	pages  uint64            // of the file
	count  uint64            // cells in it
	page   [pageSize]byte
	hashed []byte // what was hashed last
}

func newMet(dir string) *met {
	m := &met{dir: dir, recent: map[cell]struct{}{}}
	rand.Read(m.key[:])
	return m
}

func (m *met) close() {
	if m.file != nil {
		discard(m.file)
		m.file = nil
	}
}

func discard(f *os.File) {
	f.Close()
	os.Remove(f.Name()) // where it could not be removed while it was open
}

// add says that a member is new.
func (m *met) add(text string) (bool, error) {
	m.hashed = append(append(m.hashed[:0], m.key[:]...), text...)
	sum := sha256.Sum256(m.hashed)
	c := cell(sum[:cellSize])
	if c == (cell{}) {
		c[cellSize-1] = 1 // an empty cell is all zeros
	}
	if _, known := m.recent[c]; known {
		return false, nil
	}
	if m.file != nil {
		if err := m.read(m.home(c)); err != nil {
			return false, err
		}
		for i := 0; i < pageSize; i += cellSize {
			if cell(m.page[i:i+cellSize]) == c {
				return false, nil
			}
		}
	}
	m.recent[c] = struct{}{}
	if len(m.recent) < maxRecent {
		return true, nil
	}
	return true, m.flush()
}

// home is the page of a cell: in the order of the cells, however many pages there are.
func (m *met) home(c cell) uint64 {
	return binary.BigEndian.Uint64(c[:]) / (^uint64(0)/m.pages + 1)
}

func (m *met) read(page uint64) error {
	if _, err := m.file.ReadAt(m.page[:], int64(page)*pageSize); err != nil {
		return fmt.Errorf("dirnode: what the walk has met cannot be read back: %w", err)
	}
	return nil
}

// errFull: a page has no room for one more.
var errFull = errors.New("a full page")

// flush moves what is in memory to the file, and that to a larger one when it is full.
func (m *met) flush() error {
	cells := make([]cell, 0, len(m.recent))
	for c := range m.recent {
		cells = append(cells, c)
	}
	slices.SortFunc(cells, func(a, b cell) int { return bytes.Compare(a[:], b[:]) })
	err := errFull
	if m.file != nil && m.count+uint64(len(cells)) <= m.pages*fillingLimit {
		cells, err = m.insert(cells)
	}
	for larger := max(2, (m.count+maxRecent)/fillingNew); errors.Is(err, errFull); larger *= 2 {
		err = m.grow(larger, cells)
	}
	if err != nil {
		return fmt.Errorf("dirnode: what the walk has met cannot be kept: %w", err)
	}
	m.count += uint64(len(m.recent))
	clear(m.recent)
	return nil
}

// insert writes cells, which are sorted, to their pages, and gives those that it did
// not come to.
func (m *met) insert(cells []cell) (rest []cell, err error) {
	for len(cells) > 0 {
		rest = cells
		at := m.home(cells[0])
		if err := m.read(at); err != nil {
			return rest, err
		}
		used := 0
		for used < pageCells && cell(m.page[used*cellSize:]) != (cell{}) {
			used++
		}
		for ; len(cells) > 0 && m.home(cells[0]) == at; cells = cells[1:] {
			if used == pageCells {
				return rest, errFull
			}
			used += copy(m.page[used*cellSize:], cells[0][:]) / cellSize
		}
		if _, err := m.file.WriteAt(m.page[:], int64(at)*pageSize); err != nil {
			return rest, err
		}
	}
	return nil, nil
}

// grow makes a file of more pages that holds what the old one does, and cells.
func (m *met) grow(pages uint64, cells []cell) error {
	old := *m
	f, err := os.CreateTemp(m.dir, "walk-*.met") // 0600
	if err != nil {
		return err
	}
	os.Remove(f.Name()) // where the system allows it
	m.file, m.pages = f, pages
	err = f.Truncate(int64(pages) * pageSize)
	if err == nil && old.file != nil {
		err = old.each(m.insert)
	}
	if err == nil {
		_, err = m.insert(cells)
	}
	if err != nil {
		discard(f)
		m.file, m.pages = old.file, old.pages
		return err
	}
	if old.file != nil {
		discard(old.file)
	}
	return nil
}

// each gives the members in the file, sorted, a few thousand at a time.
func (m *met) each(take func([]cell) ([]cell, error)) error {
	var cells []cell
	for at := range m.pages {
		if err := m.read(at); err != nil {
			return err
		}
		from := len(cells)
		for i := 0; i < pageSize; i += cellSize {
			if c := cell(m.page[i : i+cellSize]); c != (cell{}) {
				cells = append(cells, c)
			}
		}
		slices.SortFunc(cells[from:], func(a, b cell) int { return bytes.Compare(a[:], b[:]) })
		if len(cells) < 1<<13 && at < m.pages-1 {
			continue
		}
		if _, err := take(cells); err != nil {
			return err
		}
		cells = cells[:0]
	}
	return nil
}
