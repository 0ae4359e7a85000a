package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"warren/node/caps"
	"warren/node/storage"
	"warren/node/storage/container"
)

// medium stands for what is on the disk: the contents of files and the entries of
// directories as they were when they were last synced.
type medium struct {
	t       *testing.T
	shares  string
	files   []synced
	entries map[string][]string
	syncs   int
	fail    int // the sync that fails, counted from 1; 0: none
}

type synced struct {
	info    os.FileInfo
	content string
}

var errMedium = errors.New("input/output error")

func (m *medium) Close() error { return nil }

// Sync also checks what must hold at each moment, as the system may write a name
// by itself: no share that can be seen has a content that is not on the disk.
func (m *medium) Sync(files []*os.File, dirs ...string) error {
	if m.syncs++; m.syncs == m.fail {
		return errMedium
	}
	for _, f := range files {
		info, err := f.Stat()
		if err != nil {
			m.t.Fatal(err)
		}
		content := make([]byte, info.Size())
		if _, err := f.ReadAt(content, 0); err != nil && len(content) > 0 {
			m.t.Fatal(err)
		}
		m.files = slices.DeleteFunc(m.files, func(s synced) bool { return os.SameFile(s.info, info) })
		m.files = append(m.files, synced{info, string(content)})
	}
	for _, d := range dirs {
		m.entries[d] = m.list(d)
	}
	visible, err := filepath.Glob(filepath.Join(m.shares, "??", "*", "*"))
	if err != nil {
		m.t.Fatal(err)
	}
	for _, path := range visible {
		if want, err := os.ReadFile(path); err != nil || m.content(path) != string(want) {
			m.t.Errorf("%s can be seen with %q, and on the disk is %q, %v", filepath.Base(path), want, m.content(path), err)
		}
	}
	return nil
}

func (m *medium) list(dir string) (names []string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		m.t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func (m *medium) content(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return err.Error()
	}
	for _, s := range m.files {
		if os.SameFile(s.info, info) {
			return s.content
		}
	}
	return "nothing"
}

// want is what a share is after a power cut, "" when there is none.
func (m *medium) want(what string, si caps.StorageIndex, share int, want string) {
	m.t.Helper()
	text := si.Text()
	path, got := m.shares, ""
	for _, name := range []string{text[:2], text, fmt.Sprint(share), ""} {
		if name == "" {
			got = m.content(path)
		} else if !slices.Contains(m.entries[path], name) {
			break
		}
		path = filepath.Join(path, name)
	}
	if got != want {
		m.t.Errorf("%s: after a power cut share %d holds %q, want %q", what, share, got, want)
	}
}

// TestWhatIsAcknowledgedIsOnTheDisk: no test that only restarts the process would
// notice a sync that is missing.
func TestWhatIsAcknowledgedIsOnTheDisk(t *testing.T) {
	dir := t.TempDir()
	m := &medium{t: t, shares: filepath.Join(dir, "shares"), entries: map[string][]string{}}
	start := func() *Backend {
		b, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.Close() })
		if err := b.group.Close(); err != nil {
			t.Fatal(err)
		}
		b.group = m
		return b
	}
	b := start()
	draft := func(si caps.StorageIndex, share int, text string) storage.Draft {
		t.Helper()
		d, err := b.Draft(si, share, false)
		if err == nil {
			_, err = d.WriteAt([]byte(text), 0)
		}
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	publish := func(si caps.StorageIndex, texts map[int]string, remove ...int) error {
		t.Helper()
		drafts := map[int]storage.Draft{}
		for n, text := range texts {
			drafts[n] = draft(si, n, text)
		}
		return b.Publish(si, drafts, remove)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	// The first two share a prefix directory.
	first, beside, other := caps.StorageIndex{1, 1}, caps.StorageIndex{1, 1, 1}, caps.StorageIndex{200}
	if first.Text()[:2] != beside.Text()[:2] {
		t.Fatal("not the same prefix")
	}

	must(publish(first, map[int]string{0: "zero", 7: "seven"}))
	m.want("new", first, 0, "zero")
	m.want("new", first, 7, "seven")
	must(publish(beside, map[int]string{1: "one"}))
	m.want("beside it", beside, 1, "one")
	must(publish(first, map[int]string{0: "ZERO", 1: "one"}, 7))
	m.want("changed", first, 0, "ZERO")
	m.want("added", first, 1, "one")
	m.want("removed", first, 7, "")
	must(b.Amend(first, 0, []container.Patch{{Offset: 4, Data: []byte("!")}, {Offset: 0, Data: []byte("z")}}))
	m.want("amended", first, 0, "zERO!")
	must(publish(beside, nil, 1))
	m.want("the last one removed", beside, 1, "")

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
		for fail := 1; ; fail++ {
			si := c.si(byte(fail))
			m.syncs, m.fail = 0, fail
			err := publish(si, map[int]string{3: "three"})
			reached := m.syncs >= fail
			if m.fail = 0; reached && !errors.Is(err, errMedium) {
				t.Errorf("%s: sync %d failed: %v", c.name, fail, err)
			}
			if c.restart {
				b = start()
			}
			must(publish(si, map[int]string{3: "three", 4: "four"}))
			m.want(c.name+", after a failure", si, 3, "three")
			m.want(c.name+", after a failure", si, 4, "four")
			if !reached {
				break
			}
		}
	}
	// Each patch is on the disk before the next is written.
	m.syncs, m.fail = 0, 1
	if err := b.Amend(other, 0, []container.Patch{{Data: []byte("A")}, {Data: []byte("B")}}); !errors.Is(err, errMedium) {
		t.Errorf("amending: %v", err)
	}
	if got, _ := os.ReadFile(b.path(other, 0)); string(got) != "At last" {
		t.Errorf("after the first patch failed: %q", got)
	}
}
