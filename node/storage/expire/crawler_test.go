package expire_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"warren/node/caps"
	"warren/node/storage"
	"warren/node/storage/container"
	"warren/node/storage/disk"
	"warren/node/storage/expire"
	"warren/node/storage/mem"
	"warren/node/storage/storagetest"
)

// clock is a time that stands still but for sleeps, which take none, and for what
// looking at a storage index is said to take.
type clock struct {
	mu     sync.Mutex
	now    time.Time
	sleeps []time.Duration
	stop   func(slept time.Duration) bool // the sleep that ends the crawler
	cancel context.CancelFunc
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func (c *clock) sleep(ctx context.Context, d time.Duration) error {
	c.mu.Lock()
	c.sleeps = append(c.sleeps, d)
	stop := c.stop(d)
	c.mu.Unlock()
	if stop {
		c.cancel()
		return ctx.Err()
	}
	c.advance(d)
	return ctx.Err()
}

const halfDay = 12 * time.Hour

// afterRounds stops a crawler when it waits for the round after n.
func afterRounds(n int) func(time.Duration) bool {
	return func(d time.Duration) bool {
		if d > time.Hour {
			n--
		}
		return n == 0 && d > time.Hour
	}
}

// house is a server that looking at takes time of the clock.
type house struct {
	*storage.Server
	clock  *clock
	effort time.Duration
	seen   []string
	before func(caps.StorageIndex) // called after a survey
}

func (h *house) Survey(si caps.StorageIndex) ([]storage.Held, error) {
	h.clock.advance(h.effort)
	h.seen = append(h.seen, si.Text())
	all, err := h.Server.Survey(si)
	if h.before != nil {
		h.before(si)
	}
	return all, err
}

func crawl(t *testing.T, h expire.House, c *clock, s expire.Settings, state string, stop func(time.Duration) bool) expire.State {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c.cancel, c.stop, c.sleeps = cancel, stop, nil
	crawler := expire.New(h, expire.Options{Settings: s, State: state, Now: c.Now, Sleep: c.sleep})
	crawler.Run(ctx)
	if ctx.Err() == nil {
		t.Fatal("the crawler stopped by itself")
	}
	return crawler.State()
}

var lease = storage.LeaseSecrets{Renew: storagetest.Secret('r'), Cancel: storagetest.Secret('c')}

func file(t *testing.T, c storage.Client, si caps.StorageIndex, share int) {
	t.Helper()
	if _, got, err := c.CreateImmutable(t.Context(), si, storagetest.Secret('u'), lease, []int{share}, 4); err != nil || len(got) != 1 {
		t.Fatal(got, err)
	}
	if done, err := c.WriteImmutable(t.Context(), si, share, storagetest.Secret('u'), 0, []byte("file")); err != nil || !done {
		t.Fatal(done, err)
	}
}

func slot(t *testing.T, c storage.Client, si caps.StorageIndex, share int) {
	t.Helper()
	wrote, _, err := c.ReadTestWrite(t.Context(), si, storage.SlotSecrets{WriteEnabler: storagetest.Secret('w'), LeaseSecrets: lease},
		map[int]storage.TestWrite{share: {Write: []storage.WriteVector{{Data: []byte("slot")}}}}, nil)
	if err != nil || !wrote {
		t.Fatal(wrote, err)
	}
}

func held(t *testing.T, shelf storage.Shelf) (all []string) {
	t.Helper()
	for _, p := range storage.Prefixes() {
		indexes, err := shelf.Indexes(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, si := range indexes {
			shares, err := shelf.Shares(si)
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range shares {
				all = append(all, si.Text()[:4]+"/"+string(rune('0'+n)))
			}
		}
	}
	return all
}

var ageMode = expire.Settings{Enabled: true, Mode: expire.Age, Immutable: true, Mutable: true}

// TestRounds: leases end, shares go; what has a lease, none, or cannot be read, and
// what is being uploaded stay; with expiry off all stay and the counts are the same.
func TestRounds(t *testing.T) {
	type shelf interface {
		storage.Backend
		storage.Shelf
	}
	for _, c := range []struct {
		name string
		open func(t *testing.T) (shelf, func(si caps.StorageIndex, share int, data []byte))
	}{
		{"mem", func(t *testing.T) (shelf, func(caps.StorageIndex, int, []byte)) {
			b := mem.New(0)
			return b, b.SetFile
		}},
		{"disk", func(t *testing.T) (shelf, func(caps.StorageIndex, int, []byte)) {
			dir := t.TempDir()
			b, err := disk.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			return b, func(si caps.StorageIndex, share int, data []byte) {
				at := filepath.Join(dir, "shares", si.Text()[:2], si.Text())
				if err := os.MkdirAll(at, 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(at, string(rune('0'+share))), data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}},
	} {
		for _, enabled := range []bool{false, true} {
			t.Run(c.name, func(t *testing.T) {
				b, set := c.open(t)
				clk := &clock{now: now}
				server := storage.NewServer(b, storage.Options{Now: clk.Now})
				defer server.Close()
				client := storage.Local(server)
				at := func(n byte) caps.StorageIndex { return caps.StorageIndex{n * 8} }
				gone, old, renewed, mixed, oldSlot, fresh, empty, broken := at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7)
				file(t, client, gone, 0)
				file(t, client, gone, 3)
				file(t, client, old, 0)
				file(t, client, old, 1)
				file(t, client, renewed, 0)
				file(t, client, mixed, 0)
				slot(t, client, oldSlot, 2)
				// A slot as Tahoe makes it before its lease is written; a share of neither kind.
				set(empty, 0, container.NewMutable(container.NodeID{}, storagetest.Secret('w')))
				set(broken, 0, []byte("no share"))
				clk.advance(32 * 24 * time.Hour)
				if err := client.AddLease(t.Context(), renewed, lease); err != nil {
					t.Fatal(err)
				}
				file(t, client, mixed, 1) // which renews share 0 with the same secrets
				file(t, client, fresh, 0)
				if _, got, err := client.CreateImmutable(t.Context(), old, storagetest.Secret('v'), storage.LeaseSecrets{Renew: storagetest.Secret('x')}, []int{5}, 9); err != nil || len(got) != 1 {
					t.Fatal(got, err)
				}
				clk.advance(time.Hour)
				s := ageMode
				s.Enabled = enabled
				all := held(t, b)
				kept := slices.DeleteFunc(slices.Clone(all), func(name string) bool {
					return strings.HasPrefix(name, oldSlot.Text()[:4]) || strings.HasPrefix(name, gone.Text()[:4])
				})
				st := crawl(t, server, clk, s, filepath.Join(t.TempDir(), "state"), afterRounds(1))
				want := all
				if enabled {
					want = kept
				}
				if got := held(t, b); !slices.Equal(got, want) {
					t.Errorf("held %v, want %v", got, want)
				}
				r, ok := st.Last()
				if !ok || r.Going().Shares != 3 || r.Shares[expire.Ended][storage.Immutable].Shares != 2 || r.Sum(expire.Leased).Shares != 6 ||
					r.Sum(expire.Unleased).Shares != 1 || r.Sum(expire.Unreadable).Shares != 1 || r.Buckets != 8 || r.Failures != 0 || r.Total().Shares != uint64(len(all)) {
					t.Errorf("results %+v", r)
				}
				if n := r.Removed[storage.Immutable].Plus(r.Removed[storage.Mutable]); enabled && n != r.Going() || !enabled && n.Shares != 0 {
					t.Errorf("removed %+v", r.Removed)
				}
				if len(r.Unreadable) != 1 || r.Unreadable[0] != (expire.Place{StorageIndex: broken.Text()}) {
					t.Errorf("unreadable %v", r.Unreadable)
				}
				// The upload that was under way ends well; its lease on the old shares too.
				clk.advance(-halfDay)
				if enabled {
					if done, err := client.WriteImmutable(t.Context(), old, 5, storagetest.Secret('v'), 0, []byte("completes")); err != nil || !done {
						t.Errorf("the upload: %v, %v", done, err)
					}
				}
				seen, err := expire.Examine(t.Context(), b, ageMode, clk.Now(), nil)
				if err != nil || !enabled && seen.Going() != r.Going() {
					t.Errorf("examined %+v, %v", seen, err)
				}
			})
		}
	}
}

// TestRenewedInTime: a lease that is renewed after the crawler has looked, and
// before it removes, is seen.
func TestRenewedInTime(t *testing.T) {
	clk := &clock{now: now}
	b := mem.New(0)
	server := storage.NewServer(b, storage.Options{Now: clk.Now})
	client := storage.Local(server)
	file(t, client, caps.StorageIndex{1}, 0)
	file(t, client, caps.StorageIndex{2}, 0)
	clk.advance(32 * 24 * time.Hour)
	h := &house{Server: server, clock: clk}
	h.before = func(si caps.StorageIndex) {
		if si == (caps.StorageIndex{1}) {
			if err := client.AddLease(t.Context(), si, lease); err != nil {
				t.Fatal(err)
			}
		}
	}
	crawl(t, h, clk, ageMode, filepath.Join(t.TempDir(), "state"), afterRounds(1))
	if got := held(t, b); len(got) != 1 || !strings.HasPrefix(got[0], caps.StorageIndex{1}.Text()[:4]) {
		t.Errorf("held %v", got)
	}
}

// TestPaceAndRestart: a tenth of the time at work; a crawler that is stopped in
// mid-round, at each of its pauses, goes on where it was, and the round's counts are
// as without.
func TestPaceAndRestart(t *testing.T) {
	clk := &clock{now: now}
	b := mem.New(0)
	server := storage.NewServer(b, storage.Options{Now: clk.Now})
	const n = 50
	for i := range n {
		file(t, storage.Local(server), caps.StorageIndex{byte(i * 5), byte(i)}, 0)
	}
	s := ageMode
	h := &house{Server: server, clock: clk, effort: 60 * time.Millisecond}
	state := filepath.Join(t.TempDir(), "state")
	st := crawl(t, h, clk, s, state, afterRounds(1))
	if clk.sleeps[0] != 6*time.Minute || clk.sleeps[len(clk.sleeps)-1] != halfDay || len(clk.sleeps) != 2+n/2 {
		t.Errorf("%d sleeps: %v", len(clk.sleeps), clk.sleeps)
	}
	for _, d := range clk.sleeps[1 : len(clk.sleeps)-1] {
		if d != 9*120*time.Millisecond {
			t.Fatalf("slept %v after 120 ms of work", d)
		}
	}
	whole, _ := st.Last()
	if !slices.IsSorted(h.seen) || len(h.seen) != n || whole.Total().Shares != n {
		t.Fatalf("seen %d, %+v", len(h.seen), whole)
	}

	h.seen = nil
	rounds := 1
	for stops := 0; rounds == 1; stops++ {
		if stops > n {
			t.Fatal("the round does not end")
		}
		pauses := 0
		last := crawl(t, h, clk, s, state, func(d time.Duration) bool {
			if d < time.Minute {
				pauses++
			}
			return pauses == 1 && d < time.Minute || d == halfDay
		})
		rounds = len(last.History)
		if rounds == 1 && (last.Current == nil || last.Cursor != h.seen[len(h.seen)-1]) {
			t.Fatalf("after %d stops: at %q", stops, last.Cursor)
		}
		st = last
	}
	again, _ := st.Last()
	if len(h.seen) != n || !slices.IsSorted(h.seen) || again.Total() != whole.Total() || again.Buckets != whole.Buckets {
		t.Errorf("in pieces: seen %d, %+v", len(h.seen), again)
	}

	// Other settings begin a round of their own, at once.
	h.seen, s.Override = nil, 5
	st = crawl(t, h, clk, s, state, afterRounds(1))
	if len(h.seen) != n || clk.sleeps[1] == halfDay {
		t.Errorf("other settings: seen %d, slept %v", len(h.seen), clk.sleeps)
	}
	// No more than ten rounds are kept.
	for range 12 {
		st = crawl(t, h, clk, s, state, afterRounds(2))
	}
	if len(st.History) != 10 {
		t.Errorf("%d rounds are kept", len(st.History))
	}
}

// failing is a house in which something cannot be done.
type failing struct {
	*storage.Server
	list, remove bool
}

var errDisk = errors.New("input/output error")

func (f failing) Indexes(prefix string) ([]caps.StorageIndex, error) {
	if f.list && prefix < "b" {
		return nil, errDisk
	}
	return f.Server.Indexes(prefix)
}

func (f failing) Remove(si caps.StorageIndex, drop func(storage.Held) bool) ([]storage.Held, error) {
	if f.remove {
		return nil, errDisk
	}
	return f.Server.Remove(si, drop)
}

func TestFailures(t *testing.T) {
	for _, c := range []struct {
		list, remove bool
		failures     uint64
	}{{true, false, 6*32 + 32}, {false, true, 1}} {
		clk := &clock{now: now}
		b := mem.New(0)
		server := storage.NewServer(b, storage.Options{Now: clk.Now})
		file(t, storage.Local(server), caps.StorageIndex{0x80}, 0)
		clk.advance(32 * 24 * time.Hour)
		st := crawl(t, failing{server, c.list, c.remove}, clk, ageMode, filepath.Join(t.TempDir(), "state"), afterRounds(1))
		r, ok := st.Last()
		if !ok || r.Failures != c.failures || (len(held(t, b)) == 1) != c.remove {
			t.Errorf("%+v: %d failures, held %v", c, r.Failures, held(t, b))
		}
	}
}

// TestStateFiles: what cannot be read is no state, and the crawler begins anew.
func TestStateFiles(t *testing.T) {
	bad := []string{
		"", "{", "null", "[]", "{}", `"x"`, "1", `{"version":2}`, `{"version":"1"}`, `{"version":0,"current":{}}`,
		`{"version":1,"cursor":5}`, `{"version":1,"history":{}}`, `{"version":1,"history":[5]}`, `{"version":1,"current":[]}`,
		`{"version":1,"current":{"buckets":-1}}`, `{"version":1,"current":{"shares":[]}}`, `{"version":1,"current":{"shares":{"leased":[]}}}`,
		`{"version":1,"current":{"started":"yesterday"}}`, `{"version":1,"current":{"removed":5}}`, `{"version":1,"current":{"unreadable":"x"}}`,
		`{"version":1,"current":{"settings":{"mode":5}}}`, `{"version":1,"current":{"settings":{"override_lease_duration":1e99}}}`,
		`{"version":1.5}`, `{"version":1}x`, strings.Repeat(" ", 2<<20) + `{"version":1}`, "\x80\x02}q\x00U\x07version",
	}
	if len(bad) < 25 {
		t.Fatalf("only %d bad inputs", len(bad))
	}
	for _, text := range append(bad, `{"version":1,"current":{},"cursor":"zzzz"}`, `{"version":1,"current":null,"cursor":"zzzz"}`) {
		clk := &clock{now: now}
		server := storage.NewServer(mem.New(0), storage.Options{Now: clk.Now})
		file(t, storage.Local(server), caps.StorageIndex{1}, 0)
		state := filepath.Join(t.TempDir(), "state")
		if err := os.WriteFile(state, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		st := crawl(t, server, clk, ageMode, state, afterRounds(1))
		if r, ok := st.Last(); !ok || r.Total().Shares != 1 || len(st.History) != 1 {
			t.Errorf("%.40q: %+v", text, st)
		}
	}
}

func FuzzState(f *testing.F) {
	f.Add([]byte(`{"version":1,"current":{"settings":{"enabled":true,"mode":"age","immutable":true,"mutable":true},"started":"2026-11-23T12:00:00Z","shares":{"leased":{"immutable":{"shares":1,"bytes":88}}},"removed":{},"unreadable":[]},"cursor":"aa","history":[]}`))
	f.Add([]byte(`{"version":1,"current":null,"history":[{}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := expire.ParseState(b)
		if err != nil {
			return
		}
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		again, err := expire.ParseState(text)
		if err != nil {
			t.Fatal(err)
		}
		if twice, _ := json.Marshal(again); string(twice) != string(text) {
			t.Errorf("%s\n%s", text, twice)
		}
	})
}
