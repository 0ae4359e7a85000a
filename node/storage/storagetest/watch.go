package storagetest

import (
	"context"
	"errors"
	"maps"
	"sync"
	"testing"
	"time"

	"warren/node/caps"
	"warren/node/storage"
)

// Watchers is the suite of those who can watch slots: open gives a client and the
// server that it is one of.
func Watchers(t *testing.T, open func(t *testing.T) (storage.Client, *storage.Server)) {
	one, other := caps.StorageIndex{1}, caps.StorageIndex{2}
	write := func(t *testing.T, s *storage.Server, si caps.StorageIndex, share int, data string) {
		t.Helper()
		wrote, _, err := storage.Local(s).ReadTestWrite(t.Context(), si, storage.SlotSecrets{WriteEnabler: Secret('w')},
			map[int]storage.TestWrite{share: {Write: []storage.WriteVector{{Data: []byte(data)}}}}, nil)
		if err != nil || !wrote {
			t.Fatal(wrote, err)
		}
	}
	tag := func(heads ...string) storage.Tag {
		m := map[int][]byte{}
		for n, h := range heads {
			m[n] = []byte(h)
		}
		return storage.TagOf(m)
	}
	// An hour: what is to come comes long before.
	watch := func(t *testing.T, c storage.Client, have map[caps.StorageIndex]storage.Tag, wait time.Duration) map[caps.StorageIndex]storage.Tag {
		t.Helper()
		changed, err := storage.Watch(t.Context(), c, have, wait)
		if err != nil {
			t.Fatal(err)
		}
		return changed
	}
	expect := func(t *testing.T, got, want map[caps.StorageIndex]storage.Tag) {
		t.Helper()
		if !maps.Equal(got, want) {
			t.Errorf("changed: %x, want %x", got, want)
		}
	}
	type tags = map[caps.StorageIndex]storage.Tag

	t.Run("at once", func(t *testing.T) {
		c, s := open(t)
		write(t, s, one, 0, "one")
		write(t, s, one, 1, "two")
		for _, wait := range []time.Duration{0, time.Hour} {
			expect(t, watch(t, c, tags{one: {}, other: {}}, wait), tags{one: tag("one", "two"), other: tag()})
			expect(t, watch(t, c, tags{one: tag("one"), other: tag()}, wait), tags{one: tag("one", "two")})
		}
		expect(t, watch(t, c, tags{one: tag("one", "two"), other: tag()}, 0), nil)
		expect(t, watch(t, c, tags{}, 0), nil)
		if !storage.Watches(c) {
			t.Error("it says that it does not watch")
		}
	})
	t.Run("nothing in time", func(t *testing.T) {
		c, s := open(t)
		write(t, s, one, 0, "one")
		began := time.Now()
		expect(t, watch(t, c, tags{one: tag("one")}, 150*time.Millisecond), nil)
		if took := time.Since(began); took < 150*time.Millisecond {
			t.Errorf("it waited %v", took)
		}
	})
	t.Run("writes", func(t *testing.T) {
		c, s := open(t)
		write(t, s, one, 0, "one")
		write(t, s, other, 0, "one")
		have := tags{one: tag("one"), other: tag("one")}
		var wg sync.WaitGroup
		for range 4 { // each sees it; none sees the slot that is not theirs
			wg.Go(func() {
				changed, err := storage.Watch(t.Context(), c, have, time.Hour)
				if err != nil || !maps.Equal(changed, tags{one: tag("new")}) {
					t.Errorf("changed: %x, %v", changed, err)
				}
			})
		}
		// One before, one after they wait, or both before.
		write(t, s, caps.StorageIndex{3}, 0, "another")
		write(t, s, one, 0, "new")
		wg.Wait()
	})
	t.Run("behind the head", func(t *testing.T) {
		c, s := open(t)
		head := string(make([]byte, storage.TagHead))
		write(t, s, one, 0, head+"old")
		got := make(chan tags)
		go func() {
			changed, err := storage.Watch(t.Context(), c, tags{one: tag(head)}, time.Hour)
			if err != nil {
				t.Error(err)
			}
			got <- changed
		}()
		write(t, s, one, 0, head+"new") // the same version, repaired
		write(t, s, one, 1, head)
		expect(t, <-got, tags{one: tag(head, head)})
	})
	t.Run("deletes", func(t *testing.T) {
		c, s := open(t)
		write(t, s, one, 0, "one")
		got := make(chan tags)
		watching := func(have tags) {
			changed, err := storage.Watch(t.Context(), c, have, time.Hour)
			if err != nil {
				t.Error(err)
			}
			got <- changed
		}
		go watching(tags{one: tag("one")})
		none := uint64(0)
		if _, _, err := storage.Local(s).ReadTestWrite(t.Context(), one, storage.SlotSecrets{WriteEnabler: Secret('w')},
			map[int]storage.TestWrite{0: {NewLength: &none}}, nil); err != nil {
			t.Fatal(err)
		}
		expect(t, <-got, tags{one: tag()})

		write(t, s, other, 0, "one")
		go watching(tags{other: tag("one")})
		removed, err := s.Remove(other, func(storage.Held) bool { return true })
		if err != nil || len(removed) != 1 {
			t.Fatal(removed, err)
		}
		expect(t, <-got, tags{other: tag()})
	})
	t.Run("given up", func(t *testing.T) {
		c, s := open(t)
		write(t, s, one, 0, "one")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			_, err := storage.Watch(ctx, c, tags{one: tag("one")}, time.Hour)
			done <- err
		}()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("given up: %v", err)
		}
	})
	t.Run("too many", func(t *testing.T) {
		c, _ := open(t)
		have := tags{}
		for i := range storage.MaxWatched + 1 {
			have[caps.StorageIndex{byte(i), byte(i >> 8)}] = tag()
		}
		if _, err := storage.Watch(t.Context(), c, have, 0); !errors.Is(err, storage.ErrTooLarge) {
			t.Errorf("one too many: %v", err)
		}
		delete(have, caps.StorageIndex{})
		expect(t, watch(t, c, have, 0), nil)
	})
}
