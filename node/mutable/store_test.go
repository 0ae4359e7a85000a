package mutable

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"warren/node/caps"
	"warren/node/grid"
	"warren/node/storage"
)

var ctx = context.Background()

func mustCreate(t *testing.T, s *Store, contents []byte) caps.SSKWrite {
	t.Helper()
	key := testKey(t) // making one takes longer than most tests
	if _, err := s.Create(ctx, Kind{Key: key}, fixed(contents)); err != nil {
		t.Fatal(err)
	}
	return key.Cap()
}

// fixed are contents that do not depend on the writecap.
func fixed(contents []byte) func(caps.MutableWrite) ([]byte, error) {
	return func(caps.MutableWrite) ([]byte, error) { return contents, nil }
}

func mustRead(t *testing.T, s *Store, file caps.SSKWrite) string {
	t.Helper()
	b, _, err := s.Read(ctx, file.Read())
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func appendText(text string) func([]byte) ([]byte, error) {
	return func(old []byte) ([]byte, error) {
		if bytes.Contains(old, []byte(text)) {
			return nil, nil
		}
		return append(bytes.Clone(old), text...), nil
	}
}

func TestRoundTrip(t *testing.T) {
	for _, e := range [][2]int{{1, 1}, {3, 5}, {3, 10}, {7, 10}} {
		for _, size := range []int{0, 1, e[0], 3000, 70_000} {
			g := newTestGrid(t, 5)
			s := g.store(t, Options{Needed: e[0], Happy: 1, Total: e[1]})
			want := testContents(size)
			file := mustCreate(t, s, want)
			if got := mustRead(t, s, file); got != string(want) {
				t.Fatalf("%v, %d bytes: others came back", e, size)
			}
			v1, err := s.Version(ctx, file.Read())
			if err != nil || v1.Seqnum != 1 {
				t.Fatalf("version %v, %v", v1, err)
			}
			if err := s.Overwrite(ctx, file, []byte("short")); err != nil {
				t.Fatal(err)
			}
			if err := s.Modify(ctx, file, appendText(" and more")); err != nil {
				t.Fatal(err)
			}
			b, v3, err := s.Read(ctx, file.Read())
			if err != nil || string(b) != "short and more" || v3.Seqnum != 3 {
				t.Fatalf("%q, %v, %v", b, v3, err)
			}
			if v, err := s.Version(ctx, file.Read()); v != v3 || err != nil {
				t.Fatalf("Version says %v, Read %v, %v", v, v3, err)
			}
			// Nothing to do, nothing done.
			if err := s.Modify(ctx, file, appendText(" and more")); err != nil {
				t.Fatal(err)
			}
			if v, _ := s.Version(ctx, file.Read()); v != v3 {
				t.Fatalf("a change that changes nothing made version %v", v)
			}
			for _, shares := range g.shares(file.StorageIndex()) {
				for n, b := range shares {
					if sh, err := ParseShare(b); err != nil || len(sh.Marshal()) != len(b) || sh.Seqnum != 3 {
						t.Fatalf("share %d on a server: %v", n, err)
					}
				}
			}
		}
	}
}

func TestNotFound(t *testing.T) {
	g := newTestGrid(t, 4)
	s := g.store(t, Options{Needed: 2, Happy: 2, Total: 3})
	file := testKey(t).Cap()
	var asked atomic.Int32
	for _, ts := range g.tests {
		ts.set(func(s *testServer) { s.asked = func(bool) { asked.Add(1) } })
	}
	if _, _, err := s.Read(ctx, file.Read()); !errors.Is(err, ErrNotFound) || asked.Load() != 4 {
		t.Errorf("after %d questions to 4 servers: %v", asked.Load(), err)
	}
	if _, err := s.Version(ctx, file.Read()); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if err := s.Overwrite(ctx, file, nil); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	g.at(file.StorageIndex(), 0).set(func(s *testServer) { s.down = true })
	if _, _, err := s.Read(ctx, file.Read()); !errors.Is(err, ErrNotEnoughShares) {
		t.Error("with a server away nothing is known:", err)
	}
	g.servers = nil
	if _, _, err := s.Read(ctx, file.Read()); !errors.Is(err, ErrNotEnoughShares) {
		t.Error(err)
	}
	if _, err := s.Create(ctx, Kind{}, fixed(nil)); !errors.Is(err, ErrUnhappy) {
		t.Error(err)
	}
}

func TestFullServers(t *testing.T) {
	const k, n = 3, 5
	g := newTestGrid(t, n)
	s := g.store(t, Options{Needed: k, Happy: 4, Total: n})
	file := mustCreate(t, s, []byte("text"))
	si := file.StorageIndex()
	g.at(si, 0).set(func(s *testServer) { s.full = true })
	if err := s.Modify(ctx, file, appendText(" 2")); err != nil {
		t.Fatal("four of five servers are enough:", err)
	}
	g.at(si, 1).set(func(s *testServer) { s.full = true })
	err := s.Modify(ctx, file, appendText(" 3"))
	var unhappy *UnhappyError
	if !errors.Is(err, ErrUnhappy) || !errors.As(err, &unhappy) || unhappy.Placed != 3 || unhappy.Wanted != 4 || !errors.Is(err, storage.ErrNoSpace) {
		t.Fatalf("three servers are too few: %v", err)
	}
	// A server that says "written" and has not is noticed.
	g.at(si, 1).set(func(s *testServer) { s.full, s.liesFull = false, true })
	if err := s.Modify(ctx, file, appendText(" 4")); !errors.Is(err, ErrUnhappy) {
		t.Fatal("believed:", err)
	}
	if _, err := s.Create(ctx, Kind{}, fixed([]byte("new"))); !errors.Is(err, ErrUnhappy) {
		t.Fatal("believed:", err)
	}
	g.at(si, 1).set(func(s *testServer) { s.liesFull = false })
	g.at(si, 0).set(func(s *testServer) { s.full = false })
	if err := s.Modify(ctx, file, appendText(" 5")); err != nil {
		t.Fatal(err)
	}
	if got := mustRead(t, s, file); !strings.HasPrefix(got, "text 2") || !strings.HasSuffix(got, " 5") {
		t.Errorf("%q", got)
	}
}

// Below happy nothing is written at all.
func TestUnhappyWritesNothing(t *testing.T) {
	g := newTestGrid(t, 5)
	s := g.store(t, Options{Needed: 3, Happy: 4, Total: 5})
	file := mustCreate(t, s, []byte("text"))
	for i := range 2 {
		g.at(file.StorageIndex(), i).set(func(s *testServer) { s.down = true })
	}
	writes := func() (n int) {
		for _, s := range g.tests {
			n += s.writes
		}
		return n
	}
	before := writes()
	err := s.Modify(ctx, file, appendText(" 2"))
	var unhappy *UnhappyError
	if !errors.As(err, &unhappy) || unhappy.Written || unhappy.Placed != 3 {
		t.Fatal(err)
	}
	if _, err := s.Create(ctx, Kind{}, fixed(nil)); !errors.Is(err, ErrUnhappy) {
		t.Fatal(err)
	}
	if got := mustRead(t, s, file); got != "text" {
		t.Errorf("%q", got)
	}
	if writes() != before+5 && writes() != before {
		t.Errorf("%d writes", writes()-before)
	}
	g.at(file.StorageIndex(), 0).set(func(s *testServer) { s.down = false })
	if err := s.Modify(ctx, file, appendText(" 2")); err != nil {
		t.Fatal(err)
	}
}

// A writer dies after j of its writes: the file is the old one or the new one,
// and the next writer builds on that and makes it whole.
func TestKilledWriter(t *testing.T) {
	const k, n = 3, 5
	for j := range n + 1 {
		g := newTestGrid(t, n)
		s := g.store(t, Options{Needed: k, Happy: 4, Total: n})
		file := mustCreate(t, s, []byte("base"))
		left := make(chan struct{}, j)
		for range j {
			left <- struct{}{}
		}
		for _, ts := range g.tests {
			ts.set(func(s *testServer) {
				s.before = func(write bool) error {
					if !write {
						return nil
					}
					select {
					case <-left:
						return nil
					default:
						return errDown
					}
				}
			})
		}
		err := s.Modify(ctx, file, appendText(" killed"))
		if j < 4 && err == nil {
			t.Errorf("after %d writes: acknowledged", j)
		}
		for _, ts := range g.tests {
			ts.set(func(s *testServer) { s.before = nil })
		}
		next := g.store(t, Options{Needed: k, Happy: 4, Total: n})
		got := mustRead(t, next, file)
		if want := map[bool]string{false: "base", true: "base killed"}[j >= k]; got != want {
			t.Errorf("after %d writes: %q", j, got)
		}
		if err := next.Modify(ctx, file, appendText(" next")); err != nil {
			t.Errorf("after %d writes: %v", j, err)
		}
		want := got + " next"
		for _, shares := range g.shares(file.StorageIndex()) {
			for _, b := range shares {
				if sh, err := ParseShare(b); err != nil || sh.Seqnum < 2 {
					t.Errorf("after %d writes: a share is left behind", j)
				}
			}
		}
		if got := mustRead(t, s, file); got != want {
			t.Errorf("after %d writes: %q, want %q", j, got, want)
		}
	}
}

// What may be whole on servers that are away is not overwritten.
func TestNewerVersion(t *testing.T) {
	const k, n = 3, 5
	g := newTestGrid(t, n)
	s := g.store(t, Options{Needed: k, Happy: 3, Total: n})
	file := mustCreate(t, s, []byte("base"))
	si := file.StorageIndex()
	old := g.shares(si)
	if err := s.Modify(ctx, file, appendText(" acknowledged")); err != nil {
		t.Fatal(err)
	}
	// Two servers fall back to the old version (a restored backup), two vanish.
	for _, i := range []int{0, 1} {
		for num, b := range old[i] {
			g.put(file, i, num, b)
		}
	}
	g.add("v0-extra")
	away := map[string]bool{}
	for i, srv := range g.Permuted(si) {
		if len(g.shares(si)[i]) > 0 && len(away) < 2 {
			for _, b := range g.shares(si)[i] {
				if sh, _ := ParseShare(b); sh.Seqnum == 2 {
					away[srv.ID] = true
				}
			}
		}
	}
	for id := range away {
		g.tests[id].set(func(s *testServer) { s.down = true })
	}
	// Visible: two old shares, one new one. With a third old one a writer could
	// build on the old version; it must not.
	for num, b := range old[4] {
		if sh, _ := ParseShare(b); sh.Seqnum == 1 {
			for i, srv := range g.Permuted(si) {
				if srv.ID == "v0-extra" {
					g.put(file, i, num, b)
				}
			}
		}
	}
	fresh := g.store(t, Options{Needed: k, Happy: 3, Total: n, Attempts: 8})
	err := fresh.Modify(ctx, file, appendText(" lost"))
	if !errors.Is(err, ErrNewerVersion) {
		t.Fatal(err)
	}
	for id := range away {
		g.tests[id].set(func(s *testServer) { s.down = false })
	}
	if err := fresh.Modify(ctx, file, appendText(" more")); err != nil {
		t.Fatal(err)
	}
	if got := mustRead(t, fresh, file); got != "base acknowledged more" {
		t.Errorf("%q", got)
	}
}

// Servers that never answer delay by Patience and no more.
func TestHangingServer(t *testing.T) {
	g := newTestGrid(t, 5)
	// Two servers make a version stand, and two are enough to write to: however
	// late the others answer on a busy machine, Patience ends well.
	s := g.store(t, Options{Needed: 2, Happy: 2, Total: 5, Patience: 20 * time.Millisecond})
	file := mustCreate(t, s, testContents(30_000))
	g.at(file.StorageIndex(), 0).set(func(s *testServer) { s.hangReads = true })
	if got := mustRead(t, s, file); len(got) != 30_000 {
		t.Errorf("%d bytes", len(got))
	}
	if err := s.Overwrite(ctx, file, []byte("new")); err != nil {
		t.Fatal(err)
	}
	cctx, cancel := context.WithCancel(ctx)
	cancel()
	if _, _, err := s.Read(cctx, file.Read()); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := s.Overwrite(cctx, file, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// A file made while one server was there spreads when there are more.
func TestSpread(t *testing.T) {
	g := newTestGrid(t, 1)
	file := mustCreate(t, g.store(t, Options{Needed: 3, Happy: 1, Total: 5}), []byte("base"))
	for i := range 4 {
		g.add(fmt.Sprintf("v0-late%d", i))
	}
	s := g.store(t, Options{Needed: 3, Happy: 4, Total: 5})
	if err := s.Modify(ctx, file, appendText(" 2")); err != nil {
		t.Fatal(err)
	}
	for id, ts := range g.tests {
		if id == "v0-server00" {
			ts.set(func(s *testServer) { s.down = true })
		}
	}
	if got := mustRead(t, s, file); got != "base 2" {
		t.Errorf("%q", got)
	}
}

func TestKeyAhead(t *testing.T) {
	g := newTestGrid(t, 1)
	s := g.store(t, Options{Needed: 1, Happy: 1, Total: 1, KeyAhead: true})
	if len(s.ahead.keys) > 0 || s.ahead.await() {
		t.Error("a Store that is just open makes keys")
	}
	first, err := s.Create(ctx, Kind{}, fixed([]byte("x")))
	if err != nil {
		t.Fatal(err)
	}
	// That one made it all begin. Closed once two wait, or earlier: no key is ever
	// given twice.
	seen := map[string]bool{first.Text(): true}
	var key *Key
	for range 4 {
		if key, err = s.newKey(ctx); err != nil || seen[key.Cap().Text()] {
			t.Fatalf("the same key again, or none: %v", err)
		}
		seen[key.Cap().Text()] = true
	}
	for range keysAhead {
		if key := <-s.ahead.keys; seen[key.Cap().Text()] {
			t.Error("a key that was given waits")
		}
	}
	s.Close()
	if key, err = s.newKey(ctx); err != nil {
		t.Fatal("after Close:", err)
	}
	if _, err := s.Create(ctx, Kind{Key: key}, fixed([]byte("x"))); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(ctx, Kind{Key: key}, fixed([]byte("y"))); !errors.Is(err, ErrUncoordinated) {
		t.Error("a file was made twice:", err)
	}
	if got := mustRead(t, s, key.Cap()); got != "x" {
		t.Errorf("%q", got)
	}
	if strings.Contains(fmt.Sprintf("%v %+v %#v", key, key, key), "0x") || fmt.Sprint(key) != "[mutable file key]" {
		t.Error("a key prints")
	}
}

func TestOptions(t *testing.T) {
	g := newTestGrid(t, 1)
	for _, o := range []Options{
		{},
		{Servers: g, LeaseSecret: []byte("x")},
		{Servers: g, LeaseSecret: []byte("x"), Needed: 3, Happy: 1, Total: 2},
		{Servers: g, LeaseSecret: []byte("x"), Needed: 1, Happy: 3, Total: 2},
		{Servers: g, LeaseSecret: []byte("x"), Needed: 1, Happy: 1, Total: 256},
		{Servers: g, Needed: 1, Happy: 1, Total: 1},
		{LeaseSecret: []byte("x"), Needed: 1, Happy: 1, Total: 1},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%d %d %d was accepted", o.Needed, o.Happy, o.Total)
		}
	}
	s := g.store(t, Options{Needed: 1, Happy: 1, Total: 1})
	if _, err := s.Create(ctx, Kind{}, fixed(make([]byte, MaxSize+1))); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
}

// A change that stands on too few servers after one call is not believed by the
// next: nothing is left to change, but the version has still to spread.
func TestUnhappyChangeIsCompleted(t *testing.T) {
	const k, n = 3, 5
	g := newTestGrid(t, n)
	opts := Options{Needed: k, Happy: 4, Total: n}
	s := g.store(t, opts)
	file := mustCreate(t, s, []byte("text"))
	for i := range 2 {
		g.at(file.StorageIndex(), i).set(func(s *testServer) { s.full = true })
	}
	change := appendText(" 2")
	for range 2 {
		var unhappy *UnhappyError
		if err := g.store(t, opts).Modify(ctx, file, change); !errors.As(err, &unhappy) || !unhappy.Written || unhappy.Placed != 3 {
			t.Fatalf("on three servers: %v", err)
		}
	}
	for i := range 2 {
		g.at(file.StorageIndex(), i).set(func(s *testServer) { s.full = false })
	}
	if err := g.store(t, opts).Modify(ctx, file, change); err != nil {
		t.Fatal(err)
	}
	for i, shares := range g.shares(file.StorageIndex()) {
		for num, b := range shares {
			if sh, err := ParseShare(b); err != nil || sh.Seqnum == 1 {
				t.Errorf("server %d still holds the old share %d", i, num)
			}
		}
	}
	if got := mustRead(t, s, file); got != "text 2" {
		t.Errorf("%q", got)
	}
}

// A write does not wait for a server that hangs while enough others have answered,
// and its share goes to another.
func TestWriteBesideAServerThatHangs(t *testing.T) {
	g := newTestGrid(t, 5)
	s := g.store(t, Options{Needed: 1, Happy: 3, Total: 4, Patience: 100 * time.Millisecond, CallTimeout: time.Hour})
	file := mustCreate(t, s, []byte("one"))
	si := file.StorageIndex()
	ended := make(chan error, 1)
	g.at(si, 3).set(func(ts *testServer) { ts.hangWrites = ended })
	if err := s.Overwrite(t.Context(), file, []byte("two")); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, grid.ErrOutpaced) {
		t.Errorf("the call to it ended with %v", err)
	}
	holders := 0
	for i, shares := range g.shares(si) {
		if i != 3 && len(shares) > 0 {
			holders++
		}
	}
	if holders != 4 {
		t.Errorf("%d other servers hold shares", holders)
	}
	if got := mustRead(t, s, file); got != "two" {
		t.Errorf("read %q", got)
	}
}
