package dirnode

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"warren/node/caps"
	"warren/node/mutable"
)

// walked lists a walk's paths.
func walked(t *testing.T, d *Dirs, root caps.Cap, visit func(Step) error) ([]string, error) {
	t.Helper()
	var list []string
	err := d.Walk(t.Context(), root, func(s Step) error {
		list = append(list, strings.Join(s.Path, "/"))
		return visit(s)
	})
	return list, err
}

func all(Step) error { return nil }

// tree is a directory with everything that a walk treats differently.
func tree(t *testing.T, d *Dirs) (root caps.WriteDir) {
	t.Helper()
	must := func(c caps.Cap, err error) caps.Cap {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	file := must(d.Files.Put(ctx, make([]byte, 1000)))
	frozen := must(d.MakeImmutable(ctx, []Entry{NewEntry("big", file, nil), NewEntry("leaf", caps.LIT{Data: []byte("leaf")}, nil), NewEntry("own", caps.CHK{Needed: 1, Total: 1, Size: 70}, nil)}))
	lit := must(d.MakeImmutable(ctx, []Entry{NewEntry("in", caps.LIT{}, nil)}))
	future, err := caps.Parse("x-future:cap")
	if err != nil {
		t.Fatal(err)
	}
	made, err := d.MakeIn(ctx, mutable.Kind{Format: mutable.MDMF}, []Entry{
		NewEntry("b", frozen, nil), NewEntry("lit", lit, nil), NewEntry("zlit", lit, nil),
		NewEntry("a file", file, nil), NewEntry("small", caps.LIT{Data: []byte("same")}, nil), NewEntry("small2", caps.LIT{Data: []byte("same")}, nil),
		{Name: "zukunft", Write: future, Read: future}, {Name: "empty"},
		NewEntry("mutable", caps.SSKRead{}, nil),
	})
	if err != nil {
		t.Fatal(err)
	}
	sub, err := d.Make(ctx, []Entry{NewEntry("up", made, nil), NewEntry("b again", frozen, nil)})
	if err != nil {
		t.Fatal(err)
	}
	// A circle, and the same directory by two capabilities.
	if err := d.Edit(ctx, made, []Change{set("a dir", sub), set("c readonly", sub.Read()), set("self", made)}); err != nil {
		t.Fatal(err)
	}
	return made
}

func TestWalk(t *testing.T) {
	d := newDirs(t, newServers(t, 5), 3, 4, 5)
	root := tree(t, d)
	stats := NewStats()
	list, err := walked(t, d, root, func(s Step) error {
		stats.Add(s)
		return s.Err
	})
	want := []string{
		"", "empty", "zukunft", "a file", "mutable", "small", "small2",
		// "b" and what is in it is met here, where it was learnt first, and not in "a dir".
		"a dir", "b", "b/leaf", "b/own", "lit", "lit/in", "zlit", "zlit/in",
	}
	if err != nil || !slices.Equal(list, want) {
		t.Errorf("%q, %v; want\n%q", list, err, want)
	}
	if stats.Directories != 5 || stats.Files != 8 || stats.ImmutableFiles != 2 || stats.LiteralFiles != 5 || stats.MutableFiles != 1 || stats.Unknown != 2 ||
		stats.ImmutableSize != 1070 || stats.LiteralSize != 12 || stats.LargestImmutableFile != 1000 || stats.LargestDirectoryChildren != 12 ||
		stats.LargestDirectory < 1000 || stats.Size() != stats.DirectoriesSize+1070 {
		t.Errorf("%+v", stats)
	}
	if b, err := json.Marshal(stats.Sizes); err != nil || string(b) != "[[0,0,2],[4,10,3],[32,100,1],[317,1000,1]]" {
		t.Errorf("%s, %v", b, err)
	}

	// Staying out of a directory, and ending.
	list, err = walked(t, d, root, func(s Step) error {
		switch s.Entry.Name {
		case "b", "a file":
			return fs.SkipDir
		case "lit":
			return fs.SkipAll
		}
		return nil
	})
	if err != nil || !slices.Equal(list, []string{"", "empty", "zukunft", "a file", "mutable", "small", "small2", "a dir", "b", "lit"}) {
		t.Errorf("%q, %v", list, err)
	}
	mine := errors.New("mine")
	for _, at := range []string{"", "zukunft", "small", "b"} {
		list, err = walked(t, d, root, func(s Step) error {
			if s.Entry.Name == at {
				return mine
			}
			return nil
		})
		if !errors.Is(err, mine) || want[len(list)-1] != at {
			t.Errorf("%q: %q, %v", at, list, err)
		}
	}
	stop, cancel := context.WithCancelCause(t.Context())
	n := 0
	if err := d.Walk(stop, root, func(Step) error { n++; cancel(mine); return nil }); !errors.Is(err, mine) || n != 1 {
		t.Errorf("%d steps, %v", n, err)
	}
	for _, c := range []caps.Cap{caps.LIT{}, caps.DirVerify{}} {
		if list, err := walked(t, d, c, func(s Step) error { return s.Err }); len(list) != 1 || err == nil {
			t.Errorf("%q, %v", list, err)
		}
	}
}

// made is a tree that is thought up while it is read: every directory has width
// entries, depth levels down, of which those of the last are files.
type made struct {
	width, depth int

	mu    sync.Mutex // guards what is below
	reads map[[16]byte]int
	now   int
	most  int
	gate  chan struct{} // when not nil, reading takes one of these
	fails map[[16]byte]int
}

func (m *made) Put(context.Context, []byte) (caps.Cap, error) { return nil, errors.ErrUnsupported }

func (m *made) Get(ctx context.Context, c caps.Cap) ([]byte, error) {
	key := c.(caps.CHK).Key
	m.mu.Lock()
	m.reads[key]++
	m.now++
	m.most = max(m.most, m.now)
	fail := m.fails[key] > 0
	if fail {
		m.fails[key]--
	}
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		m.now--
		m.mu.Unlock()
	}()
	if m.gate != nil {
		select {
		case <-m.gate:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if fail {
		return nil, errors.New("not now")
	}
	level := int(key[0])
	entries := make([]Entry, 0, m.width)
	for i := range m.width {
		below := key
		below[0]++
		below[1+2*level], below[2+2*level] = byte(i>>8), byte(i)
		file := caps.CHK{Key: below, UEBHash: [32]byte(append(below[:], below[:]...)), Needed: 1, Total: 1, Size: 1000}
		var child caps.Cap = file
		if level+1 < m.depth {
			child, _ = caps.Dir(file)
		}
		entries = append(entries, NewEntry(fmt.Sprintf("%04d", i), child, nil))
	}
	return Immutable().Pack(entries)
}

func (m *made) root() caps.Cap {
	root, _ := caps.Dir(caps.CHK{Needed: 1, Total: 1})
	m.reads = map[[16]byte]int{}
	return root
}

// Directories are read ahead, a few at the same time, each once, and what failed
// ahead of its turn is tried again.
func TestWalkReadsAhead(t *testing.T) {
	m := &made{width: 6, depth: 3, gate: make(chan struct{})}
	root := m.root()
	m.fails = map[[16]byte]int{{1, 0, 3}: 1, {2, 0, 2, 0, 5}: 1}
	go func() {
		// Whoever reads waits until nobody else comes: then all that read at once are there.
		for range 1 + 6 + 36 + 2 {
			for range 1000 {
				runtime.Gosched()
			}
			select {
			case m.gate <- struct{}{}:
			case <-t.Context().Done():
				return
			}
		}
	}()
	list, err := walked(t, &Dirs{Files: m}, root, func(s Step) error { return s.Err })
	if err != nil || len(list) != 1+6+36+216 || !slices.IsSorted(list) {
		t.Errorf("%d steps, %v", len(list), err)
	}
	if m.most < 2 || m.most > listing+1 {
		t.Errorf("%d directories were read at once", m.most)
	}
	for key, n := range m.reads {
		want := 1
		if _, failed := m.fails[key]; failed {
			want = 2
		}
		if n != want {
			t.Errorf("%v was read %d times", key[:8], n)
		}
	}
	// What fails for good is told, and a visitor that does not mind walks on.
	m = &made{width: 3, depth: 2, fails: map[[16]byte]int{{1, 0, 1}: 5}}
	root = m.root()
	if list, err := walked(t, &Dirs{Files: m}, root, func(s Step) error { return s.Err }); err == nil || len(list) != 1+1+3+1 {
		t.Errorf("%q, %v", list, err)
	}
	if list, err := walked(t, &Dirs{Files: m}, root, all); err != nil || len(list) != 1+3+6 {
		t.Errorf("%q, %v", list, err)
	}
}

// The memory that a walk takes does not grow with the number of things met.
func TestWalkMemory(t *testing.T) {
	m := &made{width: 60, depth: 3}
	root := m.root()
	n := 0
	var few, most uint64
	if err := (&Dirs{Files: m, TempDir: t.TempDir()}).Walk(t.Context(), root, func(s Step) error {
		switch n++; {
		case n == maxRecent:
			few = heap()
		case n > maxRecent && n%10_000 == 0:
			most = max(most, heap())
		}
		return s.Err
	}); err != nil || n != 1+60+3600+216_000 {
		t.Fatal(n, err)
	}
	t.Logf("%d KiB after %d entries, %d at most later, of %d", few>>10, maxRecent, most>>10, n)
	if most > few+4<<20 {
		t.Errorf("%d KiB after %d entries, %d later, of %d", few>>10, maxRecent, most>>10, n)
	}
}

// Tahoe's buckets, as its deep_stats.py makes them.
func TestHistogram(t *testing.T) {
	var h Histogram
	for _, size := range []uint64{0, 1, 3, 4, 10, 11, 31, 32, 100, 101, 316, 317, 1000, 1001, 3162, 3163, 31623, 100_001, 316_228, 1e9 + 1, 31622776602, 316227766017, 10000000000023, 316227766016839, 1000000000000002, 1000000000000003, 31622776601683865, 31622776601683864, math.MaxUint64} {
		h.add(size)
	}
	want := `[[0,0,1],[1,3,2],[4,10,2],[11,31,2],[32,100,2],[101,316,2],[317,1000,2],[1001,3162,2],[3163,10000,1],[31623,100000,1],[100001,316227,1],[316228,1000000,1],` +
		`[1000000001,3162277660,1],[31622776602,100000000000,1],[316227766017,1000000000000,1],[10000000000001,31622776601683,1],[316227766016839,1000000000000002,2],` +
		`[1000000000000003,3162277660168386,1],[10000000000000023,31622776601683864,1],[31622776601683865,100000000000000224,1],[10000000000000022529,18446744073709551615,1]]`
	if b, err := json.Marshal(h); err != nil || string(b) != want {
		t.Errorf("%s\nwant\n%s (%v)", b, want, err)
	}
}
