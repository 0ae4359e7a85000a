package disk

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"warren/node/storage"
)

// errFull is the system's word for a full medium.
func errFull(t *testing.T) error {
	for _, e := range []syscall.Errno{28, 112} { // Unix, Windows
		if isFull(e) {
			return e
		}
	}
	t.Fatal("no error of this system means a full medium")
	return nil
}

// refused says that a failure tells the client that there is no room.
func refused(err error) bool {
	return errors.Is(err, storage.ErrNoSpace) || errors.Is(err, errRefused)
}

// settledAs says why w does not hold what it acknowledged, and of the op that failed
// each share whole, as before or as after.
func (w *world) settledAs(o op, after state, err error) error {
	got, lerr := look(w.backend, o.si)
	if lerr != nil {
		return lerr
	}
	if err == nil {
		return between(got, after, after)
	}
	if !refused(err) {
		return fmt.Errorf("an error that says nothing of room: %w", err)
	}
	return between(got, w.acked[o.si], after)
}

// fullHistories are what a medium is full amid: each change needs room.
func fullHistories() map[string][]op {
	a, b := numbered(1, 1), numbered(1, 2)
	return map[string][]op{
		"immutable": {
			upload(a, 700, 0, 3), upload(b, 100, 0), lease(a, 2), upload(a, 700, 0, 4), lease(a, 2), advise(storage.Immutable, a, 3),
		},
		"slots": {
			change(a, 1, 300, []int{0, 1, 2}, nil), change(a, 2, 1500, []int{1, 2, 3}, []int{0}), change(b, 1, 100, []int{0}, nil),
			lease(a, 2), lease(a, 4), lease(a, 6), lease(a, 8), lease(a, 2), change(a, 3, 4000, []int{1}, nil),
			advise(storage.Mutable, a, 1), change(a, 4, 0, nil, []int{1, 2, 3}), change(a, 5, 100, []int{9}, nil),
		},
	}
}

// TestFull has the medium full in each step of a history that takes room: for that
// step alone, and from there on until the client was told. Each time the right bytes
// are there or the client knows that they are not; and when there is room again the
// server goes on.
func TestFull(t *testing.T) {
	full := errFull(t)
	for name, history := range fullHistories() {
		for _, stays := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, stays %v", name, stays), func(t *testing.T) {
				after := outcomes(t, history, day)
				n := 0
				for failed := true; failed; n++ {
					failed = fullIn(t, history, after, n, stays, full)
					if t.Failed() {
						return
					}
				}
				if t.Logf("full in %d steps", n-1); n-1 < 50 {
					t.Errorf("full in %d steps, this proves little", n-1)
				}
			})
		}
	}
}

// fullIn goes through a history with the n-th step failing; it says whether there is one.
func fullIn(t *testing.T, history []op, after []state, n int, stays bool, full error) (failed bool) {
	m := newModel(1 << 30)
	w, err := newWorld(m, storageDir)
	if err != nil {
		t.Fatal(err)
	}
	left := n
	for i, o := range history {
		where := fmt.Sprintf("full in step %d, in %d: %s", n, i, o.name)
		now := false
		m.step = func(name string) error {
			if strings.HasPrefix(name, "remove") {
				return nil
			}
			if left--; left == -1 || now && stays {
				where += ", when it would " + name
				now, failed = true, true
				return full
			}
			return nil
		}
		err := w.do(o, after[i])
		if now && stays && err == nil {
			t.Errorf("%s: acknowledged", where)
		}
		if err := w.settledAs(o, after[i], err); err != nil {
			t.Errorf("%s: %v", where, err)
		}
		m.step = func(string) error { return nil }
		if err != nil {
			// While it is in doubt the machine may fail, too.
			w.flying = []flight{{o, after[i]}}
			s := m.crash(func() bool { return true }, func() bool { return true })
			if err := w.check(s, storageDir, func() []string { return inside(s.files()) }); err != nil {
				t.Errorf("%s, and started again: %v", where, err)
			}
			w.flying = nil
			if err := w.do(o, after[i]); err != nil {
				t.Errorf("%s: asked again, with room: %v", where, err)
			} else if err := w.settledAs(o, after[i], nil); err != nil {
				t.Errorf("%s: asked again, with room: %v", where, err)
			}
		}
		w.now = w.now.Add(day)
	}
	if drafts, err := m.list(w.backend.incoming); err != nil || len(drafts) > 0 {
		t.Errorf("full in step %d: left in incoming: %v, %v", n, drafts, err)
	}
	if v, err := w.client.Version(t.Context()); err != nil || int64(v.AvailableSpace) != m.capacity-m.used() {
		t.Errorf("full in step %d: room for %d bytes (%v), and there are %d", n, v.AvailableSpace, err, m.capacity-m.used())
	}
	return failed
}
