package storage_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"warren/node/caps"
	"warren/node/storage"
	"warren/node/storage/mem"
	"warren/node/storage/storagetest"
)

// hog is a full server: one upload holds nine tenths of its room.
func hog(t *testing.T, opt storage.Options) (storage.Client, *clock) {
	t.Helper()
	ck := &clock{now: time.Unix(1e9, 0)}
	opt.Now = ck.Now
	c := storage.Local(storage.NewServer(mem.New(10000), opt))
	if _, got, err := c.CreateImmutable(t.Context(), si, upload, lease, []int{0}, 9000); err != nil || len(got) != 1 {
		t.Fatalf("allocated %v, %v", got, err)
	}
	return c, ck
}

var elsewhere = caps.StorageIndex{9}

func room(t *testing.T, c storage.Client, size uint64) bool {
	t.Helper()
	_, got, err := c.CreateImmutable(t.Context(), elsewhere, storagetest.Secret('x'), lease, []int{0}, size)
	if err != nil {
		t.Fatal(err)
	}
	return len(got) == 1
}

// TestIdleUploadsYield: who reserves all there is and sends nothing holds it for
// five minutes, once somebody else needs it; and until then for as long as always.
func TestIdleUploadsYield(t *testing.T) {
	c, ck := hog(t, storage.Options{})
	ck.advance(4 * time.Minute)
	if room(t, c, 5000) {
		t.Error("an upload that is to begin has lost its room")
	}
	ck.advance(2 * time.Minute)
	if v, err := c.Version(t.Context()); err != nil || v.AvailableSpace < 9000 {
		t.Errorf("%d available, %v: nobody would ask", v.AvailableSpace, err)
	}
	if room(t, c, 20000) {
		t.Error("there is no such room")
	}
	if _, err := c.WriteImmutable(t.Context(), si, 0, upload, 0, []byte("x")); err != nil {
		t.Errorf("it was dropped for nothing: %v", err)
	}
	ck.advance(6 * time.Minute)
	if !room(t, c, 5000) {
		t.Error("an idle upload keeps its room from others")
	}
	if _, err := c.WriteImmutable(t.Context(), si, 0, upload, 0, []byte("x")); !errors.Is(err, storage.ErrNoShare) {
		t.Errorf("writing to the one that yielded: %v", err)
	}
	// What has just begun yields to nobody.
	if _, got, err := c.CreateImmutable(t.Context(), si, upload, lease, []int{0}, 9000); err != nil || len(got) != 0 {
		t.Errorf("allocated %v, %v", got, err)
	}
}

// TestTricklingUploadsYield: a byte a minute is no upload; one that will be whole
// within a day is, and keeps its room.
func TestTricklingUploadsYield(t *testing.T) {
	for _, c := range []struct {
		name   string
		bytes  int // a minute
		yields bool
	}{{"trickle", 1, true}, {"slow", 8, false}} {
		client, ck := hog(t, storage.Options{})
		for i := range 120 {
			ck.advance(time.Minute)
			if _, err := client.WriteImmutable(t.Context(), si, 0, upload, uint64(i*c.bytes), slices.Repeat([]byte{1}, c.bytes)); err != nil {
				t.Fatal(err)
			}
		}
		if room(t, client, 5000) != c.yields {
			t.Errorf("%s: yields is %v", c.name, !c.yields)
		}
		// Nothing to write; but is it there?
		_, err := client.WriteImmutable(t.Context(), si, 0, upload, 0, nil)
		if errors.Is(err, storage.ErrNoShare) != c.yields {
			t.Errorf("%s: afterwards %v", c.name, err)
		}
	}
}

// TestEverythingIsYieldedTo: slots, leases and advisories, too, find the room that
// idle uploads hold; on a read-only server nothing does, and nothing is dropped.
func TestEverythingIsYieldedTo(t *testing.T) {
	for _, readOnly := range []bool{false, true} {
		for _, what := range []struct {
			name string
			do   func(c storage.Client) error
		}{
			{"slot", func(c storage.Client) error { return write(t, c, elsewhere, 0, "slot") }},
			{"lease", func(c storage.Client) error {
				return c.AddLease(t.Context(), newAt, storage.LeaseSecrets{Renew: storagetest.Secret('n')})
			}},
			{"advisory", func(c storage.Client) error {
				return c.AdviseCorrupt(t.Context(), storage.Immutable, newAt, 0, "reason")
			}},
		} {
			ck, b := &clock{now: time.Unix(1e9, 0)}, mem.New(10000)
			first := storage.Local(storage.NewServer(b, storage.Options{Now: ck.Now}))
			put(t, first, newAt, "here")
			if _, _, err := first.CreateImmutable(t.Context(), newAt, upload, lease, []int{1}, 4); err != nil {
				t.Fatal(err)
			}
			if _, err := first.WriteImmutable(t.Context(), newAt, 1, upload, 0, []byte("too.")); err != nil {
				t.Fatal(err)
			}
			c := storage.Local(storage.NewServer(b, storage.Options{Now: ck.Now, ReadOnly: readOnly}))
			if !readOnly {
				if _, got, err := c.CreateImmutable(t.Context(), si, upload, lease, []int{0}, 10000-2*88-84); err != nil || len(got) != 1 {
					t.Fatal(got, err)
				}
				if err := what.do(c); !errors.Is(err, storage.ErrNoSpace) {
					t.Errorf("%s, where an upload has just begun: %v", what.name, err)
				}
			}
			ck.advance(6 * time.Minute)
			err := what.do(c)
			if readOnly && !errors.Is(err, storage.ErrNoSpace) && !errors.Is(err, storage.ErrReadOnlyServer) || !readOnly && err != nil {
				t.Errorf("%s, read-only %v: %v", what.name, readOnly, err)
			}
		}
	}
}

// TestPlacesYield: all the places for uploads are taken by somebody who never
// writes.
func TestPlacesYield(t *testing.T) {
	ck := &clock{now: time.Unix(1e9, 0)}
	c := storage.Local(storage.NewServer(mem.New(0), storage.Options{Now: ck.Now}))
	var every []int
	for n := range storage.MaxShare + 1 {
		every = append(every, n)
	}
	for i := 0; ; i++ {
		_, got, err := c.CreateImmutable(t.Context(), caps.StorageIndex{byte(i), 7}, upload, lease, every, 1)
		if err != nil || i > 100 {
			t.Fatal(i, err)
		}
		if len(got) == 0 {
			break
		}
	}
	ck.advance(6 * time.Minute)
	_, got, err := c.CreateImmutable(t.Context(), caps.StorageIndex{200}, upload, lease, every[:3], 1)
	if err != nil || len(got) != 3 {
		t.Errorf("allocated %v, %v", got, err)
	}
}
