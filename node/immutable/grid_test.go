package immutable

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"
	"testing"

	"warren/node/caps"
	"warren/node/grid"
	"warren/node/storage"
	"warren/node/storage/storagetest"
	"warren/node/taghash"
)

var (
	testConvergence = Secret("convergence secret for vectors!!")
	testLeaseSecret = Secret("lease secret for the vectors...!")
)

// pattern is the plaintext that the vector generator uses too.
func pattern(n int) []byte {
	out := make([]byte, 0, n+sha256.Size)
	for i := 0; len(out) < n; i++ {
		h := sha256.Sum256(fmt.Appendf(nil, "warren %d", i))
		out = append(out, h[:]...)
	}
	return out[:n]
}

// fakeGrid is real storage servers in memory behind clients that can be told to
// misbehave.
type fakeGrid struct {
	nodes []*fakeNode
}

func newGrid(t testing.TB, n int) *fakeGrid {
	g := &fakeGrid{}
	for i := range n {
		g.nodes = append(g.nodes, &fakeNode{
			Client: storagetest.NewLocal(t),
			id:     fmt.Sprintf("v0-server%03d", i),
		})
	}
	return g
}

func (g *fakeGrid) Permuted(si caps.StorageIndex) []grid.Server {
	nodes := slices.Clone(g.nodes)
	slices.SortFunc(nodes, func(a, b *fakeNode) int {
		x, y := taghash.Permute(si, []byte(a.id)), taghash.Permute(si, []byte(b.id))
		return bytes.Compare(x[:], y[:])
	})
	var out []grid.Server
	for _, n := range nodes {
		out = append(out, grid.Server{ID: n.id, PermutationSeed: []byte(n.id), LeaseSeed: []byte("vectors of a tub id!"), ReadOnly: n.readonly, Client: n})
	}
	return out
}

func (g *fakeGrid) node(id string) *fakeNode {
	for _, n := range g.nodes {
		if n.id == id {
			return n
		}
	}
	return nil
}

// fakeNode is one server. Its hooks run before the real operation; an error
// takes its place.
type fakeNode struct {
	storage.Client
	id       string
	readonly bool

	mu      sync.Mutex // guards what follows
	onList  func(ctx context.Context) error
	onMake  func(ctx context.Context, shares []int) error
	onWrite func(ctx context.Context, share int, offset uint64) error
	onRead  func(ctx context.Context, share int, offset, size uint64) error
	lie     func(share int, offset uint64, data []byte) []byte
	reads   int
	bytes   int
	writes  int
	sent    int // bytes
	advised []string
	leases  []storage.LeaseSecrets
	aborted int
}

func (n *fakeNode) set(f func(n *fakeNode)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f(n)
}

// hang blocks until the caller gives up.
func hang(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func (n *fakeNode) ListShares(ctx context.Context, kind storage.ShareKind, si caps.StorageIndex) ([]int, error) {
	n.mu.Lock()
	hook := n.onList
	n.mu.Unlock()
	if hook != nil {
		if err := hook(ctx); err != nil {
			return nil, err
		}
	}
	return n.Client.ListShares(ctx, kind, si)
}

func (n *fakeNode) CreateImmutable(ctx context.Context, si caps.StorageIndex, upload storage.Secret, lease storage.LeaseSecrets, shares []int, size uint64) ([]int, []int, error) {
	n.mu.Lock()
	hook := n.onMake
	n.leases = append(n.leases, lease)
	n.mu.Unlock()
	if hook != nil {
		if err := hook(ctx, shares); err != nil {
			return nil, nil, err
		}
	}
	return n.Client.CreateImmutable(ctx, si, upload, lease, shares, size)
}

func (n *fakeNode) WriteImmutable(ctx context.Context, si caps.StorageIndex, share int, upload storage.Secret, offset uint64, data []byte) (bool, error) {
	missing, err := n.Write(ctx, si, share, upload, offset, data)
	return err == nil && len(missing) == 0, err
}

// Write makes the node a storage.Resumer, as far as what is behind it is one.
func (n *fakeNode) Write(ctx context.Context, si caps.StorageIndex, share int, upload storage.Secret, offset uint64, data []byte) ([]storage.Range, error) {
	n.mu.Lock()
	hook := n.onWrite
	n.writes++
	n.mu.Unlock()
	if hook != nil {
		if err := hook(ctx, share, offset); err != nil {
			return nil, err
		}
	}
	n.set(func(n *fakeNode) { n.sent += len(data) })
	return storage.Write(ctx, n.Client, si, share, upload, offset, data)
}

func (n *fakeNode) AbortImmutable(ctx context.Context, si caps.StorageIndex, share int, upload storage.Secret) error {
	n.set(func(n *fakeNode) { n.aborted++ })
	return n.Client.AbortImmutable(ctx, si, share, upload)
}

func (n *fakeNode) AddLease(ctx context.Context, si caps.StorageIndex, lease storage.LeaseSecrets) error {
	n.set(func(n *fakeNode) { n.leases = append(n.leases, lease) })
	return n.Client.AddLease(ctx, si, lease)
}

func (n *fakeNode) ReadShare(ctx context.Context, kind storage.ShareKind, si caps.StorageIndex, share int, offset, size uint64) ([]byte, error) {
	n.mu.Lock()
	hook, lie := n.onRead, n.lie
	n.mu.Unlock()
	if hook != nil {
		if err := hook(ctx, share, offset, size); err != nil {
			return nil, err
		}
	}
	data, err := n.Client.ReadShare(ctx, kind, si, share, offset, size)
	if err == nil && lie != nil {
		data = lie(share, offset, data)
	}
	n.set(func(n *fakeNode) { n.reads++; n.bytes += len(data) })
	if into := storage.Offered(ctx, uint64(len(data))); into != nil && err == nil {
		data = into[:copy(into, data)]
	}
	return data, err
}

func (n *fakeNode) AdviseCorrupt(ctx context.Context, kind storage.ShareKind, si caps.StorageIndex, share int, reason string) error {
	n.set(func(n *fakeNode) { n.advised = append(n.advised, reason) })
	return n.Client.AdviseCorrupt(ctx, kind, si, share, reason)
}

func newClient(t testing.TB, g Servers, k, happy, n int, change ...func(*Config)) *Client {
	t.Helper()
	cfg := Config{Servers: g, Needed: k, Happy: happy, Total: n, Convergence: testConvergence, LeaseSecret: testLeaseSecret, TempDir: t.TempDir()}
	for _, f := range change {
		f(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// onlyReader hides Seek.
type onlyReader struct{ r *bytes.Reader }

func (o onlyReader) Read(p []byte) (int, error) { return o.r.Read(p) }

func mustUpload(t testing.TB, c *Client, data []byte) Result {
	t.Helper()
	res, err := c.Upload(t.Context(), bytes.NewReader(data), -1)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func download(t testing.TB, c *Client, cp caps.Cap) ([]byte, error) {
	t.Helper()
	f, err := c.Open(t.Context(), cp)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var b bytes.Buffer
	err = f.WriteRange(t.Context(), &b, 0, -1)
	return b.Bytes(), err
}

func mustDownload(t testing.TB, c *Client, cp caps.Cap, want []byte) {
	t.Helper()
	got, err := download(t, c, cp)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("got %d bytes that differ from the %d uploaded", len(got), len(want))
	}
}

// collect is a sink that shows every stripe to got.
type collect struct {
	n   int
	got func(blocks [][]byte) error
}

func (c collect) room(_ context.Context, size int) ([][]byte, error) {
	out := make([][]byte, c.n)
	for i := range out {
		out[i] = make([]byte, size)
	}
	return out, nil
}

func (c collect) put(blocks [][]byte) error { return c.got(blocks) }

// tail is all that follows the blocks in a share.
func (p *proof) tail(l layout, share int) []byte {
	out := make([]byte, 3*len(p.crypttext)*hashSize+len(p.ends(l, share)))
	p.fill(l, share, 0, out)
	return out
}

// textOf is the crypttext of data.
func textOf(t testing.TB, s shape, key [16]byte, data []byte) crypttext {
	t.Helper()
	next, err := encrypt(s, key, plaintext{r: bytes.NewReader(data)})
	if err != nil {
		t.Fatal(err)
	}
	return next
}

// shares reads every share of a file off the servers.
func (g *fakeGrid) shares(t testing.TB, si caps.StorageIndex) map[int][]byte {
	t.Helper()
	out := map[int][]byte{}
	for _, n := range g.nodes {
		held, err := n.Client.ListShares(t.Context(), storage.Immutable, si)
		if err != nil {
			t.Fatal(err)
		}
		for _, share := range held {
			data, err := n.Client.ReadShare(t.Context(), storage.Immutable, si, share, 0, 1<<40)
			if err != nil {
				t.Fatal(err)
			}
			out[share] = data
		}
	}
	return out
}

// put writes whole shares to one server, as an upload would.
func (n *fakeNode) put(t testing.TB, si caps.StorageIndex, share int, data []byte) {
	t.Helper()
	ctx := t.Context()
	_, allocated, err := n.Client.CreateImmutable(ctx, si, storage.Secret{1}, storage.LeaseSecrets{}, []int{share}, uint64(len(data)))
	if err != nil || len(allocated) != 1 {
		t.Fatalf("allocate: %v %v", allocated, err)
	}
	if done, err := n.Client.WriteImmutable(ctx, si, share, storage.Secret{1}, 0, data); err != nil || !done {
		t.Fatalf("write: %v %v", done, err)
	}
}

func blockHash(b []byte) [32]byte   { return taghash.BlockHash(b) }
func segmentHash(b []byte) [32]byte { return taghash.CrypttextSegment(b) }
