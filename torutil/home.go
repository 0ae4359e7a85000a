package torutil

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"

	"warren/torutil/internal/pipe"
)

// Home is a Network by which a process reaches its own services without leaving
// itself: a node dials its own storage server as it dials every other, by the
// address that it announced, and the connection stays in memory. (Through Tor
// the trip would be six hops to itself.) Every other address goes to the Network
// below. Safe for concurrent use.
type Home struct {
	Network
	ledger *Ledger

	mu  sync.RWMutex // guards own
	own map[string]*pipe.Listener
}

// NewHome returns a Home over network, counting into ledger.
func NewHome(network Network, ledger *Ledger) *Home {
	return &Home{Network: network, ledger: ledger, own: make(map[string]*pipe.Listener)}
}

// Serve makes the addresses ("host:port", as announced) this process's own: what
// dials them through h arrives at the listener that Serve returns, beside what
// arrives at ln. Closing the listener closes ln and gives the addresses up.
func (h *Home) Serve(ln net.Listener, addresses ...string) net.Listener {
	inside := pipe.NewListener(ln.Addr())
	o := &ownListener{
		Listener: ln, home: h, inside: inside,
		arrived: make(chan accepted), closed: make(chan struct{}),
	}
	h.mu.Lock()
	for _, a := range addresses {
		key := ownKey(a)
		h.own[key] = inside
		o.keys = append(o.keys, key)
	}
	h.mu.Unlock()
	o.done.Add(2)
	go o.pump(ln.Accept)
	go o.pump(inside.Accept)
	return o
}

// DialContext stays in-process for an address of our own.
func (h *Home) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	h.mu.RLock()
	inside := h.own[ownKey(address)]
	h.mu.RUnlock()
	if inside == nil {
		return h.Network.DialContext(ctx, network, address)
	}
	conn, err := inside.Dial(ctx, selfAddr(address))
	h.ledger.Dialed(InProcess, err)
	return conn, err
}

func ownKey(address string) string {
	host, port, err := splitAddress(address)
	if err != nil {
		return address
	}
	return net.JoinHostPort(strings.ToLower(host), strconv.Itoa(int(port)))
}

type selfAddr string

func (selfAddr) Network() string  { return string(InProcess) }
func (a selfAddr) String() string { return string(a) }

type accepted struct {
	conn net.Conn
	err  error
}

// ownListener merges the outer listener and the one inside.
type ownListener struct {
	net.Listener
	home    *Home
	keys    []string
	inside  *pipe.Listener
	arrived chan accepted
	closed  chan struct{}
	once    sync.Once
	done    sync.WaitGroup
}

func (o *ownListener) pump(accept func() (net.Conn, error)) {
	defer o.done.Done()
	for {
		conn, err := accept()
		select {
		case o.arrived <- accepted{conn, err}:
		case <-o.closed:
			if conn != nil {
				conn.Close()
			}
			return
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
	}
}

func (o *ownListener) Accept() (net.Conn, error) {
	select {
	case <-o.closed:
		return nil, net.ErrClosed
	default:
	}
	select {
	case a := <-o.arrived:
		return a.conn, a.err
	case <-o.closed:
		return nil, net.ErrClosed
	}
}

func (o *ownListener) Close() error {
	var err error
	o.once.Do(func() {
		o.home.mu.Lock()
		for _, key := range o.keys {
			if o.home.own[key] == o.inside {
				delete(o.home.own, key)
			}
		}
		o.home.mu.Unlock()
		close(o.closed)
		o.inside.Close()
		err = o.Listener.Close()
		o.done.Wait()
	})
	return err
}
