package immutable

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"warren/node/caps"
	"warren/node/storage"
)

func mustRepair(t testing.TB, c *Client, cp caps.Cap, o CheckOptions) *Repaired {
	t.Helper()
	r, err := c.CheckAndRepair(t.Context(), cp, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// isTrue compares what a repair says with what the servers hold: good shares are
// there, byte for byte what the upload wrote.
func (m made) isTrue(t testing.TB, g *fakeGrid, h *Health) {
	t.Helper()
	for share, ids := range h.Shares {
		for _, id := range ids {
			got, err := g.node(id).Client.ReadShare(t.Context(), storage.Immutable, m.chk.StorageIndex(), share, 0, 1<<40)
			if err != nil || !bytes.Equal(got, m.shares[share]) {
				t.Errorf("server %s, share %d: %d bytes, not the %d of the upload; %v", id, share, len(got), len(m.shares[share]), err)
			}
		}
	}
}

// From any k shares come the others, byte for byte, with the verifycap alone and
// whatever the client's own encoding is.
func TestRepairMakesTheSameShares(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	made := 0
	for _, c := range []struct{ k, n, size int }{
		{1, 1, 100}, {1, 3, 56}, {2, 3, 4096}, {2, 3, 4097}, {3, 10, 100_000}, {7, 10, 70_001}, {22, 30, 30_000}, {71, 255, 5_000},
	} {
		m := makeFile(t, c.k, c.n, c.size, func(cfg *Config) { cfg.SegmentSize = 4096 })
		for range 3 {
			held, rest := map[int][]int{}, rng.Perm(c.n)[:min(c.k, c.n)]
			for _, share := range rest {
				server := rng.IntN(5)
				held[server] = append(held[server], share)
			}
			g := m.gridOf(t, 5, held)
			r := mustRepair(t, newClient(t, g, 3, 7, 10), m.chk.Verify(), CheckOptions{Verify: c.n < 100})
			if c.k == c.n {
				if r.Attempted || r.After != r.Before || !r.After.Healthy() {
					t.Errorf("%d of %d: %+v", c.k, c.n, r)
				}
				continue
			}
			if !r.Successful() || r.Failure != nil || !r.After.Healthy() || r.Before.Healthy() || r.After.Summary != "healthy" || len(r.Before.Shares) != c.k {
				t.Fatalf("%d of %d: %+v, before %+v, after %+v", c.k, c.n, r, r.Before, r.After)
			}
			m.isTrue(t, g, r.After)
			for share, data := range g.shares(t, m.chk.StorageIndex()) {
				if !bytes.Equal(data, m.shares[share]) {
					t.Fatalf("%d of %d: share %d differs", c.k, c.n, share)
				}
				made++
			}
			again := mustRepair(t, newClient(t, g, 3, 7, 10), m.chk, CheckOptions{})
			if again.Attempted || again.Failure != nil || again.Successful() || again.Before.Summary != "Healthy" {
				t.Errorf("again: %+v", again)
			}
		}
	}
	if made < 800 {
		t.Errorf("%d shares compared", made)
	}
}

// Shares go where an upload would have put them, with our lease.
func TestRepairPlacesAsUploads(t *testing.T) {
	m := makeFile(t, 3, 10, 20_000)
	si := m.chk.StorageIndex()
	fresh := newGrid(t, 10)
	up := newClient(t, fresh, 3, 10, 10)
	want := mustUpload(t, up, m.data).Shares
	for lost := range 8 {
		g := newGrid(t, 10)
		for share, ids := range want {
			if share >= lost {
				g.node(ids[0]).put(t, si, share, m.shares[share])
			}
		}
		c := newClient(t, g, 3, 7, 10)
		r := mustRepair(t, c, m.chk, CheckOptions{Verify: true})
		if !maps.EqualFunc(r.After.Shares, want, slices.Equal) || r.After.Happiness() != 10 {
			t.Errorf("%d lost: %v, an upload %v", lost, r.After.Shares, want)
		}
		for share := range lost {
			n := g.node(want[share][0])
			if len(n.leases) == 0 || n.leases[0] != c.lease(si, []byte("vectors of a tub id!")) {
				t.Errorf("share %d has no lease of ours", share)
			}
		}
	}
}

// A damaged share cannot be overwritten: the good one goes to another server, in a
// full grid too, and every server with room keeps a share of its own.
func TestRepairOfDamagedShares(t *testing.T) {
	m := makeFile(t, 2, 4, 20_000)
	si := m.chk.StorageIndex()
	damaged := func(servers int, bad ...int) *fakeGrid {
		g := newGrid(t, servers)
		for i := range 4 {
			data := m.shares[i]
			if slices.Contains(bad, i) {
				data = bytes.Clone(data)
				data[500]++
			}
			g.nodes[i].put(t, si, i, data)
		}
		return g
	}
	for _, c := range []struct{ servers, happiness int }{{4, 4}, {5, 4}, {8, 4}} {
		g := damaged(c.servers, 1, 2)
		client := newClient(t, g, 2, 1, 4)
		r := mustRepair(t, client, m.chk, CheckOptions{Verify: true})
		if !r.Successful() || len(r.Before.Corrupt) != 2 || len(r.After.Corrupt) != 2 || r.After.Happiness() != c.happiness {
			t.Errorf("%d servers: %+v, %+v, happiness %d", c.servers, r, r.After, r.After.Happiness())
		}
		m.isTrue(t, g, r.After)
		h := mustCheck(t, client, m.chk, CheckOptions{Verify: true})
		if !maps.EqualFunc(h.Shares, r.After.Shares, slices.Equal) || len(h.Corrupt) != 2 {
			t.Errorf("%d servers: a check finds %+v", c.servers, h)
		}
	}
}

// Without verify a damaged share shows when it is read, and is replaced as well.
func TestRepairLearnsWhileReading(t *testing.T) {
	m := makeFile(t, 2, 4, 20_000)
	for name, damage := range map[string]func(*fakeNode){
		"block":  func(n *fakeNode) { n.flip(0, 500, 1) },
		"header": func(n *fakeNode) { n.flip(0, 3, 4) },
		"gone": func(n *fakeNode) {
			n.onRead = func(context.Context, int, uint64, uint64) error { return storage.ErrNoShare }
		},
	} {
		g := m.gridOf(t, 5, map[int][]int{0: {0}, 1: {1}, 2: {2}})
		damage(g.nodes[0])
		c := newClient(t, g, 2, 1, 4)
		for _, n := range g.nodes[1:] { // so that the first server is asked first
			c.speeds.failed(n.id)
		}
		r := mustRepair(t, c, m.chk, CheckOptions{})
		if !r.Successful() || len(r.After.Shares[0]) != 1 || r.After.Shares[0][0] == g.nodes[0].id || len(r.Before.Shares) != 3 {
			t.Errorf("%s: %+v, after %+v", name, r, r.After)
		}
		if len(r.After.Corrupt)+len(r.After.Troubles) != 1 {
			t.Errorf("%s: after: %+v", name, r.After)
		}
		m.isTrue(t, g, r.After)
	}
}

// A server that fails while shares are written is done without; what it was to take
// goes to others, or is said to be missing.
func TestRepairWithServersFailing(t *testing.T) {
	m := makeFile(t, 2, 6, 300_000)
	broken := errors.New("broken")
	hooks := map[string]func(*fakeNode){
		"at the first write": func(n *fakeNode) {
			n.onWrite = func(context.Context, int, uint64) error { return broken }
		},
		"at the last write": func(n *fakeNode) {
			n.onWrite = func(_ context.Context, _ int, off uint64) error {
				if off >= 64<<10 {
					return broken
				}
				return nil
			}
		},
		"when asked for room": func(n *fakeNode) {
			n.onMake = func(context.Context, []int) error { return broken }
		},
	}
	for name, hook := range hooks {
		for _, servers := range []int{9, 6} {
			g := m.gridOf(t, servers, map[int][]int{0: {0}, 1: {1}, 2: {2}})
			for _, n := range g.nodes[3:6] {
				hook(n)
			}
			for _, n := range g.nodes[:3] {
				n.readonly = true
			}
			c := newClient(t, g, 2, 1, 6)
			r := mustRepair(t, c, m.chk, CheckOptions{Verify: true})
			m.isTrue(t, g, r.After)
			if enough := servers > 6; r.Successful() != enough || (r.Failure == nil) != enough || !r.Attempted {
				t.Errorf("%s, %d servers: %+v, after %+v", name, servers, r, r.After)
			} else if !enough && (!errors.Is(r.Failure, broken) || len(r.After.Shares) != 3 || r.After.Summary != "not healthy") {
				t.Errorf("%s, %d servers: %v, after %+v", name, servers, r.Failure, r.After)
			}
			for i, n := range g.nodes[3:6] {
				n.set(func(n *fakeNode) { n.onWrite, n.onMake = nil, nil })
				if held, err := n.Client.ListShares(t.Context(), storage.Immutable, m.chk.StorageIndex()); err != nil || len(held) != 0 {
					t.Errorf("%s: server %d holds %v, %v", name, i+3, held, err)
				}
			}
			// Nothing half written is in the way of another try.
			if r := mustRepair(t, c, m.chk, CheckOptions{}); !r.After.Healthy() {
				t.Errorf("%s, again: %+v", name, r.Failure)
			}
		}
	}
}

// A holder that dies while others are repaired is not counted any more.
func TestRepairWithHoldersDying(t *testing.T) {
	m := makeFile(t, 1, 4, 20_000)
	broken := errors.New("broken")
	for _, room := range []bool{true, false} {
		g := m.gridOf(t, 4, map[int][]int{0: {0}, 1: {1}, 2: {2, 3}})
		g.nodes[0].flip(0, 600, 1)
		for i, n := range g.nodes {
			n.readonly = i != 2 && !room
		}
		// Its first answer is that to the check; then it is asked for room.
		dying, listed := g.nodes[2], false
		dying.onList = func(context.Context) error {
			if listed {
				return broken
			}
			listed = true
			return nil
		}
		dying.onMake = func(context.Context, []int) error { return broken }
		g.nodes[3].onMake = func(context.Context, []int) error { return storage.ErrNoSpace }
		r := mustRepair(t, newClient(t, g, 1, 1, 4), m.chk, CheckOptions{Verify: true})
		if r.Successful() != room || (r.Failure == nil) != room {
			t.Errorf("room %v: %+v, after %+v", room, r, r.After)
		}
		if !room && (len(r.After.Shares) != 1 || len(r.After.Shares[1]) != 1 || !errors.Is(r.Failure, broken)) {
			t.Errorf("room %v: %+v, after %+v", room, r.Failure, r.After)
		}
		m.isTrue(t, g, r.After)
	}
}

// Nobody has room: the file stays as it is, and the error says so.
func TestRepairWithoutRoom(t *testing.T) {
	m := makeFile(t, 2, 4, 20_000)
	full := func(context.Context, []int) error { return storage.ErrNoSpace }
	for name, stop := range map[string]func(*fakeNode){
		"read-only": func(n *fakeNode) { n.readonly = true },
		"full":      func(n *fakeNode) { n.onMake = full },
	} {
		g := m.gridOf(t, 4, map[int][]int{0: {0}, 1: {1}, 2: {2}})
		for _, n := range g.nodes {
			stop(n)
		}
		r := mustRepair(t, newClient(t, g, 2, 1, 4), m.chk, CheckOptions{Verify: true})
		if r.Successful() || !r.Attempted || !errors.Is(r.Failure, errNoRoom) || len(r.After.Shares) != 3 {
			t.Errorf("%s: %+v, after %+v", name, r, r.After)
		}
		if got := g.shares(t, m.chk.StorageIndex()); len(got) != 3 {
			t.Errorf("%s: %d shares", name, len(got))
		}
	}
}

// Too few good shares are an error, when the check finds them and when reading does.
func TestRepairOfWhatIsLost(t *testing.T) {
	m := makeFile(t, 3, 5, 20_000)
	for _, verify := range []bool{true, false} {
		g := m.gridOf(t, 6, map[int][]int{0: {0}, 1: {1}, 2: {2}})
		g.nodes[1].flip(1, 500, 4)
		c := newClient(t, g, 3, 1, 5)
		r, err := c.CheckAndRepair(t.Context(), m.chk, CheckOptions{Verify: verify})
		var short *NotEnoughSharesError
		if r != nil || !errors.As(err, &short) || short.Found != 2 || short.Needed != 3 {
			t.Errorf("verify %v: %+v, %v", verify, r, err)
		}
		if got := g.shares(t, m.chk.StorageIndex()); len(got) != 3 {
			t.Errorf("verify %v: %d shares", verify, len(got))
		}
	}
}

// Shares that were made of different files do not become one by repair.
func TestRepairOfWhatNeverWasAFile(t *testing.T) {
	g := newGrid(t, 4)
	c := newClient(t, g, 2, 1, 4)
	chk, shares := dishonest(t, c)
	for i := range 3 {
		g.nodes[i].put(t, chk.StorageIndex(), i, shares[i])
	}
	r, err := c.CheckAndRepair(t.Context(), chk, CheckOptions{Verify: true})
	if r != nil || !errors.Is(err, ErrMalformed) {
		t.Errorf("%+v, %v", r, err)
	}
	if got := g.shares(t, chk.StorageIndex()); len(got) != 3 {
		t.Errorf("%d shares", len(got))
	}
}

// dishonest makes shares of a 2-of-4 file whose parity belongs to no file.
func dishonest(t testing.TB, c *Client) (caps.CHK, [][]byte) {
	t.Helper()
	data := pattern(5000)
	s, err := newShape(2, 4, 5000, 5000)
	if err != nil {
		t.Fatal(err)
	}
	coder, err := c.coder(2, 4)
	if err != nil {
		t.Fatal(err)
	}
	var kept [][]byte
	var hashes [][32]byte
	_, err = encode(t.Context(), s, coder, textOf(t, s, [16]byte{}, data), 1, collect{s.n, func(blocks [][]byte) error {
		for _, b := range blocks {
			kept = append(kept, bytes.Clone(b))
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	kept[3][7] ^= 1
	for _, b := range kept {
		hashes = append(hashes, blockHash(b))
	}
	p := prove(s, [32]byte{}, [][32]byte{segmentHash(append(bytes.Clone(kept[0]), kept[1]...)[:5000])}, hashes)
	l := newLayout(s)
	var shares [][]byte
	for i, b := range kept {
		shares = append(shares, bytes.Join([][]byte{l.header(s), b, p.tail(l, i)}, nil))
	}
	return caps.CHK{UEBHash: p.uebHash, Needed: 2, Total: 4, Size: 5000}, shares
}

// Others who repair or upload at the same time do no harm.
func TestRepairAmongOthers(t *testing.T) {
	m := makeFile(t, 2, 6, 100_000)
	g := m.gridOf(t, 6, map[int][]int{0: {0}, 1: {1}})
	clients := []*Client{newClient(t, g, 2, 1, 6), newClient(t, g, 2, 1, 6, func(cfg *Config) { cfg.LeaseSecret = Secret("another node's") })}
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			r, err := clients[i%2].CheckAndRepair(t.Context(), m.chk, CheckOptions{Verify: i < 4})
			if err != nil {
				t.Error(err)
				return
			}
			m.isTrue(t, g, r.After)
			if r.After.Healthy() != (r.Failure == nil) {
				t.Errorf("%+v, after %+v", r, r.After)
			}
		})
	}
	wg.Wait()
	if r := mustRepair(t, clients[0], m.chk, CheckOptions{Verify: true}); !r.After.Healthy() || len(r.After.Corrupt) != 0 {
		t.Errorf("%+v", r.After)
	}
	// A share that somebody else completes after the check is believed, or verified.
	for _, verify := range []bool{false, true} {
		g := m.gridOf(t, 6, map[int][]int{0: {0}, 1: {1}})
		for i, n := range g.nodes[2:] {
			n.onMake = func(context.Context, []int) error {
				n.onMake = nil
				data := bytes.Clone(m.shares[i+2])
				if i == 0 {
					data[99]++
				}
				n.put(t, m.chk.StorageIndex(), i+2, data)
				return nil
			}
		}
		r := mustRepair(t, newClient(t, g, 2, 1, 6), m.chk, CheckOptions{Verify: verify})
		if verify {
			m.isTrue(t, g, r.After)
		}
		if !r.Successful() || len(r.After.Corrupt) > 1 {
			t.Errorf("verify %v: %+v, after %+v", verify, r, r.After)
		}
	}
}

// A repair that is given up leaves nothing half written.
func TestRepairGivenUp(t *testing.T) {
	m := makeFile(t, 2, 4, 2_000_000)
	g := m.gridOf(t, 4, map[int][]int{0: {0}, 1: {1}})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, n := range g.nodes[2:] {
		n.onWrite = func(ctx context.Context, _ int, off uint64) error {
			if off > 0 {
				cancel()
				return hang(ctx)
			}
			return nil
		}
	}
	r, err := newClient(t, g, 2, 1, 4).CheckAndRepair(ctx, m.chk, CheckOptions{})
	if r != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("%+v, %v", r, err)
	}
	for _, n := range g.nodes[2:] {
		if n.aborted == 0 {
			t.Errorf("%s was not told", n.id)
		}
		n.set(func(n *fakeNode) { n.onWrite = nil })
	}
	if r := mustRepair(t, newClient(t, g, 2, 1, 4), m.chk, CheckOptions{}); !r.Successful() {
		t.Errorf("again: %+v", r.Failure)
	}
}
