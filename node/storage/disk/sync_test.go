package disk

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"warren/node/caps"
	"warren/node/storage"
	"warren/node/storage/container"
)

var errMedium = errors.New("input/output error")

// TestWhatIsAcknowledgedIsOnTheDisk: no test that only restarts the process would
// notice a sync that is missing. Here nothing reaches the disk by itself, and each
// sync fails once; TestPowerCut tries what may have reached it.
func TestWhatIsAcknowledgedIsOnTheDisk(t *testing.T) {
	m := newModel(1 << 40)
	syncs, fail := 0, 0
	m.step = func(name string) error {
		if strings.HasPrefix(name, "sync") {
			if syncs++; syncs == fail {
				return errMedium
			}
		}
		return nil
	}
	start := func() *Backend {
		b, err := open(storageDir, m)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	b := start()
	publish := func(si caps.StorageIndex, texts map[int]string, remove ...int) error {
		t.Helper()
		drafts := map[int]storage.Draft{}
		for n, text := range texts {
			d, err := b.Draft(si, n, false)
			if err == nil {
				_, err = d.WriteAt([]byte(text), 0)
			}
			if err != nil {
				t.Fatal(err)
			}
			drafts[n] = d
		}
		return b.Publish(si, drafts, remove)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	content := func(m *model, si caps.StorageIndex, share int) string {
		n := m.find(split(b.path(si, share)))
		if n == nil {
			return ""
		}
		return string(n.data)
	}
	// want is what a share is after a power cut, "" when there is none.
	never := func() bool { return false }
	want := func(what string, si caps.StorageIndex, share int, want string) {
		t.Helper()
		if got := content(m.crash(never, never), si, share); got != want {
			t.Errorf("%s: after a power cut share %d holds %q, want %q", what, share, got, want)
		}
	}
	// The first two share a prefix directory.
	first, beside, other := caps.StorageIndex{1, 1}, caps.StorageIndex{1, 1, 1}, caps.StorageIndex{200}
	if filepath.Dir(below("", first)) != filepath.Dir(below("", beside)) {
		t.Fatal("not the same prefix")
	}

	must(publish(first, map[int]string{0: "zero", 7: "seven"}))
	want("new", first, 0, "zero")
	want("new", first, 7, "seven")
	must(publish(beside, map[int]string{1: "one"}))
	want("beside it", beside, 1, "one")
	must(publish(first, map[int]string{0: "ZERO", 1: "one"}, 7))
	want("changed", first, 0, "ZERO")
	want("added", first, 1, "one")
	want("removed", first, 7, "")
	must(b.Amend(first, 0, []container.Patch{{Offset: 4, Data: []byte("!")}, {Offset: 0, Data: []byte("z")}}))
	want("amended", first, 0, "zERO!")
	must(publish(beside, nil, 1))
	want("the last one removed", beside, 1, "")

	// A sync that fails is an error, whichever it is, and what was not synced then is
	// when the next comes, in this process or in another.
	must(publish(other, map[int]string{0: "at last"}))
	for _, c := range []struct {
		name    string
		si      func(n byte) caps.StorageIndex
		restart bool
	}{
		{"a new prefix", func(n byte) caps.StorageIndex { return caps.StorageIndex{n + 1} }, false},
		{"a known prefix", func(n byte) caps.StorageIndex { return caps.StorageIndex{other[0], n} }, false},
		{"another process", func(n byte) caps.StorageIndex { return caps.StorageIndex{n + 100} }, true},
	} {
		for n := 1; ; n++ {
			si := c.si(byte(n))
			syncs, fail = 0, n
			err := publish(si, map[int]string{3: "three"})
			reached := syncs >= n
			if fail = 0; reached && !errors.Is(err, errMedium) {
				t.Errorf("%s: sync %d failed: %v", c.name, n, err)
			}
			if c.restart {
				b = start()
			}
			must(publish(si, map[int]string{3: "three", 4: "four"}))
			want(c.name+", after a failure", si, 3, "three")
			want(c.name+", after a failure", si, 4, "four")
			if !reached {
				break
			}
		}
	}
	// Each patch is on the disk before the next is written.
	syncs, fail = 0, 1
	if err := b.Amend(other, 0, []container.Patch{{Data: []byte("A")}, {Data: []byte("B")}}); !errors.Is(err, errMedium) {
		t.Errorf("amending: %v", err)
	}
	if got := content(m, other, 0); got != "At last" {
		t.Errorf("after the first patch failed: %q", got)
	}
}

// TestPublishesCrossing: what a failed publish made is not taken for durable because
// another one in the same prefix directory, begun before it failed, went well.
func TestPublishesCrossing(t *testing.T) {
	never := func() bool { return false }
	old, lost := numbered(1, 1), numbered(1, 2)
	tried := 0
	for _, known := range []bool{true, false} {
		for at, reached := 0, true; reached; at++ {
			for fail, failed := 0, true; failed; fail++ {
				reached, failed = false, false
				m := newModel(1 << 40)
				b, err := open(storageDir, m)
				if err != nil {
					t.Fatal(err)
				}
				publish := func(si caps.StorageIndex, share int) error {
					d, err := b.Draft(si, share, false)
					if err != nil {
						return err
					}
					return b.Publish(si, map[int]storage.Draft{share: d}, nil)
				}
				if known {
					if err := publish(old, 0); err != nil {
						t.Fatal(err)
					}
				}
				outer, inner := 0, 0
				m.step = func(string) error {
					if outer++; outer-1 != at {
						return nil
					}
					reached = true
					m.step = func(string) error {
						if inner++; inner-1 == fail {
							failed = true
							return errMedium
						}
						return nil
					}
					if err := publish(lost, 0); failed && err == nil {
						t.Error("a publish went well in which a step failed")
					}
					m.step = func(string) error { return nil }
					return nil
				}
				if err := publish(old, 1); err != nil {
					t.Fatal(err)
				}
				if err := publish(lost, 0); err != nil {
					t.Fatal(err)
				}
				tried++
				files := m.crash(never, never).files()
				for _, path := range []string{b.path(old, 1), b.path(lost, 0)} {
					if !slices.Contains(files, path) {
						t.Errorf("step %d of a publish in the midst of step %d of another failed, and was repeated: %s is not on the disk", fail, at, path)
					}
				}
			}
		}
	}
	t.Logf("%d pairs", tried)
	if tried < 50 {
		t.Errorf("only %d pairs of steps", tried)
	}
}
