package immutable

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"warren/node/caps"
	"warren/node/storage"
)

// made is a file that was uploaded once: its cap and its shares.
type made struct {
	chk    caps.CHK
	data   []byte
	shares map[int][]byte
}

func makeFile(t testing.TB, k, n, size int, change ...func(*Config)) made {
	t.Helper()
	g := newGrid(t, n)
	m := made{data: pattern(size)}
	m.chk = mustUpload(t, newClient(t, g, k, 1, n, change...), m.data).Cap.(caps.CHK)
	if m.shares = g.shares(t, m.chk.StorageIndex()); len(m.shares) != n {
		t.Fatalf("%d shares", len(m.shares))
	}
	return m
}

// gridOf has n servers, with the shares that are named by server.
func (m made) gridOf(t testing.TB, n int, held map[int][]int) *fakeGrid {
	t.Helper()
	g := newGrid(t, n)
	for i, shares := range held {
		for _, share := range shares {
			g.nodes[i].put(t, m.chk.StorageIndex(), share, m.shares[share])
		}
	}
	return g
}

// flip has a server damage one bit of a share that it sends.
func (n *fakeNode) flip(share int, at uint64, bit byte) {
	n.set(func(n *fakeNode) {
		n.lie = func(i int, off uint64, b []byte) []byte {
			if i == share && at >= off && at-off < uint64(len(b)) {
				b = bytes.Clone(b)
				b[at-off] ^= bit
			}
			return b
		}
	})
}

func mustCheck(t testing.TB, c *Client, cp caps.Cap, o CheckOptions) *Health {
	t.Helper()
	h, err := c.Check(t.Context(), cp, o)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestCheckCounts(t *testing.T) {
	m := makeFile(t, 2, 4, 3000)
	g := m.gridOf(t, 6, map[int][]int{0: {0}, 1: {1, 2}, 2: {1}})
	g.nodes[4].onList = func(context.Context) error { return errors.New("no") }
	g.nodes[5].onList = func(context.Context) error { return context.DeadlineExceeded }
	c := newClient(t, g, 3, 7, 10)
	id := func(i int) string { return g.nodes[i].id }
	for _, cp := range []caps.Cap{m.chk, m.chk.Verify(), caps.DirCHK{CHK: m.chk}, caps.DirCHKVerify{CHKVerify: m.chk.Verify()}} {
		for _, verify := range []bool{false, true} {
			h := mustCheck(t, c, cp, CheckOptions{Verify: verify})
			want := map[int][]string{0: {id(0)}, 1: {id(1), id(2)}, 2: {id(1)}}
			if !reflect.DeepEqual(h.Shares, want) || h.Hosts() != 3 || h.Happiness() != 3 || h.Healthy() || !h.Recoverable() ||
				h.Summary != "Not Healthy: 3 shares (enc 2-of-4)" || !slices.Equal(h.Responding, []string{id(0), id(1), id(2), id(3)}) ||
				len(h.Corrupt)+len(h.Incompatible)+len(h.Leases) != 0 || len(h.Troubles) != 2 {
				t.Errorf("%s, verify %v: %+v", cp.Kind(), verify, h)
			}
		}
	}
	g.nodes[3].put(t, m.chk.StorageIndex(), 3, m.shares[3])
	if h := mustCheck(t, c, m.chk, CheckOptions{}); !h.Healthy() || h.Summary != "Healthy" || h.Happiness() != 4 {
		t.Errorf("%+v", h)
	}
	// A share number that the file does not have is no share of it.
	g.nodes[3].put(t, m.chk.StorageIndex(), 4, m.shares[3])
	if h := mustCheck(t, c, m.chk, CheckOptions{Verify: true}); !h.Healthy() || len(h.Shares) != 4 || len(h.Corrupt) != 0 {
		t.Errorf("%+v", h)
	}
	lost := m.chk
	lost.Key[0]++
	if h := mustCheck(t, c, lost, CheckOptions{}); h.Recoverable() || h.Happiness() != 0 || h.Summary != "Not Healthy: 0 shares (enc 2-of-4)" {
		t.Errorf("%+v", h)
	}
}

func TestCheckOfOtherCaps(t *testing.T) {
	c := newClient(t, newGrid(t, 1), 1, 1, 1)
	for _, cp := range []caps.Cap{caps.LIT{Data: []byte("x")}, caps.DirLIT{}} {
		h, err := c.Check(t.Context(), cp, CheckOptions{Verify: true, AddLease: true})
		r, err2 := c.CheckAndRepair(t.Context(), cp, CheckOptions{})
		if h != nil || r != nil || err != nil || err2 != nil {
			t.Errorf("%s: %v, %v, %v, %v", cp.Kind(), h, r, err, err2)
		}
	}
	for _, cp := range []caps.Cap{caps.SSKWrite{}, caps.DirRead{}, caps.MDMFVerify{}, caps.Unknown{},
		caps.CHK{Needed: 0, Total: 3, Size: 100}, caps.CHK{Needed: 3, Total: 2, Size: 100}, caps.CHKVerify{Needed: 3, Total: 300, Size: 100}, caps.CHKVerify{Needed: 3, Total: 10}} {
		if h, err := c.Check(t.Context(), cp, CheckOptions{}); h != nil || err == nil {
			t.Errorf("%s: %v", cp.Kind(), h)
		}
		if r, err := c.CheckAndRepair(t.Context(), cp, CheckOptions{}); r != nil || err == nil {
			t.Errorf("%s: %v", cp.Kind(), r)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if h, err := c.Check(ctx, caps.CHK{Needed: 1, Total: 1, Size: 100}, CheckOptions{}); h != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v, %v", h, err)
	}
}

// Leases go to those who hold shares, damaged ones too, and to nobody else.
func TestCheckRenewsLeases(t *testing.T) {
	m := makeFile(t, 2, 4, 3000)
	g := m.gridOf(t, 4, map[int][]int{0: {0}, 1: {1, 2}, 2: {3}})
	g.nodes[0].flip(0, 100, 1)
	refusing := refusingNode{g.nodes[2].Client}
	g.nodes[2].Client = refusing
	c := newClient(t, g, 2, 1, 4)
	h := mustCheck(t, c, m.chk, CheckOptions{Verify: true, AddLease: true})
	if len(h.Leases) != 1 || h.Leases[0].Server != g.nodes[2].id || !errors.Is(h.Leases[0].Err, errNoLease) {
		t.Errorf("%v", h.Leases)
	}
	for i, want := range []int{1, 1, 1, 0} {
		n := g.nodes[i]
		if len(n.leases) != want {
			t.Errorf("server %d: %d leases", i, len(n.leases))
		}
		for _, l := range n.leases {
			if l != c.lease(m.chk.StorageIndex(), []byte("vectors of a tub id!")) {
				t.Errorf("server %d: another secret", i)
			}
		}
	}
	mustCheck(t, c, m.chk, CheckOptions{})
	if len(g.nodes[1].leases) != 1 {
		t.Error("a lease that nobody asked for")
	}
}

var errNoLease = errors.New("no lease")

type refusingNode struct{ storage.Client }

func (refusingNode) AddLease(context.Context, caps.StorageIndex, storage.LeaseSecrets) error {
	return errNoLease
}

// One bit in every byte of a share, whether a reader looks at it or not.
func TestVerifyFindsEveryByte(t *testing.T) {
	for _, version := range []int{1, 2} {
		m := makeFile(t, 1, 2, 1200, func(cfg *Config) { cfg.SegmentSize = 256 })
		share := m.shares[1]
		if version == 2 {
			share = asVersion2(t, share, 1, 2, 1200, 256)
		}
		g := newGrid(t, 1)
		g.nodes[0].put(t, m.chk.StorageIndex(), 1, share)
		c := newClient(t, g, 1, 1, 2)
		if h := mustCheck(t, c, m.chk, CheckOptions{Verify: true}); len(h.Shares) != 1 {
			t.Fatalf("version %d: a sound share: %+v", version, h)
		}
		found := 0
		for at := range uint64(len(share)) {
			g.nodes[0].flip(1, at, 1<<(at%8))
			h := mustCheck(t, c, m.chk.Verify(), CheckOptions{Verify: true})
			bad := h.Corrupt
			if at < 4 && len(bad) == 0 {
				bad = h.Incompatible
			}
			if len(h.Shares) != 0 || len(bad) != 1 || bad[0] != (ShareAt{g.nodes[0].id, 1}) {
				t.Fatalf("version %d, byte %d damaged: %+v", version, at, h)
			}
			found++
		}
		if found < 3000 || found != len(g.nodes[0].advised)+4 && found != len(g.nodes[0].advised)+3 {
			t.Errorf("version %d: %d damages, the server was told of %d", version, found, len(g.nodes[0].advised))
		}
	}
}

// asVersion2 is a share with the wider header that files beyond 4 GiB a share have.
func asVersion2(t testing.TB, share []byte, k, n int, size, segment uint64) []byte {
	t.Helper()
	s, err := newShape(k, n, size, segment)
	if err != nil {
		t.Fatal(err)
	}
	from, to := layoutOf(s, 1), layoutOf(s, 2)
	out := append(to.header(s), share[from.blocks:from.ueb]...)
	return append(append(out, 0, 0, 0, 0), share[from.ueb:]...)
}

// However a share is damaged, a verifier finds it, and no reader is given a wrong
// byte.
func TestRandomFlips(t *testing.T) {
	t.Parallel()
	const halves, flips = 2, 5_000
	m := makeFile(t, 1, 1, 700, func(cfg *Config) { cfg.SegmentSize = 256 })
	var found, refused atomic.Int32
	var wg sync.WaitGroup
	for half := range halves {
		g := m.gridOf(t, 1, map[int][]int{0: {0}})
		c := newClient(t, g, 1, 1, 1)
		rng := rand.New(rand.NewPCG(11, uint64(half)))
		wg.Go(func() {
			for range flips {
				at, bit := rng.Uint64N(uint64(len(m.shares[0]))), byte(1)<<rng.IntN(8)
				g.nodes[0].flip(0, at, bit)
				h, err := c.Check(t.Context(), m.chk, CheckOptions{Verify: true})
				if err != nil || len(h.Shares) != 0 || len(h.Corrupt)+len(h.Incompatible) != 1 {
					t.Errorf("byte %d, bit %x: %+v, %v", at, bit, h, err)
					return
				}
				found.Add(1)
				switch got, err := download(t, c, m.chk); {
				case !bytes.HasPrefix(m.data, got):
					t.Errorf("byte %d, bit %x: wrong bytes", at, bit)
				case err != nil:
					refused.Add(1)
				case len(got) != len(m.data):
					t.Errorf("byte %d, bit %x: %d bytes and no error", at, bit, len(got))
				}
			}
		})
	}
	wg.Wait()
	if found.Load() != halves*flips || refused.Load() < halves*flips/3 {
		t.Errorf("%d flips found, %d downloads refused", found.Load(), refused.Load())
	}
}

// Shares under other numbers, of other files, cut short, and of other versions.
func TestVerifyFindsStrangers(t *testing.T) {
	m := makeFile(t, 2, 5, 9000, func(cfg *Config) { cfg.SegmentSize = 1024 })
	other := makeFile(t, 2, 5, 9001, func(cfg *Config) { cfg.SegmentSize = 1024 })
	si := m.chk.StorageIndex()
	cases := map[string][]byte{
		"nothing": {}, "three bytes": {0, 0, 0}, "header": m.shares[0][:header1], "half": m.shares[0][:len(m.shares[0])/2], "all but a byte": m.shares[0][:len(m.shares[0])-1],
		"zeros": make([]byte, 5000), "of another file": other.shares[0],
	}
	for i := range 4 {
		cases[fmt.Sprintf("share %d", i+1)] = m.shares[i+1]
	}
	for name, share := range cases {
		for _, answer := range []func([]byte) []byte{
			func(b []byte) []byte { return b },
			func(b []byte) []byte { return b[:min(len(b), 700)] }, // in small pieces
		} {
			g := newGrid(t, 1)
			g.nodes[0].put(t, si, 0, m.shares[0])
			g.nodes[0].lie = func(_ int, off uint64, b []byte) []byte {
				end := min(off+uint64(max(len(b), 3000)), uint64(len(share)))
				return answer(share[min(off, end):end])
			}
			h := mustCheck(t, newClient(t, g, 2, 1, 5), m.chk, CheckOptions{Verify: true})
			if len(h.Shares) != 0 || len(h.Corrupt)+len(h.Incompatible) != 1 {
				t.Errorf("%s: %+v", name, h)
			}
		}
	}
	if len(cases) < 11 {
		t.Errorf("only %d cases", len(cases))
	}
	// Room that Tahoe before 1.19 reserved behind the UEB is no damage.
	g := newGrid(t, 1)
	g.nodes[0].put(t, si, 0, append(slices.Clone(m.shares[0]), make([]byte, 581)...))
	if h := mustCheck(t, newClient(t, g, 2, 1, 5), m.chk, CheckOptions{Verify: true}); len(h.Shares) != 1 {
		t.Errorf("with room behind: %+v", h)
	}
}

// A share that cannot be read to its end is neither good nor corrupt.
func TestVerifyOfServersThatFail(t *testing.T) {
	m := makeFile(t, 2, 3, 500_000, func(cfg *Config) { cfg.SegmentSize = 64 << 10 })
	g := m.gridOf(t, 3, map[int][]int{0: {0}, 1: {1}, 2: {2}})
	broken := errors.New("the connection broke")
	g.nodes[1].onRead = func(_ context.Context, _ int, off, _ uint64) error {
		if off > 100_000 && off < 240_000 {
			return broken
		}
		return nil
	}
	g.nodes[2].onRead = func(_ context.Context, _ int, off, _ uint64) error {
		if off > 100_000 {
			return storage.ErrNoShare
		}
		return nil
	}
	h := mustCheck(t, newClient(t, g, 2, 1, 3), m.chk, CheckOptions{Verify: true})
	if !slices.Equal(slices.Sorted(maps.Keys(h.Shares)), []int{0}) || len(h.Corrupt) != 0 || len(h.Responding) != 3 || len(h.Troubles) != 2 {
		t.Fatalf("%+v", h)
	}
	if !slices.ContainsFunc(h.Troubles, func(t Trouble) bool { return errors.Is(t.Err, broken) && t.Share == 1 }) ||
		!slices.ContainsFunc(h.Troubles, func(t Trouble) bool { return strings.Contains(t.String(), "share 2: storage: no such share") }) {
		t.Errorf("%v", h.Troubles)
	}
}

// Servers that never answer end no check.
func TestCheckOfServersThatHang(t *testing.T) {
	m := makeFile(t, 1, 1, 3000)
	g := m.gridOf(t, 1, map[int][]int{0: {0}})
	g.nodes[0].onRead = func(ctx context.Context, _ int, _, _ uint64) error { return hang(ctx) }
	h := mustCheck(t, newClient(t, g, 1, 1, 1, func(cfg *Config) { cfg.StallTimeout = time.Millisecond }), m.chk, CheckOptions{Verify: true})
	if len(h.Responding) != 1 || len(h.Shares) != 0 || len(h.Troubles) != 1 || !errors.Is(h.Troubles[0].Err, context.DeadlineExceeded) {
		t.Errorf("%+v", h)
	}
	g.nodes[0].onList = hang
	h = mustCheck(t, newClient(t, g, 1, 1, 1, func(cfg *Config) { cfg.QueryTimeout = time.Millisecond }), m.chk, CheckOptions{})
	if len(h.Responding) != 0 || len(h.Troubles) != 1 || h.Troubles[0].Share != -1 {
		t.Errorf("%+v", h)
	}
}
