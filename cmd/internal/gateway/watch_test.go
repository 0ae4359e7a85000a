package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"warren/cmd/internal/gateway"
	"warren/magicfolder"
	"warren/tests/gridtest"
)

// running is a participant whose folder runs and asks for changes by itself only once
// in a very long while.
func running(t *testing.T, c *gridtest.Client, open func(m *magicfolder.Manager, dir string) (*magicfolder.Folder, error)) (m member) {
	t.Helper()
	folders, err := magicfolder.NewManager(magicfolder.Options{
		Grid: gateway.New(c.Files, c.Dirs), StatePath: filepath.Join(t.TempDir(), "folders.db"), Linger: -1, Poll: time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	m.dir = t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		if err := folders.Close(); err != nil {
			t.Errorf("closing the folders: %v", err)
		}
	})
	wg.Go(func() { folders.Run(ctx) })
	if m.folder, err = open(folders, m.dir); err != nil {
		t.Fatal(err)
	}
	return m
}

// arrives waits until the file is there.
func (m member) arrives(t *testing.T, name, text string) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		b, err := os.ReadFile(filepath.Join(m.dir, name))
		if err == nil && string(b) == text {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %q, %v, want %q; %+v", name, b, err, text, m.folder.Status())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// TestToldOfEdits: between servers that tell of changes nobody needs to ask: an edit
// arrives long before anybody would.
func TestToldOfEdits(t *testing.T) {
	for _, https := range []bool{false, true} {
		t.Run(fmt.Sprintf("HTTPS %v", https), func(t *testing.T) {
			grid := gridtest.New(t, gridtest.Options{HTTPS: https})
			alice := running(t, grid.Client, func(m *magicfolder.Manager, dir string) (*magicfolder.Folder, error) {
				return m.Create(t.Context(), "project", dir, "alice")
			})
			bob := running(t, grid.Join(t), func(m *magicfolder.Manager, dir string) (*magicfolder.Folder, error) {
				return m.Join(t.Context(), "project", dir, "bob", alice.folder.Collective())
			})
			// Whoever has not polled yet waits for no news.
			for i := range 3 {
				name := fmt.Sprint("file ", i)
				alice.write(t, name, "from alice")
				bob.arrives(t, name, "from alice")
				bob.write(t, name, "edited by bob")
				alice.arrives(t, name, "edited by bob")
			}
			// A server goes, and one comes back: the others tell.
			grid.Servers[0].Stop(t)
			alice.write(t, "without one", "x")
			bob.arrives(t, "without one", "x")
			grid.Servers[0].Start(t)
			alice.write(t, "with all", "y")
			bob.arrives(t, "with all", "y")
		})
	}
}

// TestUnwatched: a directory that no server holds, or that changed since, is not waited for.
func TestUnwatched(t *testing.T) {
	grid := gridtest.New(t, gridtest.Options{})
	g := gateway.New(grid.Files, grid.Dirs)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	write, read, err := g.MakeDirectory(ctx)
	if err != nil {
		t.Fatal(err)
	}
	dirs := []magicfolder.Cap{read}
	if _, err := g.Watch(ctx, dirs, []magicfolder.Version{""}); !errors.Is(err, magicfolder.ErrUnwatched) {
		t.Errorf("never asked for: %v", err)
	}
	first := g.Versions(ctx, dirs)[0]
	if first.Err != nil {
		t.Fatal(first.Err)
	}
	quiet, err := g.Watch(ctx, dirs, []magicfolder.Version{first.Version})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-quiet:
		t.Error("told of a change that nobody made")
	case <-time.After(100 * time.Millisecond):
	}
	if err := g.Update(ctx, write, []magicfolder.Change{{Entry: magicfolder.Entry{Name: "n", Read: "URI:LIT:"}}}); err != nil {
		t.Fatal(err)
	}
	<-quiet
	second := g.Versions(ctx, dirs)[0]
	if second.Err != nil || second.Version == first.Version {
		t.Fatal(second)
	}
	late, err := g.Watch(ctx, dirs, []magicfolder.Version{first.Version})
	if err != nil {
		t.Fatal(err)
	}
	<-late // it has changed already
	for _, s := range grid.Servers {
		s.Stop(t)
	}
	if _, err := g.Watch(ctx, dirs, []magicfolder.Version{second.Version}); !errors.Is(err, magicfolder.ErrUnwatched) {
		t.Errorf("no server is there: %v", err)
	}
	if err := g.Versions(ctx, dirs)[0].Err; !errors.Is(err, magicfolder.ErrUnavailable) {
		t.Errorf("no server is there: %v", err)
	}
}
