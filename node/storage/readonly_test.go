package storage_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"time"

	"warren/node/caps"
	"warren/node/storage"
	"warren/node/storage/container"
	"warren/node/storage/disk"
	"warren/node/storage/mem"
	"warren/node/storage/storagetest"
)

// TestReserveAndReadOnly: each way in which storage may grow, on a server that is
// read-only, and on one whose disk has a million bytes left, all of them reserved:
// what takes room is refused and leaves nothing behind; what takes none goes on.
func TestReserveAndReadOnly(t *testing.T) {
	stranger := storage.LeaseSecrets{Renew: storagetest.Secret('R'), Cancel: storagetest.Secret('C')}
	zero, ten := uint64(0), uint64(10)
	for _, opt := range []storage.Options{{ReadOnly: true}, {ReservedSpace: 1 << 62}} {
		dir := t.TempDir()
		backend, err := disk.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		first := storage.Local(storage.NewServer(backend, storage.Options{}))
		file, slots := caps.StorageIndex{1}, caps.StorageIndex{2}
		put(t, first, file, "kept")
		for n := range 3 {
			if err := write(t, first, slots, n, strings.Repeat("slot", 100)); err != nil {
				t.Fatal(err)
			}
		}
		// Four leases fill a slot's header: the fifth makes it grow.
		for n := range byte(3) {
			if err := first.AddLease(t.Context(), slots, storage.LeaseSecrets{Renew: storagetest.Secret(n)}); err != nil {
				t.Fatal(err)
			}
		}
		c := storage.Local(storage.NewServer(backend, opt))
		rtw := func(share int, w storage.TestWrite) func() error {
			return func() error {
				_, _, err := c.ReadTestWrite(t.Context(), slots, slot, map[int]storage.TestWrite{share: w}, nil)
				return err
			}
		}
		for _, step := range []struct {
			name    string
			do      func() error
			refused bool
		}{
			{"a new share", func() error {
				_, got, err := c.CreateImmutable(t.Context(), caps.StorageIndex{3}, upload, lease, []int{0}, 1)
				if err == nil && len(got) == 0 {
					return storage.ErrNoSpace
				}
				return err
			}, true},
			{"another share of a file", func() error {
				_, got, err := c.CreateImmutable(t.Context(), file, upload, lease, []int{5}, 0)
				if err == nil && len(got) == 0 {
					return storage.ErrNoSpace
				}
				return err
			}, true},
			{"a stranger who finds the share", func() error {
				_, _, err := c.CreateImmutable(t.Context(), file, upload, stranger, []int{0}, 4)
				return err
			}, true},
			{"a new slot", func() error { return write(t, c, caps.StorageIndex{4}, 0, "x") }, true},
			{"another share of a slot", func() error { return write(t, c, slots, 7, "x") }, true},
			{"a slot that grows", func() error { return write(t, c, slots, 0, strings.Repeat("x", 1000)) }, true},
			{"a slot far out", rtw(0, storage.TestWrite{Write: []storage.WriteVector{{Offset: 1 << 30, Data: []byte("x")}}}), true},
			{"a slot far out, cut again", rtw(0, storage.TestWrite{Write: []storage.WriteVector{{Offset: 1 << 30, Data: []byte("x")}}, NewLength: &ten}), true},
			{"a stranger's lease on a file", func() error { return c.AddLease(t.Context(), file, stranger) }, true},
			{"a stranger's lease on a slot", func() error { return c.AddLease(t.Context(), slots, stranger) }, true},
			{"an advisory", func() error { return c.AdviseCorrupt(t.Context(), storage.Immutable, file, 0, "rotten") }, true},
			{"renewing a lease on a file", func() error { return c.AddLease(t.Context(), file, lease) }, false},
			{"renewing a lease on a slot", func() error { return c.AddLease(t.Context(), slots, lease) }, false},
			{"a slot that does not grow", func() error { return write(t, c, slots, 0, "SLOT") }, false},
			{"a slot that shrinks", rtw(1, storage.TestWrite{NewLength: &ten}), false},
			{"a share deleted", rtw(2, storage.TestWrite{NewLength: &zero}), false},
			{"a read", func() error { _, err := c.ReadShare(t.Context(), storage.Immutable, file, 0, 0, 10); return err }, false},
		} {
			err := step.do()
			if step.refused && !errors.Is(err, storage.ErrNoSpace) && !errors.Is(err, storage.ErrReadOnlyServer) || !step.refused && err != nil {
				t.Errorf("%s, read-only %v: %v", step.name, opt.ReadOnly, err)
			}
			if v, err := c.Version(t.Context()); err != nil || v.AvailableSpace != 0 {
				t.Errorf("after %s: %d available, %v", step.name, v.AvailableSpace, err)
			}
		}
		var shares, leases int
		for _, at := range []caps.StorageIndex{file, slots, {3}, {4}} {
			all, err := storage.Survey(backend, at)
			if err != nil {
				t.Fatal(err)
			}
			shares += len(all)
			for _, h := range all {
				leases += len(h.Leases)
			}
		}
		if shares != 3 || leases != 1+4+4 {
			t.Errorf("%d shares with %d leases", shares, leases)
		}
		backend.Close()
	}
}

// TestOldContainers: shares from before Tahoe-LAFS 1.17, whose leases hold their
// secrets as they are, are read and renewed, written to and end as others do; and
// stay what they are.
func TestOldContainers(t *testing.T) {
	now := time.Unix(1e9, 0)
	b := mem.New(0)
	server := storage.NewServer(b, storage.Options{Now: func() time.Time { return now }})
	c := storage.Local(server)
	file, slots := caps.StorageIndex{1}, caps.StorageIndex{2}
	old := make([]byte, 0, 100)
	old = binary.BigEndian.AppendUint32(old, 1)
	old = binary.BigEndian.AppendUint32(old, 4)
	old = binary.BigEndian.AppendUint32(old, 1)
	old = append(old, "data"...)
	old = binary.BigEndian.AppendUint32(old, 0)
	old = append(old, lease.Renew[:]...)
	old = append(old, lease.Cancel[:]...)
	old = binary.BigEndian.AppendUint32(old, 5)
	b.SetFile(file, 0, old)
	head := append([]byte("Tahoe mutable container v1\n\x75\x09\x44\x03\x8e"), make([]byte, 20)...)
	head = append(head, slot.WriteEnabler[:]...)
	head = binary.BigEndian.AppendUint64(head, 4)
	head = binary.BigEndian.AppendUint64(head, 468+4)
	rec := binary.BigEndian.AppendUint32(nil, 1)
	rec = binary.BigEndian.AppendUint32(rec, 5)
	rec = append(append(append(rec, lease.Renew[:]...), lease.Cancel[:]...), make([]byte, 20)...)
	head = append(append(head, rec...), make([]byte, 3*92)...)
	head = append(append(head, "slot"...), 0, 0, 0, 0)
	b.SetFile(slots, 0, head)

	check := func(when string, si caps.StorageIndex, leases int, expires time.Time) {
		t.Helper()
		data, _ := b.File(si, 0)
		if mutable, _ := container.IsMutable(data[:32]); mutable && !bytes.HasPrefix(data, []byte("Tahoe mutable container v1\n")) || !mutable && data[3] != 1 {
			t.Errorf("%s: another version", when)
		}
		all, err := server.Survey(si)
		if err != nil || len(all) != 1 || all[0].Err != nil || len(all[0].Leases) != leases {
			t.Fatalf("%s: %d shares, %v", when, len(all), err)
		}
		first := all[0].Leases[0]
		if !first.RenewedBy(lease.Renew) || !first.CancelledBy(lease.Cancel) || int64(first.Expires) != expires.Unix() {
			t.Errorf("%s: lease until %d", when, first.Expires)
		}
	}
	check("before", file, 1, time.Unix(5, 0))
	check("before", slots, 1, time.Unix(5, 0))
	for si, want := range map[caps.StorageIndex]string{file: "data", slots: "slot"} {
		kind := storage.Immutable
		if si == slots {
			kind = storage.Mutable
		}
		if got, err := c.ReadShare(t.Context(), kind, si, 0, 0, 10); err != nil || string(got) != want {
			t.Errorf("read %q, %v", got, err)
		}
		for range 2 {
			if err := c.AddLease(t.Context(), si, lease); err != nil {
				t.Fatal(err)
			}
		}
		check("renewed", si, 1, now.Add(container.LeaseDuration))
		if err := c.AddLease(t.Context(), si, storage.LeaseSecrets{Renew: storagetest.Secret('n')}); err != nil {
			t.Fatal(err)
		}
		check("with another lease", si, 2, now.Add(container.LeaseDuration))
	}
	if err := write(t, c, slots, 0, strings.Repeat("longer", 100)); err != nil {
		t.Fatal(err)
	}
	check("written", slots, 2, now.Add(container.LeaseDuration))
	if already, _, err := c.CreateImmutable(t.Context(), file, upload, lease, []int{0}, 4); err != nil || len(already) != 1 {
		t.Errorf("found: %v, %v", already, err)
	}
}
