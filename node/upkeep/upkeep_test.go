package upkeep_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"warren/node/caps"
	"warren/node/dirnode"
	"warren/node/mutable"
	"warren/node/storage"
	"warren/node/storage/container"
	"warren/node/upkeep"
	"warren/tests/gridtest"
)

const day = 24 * time.Hour

// clock stands still but for sleeps, which take no time.
type clock struct {
	mu   sync.Mutex
	now  time.Time
	stop func(d time.Duration) bool // the sleep that ends Run
	end  context.CancelFunc
}

func newClock() *clock { return &clock{now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)} }

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

func (c *clock) Sleep(ctx context.Context, d time.Duration) error {
	if c.stop(d) {
		c.end()
		return context.Canceled
	}
	c.advance(d)
	return ctx.Err()
}

// house is a grid, its clock, and what an Upkeep of it needs.
type house struct {
	*gridtest.Grid
	clock *clock
	opt   upkeep.Options
}

func newHouse(t *testing.T, o gridtest.Options) *house {
	t.Helper()
	h := &house{clock: newClock()}
	o.Now = h.clock.Now
	h.Grid = gridtest.New(t, o)
	h.opt = upkeep.Options{
		Path: filepath.Join(t.TempDir(), "upkeep.db"), Automatic: true, History: true,
		Servers: h.Client.Grid, Needed: 3, Happy: 4, Files: h.Files, Slots: h.Slots, Dirs: h.Dirs,
		Now: h.clock.Now, Sleep: h.clock.Sleep,
	}
	return h
}

// run opens an Upkeep and runs it until stop says so at a sleep; it returns the status.
func (h *house) run(t *testing.T, stop func(u *upkeep.Upkeep, d time.Duration) bool) upkeep.Status {
	t.Helper()
	u, err := upkeep.Open(h.opt)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := u.Close(); err != nil {
			t.Error(err)
		}
	}()
	return h.runOpen(t, u, stop)
}

func (h *house) runOpen(t *testing.T, u *upkeep.Upkeep, stop func(u *upkeep.Upkeep, d time.Duration) bool) upkeep.Status {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	h.clock.end = cancel
	h.clock.stop = func(d time.Duration) bool { return stop(u, d) }
	if err := u.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("upkeep ended: %v", err)
	}
	s, err := u.Status()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// round runs until the next round is finished and there is a while nothing to do.
func (h *house) round(t *testing.T) upkeep.Status {
	t.Helper()
	var before uint64
	first := true
	return h.run(t, func(u *upkeep.Upkeep, d time.Duration) bool {
		s, err := u.Status()
		if err != nil {
			t.Error(err)
			return true
		}
		if first {
			first = false
			if s.Last != nil {
				before = s.Last.Number
			}
			return false
		}
		return d > time.Minute && s.Last != nil && s.Last.Number > before
	})
}

// roots has the house keep these alive.
func (h *house) roots(items ...upkeep.Item) {
	h.opt.Roots = func() ([]upkeep.Item, error) { return items, nil }
}

// file stores a file that is no literal.
func (h *house) file(t *testing.T, text string) caps.Cap {
	t.Helper()
	body := strings.Repeat(text+" ", 100)
	res, err := h.Files.Upload(t.Context(), strings.NewReader(body), int64(len(body)))
	if err != nil {
		t.Fatal(err)
	}
	return res.Cap
}

func (h *house) dir(t *testing.T, entries ...dirnode.Entry) caps.DirWrite {
	t.Helper()
	d, err := h.Dirs.Make(t.Context(), entries)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func entry(name string, c caps.Cap) dirnode.Entry { return dirnode.NewEntry(name, c, nil) }

// leases are when the leases on c's shares end, on all servers, as durations from
// the clock's now, the shortest first and the longest last; n is how many shares
// there are.
func (h *house) leases(t *testing.T, c caps.Cap) (least, most time.Duration, n int) {
	t.Helper()
	si, ok := caps.Index(c)
	if !ok {
		t.Fatalf("a %s has no leases", c.Kind())
	}
	for _, s := range h.Servers {
		held, err := s.Storage.Survey(si)
		if err != nil {
			t.Fatal(err)
		}
		for _, share := range held {
			var end uint32
			for _, l := range share.Leases {
				end = max(end, l.Expires)
			}
			left := time.Unix(int64(end), 0).Sub(h.clock.Now())
			if n == 0 || left < least {
				least = left
			}
			most = max(most, left)
			n++
		}
	}
	return least, most, n
}

// drop removes the shares of c from the first n servers that have any.
func (h *house) drop(t *testing.T, c caps.Cap, n int) {
	t.Helper()
	si, _ := caps.Index(c)
	for _, s := range h.Servers {
		removed, err := s.Storage.Remove(si, func(storage.Held) bool { return n > 0 })
		if err != nil {
			t.Fatal(err)
		}
		if len(removed) > 0 {
			n--
		}
	}
	if n != 0 {
		t.Fatal("too few shares to remove")
	}
}

// tree is a tree of every kind of entry, with cycles, and what of it has leases.
func (h *house) tree(t *testing.T) (root caps.DirWrite, leased map[string]caps.Cap) {
	t.Helper()
	ctx := t.Context()
	leased = map[string]caps.Cap{"film": h.file(t, "film"), "below": h.file(t, "below"), "verified": h.file(t, "verified")}
	note, err := h.Slots.Create(ctx, mutable.Kind{}, func(caps.MutableWrite) ([]byte, error) { return []byte("note"), nil })
	if err != nil {
		t.Fatal(err)
	}
	leased["note"] = note
	if leased["frozen"], err = h.Dirs.MakeImmutable(ctx, []dirnode.Entry{entry("below", leased["below"]), entry("word", caps.LIT{Data: []byte("word")})}); err != nil {
		t.Fatal(err)
	}
	unknown, err := caps.Parse("ro.URI:FUTURE:abc")
	if err != nil {
		t.Fatal(err)
	}
	sub := h.dir(t, entry("note", note), entry("again", leased["film"]))
	root = h.dir(t, entry("film", leased["film"]), entry("frozen", leased["frozen"]), entry("sub", sub), entry("word", caps.LIT{Data: []byte("word")}),
		dirnode.Entry{Name: "future", Read: unknown}, entry("verified", leased["verified"].(caps.CHK).Verify()))
	if err := h.Dirs.Edit(ctx, sub, []dirnode.Change{{Entry: entry("up", root)}, {Entry: entry("self", sub.Read())}}); err != nil {
		t.Fatal(err)
	}
	leased["root"], leased["sub"] = root, sub
	return root, leased
}

// Everything below an alias is renewed once, cycles and all; what is young is left
// alone, and a third of a lease later all is renewed again.
func TestTreeWithCycles(t *testing.T) {
	h := newHouse(t, gridtest.Options{})
	root, leased := h.tree(t)
	h.roots(upkeep.Item{Name: "home:", Cap: root}, upkeep.Item{Name: "again:", Cap: root.Read()})
	h.clock.advance(20 * day)
	s := h.round(t)
	if s.Known != len(leased) || s.Last.Renewed != len(leased) || s.AtRisk != 0 || s.Failed != 0 {
		t.Errorf("%d known, %d renewed of %d, %d at risk, %+v", s.Known, s.Last.Renewed, len(leased), s.AtRisk, s.Failures)
	}
	for name, c := range leased {
		if least, _, n := h.leases(t, c); least < 30*day || n != 5 {
			t.Errorf("%s: %d shares, %v left", name, n, least)
		}
	}
	if s = h.round(t); s.Last.Number != 2 || s.Last.Renewed != 0 || s.Known != len(leased) {
		t.Errorf("the next day: %+v, %d known", s.Last, s.Known)
	}
	h.clock.advance(11 * day)
	if s = h.round(t); s.Last.Renewed != len(leased) {
		t.Errorf("a third later: %d renewed", s.Last.Renewed)
	}
	// What is unlinked is forgotten, what is new is found.
	added := h.file(t, "added")
	if err := h.Dirs.Edit(t.Context(), root, []dirnode.Change{{Entry: entry("added", added)}, {Delete: true, Entry: entry("frozen", nil)}}); err != nil {
		t.Fatal(err)
	}
	h.clock.advance(day)
	if s = h.round(t); s.Last.Renewed != 1 || s.Known != len(leased)-1 {
		t.Errorf("after an edit: %d renewed, %d known", s.Last.Renewed, s.Known)
	}
}

// A node that stops amid a round goes on where it stood: nothing is renewed twice.
func TestRestartInTheMiddle(t *testing.T) {
	h := newHouse(t, gridtest.Options{})
	var entries []dirnode.Entry
	files := map[string]caps.Cap{}
	for i := range 60 {
		name := fmt.Sprintf("file %d", i)
		files[name] = h.file(t, name)
		entries = append(entries, entry(name, files[name]))
	}
	root := h.dir(t, entries...)
	h.roots(upkeep.Item{Name: "home:", Cap: root})
	h.clock.advance(25 * day)
	visits := 0
	s := h.run(t, func(_ *upkeep.Upkeep, d time.Duration) bool {
		if d < time.Second {
			visits++
		}
		return visits > 40
	})
	if s.Current == nil || s.Last != nil || s.Current.Done < 20 || s.Current.Done > 45 || s.Current.Done+s.Current.Open != 61 {
		t.Fatalf("in the middle: %+v", s.Current)
	}
	done := s.Current.Done
	h.clock.advance(2 * day)
	s = h.round(t)
	if s.Last.Number != 1 || s.Last.Done != 61 || s.Last.Renewed != 61 {
		t.Errorf("at the end: %+v", s.Last)
	}
	early := 0
	for name, c := range files {
		least, most, _ := h.leases(t, c)
		if least < 28*day {
			t.Errorf("%s: %v left", name, least)
		}
		if most < 30*day {
			early++ // renewed before the stop, and not again
		}
	}
	if early < done-2 || early > done+2 {
		t.Errorf("%d of %d stayed as they were renewed", early, done)
	}
}

// What is on too few servers is told, by path and without capabilities, and repaired
// where that is on; a mutable file from its writecap alone.
func TestDamage(t *testing.T) {
	h := newHouse(t, gridtest.Options{})
	film, note := h.file(t, "film"), h.dir(t, entry("word", caps.LIT{Data: []byte("word")}))
	whole := h.file(t, "whole")
	root := h.dir(t, entry("film", film), entry("note", note), entry("whole", whole))
	h.roots(upkeep.Item{Name: "read:", Cap: root.Read()}, upkeep.Item{Name: "home:", Cap: root})
	h.drop(t, film, 2)
	damage(t, h, note, 2)
	s := h.round(t)
	if s.AtRisk != 2 || len(s.Risks) != 2 || s.Last.Repaired != 0 {
		t.Fatalf("at risk: %+v, %+v", s.Risks, s.Last)
	}
	for _, r := range s.Risks {
		alias, name, _ := strings.Cut(r.Path, ":")
		if alias != "home" && alias != "read" || name != "film" && name != "note" || r.Shares != 3 || r.Needed != 3 || r.Total != 5 || r.Servers != 3 {
			t.Errorf("%+v", r)
		}
	}
	if b, err := json.Marshal(s); err != nil || strings.Contains(string(b), "URI:") {
		t.Errorf("a capability in the status, or %v", err)
	}
	h.opt.Repair = true // both have no share to lose: at the next try
	begun := h.clock.Now()
	s = h.run(t, func(u *upkeep.Upkeep, d time.Duration) bool {
		s, err := u.Status()
		return err != nil || s.AtRisk == 0 || h.clock.Now().Sub(begun) > day
	})
	if took := h.clock.Now().Sub(begun); s.AtRisk != 0 || s.Last.Repaired != 2 || took > 2*time.Hour {
		t.Errorf("repaired after %v: %+v, %+v, %+v", took, s.Risks, s.Last, s.Failures)
	}
	for name, c := range map[string]caps.Cap{"film": film, "note": note} {
		if least, _, n := h.leases(t, c); n != 5 || least < 28*day {
			t.Errorf("%s: %d shares, %v left", name, n, least)
		}
	}
	if list, _, err := h.Dirs.List(t.Context(), note); err != nil || len(list) != 1 {
		t.Errorf("the repaired directory: %d entries, %v", len(list), err)
	}
}

// damage changes the signed header of a slot on the first n servers.
func damage(t *testing.T, h *house, c caps.Cap, n int) {
	t.Helper()
	si, _ := caps.Index(c)
	for _, s := range h.Servers[:n] {
		shares, err := s.Backend.Shares(si)
		if err != nil || len(shares) == 0 {
			t.Fatal(shares, err)
		}
		for _, share := range shares {
			// 468 bytes of the container's, then the share: its sequence number.
			if err := s.Backend.Amend(si, share, []container.Patch{{Offset: 468 + 5, Data: []byte{0xee}}}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// With shares to lose, repair waits for a day: servers come back.
func TestPatience(t *testing.T) {
	h := newHouse(t, gridtest.Options{Needed: 2})
	h.opt.Needed, h.opt.Repair = 2, true
	film := h.file(t, "film")
	h.roots(upkeep.Item{Name: "home:", Cap: h.dir(t, entry("film", film))})
	h.drop(t, film, 2)
	if s := h.round(t); s.AtRisk != 1 || s.Last.Repaired != 0 {
		t.Fatalf("at once: %+v, %+v", s.Risks, s.Last)
	}
	begun := h.clock.Now()
	s := h.run(t, func(u *upkeep.Upkeep, d time.Duration) bool {
		s, err := u.Status()
		return err != nil || s.AtRisk == 0 || h.clock.Now().Sub(begun) > 5*day
	})
	if took := h.clock.Now().Sub(begun); s.AtRisk != 0 || took < 23*time.Hour || took > 3*day {
		t.Errorf("after %v: %+v", took, s.Risks)
	}
	if _, _, n := h.leases(t, film); n != 5 {
		t.Errorf("%d shares", n)
	}
}

// A server that is away stops nothing; when it is back its leases are renewed within
// days. With too few servers to read, nothing is judged.
func TestServersAway(t *testing.T) {
	h := newHouse(t, gridtest.Options{})
	film := h.file(t, "film")
	root := h.dir(t, entry("film", film))
	h.roots(upkeep.Item{Name: "home:", Cap: root})
	h.clock.advance(20 * day)
	h.Servers[0].Stop(t)
	s := h.round(t)
	if s.Last.Renewed != 2 || s.AtRisk != 0 || s.Failed != 0 {
		t.Errorf("without a server: %+v, %+v, %+v", s.Last, s.Risks, s.Failures)
	}
	if least, most, _ := h.leases(t, film); least > 12*day || most < 30*day {
		t.Errorf("between %v and %v are left", least, most)
	}
	h.Servers[0].Start(t)
	back := h.clock.Now()
	h.run(t, func(*upkeep.Upkeep, time.Duration) bool {
		least, _, _ := h.leases(t, film)
		other, _, _ := h.leases(t, root)
		return min(least, other) > 20*day || h.clock.Now().Sub(back) > 4*day
	})
	if least, _, _ := h.leases(t, film); least < 20*day {
		t.Errorf("%v after it came back %v are left", h.clock.Now().Sub(back), least)
	}

	for _, s := range h.Servers[:3] {
		s.Stop(t)
	}
	h.clock.advance(15 * day)
	waits := 0
	s = h.run(t, func(u *upkeep.Upkeep, d time.Duration) bool {
		waits++
		return waits > 3
	})
	if s.AtRisk != 0 || s.Failed != 0 || !strings.Contains(s.Waiting, "2 of the 3") {
		t.Errorf("two servers: %q, %+v, %+v", s.Waiting, s.Risks, s.Failures)
	}
}

// What a directory led to counts while the directory cannot be read.
func TestUnreadableDirectory(t *testing.T) {
	h := newHouse(t, gridtest.Options{})
	film := h.file(t, "film")
	sub := h.dir(t, entry("film", film))
	root := h.dir(t, entry("sub", sub), entry("other", h.file(t, "other")))
	h.roots(upkeep.Item{Name: "home:", Cap: root})
	h.round(t)
	h.drop(t, sub, 3)
	h.clock.advance(20 * day)
	s := h.round(t)
	if s.AtRisk != 1 || s.Risks[0].Path != "home:sub" || s.Risks[0].Readable() {
		t.Errorf("%+v, %+v", s.Risks, s.Failures)
	}
	if least, _, _ := h.leases(t, film); least < 28*day {
		t.Errorf("what it led to has %v left", least)
	}
}

// What only its owner knows to follow is asked of the owner, again after a failure;
// earlier versions' contents are kept or not.
func TestReach(t *testing.T) {
	for _, history := range []bool{true, false} {
		h := newHouse(t, gridtest.Options{})
		h.opt.History = history
		head, past := h.file(t, "head"), h.file(t, "past")
		fails := 2
		h.opt.Reach = func(_ context.Context, it upkeep.Item) ([]upkeep.Item, error) {
			if it.Kind != "version" {
				t.Errorf("asked for a %q", it.Kind)
			}
			if fails--; fails >= 0 {
				return nil, errors.New("not now")
			}
			return []upkeep.Item{{Cap: past, Past: true}}, nil
		}
		h.roots(upkeep.Item{Name: "folder x", Cap: head, Kind: "version"})
		s := h.round(t)
		if s.Failed != 1 || s.Failures[0].Path != "folder x" || s.Failures[0].Reason != "not now" || s.Known != 1 {
			t.Fatalf("%+v", s)
		}
		begun := h.clock.Now()
		s = h.run(t, func(u *upkeep.Upkeep, d time.Duration) bool {
			s, err := u.Status()
			return err != nil || s.Failed == 0 && d > time.Minute || h.clock.Now().Sub(begun) > 20*day
		})
		want := 1
		if history {
			want = 2
		}
		if took := h.clock.Now().Sub(begun); s.Known != want || took < time.Hour || took > 5*time.Hour {
			t.Errorf("history %v: %d known after %v", history, s.Known, took)
		}
	}
}

// A round that is asked for begins at once, also where none does by itself; --all
// renews young leases. A database that is damaged is made anew.
func TestNow(t *testing.T) {
	h := newHouse(t, gridtest.Options{})
	root, leased := h.tree(t)
	h.roots(upkeep.Item{Name: "home:", Cap: root})
	h.opt.Automatic = false
	if err := os.WriteFile(h.opt.Path, bytes.Repeat([]byte("no database "), 10_000), 0o600); err != nil {
		t.Fatal(err)
	}
	for i, q := range []upkeep.Request{{}, {All: true}, {}} {
		u, err := upkeep.Open(h.opt)
		if err != nil {
			t.Fatal(err)
		}
		n, err := u.Now(q)
		if err != nil || n != uint64(i+1) {
			t.Fatal(n, err)
		}
		begun := h.clock.Now()
		s := h.runOpen(t, u, func(u *upkeep.Upkeep, d time.Duration) bool {
			s, err := u.Status()
			return err != nil || s.Last != nil && s.Last.Number == n && d > time.Second
		})
		if err := u.Close(); err != nil {
			t.Fatal(err)
		}
		want := len(leased)
		if i == 2 {
			want = 0
		}
		// The first sleep ends at once when somebody asks; here sleeps take their time.
		if took := h.clock.Now().Sub(begun); s.Last.Renewed != want || took > 7*time.Minute {
			t.Errorf("%+v: %d renewed of %d, in %v", q, s.Last.Renewed, want, took)
		}
		h.clock.advance(time.Minute)
	}
	// Nothing begins by itself.
	h.clock.advance(15 * day)
	sleeps := 0
	if s := h.run(t, func(*upkeep.Upkeep, time.Duration) bool { sleeps++; return sleeps > 5 }); s.Current != nil || s.Last.Number != 3 {
		t.Errorf("%+v", s)
	}
	if info, err := os.Stat(h.opt.Path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the database: %v, %v", info, err)
	}
}

// The first round waits for minutes, and the pace follows what else goes on.
func TestPace(t *testing.T) {
	h := newHouse(t, gridtest.Options{})
	var entries []dirnode.Entry
	for i := range 39 {
		name := fmt.Sprint(i)
		entries = append(entries, entry(name, h.file(t, name)))
	}
	h.roots(upkeep.Item{Name: "home:", Cap: h.dir(t, entries...)})
	for name, c := range map[string]struct {
		busy, ask   bool
		least, most time.Duration
	}{
		"calm": {false, false, 9 * time.Second, 11 * time.Second}, "busy": {true, false, 90 * time.Second, 110 * time.Second}, "asked": {true, true, 900 * time.Millisecond, 1100 * time.Millisecond},
	} {
		h.opt.Busy = func() bool { return c.busy }
		h.opt.Path = filepath.Join(t.TempDir(), "upkeep.db")
		u, err := upkeep.Open(h.opt)
		if err != nil {
			t.Fatal(err)
		}
		if c.ask {
			if _, err := u.Now(upkeep.Request{}); err != nil {
				t.Fatal(err)
			}
		}
		first := time.Duration(-1)
		s := h.runOpen(t, u, func(u *upkeep.Upkeep, d time.Duration) bool {
			if first < 0 {
				first = d
			}
			s, err := u.Status()
			return err != nil || s.Last != nil
		})
		if err := u.Close(); err != nil {
			t.Fatal(err)
		}
		took := s.Last.Finished.Sub(s.Last.Started)
		if c.ask {
			took -= first
		}
		if took < c.least || took > c.most || s.Last.Done != 40 || first < 3*time.Minute || first > 6*time.Minute {
			t.Errorf("%s: %v for %d, after %v", name, took, s.Last.Done, first)
		}
	}
}

// Somebody asks while a round is under way: another takes its place, which repairs at
// once although repair is off and nothing is lost yet; what the first was about to do
// disturbs nothing.
func TestAskedInTheMiddle(t *testing.T) {
	h := newHouse(t, gridtest.Options{Needed: 2})
	h.opt.Needed = 2
	film := h.file(t, "film")
	entries := []dirnode.Entry{entry("film", film)}
	for i := range 30 {
		name := fmt.Sprint(i)
		entries = append(entries, entry(name, h.file(t, name)))
	}
	h.roots(upkeep.Item{Name: "home:", Cap: h.dir(t, entries...)})
	h.drop(t, film, 2)
	h.clock.advance(20 * day)
	paces := 0
	s := h.run(t, func(u *upkeep.Upkeep, d time.Duration) bool {
		if d < time.Second {
			paces++
		}
		if paces == 10 {
			paces++
			if n, err := u.Now(upkeep.Request{Repair: true}); err != nil || n != 2 {
				t.Error(n, err)
			}
		}
		s, err := u.Status()
		return err != nil || s.Last != nil && s.Last.Number == 2 && d > time.Second
	})
	if l := s.Last; l.Done != 32 || l.Open != 0 || l.Repaired != 1 || s.AtRisk != 0 || s.Known != 32 || l.Renewed > 31 {
		t.Errorf("%+v, %+v", l, s)
	}
	for _, e := range entries {
		if least, _, _ := h.leases(t, e.Cap()); least < 30*day {
			t.Errorf("%s: %v left", e.Name, least)
		}
	}
	if _, _, n := h.leases(t, film); n != 5 {
		t.Errorf("%d shares", n)
	}
}
