package gateway_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"warren/cmd/internal/gateway"
	"warren/magicfolder"
	"warren/magicfolder/snapshot"
	"warren/node/caps"
	"warren/tests/gridtest"
)

func put(t *testing.T, g *gateway.Gateway, text string) magicfolder.Cap {
	t.Helper()
	c, err := g.PutFile(t.Context(), strings.NewReader(text), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func get(t *testing.T, g *gateway.Gateway, c magicfolder.Cap) string {
	t.Helper()
	var b bytes.Buffer
	if err := g.Get(t.Context(), c, &b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func list(t *testing.T, g *gateway.Gateway, c magicfolder.Cap) ([]magicfolder.Entry, magicfolder.Version) {
	t.Helper()
	entries, v, err := g.List(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return entries, v
}

func names(entries []magicfolder.Entry) []string {
	var all []string
	for _, e := range entries {
		all = append(all, e.Name)
	}
	return all
}

func TestFilesAndDirectories(t *testing.T) {
	ctx := t.Context()
	grid := gridtest.New(t, gridtest.Options{})
	g := gateway.New(grid.Files, grid.Dirs)
	short, long := strings.Repeat("s", 55), strings.Repeat("long ", 50_000)
	lit, chk := put(t, g, short), put(t, g, long)
	if !strings.HasPrefix(lit.Text(), "URI:LIT:") || !strings.HasPrefix(chk.Text(), "URI:CHK:") {
		t.Fatal("55 bytes are to be a LIT, more a CHK")
	}
	if get(t, g, lit) != short || get(t, g, chk) != long {
		t.Error("a file came back changed")
	}
	if again := put(t, g, long); again != chk {
		t.Error("the same bytes got another capability")
	}

	write, read, err := g.MakeDirectory(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if !g.Writable(write) || g.Writable(read) || g.Writable(chk) || g.Writable("garbage") {
		t.Error("Writable is for writecaps of mutable directories")
	}
	if ro, err := g.ReadOnly(write); err != nil || ro != read {
		t.Errorf("ReadOnly: %v", err)
	}
	if ro, err := g.ReadOnly(read); err != nil || ro != read {
		t.Errorf("ReadOnly of a readcap: %v", err)
	}
	if ro, err := g.ReadOnly(chk); err != nil || ro != chk {
		t.Errorf("ReadOnly of an immutable file: %v", err)
	}
	empty, v0 := list(t, g, read)
	if len(empty) != 0 || v0 == "" {
		t.Fatalf("%d entries, version %q", len(empty), v0)
	}

	// Many changes at once; a writecap keeps its readcap beside it.
	write2, read2, err := g.MakeDirectory(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Update(ctx, write, []magicfolder.Change{
		{Entry: magicfolder.Entry{Name: "lit", Read: lit, Metadata: json.RawMessage(`{"x": [1, 2.50, "é"]}`)}},
		{Entry: magicfolder.Entry{Name: "cafe\u0301", Read: chk}, Absent: true},
		{Entry: magicfolder.Entry{Name: "dir", Write: write2}},
		{Entry: magicfolder.Entry{Name: "never there"}, Delete: true},
	}); err != nil {
		t.Fatal(err)
	}
	entries, v1 := list(t, g, write)
	if !slices.Equal(names(entries), []string{"café", "dir", "lit"}) || v1 == v0 {
		t.Fatalf("%q, version %q after %q", names(entries), v1, v0)
	}
	if entries[1].Write != write2 || entries[1].Read != read2 || entries[0].Read != chk || entries[0].Write != "" {
		t.Error("a capability came back changed")
	}
	// As Python writes it: Tahoe reads numbers and writes them anew.
	if !strings.HasPrefix(string(entries[2].Metadata), `{"x": [1, 2.5, "\u00e9"], "tahoe": {"linkcrtime": `) {
		t.Errorf("metadata %s", entries[2].Metadata)
	}
	through, _ := list(t, g, read)
	if through[1].Write != "" || through[1].Read != read2 {
		t.Error("a readcap gave the right to write")
	}
	if v := g.Versions(ctx, []magicfolder.Cap{read})[0]; v.Err != nil || v.Version != v1 {
		t.Errorf("version %q, %v, the list's is %q", v.Version, v.Err, v1)
	}

	// Absent: all or nothing.
	err = g.Update(ctx, write, []magicfolder.Change{
		{Entry: magicfolder.Entry{Name: "new", Read: lit}},
		{Entry: magicfolder.Entry{Name: "lit", Read: chk}, Absent: true},
	})
	if !errors.Is(err, magicfolder.ErrExists) {
		t.Errorf("Absent over an entry: %v", err)
	}
	if entries, v := list(t, g, write); len(entries) != 3 || v != v1 {
		t.Errorf("a refused update left %q", names(entries))
	}

	for what, err := range map[string]error{
		"updating through a readcap":  g.Update(ctx, read, nil),
		"updating a file":             g.Update(ctx, chk, nil),
		"updating garbage":            g.Update(ctx, "garbage", nil),
		"getting a directory":         g.Get(ctx, write, &bytes.Buffer{}),
		"getting a mutable directory": g.Get(ctx, read, &bytes.Buffer{}),
	} {
		if err == nil {
			t.Errorf("%s: no error", what)
		} else if strings.Contains(err.Error(), "URI:") {
			t.Errorf("%s: the error tells a capability", what)
		}
	}
	if _, _, err := g.List(ctx, chk); err == nil {
		t.Error("a file was listed")
	}
	if _, err := g.PutDirectory(ctx, []magicfolder.Entry{{Name: "d", Write: write}}); err == nil {
		t.Error("a mutable directory went into an immutable one")
	}
}

// TestSnapshots: what magic-folder 24.3 puts into a snapshot goes through and
// comes back, an absent content too.
func TestSnapshots(t *testing.T) {
	ctx := t.Context()
	grid := gridtest.New(t, gridtest.Options{})
	g := gateway.New(grid.Files, grid.Dirs)
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	author := snapshot.Author{Name: "alice", Key: key.Public().(ed25519.PublicKey)}
	for name, content := range map[string]magicfolder.Cap{"file": put(t, g, strings.Repeat("x", 1000)), "short file": put(t, g, "x"), "delete": ""} {
		m := snapshot.Metadata{Relpath: "a/ü", Author: author, Modified: 1700000000}
		meta := put(t, g, string(m.Encode()))
		c, err := g.PutDirectory(ctx, snapshot.Entries(key, m, content, meta, 1700000001))
		if err != nil {
			t.Fatal(err)
		}
		entries, v := list(t, g, c)
		if v != "" || !slices.Equal(names(entries), []string{"content", "metadata"}) || entries[0].Read != content || entries[0].Write != "" || entries[1].Read != meta {
			t.Errorf("%s: %q, version %q", name, names(entries), v)
		}
		s, err := snapshot.Read(ctx, g, c)
		if err != nil || s.Content != content || s.Deleted() != (name == "delete") || s.Relpath != "a/ü" {
			t.Errorf("%s: %v", name, err)
		}
		again, err := g.PutDirectory(ctx, snapshot.Entries(key, m, content, meta, 1700000001))
		if err != nil || again != c {
			t.Errorf("%s: the same snapshot got another capability: %v", name, err)
		}
	}

	// The bytes are Tahoe's: the entry without capabilities has two empty ones.
	meta := json.RawMessage(`{"mtime": 1, "ctime": 2}`)
	c, err := g.PutDirectory(ctx, []magicfolder.Entry{{Name: "content", Metadata: meta}})
	if err != nil {
		t.Fatal(err)
	}
	p, err := caps.Parse(c.Text())
	if err != nil {
		t.Fatal(err)
	}
	f, err := grid.Files.Open(ctx, caps.File(p))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b bytes.Buffer
	if err := f.WriteRange(ctx, &b, 0, -1); err != nil {
		t.Fatal(err)
	}
	inner := "7:content,0:,0:,24:" + string(meta) + ","
	if want := fmt.Sprintf("%d:%s,", len(inner), inner); b.String() != want {
		t.Errorf("stored\n%s\nTahoe stores\n%s", b.String(), want)
	}
}

func TestErrorsOfAGridThatIsAway(t *testing.T) {
	ctx := t.Context()
	grid := gridtest.New(t, gridtest.Options{})
	g := gateway.New(grid.Files, grid.Dirs)
	chk := put(t, g, strings.Repeat("x", 1000))
	write, read, err := g.MakeDirectory(ctx)
	if err != nil {
		t.Fatal(err)
	}
	update := []magicfolder.Change{{Entry: magicfolder.Entry{Name: "x", Read: chk}}}

	// Three of five: below happy, enough to read.
	grid.Servers[0].Stop(t)
	grid.Servers[1].Stop(t)
	if _, err := g.PutFile(ctx, strings.NewReader(strings.Repeat("y", 1000)), 1000); !errors.Is(err, magicfolder.ErrUnhappy) {
		t.Errorf("PutFile: %v", err)
	}
	if _, err := g.PutDirectory(ctx, []magicfolder.Entry{{Name: strings.Repeat("y", 100), Read: chk}}); !errors.Is(err, magicfolder.ErrUnhappy) {
		t.Errorf("PutDirectory: %v", err)
	}
	if _, _, err := g.MakeDirectory(ctx); !errors.Is(err, magicfolder.ErrUnhappy) {
		t.Errorf("MakeDirectory: %v", err)
	}
	if err := g.Update(ctx, write, update); !errors.Is(err, magicfolder.ErrUnhappy) {
		t.Errorf("Update: %v", err)
	}
	if get(t, g, chk) == "" {
		t.Error("nothing read from three servers")
	}
	list(t, g, read)

	// Two of five: nothing can be read.
	grid.Servers[2].Stop(t)
	if err := g.Get(ctx, chk, &bytes.Buffer{}); !errors.Is(err, magicfolder.ErrUnavailable) {
		t.Errorf("Get: %v", err)
	}
	if _, _, err := g.List(ctx, read); !errors.Is(err, magicfolder.ErrUnavailable) {
		t.Errorf("List: %v", err)
	}
	if err := g.Versions(ctx, []magicfolder.Cap{read})[0].Err; !errors.Is(err, magicfolder.ErrUnavailable) {
		t.Errorf("Version: %v", err)
	}

	for _, s := range grid.Servers[:3] {
		s.Start(t)
	}
	if err := g.Update(ctx, write, update); err != nil {
		t.Errorf("with all servers back: %v", err)
	}
	over, cancel := context.WithCancel(ctx)
	cancel()
	if err := g.Get(over, chk, &bytes.Buffer{}); !errors.Is(err, context.Canceled) {
		t.Errorf("a Get that was given up: %v", err)
	}
}

// TestConcurrentUpdates: two nodes write one directory at once, and every
// acknowledged entry stands.
func TestConcurrentUpdates(t *testing.T) {
	ctx := t.Context()
	grid := gridtest.New(t, gridtest.Options{})
	bob := grid.Join(t)
	nodes := []*gateway.Gateway{gateway.New(grid.Files, grid.Dirs), gateway.New(bob.Files, bob.Dirs)}
	write, _, err := nodes[0].MakeDirectory(ctx)
	if err != nil {
		t.Fatal(err)
	}
	lit := magicfolder.Cap(caps.LIT{Data: []byte("x")}.Text())
	const each = 4
	var wg sync.WaitGroup
	for i, g := range nodes {
		wg.Go(func() {
			for j := range each {
				change := magicfolder.Change{Entry: magicfolder.Entry{Name: fmt.Sprintf("%d-%d", i, j), Read: lit}, Absent: true}
				if err := g.Update(ctx, write, []magicfolder.Change{change}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if entries, _ := list(t, nodes[0], write); len(entries) != each*len(nodes) {
		t.Errorf("%d entries stand of %d that were acknowledged: %q", len(entries), each*len(nodes), names(entries))
	}
}
