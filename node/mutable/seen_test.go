package mutable

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"warren/node/caps"
)

// A file that goes back is read, reported once, and not changed until that is
// accepted: by whoever saw more, also in an earlier process. What is written then is
// newer than all that was seen.
func TestRollback(t *testing.T) {
	const k, n = 2, 4
	for _, format := range []Format{SDMF, MDMF} {
		g := newTestGrid(t, n)
		path := filepath.Join(t.TempDir(), "versions.db")
		var alarms [][2]uint64
		opts := Options{Needed: k, Happy: 3, Total: n, Attempts: 8, RolledBack: func(si caps.StorageIndex, seen, found uint64) {
			if si != testKey(t).Cap().StorageIndex() {
				t.Error("another file")
			}
			alarms = append(alarms, [2]uint64{seen, found})
		}}
		open := func() (*Store, *Seen) {
			t.Helper()
			seen, err := OpenSeen(path)
			if err != nil {
				t.Fatal(err)
			}
			o := opts
			o.Seen = seen
			return g.store(t, o), seen
		}
		s, seen := open()
		key := testKey(t)
		file := key.cap(format)
		if _, err := s.Create(ctx, Kind{format, key}, fixed([]byte("one"))); err != nil {
			t.Fatal(err)
		}
		old := g.shares(file.StorageIndex())
		for _, text := range []string{"two", "three"} {
			if err := s.Overwrite(ctx, file, []byte(text)); err != nil {
				t.Fatal(err)
			}
		}
		newest := g.shares(file.StorageIndex())
		mustRead(t, s, key.Cap())
		g.restore(key.MDMFCap(), old, 0, 1, 2, 3)
		mustRead(t, g.store(t, opts), key.Cap())
		if len(alarms) > 0 {
			t.Errorf("%v: alarms %v of one who never saw more", format, alarms)
		}
		if err := seen.Close(); err != nil {
			t.Fatal(err)
		}

		s, seen = open()
		for range 3 {
			if got := mustRead(t, s, key.Cap()); got != "one" || len(alarms) != 1 || alarms[0] != [2]uint64{3, 1} {
				t.Errorf("%v: %q, alarms %v", format, got, alarms)
			}
		}
		list := s.Rollbacks()
		if len(list) != 1 || list[0].Index != file.StorageIndex() || list[0].Seen != 3 || list[0].Found != 1 || list[0].Since.IsZero() {
			t.Errorf("%v: %+v", format, list)
		}
		// No change buries version 3, whichever way it is made.
		for what, change := range map[string]func() error{
			"modify":   func() error { return s.Modify(ctx, file, appendText(" more")) },
			"update":   func() error { return s.Update(ctx, file, 1, []byte("x")) },
			"repair":   func() error { return s.Repair(ctx, file, false) },
			"no write": func() error { return s.Modify(ctx, file, func([]byte) ([]byte, error) { return nil, nil }) },
		} {
			var back *RolledBackError
			if err := change(); !errors.As(err, &back) || !errors.Is(err, ErrRolledBack) || back.Seen != 3 || back.Found != 1 ||
				!strings.Contains(err.Error(), "accept-rollback") {
				t.Errorf("%v: %s: %v", format, what, err)
			}
		}
		// It comes back by itself when the servers do.
		g.restore(key.MDMFCap(), newest, 0, 1, 2, 3)
		if err := s.Modify(ctx, file, appendText(" and four")); err != nil || len(s.Rollbacks()) > 0 {
			t.Errorf("%v: %v, %+v", format, err, s.Rollbacks())
		}
		g.restore(key.MDMFCap(), old, 0, 1, 2, 3)
		if err := s.Modify(ctx, file, appendText(" more")); !errors.Is(err, ErrRolledBack) {
			t.Errorf("%v: %v", format, err)
		}
		// Accepted, also for the next process.
		if !s.AcceptRollback(file.StorageIndex()) || s.AcceptRollback(file.StorageIndex()) {
			t.Errorf("%v: accepted otherwise than once", format)
		}
		if err := seen.Close(); err != nil {
			t.Fatal(err)
		}
		alarms = nil
		s, seen = open()
		if err := s.Modify(ctx, file, appendText(" more")); err != nil {
			t.Errorf("%v: %v", format, err)
		}
		got, v, err := s.Read(ctx, key.Cap().Read())
		if err != nil || string(got) != "one more" || v.Seqnum != 5 || len(alarms) > 0 {
			t.Errorf("%v: %q, version %v, alarms %v, %v", format, got, v, alarms, err)
		}
		// Whoever replaces it whole needs nothing of the old one.
		g.restore(key.MDMFCap(), old, 0, 1, 2, 3)
		if err := s.Overwrite(ctx, file, []byte("new")); err != nil {
			t.Errorf("%v: %v", format, err)
		}
		if v, err := s.Version(ctx, key.Cap().Read()); err != nil || v.Seqnum != 6 {
			t.Errorf("%v: version %v, %v", format, v, err)
		}
		// A repair that is forced says it, too.
		g.restore(key.MDMFCap(), old, 0, 1, 2, 3)
		if err := s.Repair(ctx, file, true); err != nil {
			t.Errorf("%v: %v", format, err)
		}
		if v, err := s.Version(ctx, key.Cap().Read()); err != nil || v.Seqnum != 7 || len(s.Rollbacks()) > 0 {
			t.Errorf("%v: version %v, %v", format, v, err)
		}
		if err := seen.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A version of which some shares were seen, and which was never whole, is nothing to
// go back from: its writer died and the server that took the share is gone.
func TestNoRollback(t *testing.T) {
	g := newTestGrid(t, 4)
	opts := Options{Needed: 2, Happy: 2, Total: 4}
	s := g.store(t, opts)
	file := mustCreate(t, s, []byte("one"))
	old := g.shares(file.StorageIndex())
	if err := g.store(t, opts).Overwrite(ctx, file, []byte("two")); err != nil {
		t.Fatal(err)
	}
	g.restore(testKey(t).MDMFCap(), old, 1, 2, 3)
	if got := mustRead(t, s, file); got != "one" || s.opts.Seen.get(file.StorageIndex()).any != 2 {
		t.Errorf("%q", got)
	}
	g.at(file.StorageIndex(), 0).set(func(s *testServer) { s.down = true })
	if err := s.Modify(ctx, file, appendText(" more")); err != nil || len(s.Rollbacks()) > 0 {
		t.Error(err, s.Rollbacks())
	}
	if _, v, err := s.Read(ctx, file.Read()); err != nil || v.Seqnum != 3 {
		t.Error(v, err)
	}
}

// What is remembered has a bound, in memory and in the file; what was met long ago
// goes first.
func TestSeenIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "versions.db")
	seen, err := OpenSeen(path)
	if err != nil {
		t.Fatal(err)
	}
	seen.limit = 80
	index := func(i int) (si caps.StorageIndex) {
		binary.BigEndian.PutUint64(si[:], uint64(i))
		return si
	}
	for i := range 1000 {
		seen.gave(index(i), uint64(i+1))
		seen.mu.Lock()
		v := seen.slots[index(i)]
		v.at = int64(i)
		seen.slots[index(i)] = v
		if len(seen.slots) > 80 {
			t.Fatalf("%d files", len(seen.slots))
		}
		seen.mu.Unlock()
		if i == 500 {
			seen.save()
		}
	}
	if _, err := OpenSeen(path); err == nil {
		t.Error("opened twice")
	}
	if err := seen.Close(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info.Mode(), err)
	}
	again, err := OpenSeen(path)
	if err != nil {
		t.Fatal(err)
	}
	var numbers []uint64
	for _, v := range again.slots {
		numbers = append(numbers, v.given)
	}
	slices.Sort(numbers)
	if len(numbers) < 70 || len(numbers) > 80 || numbers[0] != 1001-uint64(len(numbers)) || numbers[len(numbers)-1] != 1000 {
		t.Errorf("%d remembered: %v", len(numbers), numbers)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}

	// A file that is none, and one with rubbish in it, are errors and not forgotten versions.
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(func(tx *bolt.Tx) error { return tx.Bucket(slotsBucket).Put([]byte("x"), []byte("y")) }), db.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenSeen(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Error(err)
	}
	if err := os.WriteFile(path, make([]byte, 1<<16), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenSeen(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Error(err)
	}
}
