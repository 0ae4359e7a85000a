package gateway_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"warren/cmd/internal/gateway"
	"warren/magicfolder"
	"warren/node/caps"
	"warren/tests/gridtest"
)

// hand is a clock that a test moves; nothing waits by it.
type hand struct {
	mu  sync.Mutex
	now time.Time
}

func (h *hand) Now() time.Time { h.mu.Lock(); defer h.mu.Unlock(); return h.now }

func (h *hand) Add(d time.Duration) { h.mu.Lock(); defer h.mu.Unlock(); h.now = h.now.Add(d) }

func (h *hand) After(time.Duration) (<-chan time.Time, func()) { return nil, func() {} }

func index(t *testing.T, c magicfolder.Cap) caps.StorageIndex {
	t.Helper()
	parsed, err := caps.Parse(c.Text())
	if err != nil {
		t.Fatal(err)
	}
	si, ok := caps.Index(parsed)
	if !ok {
		t.Fatal("no storage index")
	}
	return si
}

// forget takes a server's shares of a directory away, as a disk that broke does.
func forget(t *testing.T, s *gridtest.Server, si caps.StorageIndex) {
	t.Helper()
	have, err := s.Backend.Shares(si)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Backend.Publish(si, nil, have); err != nil {
		t.Fatal(err)
	}
}

// A directory is lost when all servers are there and say so, and not before; the
// folder makes it anew, and the other participant goes on with it.
func TestLost(t *testing.T) {
	ctx := t.Context()
	grid := gridtest.New(t, gridtest.Options{})
	mine := grid.Join(t)
	clock := &hand{now: time.Unix(1_800_000_000, 0)}
	var alice, bob member
	var err error
	alice.dir, bob.dir = t.TempDir(), t.TempDir()
	if alice.folder, err = manager(t, grid.Client).Create(ctx, "project", alice.dir, "alice"); err != nil {
		t.Fatal(err)
	}
	folders, err := magicfolder.NewManager(magicfolder.Options{
		Grid: gateway.New(mine.Files, mine.Dirs), StatePath: filepath.Join(t.TempDir(), "folders.db"), Settle: -1, Linger: -1, Clock: clock,
		Lost: func(ctx context.Context, dir magicfolder.Cap) (bool, error) {
			return gateway.Lost(ctx, mine.Grid, mine.Slots, dir)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := folders.Close(); err != nil {
			t.Errorf("closing the folders: %v", err)
		}
	})
	if bob.folder, err = folders.Join(ctx, "project", bob.dir, "bob", alice.folder.Collective()); err != nil {
		t.Fatal(err)
	}
	bob.poll(t)
	bob.write(t, "f", "bob's")
	bob.scan(t)
	alice.poll(t)
	alice.want(t, "f", "bob's")

	own := bob.folder.Readcap()
	si := index(t, own)
	look := func(want bool) {
		t.Helper()
		for _, c := range []*gridtest.Client{mine, grid.Client} {
			if got, err := gateway.Lost(ctx, c.Grid, c.Slots, own); err != nil || got != want {
				t.Errorf("lost: %v, %v, want %v", got, err, want)
			}
		}
	}
	look(false)
	for _, s := range grid.Servers[:2] {
		forget(t, s, si)
	}
	look(false) // three of five shares are left
	for _, s := range grid.Servers[2:4] {
		forget(t, s, si)
	}
	look(true)
	// With those that hold shares merely away it is not, however long.
	grid.Servers[0].Stop(t)
	look(false)
	var looks int
	for looks = 0; looks < 15; looks++ {
		if err := bob.folder.PollNow(ctx); !errors.Is(err, magicfolder.ErrUnavailable) {
			t.Fatal(err)
		}
		clock.Add(5 * time.Minute)
	}
	if bob.folder.Readcap() != own {
		t.Fatal("made anew while a server was away")
	}
	grid.Servers[0].Start(t)
	for looks = 0; looks < 15 && bob.folder.Readcap() == own; looks++ {
		if err := bob.folder.PollNow(ctx); err != nil && !errors.Is(err, magicfolder.ErrUnavailable) {
			t.Fatal(err)
		}
		clock.Add(5 * time.Minute)
	}
	if looks != 12 {
		t.Errorf("made anew after %d looks", looks)
	}
	bob.write(t, "f", "bob's next")
	bob.scan(t)
	alice.poll(t)
	alice.want(t, "f", "bob's next")
	if a := alice.folder.Status().Alarms; len(a) != 0 {
		t.Errorf("alice's alarms: %q", a)
	}
}
