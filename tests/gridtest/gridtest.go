// Package gridtest is a whole grid in one process: storage servers, in memory or
// on disk, reached in this process or over HTTPS on loopback, and clients of them
// made of the same parts as a node's. Servers can be taken down and brought back.
//
// New makes the servers and a first client; Join makes another, with secrets of
// its own. Everything ends with the test.
package gridtest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"warren/node"
	"warren/node/caps"
	"warren/node/dirnode"
	"warren/node/grid"
	"warren/node/immutable"
	"warren/node/mutable"
	"warren/node/storage"
	"warren/node/storage/disk"
	"warren/node/storage/gbs"
	"warren/node/storage/mem"
	"warren/node/taghash"
	"warren/node/webapi"
)

// Options of a grid; zero fields take the defaults named.
type Options struct {
	Servers              int // 5
	Needed, Happy, Total int // 3, 4, 5
	// Dir keeps the shares on disk below it; empty: in memory.
	Dir string
	// HTTPS reaches the servers over GBS on loopback.
	HTTPS bool
	// Now is the servers' clock, which leases end by; nil: the machine's.
	Now func() time.Time
	// Pause is what a writer does that met another (mutable.Options); nil: it waits.
	Pause func(ctx context.Context, n int) error
}

// Grid is the servers, and the first client of them.
type Grid struct {
	*Client
	Servers []*Server

	opt     Options
	mu      sync.Mutex // guards clients
	clients []*Client
}

// Server is one storage server.
type Server struct {
	ID      string
	Storage *storage.Server
	Backend storage.Backend

	grid   *Grid
	client storage.Client
	dial   func() *gbs.Client // over HTTPS
	lease  []byte
	down   atomic.Bool
}

// Client is what a node has to reach the grid.
type Client struct {
	Grid  *grid.Grid
	Files *immutable.Client
	Slots *mutable.Store
	Dirs  *dirnode.Dirs
	Web   webapi.Grid
}

// New makes a grid with all of its servers connected.
func New(t testing.TB, o Options) *Grid {
	t.Helper()
	def := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	def(&o.Servers, 5)
	def(&o.Needed, 3)
	def(&o.Happy, 4)
	def(&o.Total, 5)
	g := &Grid{opt: o}
	for i := range o.Servers {
		g.Servers = append(g.Servers, g.serve(t, i))
	}
	g.Client = g.Join(t)
	return g
}

func (g *Grid) serve(t testing.TB, i int) *Server {
	t.Helper()
	key := sha256.Sum256(fmt.Appendf(nil, "server %d", i))
	s := &Server{ID: "v0-" + taghash.EncodeBase32(key[:]), grid: g, lease: key[:20]}
	s.Backend = mem.New(0)
	if g.opt.Dir != "" {
		var err error
		if s.Backend, err = disk.Open(filepath.Join(g.opt.Dir, fmt.Sprint("server", i))); err != nil {
			t.Fatal(err)
		}
	}
	s.Storage = storage.NewServer(s.Backend, storage.Options{NodeID: [20]byte(s.lease), Application: "warren/test", Now: g.opt.Now})
	t.Cleanup(func() {
		if err := s.Storage.Close(); err != nil {
			t.Errorf("closing a storage server: %v", err)
		}
	})
	s.client = storage.Local(s.Storage)
	if g.opt.HTTPS {
		s.https(t)
	}
	return s
}

// Join makes another client and waits until it has found all servers that are up.
func (g *Grid) Join(t testing.TB) *Client {
	t.Helper()
	secret := make([]byte, 32)
	rand.Read(secret)
	c := &Client{Grid: grid.New(grid.Options{
		Connect: g.connect, MinBackoff: 10 * time.Millisecond, MaxBackoff: 100 * time.Millisecond,
	})}
	t.Cleanup(c.Grid.Close)
	up := 0
	for i, s := range g.Servers {
		c.Grid.Announce(grid.Announced{
			ID: s.ID, Nickname: fmt.Sprint("server ", i), PermutationSeed: []byte(s.ID), LeaseSeed: s.lease, Source: "gridtest",
		})
		if !s.down.Load() {
			up++
		}
	}
	var err error
	if c.Files, err = immutable.New(immutable.Config{
		Servers: c.Grid, Needed: g.opt.Needed, Happy: g.opt.Happy, Total: g.opt.Total,
		Convergence: secret, LeaseSecret: secret, TempDir: t.TempDir(),
	}); err != nil {
		t.Fatal(err)
	}
	if c.Slots, err = mutable.New(mutable.Options{
		Servers: c.Grid, Needed: g.opt.Needed, Happy: g.opt.Happy, Total: g.opt.Total, LeaseSecret: secret, Pause: g.opt.Pause,
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Slots.Close() })
	c.Dirs = node.NewDirs(c.Files, c.Slots, t.TempDir())
	c.Web = node.WebGrid(c.Files, c.Slots, c.Dirs)
	g.mu.Lock()
	g.clients = append(g.clients, c)
	g.mu.Unlock()
	c.wait(t, up)
	return c
}

func (g *Grid) connect(a grid.Announced) ([]grid.Candidate, string) {
	for _, s := range g.Servers {
		if s.ID == a.ID {
			way := grid.Candidate{Client: &gate{s.client, &s.down}, Via: "gridtest"}
			if g.opt.HTTPS { // each with connections of its own, as nodes have them
				c := s.dial()
				way.Client, way.Close = &gate{c, &s.down}, c.Close
			}
			return []grid.Candidate{way}, ""
		}
	}
	return nil, "not a server of this grid"
}

// wait waits until n servers, neither more nor less, are connected.
func (c *Client) wait(t testing.TB, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for {
		changed := c.Grid.Changed()
		// Asking for servers has those that are away tried, and a call those that are there.
		for _, s := range c.Grid.Permuted(caps.StorageIndex{}) {
			s.Client.ListShares(ctx, storage.Immutable, caps.StorageIndex{})
		}
		if c.Grid.Connected() == n {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("%d servers are connected, waited for %d", c.Grid.Connected(), n)
		}
	}
}

// Vanish takes the server down; clients find out by themselves.
func (s *Server) Vanish() { s.down.Store(true) }

// Stop takes the server down and waits until every client knows.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	s.down.Store(true)
	s.grid.settle(t)
}

// Start brings the server back, with all that it held, and waits until every
// client has found it.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	s.down.Store(false)
	s.grid.settle(t)
}

func (g *Grid) settle(t testing.TB) {
	t.Helper()
	up := 0
	for _, s := range g.Servers {
		if !s.down.Load() {
			up++
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range g.clients {
		c.wait(t, up)
	}
}

// Shares counts the share files of a storage index on all servers, up or down.
func (g *Grid) Shares(t testing.TB, si caps.StorageIndex) int {
	t.Helper()
	n := 0
	for _, s := range g.Servers {
		list, err := s.Backend.Shares(si)
		if err != nil {
			t.Fatal(err)
		}
		n += len(list)
	}
	return n
}

// https serves the server on loopback.
func (s *Server) https(t testing.TB) {
	t.Helper()
	const swissnum = "swissnumoftests"
	cert := certificate(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- gbs.NewServer(s.Storage.As(storage.Account{}), swissnum, gbs.Options{}).Serve(ctx, l, cert)
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serving: %v", err)
		}
	})
	nurl, err := gbs.NURL(cert, "127.0.0.1", l.Addr().(*net.TCPAddr).Port, false, swissnum)
	if err != nil {
		t.Fatal(err)
	}
	var d net.Dialer
	s.dial = func() *gbs.Client { return gbs.NewClient(nurl, d.DialContext) }
}

// ErrDown is what calls to a server that is down fail with.
var ErrDown = errors.New("gridtest: the server is down")
