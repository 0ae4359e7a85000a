package immutable

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"warren/node/caps"
	"warren/node/storage"
	"warren/node/storage/storagetest"
)

func mustFetch(t testing.TB, c *Client, cp caps.Cap, want []byte) {
	t.Helper()
	var b bytes.Buffer
	if err := c.Fetch(t.Context(), cp, &b); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.Bytes(), want) {
		t.Fatalf("got %d bytes that differ from the %d uploaded", b.Len(), len(want))
	}
}

// counted has all nodes count the questions what they hold, and the reads.
func (g *fakeGrid) counted() (lists, reads *atomic.Int64) {
	lists, reads = new(atomic.Int64), new(atomic.Int64)
	for _, n := range g.nodes {
		n.onList = func(context.Context) error { lists.Add(1); return nil }
		n.onRead = func(context.Context, int, uint64, uint64) error { reads.Add(1); return nil }
	}
	return lists, reads
}

// misplace has every server hold the shares of the next one.
func (g *fakeGrid) misplace(t testing.TB, si caps.StorageIndex) {
	t.Helper()
	where := map[int]*fakeNode{}
	all := g.shares(t, si)
	for _, n := range g.nodes {
		held, err := n.Client.ListShares(t.Context(), storage.Immutable, si)
		if err != nil {
			t.Fatal(err)
		}
		for _, share := range held {
			where[share] = n
		}
	}
	for i, n := range g.nodes {
		n.Client = storagetest.NewLocal(t)
		for share, data := range all {
			if where[share] == g.nodes[(i+1)%len(g.nodes)] {
				n.put(t, si, share, data)
			}
		}
	}
}

func TestFetchOfASmallFileAsksNobodyWhatHeHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGrid(t, 7)
		c := newClient(t, g, 3, 5, 5)
		data, large := pattern(10000), pattern(400_000)
		cp, big := mustUpload(t, c, data).Cap, mustUpload(t, c, large).Cap
		lists, reads := g.counted()
		mustFetch(t, c, cp, data)
		if lists.Load() != 0 || reads.Load() != 3 {
			t.Errorf("%d lists and %d reads for a small file", lists.Load(), reads.Load())
		}
		mustFetch(t, c, big, large)
		if lists.Load() != int64(len(g.nodes)) {
			t.Errorf("%d lists for a large file", lists.Load())
		}
		mustFetch(t, c, mustUpload(t, c, data[:50]).Cap, data[:50]) // a LIT
	})
}

func TestFetchFindsWhatIsNotWhereItWouldBePut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGrid(t, 5)
		c := newClient(t, g, 3, 5, 5)
		data := pattern(10000)
		cp := mustUpload(t, c, data).Cap
		g.misplace(t, cp.(caps.CHK).StorageIndex())
		lists, reads := g.counted()
		const fetches = 200
		for range fetches {
			mustFetch(t, c, cp, data)
		}
		for _, n := range g.nodes {
			if d := c.speeds.get(n.id).demerits; d != 0 {
				t.Errorf("a server that never said it had the share has %d demerits", d)
			}
		}
		// It guessed before fetches 1, 3, 6, 11, 20, 37, 70, 135 and 200, at five reads
		// or a few more each.
		if lists.Load() != fetches*int64(len(g.nodes)) || reads.Load() < 3*fetches+5*5 || reads.Load() > 3*fetches+9*8 {
			t.Errorf("%d lists, %d reads for %d fetches", lists.Load(), reads.Load(), fetches)
		}

		// One good one, and it is trusted again.
		other := pattern(20000)
		good := mustUpload(t, c, other).Cap
		c.guesses.rest = 0
		before := lists.Load()
		mustFetch(t, c, good, other)
		mustFetch(t, c, good, other)
		if lists.Load() != before {
			t.Errorf("%d lists after a good guess", lists.Load()-before)
		}
	})
}

func TestFetchWithoutSomeServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGrid(t, 5)
		data := pattern(10000)
		cp := mustUpload(t, newClient(t, g, 3, 5, 5), data).Cap
		all := slices.Clone(g.nodes)
		for i := range all { // not known any more: all behind it move up
			g.nodes = slices.Delete(slices.Clone(all), i, i+1)
			mustFetch(t, newClient(t, g, 3, 4, 5), cp, data)
		}
		for i := range all { // known, and silent
			g.nodes = all
			all[i].onRead = func(ctx context.Context, _ int, _, _ uint64) error { return hang(ctx) }
			all[i].onList = hang
			mustFetch(t, newClient(t, g, 3, 5, 5), cp, data)
			all[i].onRead, all[i].onList = nil, nil
		}
		g.nodes = all[:2]
		err := newClient(t, g, 3, 2, 5).Fetch(t.Context(), cp, &bytes.Buffer{})
		if e := new(NotEnoughSharesError); !errors.As(err, &e) || e.Found > 2 || e.Last != nil {
			t.Errorf("with two servers: %v", err)
		}
	})
}
