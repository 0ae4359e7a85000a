package disk

import (
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"warren/node/caps"
	"warren/node/storage"
)

// wantStates is how many different states of the disk must have been tried, of
// immutable shares and of slots each.
const wantStates = 2000

// perMoment bounds how many states of one moment are tried in order; where there are
// more, as many again are taken by chance.
const perMoment = 12

// cut tries what may be on the disk when the power goes, moment by moment.
type cut struct {
	t       *testing.T
	chance  *rand.Rand
	trees   map[uint64]bool
	checks  int
	moments int

	answers int             // w.answers that tried is of
	tried   map[uint64]bool // what need not be tried again: it must still hold the same
}

func newCut(t *testing.T) *cut {
	return &cut{t: t, chance: rand.New(rand.NewPCG(1, 2)), trees: map[uint64]bool{}}
}

// now tries the states of this moment.
func (c *cut) now(w *world, m *model, where string) {
	if c.t.Failed() {
		return // one is enough to look at
	}
	if c.moments++; c.tried == nil || c.answers != w.answers {
		c.tried, c.answers = map[uint64]bool{}, w.answers
	}
	flip := func() bool { return c.chance.IntN(2) == 0 }
	try := func(choose func() bool) {
		s := m.crash(choose, flip)
		key := s.tree()
		if c.tried[key] {
			return
		}
		c.tried[key], c.trees[key] = true, true
		c.checks++
		files := s.files()
		if err := w.check(s, storageDir, func() []string { return inside(s.files()) }); err != nil {
			c.t.Errorf("%s: after a power cut with %d files on the disk: %v", where, len(files), err)
		}
	}
	var path []bool
	for range perMoment {
		i := 0
		try(func() bool {
			if i == len(path) {
				path = append(path, false)
			}
			i++
			return path[i-1]
		})
		for path = path[:i]; len(path) > 0 && path[len(path)-1]; {
			path = path[:len(path)-1]
		}
		if len(path) == 0 {
			return
		}
		path[len(path)-1] = true
	}
	for range perMoment {
		try(flip)
	}
}

var seed = maphash.MakeSeed()

// tree stands for all that a server finds, but for the drafts.
func (m *model) tree() uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	m.root.walk("", func(path string, n *inode) {
		if kind(path) != "draft" {
			h.WriteString(path)
			maphash.WriteComparable(&h, len(n.data))
			h.Write(n.data)
		}
	})
	return h.Sum64()
}

// inside are the paths below the storage directory.
func inside(files []string) (all []string) {
	for _, f := range files {
		all = append(all, strings.TrimPrefix(f, storageDir+"/"))
	}
	return all
}

// day is what passes between the ops of a history: a lease that is renewed changes.
const day = 24 * time.Hour

// through tries each moment of a history.
func (c *cut) through(history []op) {
	after := outcomes(c.t, history, day)
	c.tried = nil
	m := newModel(1 << 40)
	w, err := newWorld(m, storageDir)
	if err != nil {
		c.t.Fatal(err)
	}
	for i, o := range history {
		m.step = func(name string) error {
			c.now(w, m, fmt.Sprintf("%d: %s, before it would %s", i, o.name, name))
			return nil
		}
		if err := w.do(o, after[i]); err != nil {
			c.t.Fatalf("%s: %v", o.name, err)
		}
		c.now(w, m, fmt.Sprintf("%d: %s, acknowledged", i, o.name))
		w.now = w.now.Add(day)
	}
}

// beside tries each moment of an op, and of another one that comes in the midst of
// it, at each step.
func (c *cut) beside(before []op, first, second op) {
	after := outcomes(c.t, append(slices.Clone(before), first), 0)
	others := outcomes(c.t, append(slices.Clone(before), second), 0)
	for at, reached := 0, true; reached; at++ {
		reached, c.tried = false, nil
		m := newModel(1 << 40)
		w, err := newWorld(m, storageDir)
		if err != nil {
			c.t.Fatal(err)
		}
		for i, o := range before {
			if err := w.do(o, after[i]); err != nil {
				c.t.Fatal(err)
			}
		}
		steps := 0
		m.step = func(name string) error {
			c.now(w, m, fmt.Sprintf("%s, and %s in step %d, before it would %s", first.name, second.name, at, name))
			if steps++; steps-1 == at {
				reached = true
				return w.do(second, others[len(others)-1])
			}
			return nil
		}
		if err := w.do(first, after[len(before)]); err != nil {
			c.t.Fatal(err)
		}
		c.now(w, m, first.name+" and "+second.name+", acknowledged")
	}
}

// enough fails when too little was tried.
func (c *cut) enough() {
	c.t.Logf("%d different states of the disk in %d moments, %d checks", len(c.trees), c.moments, c.checks)
	if len(c.trees) < wantStates {
		c.t.Errorf("only %d states of the disk, fewer than %d: this proves little", len(c.trees), wantStates)
	}
}

// numbered is the n-th storage index of a prefix directory.
func numbered(prefix, n byte) caps.StorageIndex { return caps.StorageIndex{prefix, 1, n} }

func TestPowerCutImmutable(t *testing.T) {
	c := newCut(t)
	for i := range 48 {
		// Of sizes that put leases across the borders of sectors.
		a, b := numbered(0, 0), numbered(byte(i)*5, 1)
		c.through([]op{
			upload(a, 37*(i+1), 0, 255), upload(b, 500+i, 3),
			lease(a, 2), lease(b, 2), lease(a, 4), lease(a, 2), lease(a, 'l'),
			advise(storage.Immutable, a, 255),
			expire(a, 255), expire(b, 3), expire(a, 0), upload(a, 100, 0),
		})
	}
	for i := range 3 {
		// Of sizes that put the expiry itself across a border.
		a := numbered(0, 0)
		history := []op{upload(a, sector-12-68-3+i, 1)}
		for range 8 {
			history = append(history, lease(a, 'l'))
		}
		c.through(history)
	}
	known := []op{upload(numbered(1, 9), 100, 1)}
	for _, before := range [][]op{nil, known} {
		c.beside(before, upload(numbered(1, 1), 600, 0, 3), upload(numbered(1, 2), 600, 0))
		c.beside(before, upload(numbered(1, 1), 600, 0, 3), upload(numbered(200, 2), 600, 0))
	}
	c.beside(known, lease(numbered(1, 9), 4), upload(numbered(1, 2), 600, 0))
	c.beside(known, expire(numbered(1, 9), 1), upload(numbered(1, 2), 600, 0))
	c.beside(known, upload(numbered(1, 2), 600, 0), expire(numbered(1, 9), 1))
	c.enough()
}

func TestPowerCutSlots(t *testing.T) {
	c := newCut(t)
	some, more := []int{0, 1, 2, 3, 4, 5, 6}, []int{2, 3, 4, 5, 7, 8, 9}
	for i := range byte(3) {
		si := numbered(60*i, i)
		history := []op{
			upload(numbered(60*i, 9), 700, 1),
			change(si, 1, 200+300*int(i), some, nil),
			change(si, 2, 900+100*int(i), more, []int{0, 1, 6}),
			change(si, 3, 100, more, nil),
		}
		for n := range byte(7) { // four in the header, the others behind the data
			history = append(history, lease(si, 2*n))
		}
		c.through(append(history, lease(si, 0), lease(si, 10),
			change(si, 4, 2000, more, nil), // moves the leases behind the data
			lease(si, 20),
			advise(storage.Mutable, si, 2),
			change(si, 5, 0, nil, more),
			change(si, 6, 50, []int{1}, nil)))
	}
	there := []op{change(numbered(1, 1), 1, 300, []int{0, 1}, nil)}
	remove := change(numbered(1, 1), 2, 0, nil, []int{0, 1})
	for _, before := range [][]op{nil, there} {
		c.beside(before, change(numbered(1, 2), 1, 600, []int{0, 3}, nil), change(numbered(1, 3), 1, 600, []int{5}, nil))
		c.beside(before, change(numbered(1, 1), 3, 600, []int{0, 3}, nil), upload(numbered(1, 3), 600, 1))
	}
	c.beside(there, remove, upload(numbered(1, 3), 600, 1))
	c.beside(there, remove, change(numbered(1, 3), 1, 600, []int{5}, nil))
	c.beside(there, upload(numbered(1, 3), 600, 1), remove)
	c.enough()
}
