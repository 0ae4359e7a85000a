package dirnode

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
)

// A walk remembers all that it has met in a bounded amount of memory.
func TestMet(t *testing.T) {
	dir := t.TempDir()
	m := newMet(dir)
	defer m.close()
	const members = 300_000
	var few uint64
	for i := range members {
		if first, err := m.add(fmt.Sprint(i)); err != nil || !first {
			t.Fatalf("%d: %v, %v", i, first, err)
		}
		if i == 2*maxRecent {
			few = heap()
		}
	}
	if many := heap(); many > few+1<<20 {
		t.Errorf("%d KiB of memory for %d members, %d for %d", few>>10, 2*maxRecent, many>>10, members)
	}
	if m.pages*pageSize > 45*members {
		t.Errorf("%d bytes of file", m.pages*pageSize)
	}
	for i := range members {
		if first, err := m.add(fmt.Sprint(i)); err != nil || first {
			t.Fatalf("%d again: %v, %v", i, first, err)
		}
	}
	if first, err := m.add("another"); err != nil || !first {
		t.Fatalf("another: %v, %v", first, err)
	}
	if m.count+uint64(len(m.recent)) != members+1 {
		t.Errorf("%d and %d of %d", m.count, len(m.recent), members+1)
	}
	m.close()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func heap() uint64 {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}

// Where nothing can be kept the walk ends, and says why.
func TestMetWithoutPlace(t *testing.T) {
	m := newMet(t.TempDir() + "/missing")
	defer m.close()
	for i := range maxRecent {
		_, err := m.add(fmt.Sprint(i))
		if (err != nil) != (i == maxRecent-1) {
			t.Fatalf("%d: %v", i, err)
		}
		if err != nil && !strings.Contains(err.Error(), "what the walk has met cannot be kept") {
			t.Error(err)
		}
	}
}
