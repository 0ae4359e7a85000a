package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"warren/cmd/internal/alias"
	"warren/cmd/internal/gateway"
	"warren/magicfolder"
	"warren/node/caps"
	"warren/node/dirnode"
	"warren/node/storage"
	"warren/node/storage/expire"
	"warren/node/upkeep"
	"warren/tests/gridtest"
)

const day = 24 * time.Hour

// clock is the servers' and upkeep's; sleeps take none.
type clock struct {
	mu  sync.Mutex
	now time.Time
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

// keep runs a node's upkeep until it has finished a round.
func keep(t *testing.T, clock *clock, client *gridtest.Client, roots gateway.Roots, history bool) upkeep.Status {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var u *upkeep.Upkeep
	begun := false
	u, err := upkeep.Open(upkeep.Options{
		Path: filepath.Join(roots.Dir, "private", "upkeep.db"), Automatic: true, History: history,
		Servers: client.Grid, Needed: 3, Happy: 4, Files: client.Files, Slots: client.Slots, Dirs: client.Dirs,
		Roots: roots.All, Reach: roots.Reach, Now: clock.Now,
		Sleep: func(ctx context.Context, d time.Duration) error {
			s, err := u.Status()
			if begun = begun || s.Current != nil; err != nil || begun && s.Current == nil {
				cancel()
				return context.Canceled
			}
			clock.advance(d)
			return ctx.Err()
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := u.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := u.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	s, err := u.Status()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// collect lets every server remove what has no lease that holds, and returns the
// storage indexes that it removed shares of.
func collect(t *testing.T, clock *clock, g *gridtest.Grid) map[string]bool {
	t.Helper()
	gone := map[string]bool{}
	for _, s := range g.Servers {
		before := indexes(t, s)
		ctx, cancel := context.WithCancel(t.Context())
		first := true
		expire.New(s.Storage, expire.Options{
			Settings: expire.Settings{Enabled: true, Mode: expire.Age, Immutable: true, Mutable: true},
			State:    filepath.Join(t.TempDir(), "state.json"), Now: clock.Now,
			Sleep: func(ctx context.Context, d time.Duration) error {
				if !first && d > time.Hour { // until the next round
					cancel()
				}
				first = false
				return ctx.Err()
			},
		}).Run(ctx)
		cancel()
		after := indexes(t, s)
		for _, si := range before {
			if !slices.Contains(after, si) {
				gone[si] = true
			}
		}
	}
	return gone
}

func indexes(t *testing.T, s *gridtest.Server) (all []string) {
	t.Helper()
	for _, prefix := range storage.Prefixes() {
		list, err := s.Storage.Indexes(prefix)
		if err != nil {
			t.Fatal(err)
		}
		for _, si := range list {
			all = append(all, si.Text())
		}
	}
	return all
}

// couple is a folder of two, with some versions of a file, a file behind an alias, and
// one of nobody's.
type couple struct {
	grid       *gridtest.Grid
	clock      *clock
	alice, bob member
	managers   [2]*magicfolder.Manager
	stray      string // storage index
	aliased    string
	alias      string // the file's line
}

func newCouple(t *testing.T, versions int) *couple {
	t.Helper()
	ctx := t.Context()
	c := &couple{clock: &clock{now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}}
	c.grid = gridtest.New(t, gridtest.Options{Now: c.clock.Now})
	var err error
	c.alice.dir, c.bob.dir = t.TempDir(), t.TempDir()
	c.managers[0], c.managers[1] = manager(t, c.grid.Client), manager(t, c.grid.Join(t))
	if c.alice.folder, err = c.managers[0].Create(ctx, "project", c.alice.dir, "alice"); err != nil {
		t.Fatal(err)
	}
	if c.bob.folder, err = c.managers[1].Join(ctx, "project", c.bob.dir, "bob", c.alice.folder.Collective()); err != nil {
		t.Fatal(err)
	}
	for v := range versions {
		c.alice.write(t, "deep/report", strings.Repeat(fmt.Sprintf("version %d ", v), 20))
		c.alice.scan(t)
	}
	c.bob.poll(t)
	c.bob.want(t, "deep/report", strings.Repeat(fmt.Sprintf("version %d ", versions-1), 20))
	c.bob.write(t, "from bob", strings.Repeat("bob's ", 20))
	c.bob.scan(t)

	put := func(text string) caps.Cap {
		res, err := c.grid.Files.Upload(ctx, strings.NewReader(text), int64(len(text)))
		if err != nil {
			t.Fatal(err)
		}
		return res.Cap
	}
	si, _ := caps.Index(put(strings.Repeat("nobody's ", 20)))
	c.stray = si.Text()
	film := put(strings.Repeat("film ", 20))
	si, _ = caps.Index(film)
	c.aliased = si.Text()
	dir, err := c.grid.Dirs.Make(ctx, []dirnode.Entry{dirnode.NewEntry("film", film, nil)})
	if err != nil {
		t.Fatal(err)
	}
	c.alias = "home: " + dir.Text() + "\n"
	return c
}

// roots is alice's node directory, with an alias and a line that is none.
func (c *couple) roots(t *testing.T) gateway.Roots {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "private"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(alias.File(dir), []byte(c.alias), 0o600); err != nil {
		t.Fatal(err)
	}
	return gateway.Roots{Dir: dir, Folders: c.managers[0]}
}

// wantWhole: a newcomer gets the file, and every ancestor of it can be read.
func (c *couple) wantWhole(t *testing.T, versions int, contents bool) {
	t.Helper()
	ctx := t.Context()
	gw := gateway.New(c.grid.Files, c.grid.Dirs)
	var carol member
	carol.dir = t.TempDir()
	var err error
	if carol.folder, err = manager(t, c.grid.Join(t)).Join(ctx, "project", carol.dir, "carol", c.alice.folder.Collective()); err != nil {
		t.Fatal(err)
	}
	carol.poll(t)
	carol.want(t, "deep/report", strings.Repeat(fmt.Sprintf("version %d ", versions-1), 20))
	carol.want(t, "from bob", strings.Repeat("bob's ", 20))
	seen, readable := 0, 0
	var walk func(r magicfolder.Root)
	walk = func(r magicfolder.Root) {
		found, err := c.managers[0].Reach(ctx, r)
		if err != nil {
			t.Errorf("%s %q: %v", r.Kind, r.Name, err)
		}
		for _, f := range found {
			if f.Kind != magicfolder.AncestorRoot && f.Kind != magicfolder.VersionRoot && f.Kind != magicfolder.PlainRoot {
				continue
			}
			if f.Past {
				seen++
				if gw.Get(ctx, f.Cap, &strings.Builder{}) == nil {
					readable++
				}
			} else if f.Kind != magicfolder.PlainRoot {
				walk(f)
			}
		}
	}
	walk(c.managers[0].Roots()[0])
	want := versions - 1
	if !contents {
		want = 0
	}
	if seen != versions-1 || readable != want {
		t.Errorf("%d earlier contents, %d of them readable, want %d", seen, readable, want)
	}
}

// TestUpkeepAgainstExpiry: what a folder with 50 versions of a file needs, and what
// an alias leads to, outlives leases that end; what nobody names does not. Without
// upkeep it all goes, and without history the earlier contents go alone.
func TestUpkeepAgainstExpiry(t *testing.T) {
	const versions = 50
	for name, want := range map[string]struct{ on, history bool }{
		"on": {true, true}, "without history": {true, false}, "off": {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCouple(t, versions)
			c.clock.advance(29 * day) // two days are left
			if want.on {
				s := keep(t, c.clock, c.grid.Client, c.roots(t), want.history)
				// The file's versions: snapshot and content each; bob's file the same; the
				// Collective, two Personal directories; the alias and its film. Metadata
				// of snapshots and @metadata files are literals.
				expected := 2*versions + 2 + 3 + 2
				if !want.history {
					expected -= versions - 1
				}
				if s.Known != expected || s.Last.Renewed != expected || s.AtRisk != 0 || s.Failed != 0 {
					t.Errorf("%d known, %d renewed, want %d; %+v, %+v", s.Known, s.Last.Renewed, expected, s.Risks, s.Failures)
				}
			}
			c.clock.advance(3 * day)
			gone := collect(t, c.clock, c.grid)
			if !gone[c.stray] {
				t.Error("what nobody needs is still there: nothing is proven")
			}
			switch {
			case !want.on:
				if len(gone) < 2*versions || !gone[c.aliased] {
					t.Errorf("without upkeep only %d went: nothing is proven", len(gone))
				}
				return
			case want.history && len(gone) != 1, !want.history && len(gone) != versions:
				t.Errorf("%d storage indexes went", len(gone))
			}
			if gone[c.aliased] {
				t.Error("what an alias leads to went")
			}
			c.wantWhole(t, versions, want.history)
		})
	}
}

// TestUpkeepOfABrokenParticipant: a participant's directory that cannot be read is
// told, and takes nothing with it.
func TestUpkeepOfABrokenParticipant(t *testing.T) {
	c := newCouple(t, 3)
	c.alias = "no alias at all\nbroken: URI:DIR2:x\n" + c.alias
	roots := c.roots(t)
	if s := keep(t, c.clock, c.grid.Client, roots, true); s.AtRisk != 0 || !strings.Contains(s.Last.Unnamed, `"broken"`) || strings.Contains(s.Last.Unnamed, "URI:") {
		t.Fatalf("%+v, %q", s.Risks, s.Last.Unnamed)
	}
	known, err := roots.All()
	if err != nil && len(known) == 0 {
		t.Fatal(err)
	}
	// bob's directory loses the shares that it needs; his file's shares stay.
	var personal caps.Cap
	collective := magicfolder.Root{Cap: c.alice.folder.Collective(), Kind: magicfolder.CollectiveRoot}
	found, err := c.managers[0].Reach(t.Context(), collective)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		if f.Name == "bob" {
			if personal, err = caps.Parse(f.Cap.Text()); err != nil {
				t.Fatal(err)
			}
		}
	}
	si, ok := caps.Index(personal)
	if !ok {
		t.Fatal("bob is no participant")
	}
	for _, s := range c.grid.Servers[:3] {
		if _, err := s.Storage.Remove(si, func(storage.Held) bool { return true }); err != nil {
			t.Fatal(err)
		}
	}
	c.clock.advance(29 * day)
	s := keep(t, c.clock, c.grid.Client, roots, true)
	if s.AtRisk != 1 || s.Risks[0].Path != "folder project/bob" || s.Risks[0].Readable() {
		t.Errorf("%+v, %+v", s.Risks, s.Failures)
	}
	c.clock.advance(3 * day)
	gone := collect(t, c.clock, c.grid)
	delete(gone, si.Text())
	if len(gone) != 1 || !gone[c.stray] {
		t.Errorf("%d storage indexes went", len(gone))
	}
}
