package storage_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"warren/node/caps"
	"warren/node/storage"
	"warren/node/storage/container"
	"warren/node/storage/disk"
	"warren/node/storage/mem"
	"warren/node/storage/storagetest"
)

// A story is a change that a server may die in. It is told to a fresh server with
// a share of each kind; check tells, on the server after the restart, whether what
// is there is whole.
type story struct {
	name string
	tell func(t *testing.T, c storage.Client) error
	// before and after are what state may return after a restart; after alone when
	// the story was acknowledged.
	before, after string
	state         func(t *testing.T, c storage.Client) string
}

var slotAt, newAt = caps.StorageIndex{2}, caps.StorageIndex{3}

func content(t *testing.T, c storage.Client, kind storage.ShareKind, si caps.StorageIndex, share int) string {
	t.Helper()
	got, err := c.ReadShare(t.Context(), kind, si, share, 0, 1<<20)
	if errors.Is(err, storage.ErrNoShare) {
		return "absent"
	}
	if err != nil {
		t.Errorf("after the restart, share %d: %v", share, err)
	}
	return string(got)
}

var stories = []story{
	{
		name: "upload", before: "absent", after: "in two parts",
		tell: func(t *testing.T, c storage.Client) error {
			_, got, err := c.CreateImmutable(t.Context(), newAt, upload, lease, []int{0}, 12)
			if err != nil {
				return err
			}
			if len(got) == 0 {
				return nil // it is there already
			}
			if _, err := c.WriteImmutable(t.Context(), newAt, 0, upload, 6, []byte(" parts")); err != nil {
				return err
			}
			_, err = c.WriteImmutable(t.Context(), newAt, 0, upload, 0, []byte("in two"))
			return err
		},
		state: func(t *testing.T, c storage.Client) string { return content(t, c, storage.Immutable, newAt, 0) },
	},
	{
		name: "first write", before: "absent", after: "a new slot",
		tell:  func(t *testing.T, c storage.Client) error { return write(t, c, newAt, 0, "a new slot") },
		state: func(t *testing.T, c storage.Client) string { return content(t, c, storage.Mutable, newAt, 0) },
	},
	{
		name: "overwrite that moves the leases", before: "old", after: strings.Repeat("new", 1000),
		tell:  func(t *testing.T, c storage.Client) error { return write(t, c, slotAt, 0, strings.Repeat("new", 1000)) },
		state: func(t *testing.T, c storage.Client) string { return content(t, c, storage.Mutable, slotAt, 0) },
	},
	{
		name: "delete", before: "old", after: "absent",
		tell: func(t *testing.T, c storage.Client) error {
			zero := uint64(0)
			_, _, err := c.ReadTestWrite(t.Context(), slotAt, slot, map[int]storage.TestWrite{0: {NewLength: &zero}}, nil)
			return err
		},
		state: func(t *testing.T, c storage.Client) string { return content(t, c, storage.Mutable, slotAt, 0) },
	},
	{
		name: "leases", before: "kept old", after: "kept old",
		tell: func(t *testing.T, c storage.Client) error {
			for _, at := range []caps.StorageIndex{si, slotAt} {
				for n := range 6 {
					if err := c.AddLease(t.Context(), at, storage.LeaseSecrets{Renew: storagetest.Secret(byte(n))}); err != nil {
						return err
					}
				}
			}
			return nil
		},
		state: func(t *testing.T, c storage.Client) string {
			return content(t, c, storage.Immutable, si, 0) + " " + content(t, c, storage.Mutable, slotAt, 0)
		},
	},
}

// TestFaults lets each changing step of each story fail, before and after it takes
// effect, then restarts the server on what is left: each share is whole, as before
// or as after, and as after if the story was acknowledged; leases read; and the
// story can be told again to its end.
func TestFaults(t *testing.T) {
	for _, kind := range []string{"mem", "disk"} {
		for _, s := range stories {
			t.Run(kind+" "+s.name, func(t *testing.T) {
				steps := 0
				for ; ; steps++ {
					reached := false
					for _, after := range []bool{false, true} {
						reached = tell(t, kind, s, steps, after) || reached
					}
					if !reached {
						break
					}
				}
				if steps == 0 {
					t.Error("no step failed")
				}
			})
		}
	}
}

// tell tells a story with one step failing; it says whether the step was reached.
func tell(t *testing.T, kind string, s story, step int, after bool) bool {
	where := fmt.Sprintf("step %d, after %v", step, after)
	var reopen func() storage.Backend
	if kind == "mem" {
		b := mem.New(0)
		reopen = func() storage.Backend { return b }
	} else {
		dir := t.TempDir()
		reopen = func() storage.Backend {
			b, err := disk.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
	}
	first := storage.Local(storage.NewServer(reopen(), storage.Options{}))
	put(t, first, si, "kept")
	if err := write(t, first, slotAt, 0, "old"); err != nil {
		t.Fatal(err)
	}

	faulty := storagetest.NewFaulty(reopen(), step, after)
	err := s.tell(t, storage.Local(storage.NewServer(faulty, storage.Options{})))
	if faulty.Failed() && err == nil {
		t.Errorf("%s: acknowledged although it failed", where)
	}
	if err != nil && !errors.Is(err, storagetest.ErrInjected) {
		t.Errorf("%s: %v", where, err)
	}

	backend := reopen()
	again := storage.Local(storage.NewServer(backend, storage.Options{}))
	got := s.state(t, again)
	if got != s.after && (err == nil || got != s.before) {
		t.Errorf("%s: after the restart: %.40q", where, got)
	}
	checkLeases(t, backend)
	if err := s.tell(t, again); err != nil {
		t.Errorf("%s: told again: %v", where, err)
	}
	if got := s.state(t, again); got != s.after {
		t.Errorf("%s: told again: %.40q", where, got)
	}
	checkLeases(t, backend)
	return faulty.Failed()
}

// checkLeases reads every lease of every share.
func checkLeases(t *testing.T, b storage.Backend) {
	t.Helper()
	for _, at := range []caps.StorageIndex{si, slotAt, newAt} {
		shares, err := b.Shares(at)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range shares {
			f, err := b.Open(at, n)
			if err != nil {
				t.Fatal(err)
			}
			size, _ := f.Size()
			var leases []container.Stored
			if im, ierr := container.OpenImmutable(f, size); ierr == nil {
				leases, err = im.Leases()
			} else if m, merr := container.OpenMutable(f, size); merr == nil {
				leases, err = m.Leases()
			} else {
				err = merr
			}
			f.Close()
			if err != nil || len(leases) == 0 {
				t.Errorf("leases %v, %v", leases, err)
			}
		}
	}
}
