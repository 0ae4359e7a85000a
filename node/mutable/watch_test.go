package mutable

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"warren/node/caps"
	"warren/node/storage"
)

// someFiles makes files and their readcaps.
func someFiles(t *testing.T, s *Store, n int) (files []caps.SSKWrite, read []caps.MutableRead) {
	t.Helper()
	for range n {
		c, err := s.Create(ctx, Kind{}, fixed([]byte("first")))
		if err != nil {
			t.Fatal(err)
		}
		files, read = append(files, c.(caps.SSKWrite)), append(read, c.(caps.SSKWrite).Read())
	}
	return files, read
}

// seqnums are what Versions says, 0 where it fails.
func seqnums(s *Store, files []caps.MutableRead) (list []uint64, have []Version) {
	for _, a := range s.Versions(ctx, files) {
		if a.Err != nil {
			a.Version = Version{}
		}
		list, have = append(list, a.Version.Seqnum), append(have, a.Version)
	}
	return list, have
}

// counts resets and returns how often all servers were asked.
func (g *testGrid) counts() (reads, looks int) {
	for _, ts := range g.tests {
		ts.set(func(ts *testServer) {
			if ts.cost != nil {
				reads += int(ts.cost.reads.Load())
			}
			looks += ts.lookedAt
			ts.cost, ts.lookedAt = &cost{}, 0
		})
	}
	return reads, looks
}

func (g *testGrid) all(f func(*testServer)) {
	for _, ts := range g.tests {
		ts.set(f)
	}
}

// TestVersions: who asks again asks few servers, and is not told of an old version
// all the same.
func TestVersions(t *testing.T) {
	for _, tells := range []bool{true, false} {
		t.Run(fmt.Sprintf("tells %v", tells), func(t *testing.T) {
			g := newTestGrid(t, 10)
			g.all(func(ts *testServer) { ts.tells = tells })
			o := Options{Needed: 3, Happy: 7, Total: 10}
			writer, s := g.store(t, o), g.store(t, o)
			files, read := someFiles(t, writer, 4)
			same := func(what string, want ...uint64) {
				t.Helper()
				if got, _ := seqnums(s, read); fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("%s: versions %v, want %v", what, got, want)
				}
			}
			same("first", 1, 1, 1, 1)
			g.counts()
			for range 5 {
				same("again", 1, 1, 1, 1)
				reads, looks := g.counts()
				if tells && (reads != 0 || looks > 10) || !tells && reads != 12 {
					t.Errorf("it took %d reads and %d looks to see that nothing has changed", reads, looks)
				}
			}
			for i := range files {
				if err := writer.Overwrite(ctx, files[i], []byte("second")); err != nil {
					t.Fatal(err)
				}
				want := []uint64{1, 1, 1, 1}
				for j := range i + 1 {
					want[j] = 2
				}
				same("written", want...)
			}
			// Those that are asked are away: others are.
			si := files[0].StorageIndex()
			for i := range 7 {
				g.at(si, i).set(func(ts *testServer) { ts.down = true })
				if got := s.Versions(ctx, read[:1])[0]; got.Err != nil || got.Version.Seqnum != 2 {
					t.Errorf("%d of 10 are away: %v", i+1, got)
				}
			}
			g.at(si, 7).set(func(ts *testServer) { ts.down = true })
			if got := s.Versions(ctx, read[:1])[0]; !errors.Is(got.Err, ErrNotEnoughShares) {
				t.Errorf("8 of 10 are away: %v", got)
			}
			g.all(func(ts *testServer) { ts.down = false })
			same("all are back", 2, 2, 2, 2)
		})
	}
}

// TestVersionsOfNewcomers: a server that was not there when the others were asked may
// know something newer.
func TestVersionsOfNewcomers(t *testing.T) {
	g := newTestGrid(t, 2)
	g.all(func(ts *testServer) { ts.tells = true })
	o := Options{Needed: 1, Happy: 1, Total: 2}
	writer, s := g.store(t, o), g.store(t, o)
	files, read := someFiles(t, writer, 1)
	all := g.Permuted(files[0].StorageIndex())
	// The second is in sight; the one that stands first gets a new version.
	g.servers = all[1:]
	if got, _ := seqnums(s, read); got[0] != 1 {
		t.Fatal(got)
	}
	g.servers = all[:1]
	if err := writer.Overwrite(ctx, files[0], []byte("second")); err != nil {
		t.Fatal(err)
	}
	g.servers = all[1:]
	if got, _ := seqnums(s, read); got[0] != 1 {
		t.Error("a version that nobody has", got)
	}
	g.servers = all
	if got, _ := seqnums(s, read); got[0] != 2 {
		t.Errorf("the newcomer was not asked: %v", got)
	}
}

// told wants the channel closed.
func told(t *testing.T, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(time.Minute):
		t.Fatalf("%s: nobody told", what)
	}
}

func TestWatch(t *testing.T) {
	g := newTestGrid(t, 5)
	g.all(func(ts *testServer) { ts.tells = true })
	o := Options{Needed: 3, Happy: 4, Total: 5}
	writer, s := g.store(t, o), g.store(t, o)
	files, read := someFiles(t, writer, 3)
	watch := func(read []caps.MutableRead, have []Version) <-chan struct{} {
		t.Helper()
		c, err := s.Watch(t.Context(), read, have)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if _, err := s.Watch(ctx, read, make([]Version, 3)); !errors.Is(err, ErrUnwatched) {
		t.Errorf("never looked at: %v", err)
	}
	_, have := seqnums(s, read)
	// Two at a time, of which one hears of the third file.
	some, rest := watch(read[:2], have[:2]), watch(read[2:], have[2:])
	if err := writer.Overwrite(ctx, files[2], []byte("second")); err != nil {
		t.Fatal(err)
	}
	told(t, rest, "an edit")
	select {
	case <-some:
		t.Error("told of another file")
	default:
	}
	told(t, watch(read[2:], have[2:]), "what changed before")
	now, have := seqnums(s, read)
	if now[2] != 2 {
		t.Fatal(now)
	}
	// Again and again, and nobody waits for a minute to pass.
	for i := range 5 {
		c := watch(read, have)
		if err := writer.Overwrite(ctx, files[i%3], fmt.Append(nil, "edit ", i)); err != nil {
			t.Fatal(err)
		}
		told(t, c, "an edit")
		_, have = seqnums(s, read)
	}
	// Who found a newer version by another way is told of it.
	c := watch(read, have)
	if err := writer.Overwrite(ctx, files[0], []byte("third")); err != nil {
		t.Fatal(err)
	}
	told(t, c, "an edit")
	if _, _, err := s.Read(ctx, read[0]); err != nil {
		t.Fatal(err)
	}
	told(t, watch(read, have), "what was read meanwhile")

	// Servers go: while others tell, it is of no account.
	_, have = seqnums(s, read)
	c = watch(read, have)
	ids := g.Permuted(files[0].StorageIndex())
	for _, srv := range ids[:4] {
		g.tests[srv.ID].set(func(ts *testServer) { ts.down = true })
	}
	select {
	case <-c:
		t.Error("ended while a server is there")
	case <-time.After(100 * time.Millisecond):
	}
	g.tests[ids[4].ID].set(func(ts *testServer) { ts.down = true })
	told(t, c, "the last server's end")
	g.all(func(ts *testServer) { ts.down = false })
	if _, have = seqnums(s, read); have[0].Seqnum == 0 {
		t.Fatal(have)
	}
	if _, err := s.Watch(t.Context(), read, have); !errors.Is(err, ErrUnwatched) {
		t.Errorf("right after they failed: %v", err)
	}
	g.all(func(ts *testServer) { ts.tells = false })
	if _, err := s.Watch(t.Context(), read, have); !errors.Is(err, ErrUnwatched) {
		t.Errorf("of those that tell nothing: %v", err)
	}
}

// TestWatchIsOneRequest: however many watch, a server is asked once, and not anew when
// one of them goes and comes back.
func TestWatchIsOneRequest(t *testing.T) {
	g := newTestGrid(t, 3)
	g.all(func(ts *testServer) { ts.tells = true })
	o := Options{Needed: 2, Happy: 3, Total: 3}
	s := g.store(t, o)
	_, read := someFiles(t, s, 2)
	_, have := seqnums(s, read)
	asked := func() (n int) {
		g.all(func(ts *testServer) { n += ts.watched })
		return n
	}
	for range 20 {
		watching, cancel := context.WithCancel(ctx)
		if _, err := s.Watch(watching, read, have); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Watch(watching, read[:1], have[:1]); err != nil {
			t.Fatal(err)
		}
		for asked() < 3 {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}
	if n := asked(); n != 3 {
		t.Errorf("three servers were asked %d times", n)
	}
}

// TestWatchOfLiars: a server that says that everything changes costs no more than a few
// questions a second.
func TestWatchOfLiars(t *testing.T) {
	g := newTestGrid(t, 3)
	g.all(func(ts *testServer) { ts.tells = true })
	o := Options{Needed: 2, Happy: 3, Total: 3}
	s := g.store(t, o)
	_, read := someFiles(t, s, 1)
	_, have := seqnums(s, read)
	liar := g.at(read[0].StorageIndex(), 1)
	liar.set(func(ts *testServer) { ts.cries = true })
	began := time.Now()
	until, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	for until.Err() == nil {
		c, err := s.Watch(until, read, have)
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-c:
		case <-until.Done():
		}
		if now, _ := seqnums(s, read); now[0] != 1 {
			t.Fatalf("a version out of nothing: %v", now)
		}
	}
	asked := 0
	liar.set(func(ts *testServer) { asked = ts.watched })
	took := time.Since(began)
	if most := lineBurst + int(took/linePace) + 3; asked > most {
		t.Errorf("asked %d times in %v, at most %d were to be", asked, took, most)
	}
}

func TestTag(t *testing.T) {
	g := newTestGrid(t, 1)
	s := g.store(t, Options{Needed: 1, Happy: 1, Total: 2})
	_, read := someFiles(t, s, 1)
	seqnums(s, read)
	s.mu.Lock()
	at := s.pictures[read[0].StorageIndex()].servers[g.servers[0].ID]
	s.mu.Unlock()
	changed, err := storage.Watch(ctx, g.tests[g.servers[0].ID].Client, map[caps.StorageIndex]storage.Tag{read[0].StorageIndex(): at.tag}, 0)
	if err != nil || len(changed) != 0 || len(at.shares) != 2 || len(at.good) != 2 {
		t.Errorf("what a survey saw is not what the server has: %v, %v, %+v", changed, err, at)
	}
}

func TestParseVersion(t *testing.T) {
	for _, v := range []Version{{}, {Seqnum: 7, RootHash: [32]byte{1, 31: 2}}} {
		if got, err := ParseVersion(v.String()); err != nil || got != v {
			t.Errorf("%v came back as %v, %v", v, got, err)
		}
	}
	for _, bad := range []string{"x", "1", "1-", "-1-00", "1-00", "1-" + Version{Seqnum: 1}.String()} {
		if _, err := ParseVersion(bad); err == nil {
			t.Errorf("%q is taken for a version", bad)
		}
	}
}
