package immutable

import (
	"bytes"
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// A server that stops taking its share in the midst of an upload holds up nobody for
// long: the file is stored without it if that is enough, and elsewhere if not.
func TestServerThatStalls(t *testing.T) {
	for _, c := range []struct {
		name                  string
		servers, happy, total int
		at                    uint64
		most                  time.Duration
	}{
		{"early, and not needed", 10, 7, 10, 0, 30 * time.Second},
		{"midway, and not needed", 10, 7, 10, 1 << 20, 30 * time.Second},
		{"in its last piece, and not needed", 4, 3, 4, 3 << 20, 30 * time.Second},
		{"midway, and needed", 5, 4, 4, 1 << 20, 3 * time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGrid(t, c.servers)
				client := newClient(t, g, 2, c.happy, c.total)
				data := pattern(8 << 20)
				stalls := g.node(g.Permuted(mustIndex(t, client, data))[1].ID)
				stalls.onWrite = func(ctx context.Context, _ int, offset uint64) error {
					if offset >= c.at {
						return hang(ctx)
					}
					return nil
				}
				started := time.Now()
				res := mustUpload(t, client, data)
				if took := time.Since(started); took > c.most {
					t.Errorf("it took %v", took)
				}
				if res.Happiness < c.happy {
					t.Errorf("%+v", res)
				}
				for _, ids := range res.Shares {
					if slices.Contains(ids, stalls.id) {
						t.Error("a share counts as stored where it is not")
					}
				}
				mustDownload(t, client, res.Cap, data)
			})
		})
	}
}

// All are slow, and one is slower: that is no reason to do without it.
func TestSlowServerIsNoLaggard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGrid(t, 4)
		c := newClient(t, g, 2, 3, 4)
		for i, n := range g.nodes {
			n.Client = distant{n.Client, newLine(60_000 - 15_000*i)}
		}
		data := pattern(8 << 20)
		if res := mustUpload(t, c, data); len(res.Shares) != 4 {
			t.Errorf("%+v", res)
		}
	})
}

// A server that hangs costs one upload the time of a question; those that follow leave
// it out, until it answers again.
func TestSilentServerIsWaitedForOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGrid(t, 5)
		c := newClient(t, g, 2, 4, 5)
		silent := g.nodes[2]
		silent.onList = func(ctx context.Context) error { return hang(ctx) }
		silent.onMake = func(ctx context.Context, _ []int) error { return hang(ctx) }
		upload := func(i int) (time.Duration, bool) {
			started := time.Now()
			res := mustUpload(t, c, pattern(100_000+i))
			on := false
			for _, ids := range res.Shares {
				on = on || slices.Contains(ids, silent.id)
			}
			return time.Since(started), on
		}
		if took, on := upload(0); took < 30*time.Second || on {
			t.Errorf("the first upload took %v, share %t", took, on)
		}
		for i := range 5 {
			if took, on := upload(1 + i); took > time.Second || on {
				t.Errorf("another upload took %v, share %t", took, on)
			}
		}
		silent.set(func(n *fakeNode) { n.onList, n.onMake = nil, nil })
		upload(10)
		if took, on := upload(11); took > time.Second || !on {
			t.Errorf("it answers again, and an upload took %v, share %t", took, on)
		}
		// When there are too few others, it is waited for.
		silent.set(func(n *fakeNode) {
			n.onList = func(ctx context.Context) error { return hang(ctx) }
			n.onMake = func(ctx context.Context, _ []int) error { return hang(ctx) }
		})
		upload(12)
		silent.set(func(n *fakeNode) { n.onList, n.onMake = nil, nil })
		few := &fakeGrid{nodes: g.nodes[1:4]}
		c.cfg.Servers, c.cfg.Happy = few, 3
		if res, err := c.Upload(t.Context(), onlyReader{bytes.NewReader(pattern(200_000))}, 200_000); err != nil || res.Happiness != 3 {
			t.Errorf("%+v, %v", res, err)
		}
	})
}
