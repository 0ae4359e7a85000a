package foolscap

import (
	"context"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"warren/node/foolscap/banana"
	"warren/node/furl"
	"warren/node/taghash"
)

// DialFunc opens a stream to "HOST:PORT". It decides the transport by looking at
// the host, and its policy may refuse.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// Config is what a tub is made of. Only Certificate is required; zero values
// choose defaults.
type Config struct {
	// Certificate is the tub's identity (Tahoe's private/node.pem).
	Certificate tls.Certificate
	// Dial reaches peers. Without it the tub reaches only those that connect to it,
	// and itself.
	Dial DialFunc
	// Location is where others reach the tub: the hints of its FURLs.
	Location []furl.Hint
	// Keepalive is how long a connection may be idle before the peer is pinged
	// (default 4 minutes, as Tahoe), Disconnect how long until it is given up
	// (default three times that).
	Keepalive, Disconnect time.Duration
	// Limits bounds each message on connections that peers made, DialedLimits on
	// those that we made (default 8 MiB, 1 MiB a string: an introducer tells all
	// that it knows in one message).
	Limits, DialedLimits banana.Limits
	// MaxConnections bounds the connections that peers made (default 1000).
	MaxConnections int
	// RetryMin and RetryMax bound a Reconnector's waiting (default 1 s, 1 min: what is
	// behind Tor fails for a while at first, and is to be found soon after).
	RetryMin, RetryMax time.Duration
	// Log hears of lost and refused connections; nil: nobody.
	Log *slog.Logger
}

// Tub is one end of Foolscap connections. Safe for concurrent use.
type Tub struct {
	config      Config
	id          string
	incarnation string // which run of this tub, for the peers' duplicate check
	ctx         context.Context
	cancel      context.CancelFunc
	running     sync.WaitGroup

	mu          sync.Mutex // guards everything below
	closed      bool
	names       map[[sha256.Size]byte]*Object // by the hash of the swissnum
	connections map[string]*connection        // by the peer's tub id
	attempts    map[string]*attempt           // by the peer's tub id
	accepted    int
	attached    chan struct{}     // closed and replaced when a connection is attached
	lastSeqnum  map[string]uint64 // as master: the last connection's number, by tub id
	lastHeard   map[string]string // as slave: the last current-connection, by tub id
}

// maxHistory bounds lastSeqnum and lastHeard. Losing an entry costs at most a
// refused reconnection until the dead connection times out.
const maxHistory = 10000

// TubID is the id of a tub with this certificate (DER).
func TubID(certificate []byte) string {
	sum := sha1.Sum(certificate)
	return taghash.EncodeBase32(sum[:])
}

// New returns a tub. It runs until Close.
func New(config Config) (*Tub, error) {
	if len(config.Certificate.Certificate) != 1 || config.Certificate.PrivateKey == nil {
		return nil, errors.New("foolscap: a tub needs one certificate and its key")
	}
	setDefault(&config.Keepalive, 4*time.Minute)
	setDefault(&config.Disconnect, 3*config.Keepalive)
	setDefault(&config.Limits, banana.DefaultLimits())
	setDefault(&config.DialedLimits, banana.Limits{String: 1 << 20, Message: 8 << 20, Depth: banana.DefaultLimits().Depth})
	setDefault(&config.MaxConnections, 1000)
	setDefault(&config.RetryMin, time.Second)
	setDefault(&config.RetryMax, time.Minute)
	setDefault(&config.Log, slog.New(slog.DiscardHandler))
	var unique [8]byte
	rand.Read(unique[:]) // never fails
	t := &Tub{
		config: config, id: TubID(config.Certificate.Certificate[0]), incarnation: hex.EncodeToString(unique[:]),
		names: map[[sha256.Size]byte]*Object{}, connections: map[string]*connection{}, attempts: map[string]*attempt{},
		attached: make(chan struct{}), lastSeqnum: map[string]uint64{}, lastHeard: map[string]string{},
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t, nil
}

func setDefault[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}

// ID is the tub's id.
func (t *Tub) ID() string { return t.id }

// Register offers an object under a swissnum, for as long as the tub lives, and
// returns its FURL.
func (t *Tub) Register(o *Object, swissnum string) furl.FURL {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.names[sha256.Sum256([]byte(swissnum))] = o
	return furl.FURL{TubID: t.id, Hints: t.config.Location, Swissnum: swissnum}
}

// lookup finds an object by the swissnum that a peer sent. The table is keyed by
// hashes, so that the time it takes tells nothing of the swissnums in it.
func (t *Tub) lookup(name any) *Object {
	var key [sha256.Size]byte
	switch name := name.(type) {
	case []byte:
		key = sha256.Sum256(name)
	case string:
		key = sha256.Sum256([]byte(name))
	default:
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.names[key]
}

// Serve accepts connections until the listener or the tub is closed; it returns
// net.ErrClosed or ErrClosed. Other errors of the listener (no more file
// descriptors) pass.
func (t *Tub) Serve(l net.Listener) error {
	if err := t.enter(); err != nil {
		return err
	}
	defer t.running.Done()
	stop := context.AfterFunc(t.ctx, func() { l.Close() })
	defer stop()
	for {
		conn, err := l.Accept()
		if err != nil {
			if t.ctx.Err() != nil {
				return ErrClosed
			}
			if errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("foolscap: accept: %w", err)
			}
			t.config.Log.Warn("foolscap: accept", "error", err)
			select {
			case <-time.After(time.Second):
			case <-t.ctx.Done():
			}
			continue
		}
		t.running.Go(func() { t.ServeConn(conn) })
	}
}

// enter counts a goroutine of a caller's among those that Close waits for.
func (t *Tub) enter() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return ErrClosed
	}
	t.running.Add(1)
	return nil
}

// ServeConn serves one connection that a peer made, plaintext phase first, and
// returns when it has ended.
func (t *Tub) ServeConn(conn net.Conn) {
	defer conn.Close()
	t.mu.Lock()
	full := t.closed || t.accepted >= t.config.MaxConnections
	if !full {
		t.accepted++
		t.running.Add(1)
	}
	t.mu.Unlock()
	if full {
		return
	}
	defer func() {
		t.mu.Lock()
		t.accepted--
		t.mu.Unlock()
		t.running.Done()
	}()
	c, err := t.negotiateServer(t.ctx, conn)
	if err != nil {
		t.config.Log.Debug("foolscap: refused a connection", "error", err)
		return
	}
	c.run()
	t.config.Log.Debug("foolscap: connection ended", "tub", c.peer, "error", c.reason())
}

// Close ends every connection and waits until nothing of the tub runs. Handlers
// see their context end.
func (t *Tub) Close() {
	t.mu.Lock()
	t.closed = true
	var open []*connection
	for _, c := range t.connections {
		open = append(open, c)
	}
	t.mu.Unlock()
	t.cancel()
	for _, c := range open {
		c.fail(ErrClosed)
	}
	t.running.Wait()
}

// attach makes a negotiated connection the one with its peer; decide may refuse
// it, seeing the one that there is (nil for none). It is called with the tub
// locked, so that two connections never both win.
func (t *Tub) attach(c *connection, decide func(existing *connection) error) error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return ErrClosed
	}
	existing := t.connections[c.peer]
	if err := decide(existing); err != nil {
		t.mu.Unlock()
		return err
	}
	t.connections[c.peer] = c
	close(t.attached)
	t.attached = make(chan struct{})
	t.mu.Unlock()
	if existing != nil {
		existing.fail(errors.New("replaced by a new connection"))
	}
	return nil
}

// detach forgets a connection that has ended.
func (t *Tub) detach(c *connection) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.connections[c.peer] == c {
		delete(t.connections, c.peer)
	}
}

// remember sets an entry of a bounded history. t.mu is held.
func remember[V any](history map[string]V, peer string, v V) {
	if _, known := history[peer]; !known && len(history) >= maxHistory {
		for other := range history {
			delete(history, other)
			break
		}
	}
	history[peer] = v
}
