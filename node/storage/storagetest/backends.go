package storagetest

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"

	"warren/node/caps"
	"warren/node/storage"
	"warren/node/storage/container"
)

// Backends is the suite of the storage.Backend contract. open makes an empty
// backend; reopen is what a process sees that starts on it after this one ended.
func Backends(t *testing.T, open func(t *testing.T) (b storage.Backend, reopen func() storage.Backend)) {
	si, other := caps.StorageIndex{1}, caps.StorageIndex{1, 2}

	t.Run("empty", func(t *testing.T) {
		b, _ := open(t)
		wantShares(t, b, si)
		if _, err := b.Open(si, 0); !errors.Is(err, storage.ErrNoShare) {
			t.Errorf("opening an absent share: %v", err)
		}
		if _, err := b.Draft(si, 0, true); !errors.Is(err, storage.ErrNoShare) {
			t.Errorf("copying an absent share: %v", err)
		}
		if err := b.Amend(si, 0, []container.Patch{{Data: []byte("x")}}); !errors.Is(err, storage.ErrNoShare) {
			t.Errorf("amending an absent share: %v", err)
		}
		if err := b.Publish(si, nil, []int{3}); err != nil {
			t.Errorf("removing an absent share: %v", err)
		}
		if free, err := b.Available(); err != nil || free == 0 {
			t.Errorf("available: %d, %v", free, err)
		}
	})

	t.Run("drafts are invisible until published", func(t *testing.T) {
		b, reopen := open(t)
		d := draft(t, b, si, 255, "hello", false)
		lost := draft(t, b, si, 7, "lost", false)
		wantShares(t, b, si)
		publish(t, b, si, map[int]storage.Draft{255: d})
		if err := d.Discard(); err != nil {
			t.Errorf("discarding a published draft: %v", err)
		}
		wantShares(t, b, si, 255)
		wantShares(t, b, other)
		wantFile(t, b, si, 255, "hello")
		_ = lost
		b = reopen()
		wantShares(t, b, si, 255)
		wantFile(t, b, si, 255, "hello")
	})

	t.Run("several drafts of one share", func(t *testing.T) {
		b, _ := open(t)
		first, second := draft(t, b, si, 0, "one", false), draft(t, b, si, 0, "two", false)
		publish(t, b, si, map[int]storage.Draft{0: first})
		if err := second.Discard(); err != nil {
			t.Fatal(err)
		}
		wantFile(t, b, si, 0, "one")
	})

	t.Run("a draft may have gaps", func(t *testing.T) {
		b, _ := open(t)
		d, err := b.Draft(si, 0, false)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.WriteAt([]byte("end"), 3); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 6)
		if _, err := d.ReadAt(got, 0); err != nil && err != io.EOF {
			t.Fatal(err)
		}
		if string(got) != "\x00\x00\x00end" {
			t.Errorf("draft reads %q", got)
		}
		if n, err := d.Size(); n != 6 || err != nil {
			t.Errorf("size %d, %v", n, err)
		}
		if err := d.Discard(); err != nil {
			t.Fatal(err)
		}
		wantShares(t, b, si)
	})

	t.Run("copy, replace, amend, remove", func(t *testing.T) {
		b, reopen := open(t)
		publish(t, b, si, map[int]storage.Draft{1: draft(t, b, si, 1, "first", false), 2: draft(t, b, si, 2, "second", false)})
		old, err := b.Open(si, 1)
		if err != nil {
			t.Fatal(err)
		}
		old.Close()
		d := draft(t, b, si, 1, "F", true)
		wantFile(t, b, si, 1, "first")
		if err := b.Publish(si, map[int]storage.Draft{1: d}, []int{2}); err != nil {
			t.Fatal(err)
		}
		wantShares(t, b, si, 1)
		wantFile(t, b, si, 1, "First")
		if err := b.Amend(si, 1, []container.Patch{{Offset: 5, Data: []byte("!?")}, {Offset: 0, Data: []byte("W")}}); err != nil {
			t.Fatal(err)
		}
		b = reopen()
		wantFile(t, b, si, 1, "Wirst!?")
		if err := b.Publish(si, nil, []int{1}); err != nil {
			t.Fatal(err)
		}
		wantShares(t, b, si)
		publish(t, b, si, map[int]storage.Draft{1: draft(t, b, si, 1, "again", false)})
		wantFile(t, reopen(), si, 1, "again")
	})

	t.Run("advisories", func(t *testing.T) {
		b, _ := open(t)
		if err := b.Advise("2026-11-23T101112.131415--aa-0", []byte("report")); err != nil {
			t.Fatal(err)
		}
	})
}

func draft(t *testing.T, b storage.Backend, si caps.StorageIndex, share int, data string, copied bool) storage.Draft {
	t.Helper()
	d, err := b.Draft(si, share, copied)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.WriteAt([]byte(data), 0); err != nil {
		t.Fatal(err)
	}
	return d
}

func publish(t *testing.T, b storage.Backend, si caps.StorageIndex, drafts map[int]storage.Draft) {
	t.Helper()
	if err := b.Publish(si, drafts, nil); err != nil {
		t.Fatal(err)
	}
}

func wantShares(t *testing.T, b storage.Backend, si caps.StorageIndex, want ...int) {
	t.Helper()
	got, err := b.Shares(si)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("shares %v, %v; want %v", got, err, want)
	}
}

func wantFile(t *testing.T, b storage.Backend, si caps.StorageIndex, share int, want string) {
	t.Helper()
	f, err := b.Open(si, share)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, size)
	if _, err := f.ReadAt(got, 0); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	if !bytes.Equal(got, []byte(want)) {
		t.Errorf("share %d holds %q, want %q", share, got, want)
	}
}
