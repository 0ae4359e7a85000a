package grid

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"sync"
	"time"

	"warren/node/caps"
	"warren/node/storage"
	"warren/node/taghash"
)

// Candidate is one way to reach a server: a Client and the words in which
// status names it ("HTTPS via Tor"). Close, if it is set, is called once, when
// the grid has no more use for the Client.
type Candidate struct {
	Client storage.Client
	Via    string
	Close  func() error
}

// Connect lists the ways to reach an announced server, best first. It does no
// I/O, and is called once for each announcement: the grid asks the candidates for
// their version and keeps the first that answers. An empty list is a server that
// this node cannot speak to; why says so.
type Connect func(a Announced) (ways []Candidate, why string)

// Options tune a Grid. Zero fields take the defaults named.
type Options struct {
	Connect Connect
	// Preferred are the IDs of servers that stand before all others: peers.preferred.
	Preferred []string
	// ProbeTimeout bounds one version query: 60 s, which a fresh onion circuit needs.
	ProbeTimeout time.Duration
	// MinBackoff and MaxBackoff bound the pause between tries: 1 s and 60 s.
	MinBackoff, MaxBackoff time.Duration
	// Quiet is how long a connected server may take to answer such a query before it
	// counts as away until it does: 15 s.
	Quiet time.Duration
	// Recheck is the pause between version queries to an idle connected server: 5 min.
	Recheck time.Duration
	Now     func() time.Time
}

// Grid is safe for concurrent use.
type Grid struct {
	opts   Options
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex // guards what follows
	servers map[string]*server
	changed chan struct{} // closed and replaced whenever the connected set changes
	closed  bool
}

// server is one known server and the goroutine that keeps its state.
type server struct {
	announced Announced
	local     bool
	cancel    context.CancelFunc
	kick      chan struct{} // capacity 1: try now

	// guarded by Grid.mu
	connected bool
	current   Server
	way       int // of the candidates, the one in use
	via       string
	version   storage.Version
	since     time.Time // when connected last changed
	lastSeen  time.Time
	probing   bool
	lastTry   time.Time // when the last probe ended
	failures  int       // probes in a row
	problem   string
}

// New returns a Grid without servers.
func New(opts Options) *Grid {
	setDefault(&opts.ProbeTimeout, time.Minute)
	setDefault(&opts.MinBackoff, time.Second)
	setDefault(&opts.MaxBackoff, time.Minute)
	setDefault(&opts.Quiet, 15*time.Second)
	setDefault(&opts.Recheck, 5*time.Minute)
	if opts.Now == nil {
		opts.Now = time.Now
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Grid{opts: opts, ctx: ctx, cancel: cancel, servers: map[string]*server{}, changed: make(chan struct{})}
}

func setDefault(d *time.Duration, v time.Duration) {
	if *d == 0 {
		*d = v
	}
}

// Close disconnects from the servers and waits for the Grid's goroutines.
func (g *Grid) Close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.cancel()
	g.wg.Wait()
}

// maxServers bounds what introducers can make us hold and dial: the largest grids
// have some hundred servers.
const maxServers = 4096

// AddLocal adds a server of this very process: always connected, never dialled,
// and not replaced by its own announcement coming back from an introducer.
func (g *Grid) AddLocal(s Server) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if old := g.servers[s.ID]; old != nil && old.cancel != nil {
		old.cancel()
	}
	now := g.opts.Now()
	g.servers[s.ID] = &server{
		announced: Announced{ID: s.ID, Nickname: s.Nickname, PermutationSeed: s.PermutationSeed, LeaseSeed: s.LeaseSeed, Source: "this node"},
		local:     true, connected: true, current: s, via: "this process", since: now, lastSeen: now,
		kick: make(chan struct{}, 1),
	}
	g.broadcast()
}

// Announce adds a server or replaces what was known of it. An announcement that
// says nothing new keeps the connection; one that is older than what is known
// (another introducer's, which the server's last one has not reached) and one of
// a server that the user wrote down (Static) or that is local change nothing.
func (g *Grid) Announce(a Announced) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return
	}
	old := g.servers[a.ID]
	switch {
	case old == nil && len(g.servers) >= maxServers:
		return
	case old == nil:
	case old.local, old.announced.Source == Static && a.Source != Static, a.Source != Static && a.Seqnum < old.announced.Seqnum:
		return
	case sameServer(old.announced, a):
		old.announced.Seqnum, old.announced.Source = a.Seqnum, a.Source
		return
	default:
		old.cancel()
	}
	ctx, cancel := context.WithCancel(g.ctx)
	s := &server{announced: a, cancel: cancel, kick: make(chan struct{}, 1), since: g.opts.Now()}
	g.servers[a.ID] = s
	if old != nil && old.connected {
		g.broadcast()
	}
	g.wg.Add(1)
	go func() {
		defer g.wg.Done()
		defer cancel()
		g.keep(ctx, s, a)
	}()
}

func sameServer(a, b Announced) bool {
	return a.ID == b.ID && a.Nickname == b.Nickname && bytes.Equal(a.PermutationSeed, b.PermutationSeed) &&
		a.FURL.Text() == b.FURL.Text() && slices.Equal(a.NURLs, b.NURLs)
}

// keep holds one server's connection state until ctx ends.
func (g *Grid) keep(ctx context.Context, s *server, a Announced) {
	ways, why := g.opts.Connect(a)
	defer func() {
		for _, way := range ways {
			if way.Close != nil {
				// Nothing was on its way: there is nothing to lose.
				_ = way.Close()
			}
		}
	}()
	backoff := g.opts.MinBackoff
	for {
		ok := g.probe(ctx, s, a, ways, why)
		if ctx.Err() != nil {
			return
		}
		pause := g.opts.Recheck
		if ok {
			backoff = g.opts.MinBackoff
		} else {
			// Jitter keeps a thousand clients from returning in step.
			pause = backoff/2 + time.Duration(rand.Int64N(int64(backoff)))
			backoff = min(2*backoff, g.opts.MaxBackoff)
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-s.kick:
			timer.Stop()
		}
	}
}

// probe asks the ways to the server for its version, the one in use first, and
// keeps the first that answers.
func (g *Grid) probe(ctx context.Context, s *server, a Announced, ways []Candidate, why string) bool {
	g.mu.Lock()
	s.probing = true
	defer func() { // with g.mu held, as every return below has it
		s.probing, s.lastTry = false, g.opts.Now()
		g.mu.Unlock()
	}()
	order := make([]int, 0, len(ways))
	if s.connected {
		order = append(order, s.way)
		quiet := time.AfterFunc(g.opts.Quiet, func() { g.lost(s, "it does not answer") })
		defer quiet.Stop()
	}
	g.mu.Unlock()
	for i := range ways {
		if !slices.Contains(order, i) {
			order = append(order, i)
		}
	}
	for _, i := range order {
		way := ways[i]
		pctx, cancel := context.WithTimeout(ctx, g.opts.ProbeTimeout)
		v, err := way.Client.Version(pctx)
		cancel()
		g.mu.Lock()
		if ctx.Err() != nil {
			return false
		}
		if err != nil {
			g.mu.Unlock()
			why = fmt.Sprintf("%s: %v", way.Via, err)
			continue
		}
		now := g.opts.Now()
		s.version, s.lastSeen, s.problem, s.failures = v, now, "", 0
		// Tahoe's servers say it so, and there is no other word for it.
		readonly := v.MaximumImmutableShareSize == 0
		if s.connected && s.way == i {
			s.current.ReadOnly = readonly
			return true
		}
		if !s.connected {
			s.since = now
		}
		s.connected, s.way, s.via = true, i, way.Via
		s.current = Server{
			ID: a.ID, Nickname: a.Nickname, PermutationSeed: a.PermutationSeed, LeaseSeed: a.LeaseSeed, ReadOnly: readonly,
			Client: &observed{Client: way.Client, failed: func() { g.suspect(s) }},
		}
		g.broadcast()
		return true
	}
	g.mu.Lock()
	s.problem = why
	s.failures++
	g.disconnect(s)
	return false
}

// lost notes that a server which was connected answers nothing.
func (g *Grid) lost(s *server, why string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if s.probing {
		s.problem = why
		g.disconnect(s)
	}
}

// disconnect is called with g.mu held.
func (g *Grid) disconnect(s *server) {
	if s.connected {
		s.connected, s.since = false, g.opts.Now()
		g.broadcast()
	}
}

// suspect has a server that failed a call asked for its version at once.
func (g *Grid) suspect(s *server) {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// broadcast wakes those who wait for a change. The caller holds g.mu.
func (g *Grid) broadcast() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// Changed returns a channel that is closed when a server connects or
// disconnects after this call.
func (g *Grid) Changed() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.changed
}

// Connected counts the servers that answer now.
func (g *Grid) Connected() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := 0
	for _, s := range g.servers {
		if s.connected {
			n++
		}
	}
	return n
}

// Wait returns when at least n servers are connected, or with ctx's error.
func (g *Grid) Wait(ctx context.Context, n int) error {
	for {
		changed := g.Changed()
		if g.Connected() >= n {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// wakeMost is the longest that a silent server is left alone by those who need
// servers.
const wakeMost = 10 * time.Second

// wakeAfter grows with each failure, because a try may be dear (a circuit through
// Tor to a service that is gone), but not for long, because somebody is waiting.
func (s *server) wakeAfter() time.Duration {
	return min(time.Second<<min(s.failures, 4), wakeMost)
}

// Retry tries every server that is away at once: something has changed, Tor has
// come up.
func (g *Grid) Retry() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range g.servers {
		if !s.connected {
			g.suspect(s)
		}
	}
}

// Permuted returns the connected servers in the order in which Tahoe asks them
// for a storage index: the preferred ones first, else by SHA-1 of the index and
// the server's permutation seed. Servers that are away or without room are asked
// again meanwhile, for the next call.
func (g *Grid) Permuted(si caps.StorageIndex) []Server {
	g.mu.Lock()
	list := make([]Server, 0, len(g.servers))
	now := g.opts.Now()
	for _, s := range g.servers {
		wake := s.wakeAfter()
		if s.connected {
			list = append(list, s.current)
			if wake = wakeMost; !s.current.ReadOnly {
				continue
			}
		}
		if !s.local && !s.probing && now.Sub(s.lastTry) > wake {
			s.lastTry = now
			g.suspect(s)
		}
	}
	g.mu.Unlock()
	list = Permute(si, list)
	if len(g.opts.Preferred) > 0 {
		slices.SortStableFunc(list, func(a, b Server) int {
			return rank(slices.Contains(g.opts.Preferred, a.ID)) - rank(slices.Contains(g.opts.Preferred, b.ID))
		})
	}
	return list
}

func rank(preferred bool) int {
	if preferred {
		return 0
	}
	return 1
}

// Permute sorts servers into Tahoe's order for a storage index.
func Permute(si caps.StorageIndex, servers []Server) []Server {
	keys := make(map[string][20]byte, len(servers))
	for _, s := range servers {
		keys[s.ID] = taghash.Permute(si, s.PermutationSeed)
	}
	sort.Slice(servers, func(i, j int) bool {
		a, b := keys[servers[i].ID], keys[servers[j].ID]
		if c := bytes.Compare(a[:], b[:]); c != 0 {
			return c < 0
		}
		return servers[i].ID < servers[j].ID // equal seeds: a stable order all the same
	})
	return servers
}

// Status describes one known server.
type Status struct {
	ID, Nickname, Source string
	Connected, Local     bool
	// Summary is "Connected to … via …" or says what is wrong.
	Summary  string
	Since    time.Time // of the present state
	LastSeen time.Time // zero: never
	Version  storage.Version
}

// Servers describes every known server, by ID.
func (g *Grid) Servers() []Status {
	g.mu.Lock()
	list := make([]Status, 0, len(g.servers))
	local := map[int]storage.Client{}
	for _, s := range g.servers {
		st := Status{
			ID: s.announced.ID, Nickname: s.announced.Nickname, Source: s.announced.Source,
			Connected: s.connected, Local: s.local, Since: s.since, LastSeen: s.lastSeen, Version: s.version,
		}
		switch {
		case s.connected:
			st.Summary = "Connected via " + s.via
		case s.problem != "":
			st.Summary = "Trying to connect: " + s.problem
		default:
			st.Summary = "Trying to connect"
		}
		if s.local {
			local[len(list)] = s.current.Client
		}
		list = append(list, st)
	}
	g.mu.Unlock()
	for i, client := range local {
		// In this process nothing is on its way, so now is when it was seen.
		if v, err := client.Version(g.ctx); err == nil {
			list[i].Version, list[i].LastSeen = v, g.opts.Now()
		}
	}
	sort.Slice(list, func(i, j int) bool { return list[i].ID < list[j].ID })
	return list
}
