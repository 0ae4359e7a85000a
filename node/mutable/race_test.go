package mutable

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// Writers that race, each with a Store of its own, on servers that answer in any
// order: what was acknowledged is there, in every encoding, also where n < 2k-1
// and a clash can leave no version whole.
func TestRace(t *testing.T) {
	for _, c := range []struct{ k, happy, n, servers, writers, each int }{
		{3, 4, 5, 5, 2, 60},
		{3, 3, 3, 3, 2, 30},
		{2, 3, 3, 3, 2, 30},
		{1, 1, 1, 1, 2, 30},
		{3, 4, 10, 4, 4, 15},
	} {
		t.Run(fmt.Sprintf("%d-of-%d on %d, %d writers", c.k, c.n, c.servers, c.writers), func(t *testing.T) {
			g := newTestGrid(t, c.servers)
			for i, srv := range g.servers {
				r := rand.New(rand.NewPCG(uint64(i), 7))
				g.tests[srv.ID].set(func(s *testServer) {
					s.before = func(bool) error { // under the server's lock
						for range r.IntN(20) {
							runtime.Gosched()
						}
						return nil
					}
				})
			}
			opts := Options{Needed: c.k, Happy: c.happy, Total: c.n, Attempts: 200, Pause: func(ctx context.Context, n int) error {
				for range rand.IntN(200 * n) {
					runtime.Gosched()
				}
				return ctx.Err()
			}}
			file := mustCreate(t, g.store(t, opts), nil)
			var mu sync.Mutex // guards acknowledged
			acknowledged := map[string]bool{}
			var wg sync.WaitGroup
			for w := range c.writers {
				wg.Add(1)
				go func() {
					defer wg.Done()
					s := g.store(t, opts)
					for i := range c.each {
						entry := fmt.Sprintf("[%d:%d]", w, i)
						err := s.Modify(ctx, file, appendText(entry))
						switch {
						case err == nil:
							mu.Lock()
							acknowledged[entry] = true
							mu.Unlock()
						case errors.Is(err, ErrUncoordinated), errors.Is(err, ErrNewerVersion):
						case errors.Is(err, ErrNotEnoughShares) && c.n < 2*c.k-1: // amid another's write
						default:
							t.Errorf("%s: %v", entry, err)
						}
					}
				}()
			}
			wg.Wait()
			got := mustRead(t, g.store(t, opts), file)
			lost := 0
			for entry := range acknowledged {
				if !strings.Contains(got, entry) {
					lost++
				}
				if strings.Count(got, entry) > 1 {
					t.Errorf("%s stands twice", entry)
				}
			}
			if lost > 0 {
				t.Errorf("%d of %d acknowledged entries are lost", lost, len(acknowledged))
			}
			want := c.writers * c.each
			if c.n >= 2*c.k-1 && len(acknowledged) < want*9/10 || len(acknowledged) < want/2 {
				t.Errorf("%d of %d were acknowledged", len(acknowledged), want)
			}
		})
	}
}

// A file that is replaced between the look at its shares and their reading is
// read as it is then; that is no damage.
func TestReadAmidWrites(t *testing.T) {
	for _, writes := range []int{1, maxLooks} {
		g := newTestGrid(t, 5)
		opts := Options{Needed: 3, Happy: 4, Total: 5}
		writer := g.store(t, opts)
		file := mustCreate(t, writer, testContents(30_000))
		version := 0
		replace := func() {
			version++
			if err := writer.Overwrite(ctx, file, append(testContents(30_000), byte(version))); err != nil {
				t.Error(err)
			}
		}
		whenFetched(g, writes, replace)
		if got := mustRead(t, g.store(t, opts), file); len(got) != 30_001 || int(got[30_000]) != version || version != writes {
			t.Errorf("%d writes of %d: read %d bytes", version, writes, len(got))
		}
		// A writer that never saw the file before meets the same.
		whenFetched(g, 1, replace)
		if err := g.store(t, opts).Modify(ctx, file, appendText("more")); err != nil {
			t.Error(err)
		}
		whenFetched(g, 1, func() {
			version++
			if err := writer.Overwrite(ctx, file, []byte("short")); err != nil {
				t.Error(err)
			}
		})
		if err := g.store(t, opts).Overwrite(ctx, file, testContents(100)); err != nil {
			t.Error(err)
		}
		if got := mustRead(t, writer, file); got != string(testContents(100)) || version != writes+2 {
			t.Errorf("%d bytes, version %d", len(got), version)
		}
	}
}

// whenFetched runs f before the first question that asks for more than the heads
// of shares, and again after heads were read anew, so many times. Other such
// questions wait while f runs.
func whenFetched(g *testGrid, times int, f func()) {
	var gate, mu sync.Mutex // mu guards fresh and running
	fresh, running := true, false
	for _, ts := range g.tests {
		ts.set(func(s *testServer) {
			s.asked = func(head bool) {
				if head {
					mu.Lock()
					defer mu.Unlock()
					fresh = fresh || !running // f's own questions do not count
					return
				}
				gate.Lock()
				defer gate.Unlock()
				mu.Lock()
				due := fresh && times > 0
				fresh, running = false, due
				mu.Unlock()
				if !due {
					return
				}
				times--
				f()
				mu.Lock()
				running = false
				mu.Unlock()
			}
		})
	}
}

// A writer that comes upon the remains of a race, and has nothing to mend them
// with, waits until one of those who raced has.
func TestRemainsOfARace(t *testing.T) {
	g := newTestGrid(t, 5)
	s := g.store(t, Options{Needed: 3, Happy: 5, Total: 5})
	file := mustCreate(t, s, []byte("1"))
	versions := [][]map[int][]byte{g.shares(file.StorageIndex())}
	for _, text := range []string{"2", "3"} {
		if err := s.Overwrite(ctx, file, []byte(text)); err != nil {
			t.Fatal(err)
		}
		versions = append(versions, g.shares(file.StorageIndex()))
	}
	stand := func(which ...int) {
		for server, version := range which {
			for num, share := range versions[version][server] {
				g.put(file, server, num, share)
			}
		}
	}
	stand(0, 0, 1, 1, 2)
	late := g.store(t, Options{Needed: 3, Happy: 5, Total: 5, Pause: func(ctx context.Context, n int) error {
		if n == 2*maxBlind {
			stand(2, 2, 2, 2, 2)
		}
		return ctx.Err()
	}})
	if err := late.Modify(ctx, file, func(old []byte) ([]byte, error) { return append(old, " and more"...), nil }); err != nil {
		t.Fatal(err)
	}
	if got := mustRead(t, s, file); got != "3 and more" {
		t.Errorf("%q", got)
	}

	// When nobody mends it, that is said in the end.
	stand(0, 0, 1, 1, 2)
	if err := g.store(t, Options{Needed: 3, Happy: 5, Total: 5}).Modify(ctx, file, func(old []byte) ([]byte, error) { return []byte("x"), nil }); !errors.Is(err, ErrNotEnoughShares) {
		t.Errorf("%v", err)
	}
}

// A writer that mends from its memory what a race left in pieces may have seen
// another's write half done. When that one becomes whole first, nothing of it is
// replaced by what was made without it.
func TestMendingBesideAWriterThatPauses(t *testing.T) {
	g := newTestGrid(t, 5)
	opts := Options{Needed: 3, Happy: 4, Total: 5}
	s := g.store(t, opts)
	file := mustCreate(t, s, []byte("base"))
	shares := map[string][]map[int][]byte{"base": g.shares(file.StorageIndex())}
	for _, text := range []string{"other", "base+theirs", "base+theirs+theirs"} {
		if err := s.Overwrite(ctx, file, []byte(text)); err != nil {
			t.Fatal(err)
		}
		shares[text] = g.shares(file.StorageIndex())
	}
	stand := func(text string, where ...int) {
		for _, server := range where {
			for num, share := range shares[text][server] {
				g.put(file, server, num, share)
			}
		}
	}
	stand("base", 0, 1, 2, 3, 4)

	var mu sync.Mutex // guards writes and again
	writes, again := 0, false
	for _, ts := range g.tests {
		ts.set(func(ts *testServer) {
			ts.before = func(write bool) error {
				if !write {
					return nil
				}
				mu.Lock()
				defer mu.Unlock()
				switch writes++; writes {
				case 2: // the first server has taken ours: now the others are somebody else's
					stand("base+theirs", 1, 2)
					stand("other", 3, 4)
				case 6: // no version was whole: one is now, and was acknowledged
					stand("base+theirs", 0, 1, 2, 3, 4)
				}
				return nil
			}
		})
	}
	opts.Pause = func(ctx context.Context, n int) error {
		mu.Lock()
		defer mu.Unlock()
		if writes >= 6 && !again {
			again = true
			stand("base+theirs+theirs", 3) // its writer goes on
		}
		return ctx.Err()
	}
	late := g.store(t, opts)
	if err := late.Modify(ctx, file, func(old []byte) ([]byte, error) {
		if strings.HasSuffix(string(old), "+ours") {
			return nil, nil
		}
		return append(bytes.Clone(old), "+ours"...), nil
	}); err != nil {
		t.Fatal(err)
	}
	if got := mustRead(t, s, file); !again || !strings.HasPrefix(got, "base+theirs") || !strings.HasSuffix(got, "+ours") {
		t.Errorf("%q after %d writes", got, writes)
	}
}
