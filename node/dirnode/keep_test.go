package dirnode

import (
	"slices"
	"testing"
	"time"

	"warren/node/caps"
)

// A node's edits come back when Tahoe's retry has replaced them, without anybody asking;
// what was removed stays so, whoever removed it; and the Keeper forgets, and ends.
func TestKeeper(t *testing.T) {
	s := newServers(t, 5)
	d, other := newDirs(t, s, 3, 4, 5), newDirs(t, s, 3, 4, 5)
	type event struct {
		gone int
		err  error
	}
	events := make(chan event, 10)
	d.Keeper = NewKeeper(d, func(gone int, err error) { events <- event{gone, err} })
	defer d.Keeper.Close()
	d.Keeper.looks = []time.Duration{time.Millisecond}
	// settled waits until the directory is not looked after any more.
	settled := func(dir caps.WriteDir) {
		t.Helper()
		deadline := time.Now().Add(time.Minute)
		for {
			d.Keeper.mu.Lock()
			_, kept := d.Keeper.kept[dir.StorageIndex()]
			d.Keeper.mu.Unlock()
			if !kept {
				return
			}
			if time.Now().After(deadline) {
				t.Fatal("it is looked after for ever")
			}
			time.Sleep(time.Millisecond)
		}
	}
	listed := func(dir caps.WriteDir, want ...string) {
		t.Helper()
		entries, _, err := other.List(ctx, dir)
		if err != nil || !slices.Equal(names(entries), want) {
			t.Errorf("%v, not %v: %v", names(entries), want, err)
		}
	}
	edit := func(d *Dirs, dir caps.WriteDir, changes ...Change) {
		t.Helper()
		if err := d.Edit(ctx, dir, changes); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := d.Make(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	before, _, err := other.Mutable.Read(ctx, dir.File().Read())
	if err != nil {
		t.Fatal(err)
	}

	d.Keeper.looks = []time.Duration{time.Hour, time.Millisecond}
	edit(d, dir, set("a", caps.LIT{}), set("b", caps.LIT{}))
	edit(d, dir, set("c", caps.LIT{}), Change{Delete: true, Entry: Entry{Name: "b"}})
	stale, err := Writable(dir).Apply(before, []Change{set("theirs", caps.LIT{})}, vectorNow, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Mutable.Overwrite(ctx, dir, stale); err != nil {
		t.Fatal(err)
	}
	look := func() { // now and not in an hour
		t.Helper()
		d.Keeper.mu.Lock()
		k := d.Keeper.kept[dir.StorageIndex()]
		d.Keeper.mu.Unlock()
		if k == nil {
			t.Fatal("it is not looked after")
		}
		k.timer.Stop()
		d.Keeper.lookAt(k, k.at)
	}
	look()
	listed(dir, "a", "c", "theirs")
	if e := <-events; e != (event{2, nil}) {
		t.Errorf("%+v", e)
	}
	settled(dir) // after its second look, at which all was well

	// Somebody removes an entry of ours, and nothing else: on purpose.
	edit(d, dir, set("d", caps.LIT{}))
	edit(other, dir, Change{Delete: true, Entry: Entry{Name: "d"}})
	look()
	listed(dir, "a", "c", "theirs")
	settled(dir) // or what follows might come before its second look

	// We do: nothing is to be looked after.
	edit(d, dir, set("e", caps.LIT{}))
	edit(d, dir, Change{Delete: true, Entry: Entry{Name: "e"}})
	settled(dir)

	// Somebody edits as everybody should.
	edit(d, dir, set("f", caps.LIT{}))
	edit(other, dir, set("g", caps.LIT{}))
	look()
	listed(dir, "a", "c", "f", "g", "theirs")
	if len(events) > 0 {
		t.Errorf("%+v", <-events)
	}

	for i := range byte(maxKept + 5) {
		c, _ := caps.Dir(caps.SSKWrite{WriteKey: [16]byte{i}})
		d.Keeper.note(c.(caps.WriteDir), []Change{set("a", caps.LIT{})}, nil)
	}
	d.Keeper.mu.Lock()
	if len(d.Keeper.kept) != maxKept {
		t.Errorf("%d directories are remembered", len(d.Keeper.kept))
	}
	d.Keeper.mu.Unlock()
	d.Keeper.Close()
	edit(d, dir, set("late", caps.LIT{}))
	if len(d.Keeper.kept) > 0 {
		t.Error("it goes on after its end")
	}
}
