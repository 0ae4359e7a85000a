package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"warren/node/caps"
	"warren/node/config"
	"warren/node/dirnode"
	"warren/node/foolscap"
	"warren/node/furl"
	"warren/node/grid"
	"warren/node/immutable"
	"warren/node/introducer"
	"warren/node/mutable"
	"warren/node/storage"
	"warren/node/storage/expire"
	"warren/node/webapi"
)

// Network is how a node reaches others and is reached.
type Network interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
	// Listen opens an endpoint of tub.port.
	Listen(ctx context.Context, endpoint string) (net.Listener, error)
}

// LocalListener opens the endpoint of the local web API, on loopback only.
type LocalListener interface {
	Listen(ctx context.Context, endpoint string) (net.Listener, error)
}

// Options are what a node needs beside its directory.
type Options struct {
	Network Network
	Local   LocalListener
	// Addresses lists this machine's addresses for tub.location's AUTO; nil: none.
	Addresses func() []string
	// Program names the program to others: "warren/0.1.0".
	Program string
	Log     *slog.Logger
	// Private handles the web API's /private/warren/v1/ once the node is open; nil: nothing.
	Private func(*Node) http.Handler
	// Incident keeps the report that somebody makes at the web API's /report_incident;
	// nil: there is no such page.
	Incident func(details string) error
}

// Node is an open node. Grid, Files and Dirs are ready after Open and useful
// after Start; an introducer node has none of them.
type Node struct {
	Config *config.Node
	Grid   *grid.Grid
	Files  *immutable.Client
	Slots  *mutable.Store
	Dirs   *dirnode.Dirs

	opts    Options
	secrets secrets
	seen    *mutable.Seen // the versions of mutable files
	tub     *foolscap.Tub
	server  *storage.Server // nil unless storage is offered
	checker *expire.Crawler // of the server's leases
	address furl.FURL       // of the storage server
	seed    string          // its place in the permuted ring, in base32
	// introducer is nil unless the node is one; clients are the connections to
	// introducers.
	introducer *introducer.Server
	clients    []*introducer.Client
	surveying  bool // servers are counted, and not dialled; fixed before the first is heard of

	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup

	usage    *usage
	requests atomic.Int64 // to the web API that are being answered

	mu  sync.Mutex // guards url
	url string
}

// Open loads the node's secrets, making those that are missing, and composes its
// services. It listens nowhere and dials nobody.
func Open(cfg *config.Node, opts Options) (*Node, error) {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	n := &Node{Config: cfg, opts: opts, usage: newUsage()}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	if err := n.open(); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

func (n *Node) open() (err error) {
	if n.secrets, err = loadSecrets(n.Config); err != nil {
		return err
	}
	s := n.Config.Settings
	hints, err := n.location()
	if err != nil {
		return err
	}
	n.tub, err = foolscap.New(foolscap.Config{
		Certificate: n.secrets.certificate, Dial: n.opts.Network.DialContext, Location: hints,
		Keepalive: s.KeepaliveTimeout, Disconnect: s.DisconnectTimeout, Log: n.opts.Log,
	})
	if err != nil {
		return err
	}
	if n.Config.Kind == config.Introducer {
		return n.openIntroducer()
	}
	n.Grid = grid.New(grid.Options{Connect: n.connect, Preferred: s.Client.PreferredPeers})
	if n.Files, err = immutable.New(immutable.Config{
		Servers: n.Grid, Needed: s.Client.Needed, Happy: s.Client.Happy, Total: s.Client.Total,
		SegmentSize: int(s.Client.MaxSegmentSize), Convergence: n.secrets.convergence, LeaseSecret: n.secrets.lease,
		TempDir: s.TempDir,
	}); err != nil {
		return err
	}
	if n.seen, err = mutable.OpenSeen(n.Config.PrivatePath("versions.db")); err != nil {
		return err
	}
	if n.Slots, err = mutable.New(mutable.Options{
		Servers: n.Grid, LeaseSecret: n.secrets.lease,
		Needed: s.Client.Needed, Happy: s.Client.Happy, Total: s.Client.Total, KeyAhead: true, Seen: n.seen,
		RolledBack: func(si caps.StorageIndex, seen, found uint64) {
			n.opts.Log.Warn("the servers show an older version of a mutable file or directory than before: they lost or hide the newer one, or those that have it are away; it is not changed until that is over or accepted (warren status)",
				"storage_index", si.Text(), "seen", seen, "found", found)
		},
	}); err != nil {
		return err
	}
	n.Dirs = NewDirs(n.Files, n.Slots, s.TempDir)
	n.Dirs.Keeper = dirnode.NewKeeper(n.Dirs, func(entries int, err error) {
		if err != nil {
			n.opts.Log.Debug("looking whether entries of a directory still stand", "error", err)
		} else {
			n.opts.Log.Info("another writer replaced a directory by an older state and its own change; our entries were set again", "entries", entries)
		}
	})
	if s.Storage.Offered() {
		return n.openStorage()
	}
	return nil
}

// Start listens and begins to connect.
func (n *Node) Start(ctx context.Context) error {
	// Bodies on their way go there.
	if err := os.MkdirAll(n.Config.Settings.TempDir, 0o700); err != nil {
		return err
	}
	if err := n.listen(ctx); err != nil {
		return err
	}
	if n.Config.Kind != config.Introducer {
		if err := n.startClients(); err != nil {
			return err
		}
	}
	n.running.Go(func() { n.usage.watch(n.ctx) })
	if n.checker != nil {
		n.running.Go(func() { n.checker.Run(n.ctx) })
	}
	return n.serveWeb(ctx)
}

// Close ends what Open and Start began, newest first, and waits for it.
func (n *Node) Close() error {
	n.cancel()
	if n.URL() != "" {
		if err := os.Remove(n.Config.Path("node.url")); err != nil && !errors.Is(err, os.ErrNotExist) {
			n.opts.Log.Warn("removing node.url", "error", err)
		}
	}
	for _, c := range n.clients {
		c.Close()
	}
	if n.introducer != nil {
		n.introducer.Close()
	}
	if n.tub != nil {
		n.tub.Close()
	}
	n.running.Wait()
	if n.Dirs != nil {
		n.Dirs.Keeper.Close()
	}
	if n.Slots != nil {
		n.Slots.Close()
	}
	if n.Grid != nil {
		n.Grid.Close()
	}
	var err error
	if n.seen != nil {
		err = n.seen.Close()
	}
	if n.server != nil {
		err = errors.Join(err, n.server.Close())
	}
	return err
}

// Retry has whoever waits to connect try at once: something has changed, Tor has
// come up.
func (n *Node) Retry() {
	for _, c := range n.clients {
		c.Retry()
	}
	if n.Grid != nil {
		n.Grid.Retry()
	}
}

// URL is where the web API answers; "" before Start and for a node without one.
func (n *Node) URL() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.url
}

// location is where others reach this node: tub.location's hints.
func (n *Node) location() ([]furl.Hint, error) {
	var hints []furl.Hint
	for _, l := range n.Config.Settings.TubLocations {
		if l == "AUTO" {
			found, err := n.automatic()
			if err != nil {
				return nil, err
			}
			hints = append(hints, found...)
			continue
		}
		h, err := furl.ParseHint(l)
		if err != nil {
			return nil, fmt.Errorf("tub.location: %w", err)
		}
		hints = append(hints, h)
	}
	return hints, nil
}

// ports are the endpoints that others reach this node at: tub.port's, else the one
// that was chosen once; none when there is neither.
func (n *Node) ports() ([]string, error) {
	if ports := n.Config.Settings.TubPorts; len(ports) > 0 {
		return ports, nil
	}
	chosen, err := n.Config.ListenPort()
	if err != nil || chosen == "" {
		return nil, err
	}
	return []string{chosen}, nil
}

// automatic makes hints of this machine's addresses, for AUTO.
func (n *Node) automatic() ([]furl.Hint, error) {
	if n.opts.Addresses == nil || !n.Config.Settings.RevealIP {
		return nil, nil
	}
	var hints []furl.Hint
	ports, err := n.ports()
	if err != nil {
		return nil, err
	}
	for _, port := range ports {
		number := portOf(port)
		if number == "" {
			continue
		}
		for _, a := range n.opts.Addresses() {
			if strings.Contains(a, ":") {
				continue // Foolscap's tcp hints are IPv4 addresses or names
			}
			h, err := furl.ParseHint("tcp:" + a + ":" + number)
			if err != nil {
				return nil, err
			}
			hints = append(hints, h)
		}
	}
	return hints, nil
}

// portOf is the number in "tcp:PORT[:...]" or "PORT"; "" when there is none.
func portOf(endpoint string) string {
	parts := strings.Split(endpoint, ":")
	p := parts[0]
	if len(parts) > 1 {
		p = parts[1]
	}
	for _, r := range p {
		if r < '0' || r > '9' {
			return ""
		}
	}
	return p
}

// An endpoint that cannot be listened on: the web API's, or the one at which others
// reach the node.
var (
	ErrWebPort = errors.New("web.port")
	ErrTubPort = errors.New("tub.port")
)

// serveWeb serves the local web API and says where in node.url.
func (n *Node) serveWeb(ctx context.Context) error {
	endpoint := n.Config.Settings.WebPort
	if endpoint == "" {
		return nil
	}
	l, err := n.opts.Local.Listen(ctx, endpoint)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrWebPort, err)
	}
	var private http.Handler
	if n.opts.Private != nil {
		private = n.opts.Private(n)
	}
	background := func(run func(context.Context)) { n.running.Go(func() { run(n.ctx) }) }
	c := webapi.Config{Background: background, Welcome: n.welcome, Statistics: n.statistics, Token: n.secrets.token.Text, Private: private, Incident: n.opts.Incident, Grid: offline{}}
	c.Storage, c.Static = n.storageStatus, n.Config.Settings.WebStatic
	if n.Dirs != nil {
		prohibited := &blacklist{path: n.Config.Path("access.blacklist"), log: n.opts.Log}
		c.Grid = recorded{files{n.Files, n.Slots, n.Dirs, prohibited}, newHistory()}
		c.DirFormat = dirFormat(n.Config.Settings.Client.MutableFormat)
	}
	server := &http.Server{
		Handler: n.counted(webapi.New(c)), ReadHeaderTimeout: 30 * time.Second, IdleTimeout: 5 * time.Minute, MaxHeaderBytes: 64 << 10,
		BaseContext: func(net.Listener) context.Context { return n.ctx },
		ErrorLog:    slog.NewLogLogger(n.opts.Log.Handler(), slog.LevelDebug),
	}
	n.running.Go(func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			n.opts.Log.Error("the web API stopped", "error", err)
		}
	})
	n.running.Go(func() {
		<-n.ctx.Done()
		grace, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if server.Shutdown(grace) != nil {
			server.Close()
		}
	})
	url := "http://" + l.Addr().String() + "/"
	n.mu.Lock()
	n.url = url
	n.mu.Unlock()
	return n.Config.SetNodeURL(url)
}

// counted counts the requests that are being answered.
func (n *Node) counted(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.requests.Add(1)
		defer n.requests.Add(-1)
		h.ServeHTTP(w, r)
	})
}

// Busy says that the web API has requests to answer: somebody waits for the grid.
func (n *Node) Busy() bool { return n.requests.Load() > 0 }

// welcome is what the front page says.
func (n *Node) welcome() webapi.Welcome {
	w := webapi.Welcome{Nickname: n.Config.Settings.Nickname, NodeID: n.secrets.keyID, Introducers: n.Introducers()}
	if n.introducer != nil {
		w.Announcements, w.Subscriptions = map[string]int{}, map[string]int{}
		for _, a := range n.introducer.Announcements() {
			w.Announcements[a.ServiceName]++
		}
		for _, s := range n.introducer.Subscribers() {
			w.Subscriptions[s.ServiceName]++
		}
	}
	if n.Grid == nil {
		return w
	}
	for _, s := range n.Grid.Servers() {
		sv := webapi.Server{
			ID: s.ID, Nickname: s.Nickname, Version: s.Version.Application,
			Connected: s.Connected, Summary: s.Summary, LastReceived: s.LastSeen,
		}
		if s.Connected {
			available := s.Version.AvailableSpace
			sv.Available = &available
		}
		w.Servers = append(w.Servers, sv)
	}
	return w
}

// Introducers says in one sentence each how the connections to introducers stand.
func (n *Node) Introducers() []string {
	list := make([]string, 0, len(n.clients))
	for _, c := range n.clients {
		list = append(list, introducerSummary(c.Status()))
	}
	return list
}
