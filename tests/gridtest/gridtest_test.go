package gridtest_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"testing"

	"warren/node/caps"
	"warren/node/dirnode"
	"warren/node/immutable"
	"warren/tests/gridtest"
)

// TestServersComeAndGo: with three of five shares needed and four servers of
// happiness, two servers may go for reading and one for writing.
func TestServersComeAndGo(t *testing.T) {
	for name, o := range map[string]gridtest.Options{"memory": {}, "disk and HTTPS": {Dir: t.TempDir(), HTTPS: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			g := gridtest.New(t, o)
			body := make([]byte, 300_000)
			rand.Read(body)
			res, err := g.Files.Upload(ctx, bytes.NewReader(body), int64(len(body)))
			if err != nil {
				t.Fatal(err)
			}
			si, _ := caps.Index(res.Cap)
			if n := g.Shares(t, si); n != 5 {
				t.Fatalf("%d shares", n)
			}
			dir, err := g.Dirs.Make(ctx, []dirnode.Entry{dirnode.NewEntry("film", res.Cap, nil)})
			if err != nil {
				t.Fatal(err)
			}

			g.Servers[0].Vanish() // nobody has noticed
			g.Servers[1].Stop(t)
			entry, err := g.Dirs.Lookup(ctx, dir, []string{"film"})
			if err != nil {
				t.Fatal(err)
			}
			f, err := g.Files.Open(ctx, entry.Cap())
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			var got bytes.Buffer
			if err := f.WriteRange(ctx, &got, 0, -1); err != nil || !bytes.Equal(got.Bytes(), body) {
				t.Fatalf("%d bytes of %d: %v", got.Len(), len(body), err)
			}
			more := bytes.Repeat([]byte("more "), 100)
			if _, err := g.Files.Upload(ctx, bytes.NewReader(more), int64(len(more))); !errors.Is(err, immutable.ErrUnhappy) {
				t.Fatalf("stored on three servers: %v", err)
			}
			g.Servers[0].Start(t)
			if _, err := g.Files.Upload(ctx, bytes.NewReader(more), int64(len(more))); err != nil {
				t.Fatal(err)
			}

			// Another client sees the same, and its own edits arrive.
			bob := g.Join(t)
			if err := bob.Dirs.Edit(ctx, dir, []dirnode.Change{{Entry: dirnode.NewEntry("note", caps.LIT{Data: []byte("x")}, nil)}}); err != nil {
				t.Fatal(err)
			}
			if list, _, err := g.Dirs.List(ctx, dir); err != nil || len(list) != 2 {
				t.Fatalf("%d entries: %v", len(list), err)
			}
		})
	}
}
