// Package memnettest is a torutil.Network in memory, for tests: named hosts in
// one process, joined by buffered pipes.
//
//	net := memnettest.New()
//	server, client := net.Host("storage1"), net.Host("alice")
//	ln, _ := server.Listen(ctx, "tcp:4000")
//	conn, _ := client.DialContext(ctx, "tcp", "storage1:4000")
//
// A host's onion service is NAME.onion. Hooks see each dial and each write, and
// may delay or fail it; Down takes a host off the net, with its connections, as
// a crash does. Nothing here opens a socket.
package memnettest

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"syscall"

	"warren/torutil"
	"warren/torutil/internal/pipe"
)

// Hooks are what a test injects. Each may be nil, and is called concurrently.
type Hooks struct {
	// Dial is called before a connection from host from to address to is made;
	// it may wait (latency), and its error is the dial's.
	Dial func(ctx context.Context, from, to string) error

	// Write is called before n bytes go from one host to another's address, or
	// back; its error breaks the connection.
	Write func(from, to string, n int) error
}

// Net is the wire between hosts.
type Net struct {
	hooks Hooks

	mu        sync.Mutex // guards all below
	listeners map[string]*pipe.Listener
	conns     map[*conn]struct{}
	down      map[string]bool
	next      uint16
}

// New returns a net without hosts.
func New(hooks ...Hooks) *Net {
	n := &Net{
		listeners: make(map[string]*pipe.Listener),
		conns:     make(map[*conn]struct{}),
		down:      make(map[string]bool),
		next:      20000,
	}
	if len(hooks) > 0 {
		n.hooks = hooks[0]
	}
	return n
}

// Host is the Network of one host. Two of the same name are the same host, with
// counts of their own.
func (n *Net) Host(name string) *Host { return &Host{net: n, name: name, mode: torutil.ModeDirect} }

// Down takes a host off the net: its connections break, and dials from and to it
// fail until Up. Its listeners stay.
func (n *Net) Down(name string) {
	n.mu.Lock()
	n.down[name] = true
	var cut []*conn
	for c := range n.conns {
		if c.from == name || c.to == name {
			cut = append(cut, c)
		}
	}
	n.mu.Unlock()
	for _, c := range cut {
		c.Close()
	}
}

// Up brings a host back.
func (n *Net) Up(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.down, name)
}

// Conns says how many connections are open, both ends together.
func (n *Net) Conns() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.conns) / 2
}

// Host implements torutil.Network for one name.
type Host struct {
	net    *Net
	name   string
	mode   torutil.Mode
	ledger torutil.Ledger
}

var _ torutil.Network = (*Host)(nil)

// Mode is ModeDirect.
func (h *Host) Mode() torutil.Mode { return h.mode }

// Counts counts this Host's dials, as "in-process".
func (h *Host) Counts() torutil.Counts { return h.ledger.Counts() }

// DialContext connects to "name:port" or "name.onion:port".
func (h *Host) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := h.dial(ctx, network, address)
	h.ledger.Dialed(torutil.InProcess, err)
	if err != nil {
		return nil, fmt.Errorf("dial %s from %s: %w", address, h.name, err)
	}
	return conn, nil
}

func (h *Host) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if network != "tcp" && network != "tor" {
		return nil, fmt.Errorf("network %q: %w", network, torutil.ErrRefused)
	}
	if hook := h.net.hooks.Dial; hook != nil {
		if err := hook(ctx, h.name, address); err != nil {
			return nil, err
		}
	}
	h.net.mu.Lock()
	ln := h.net.listeners[address]
	target := hostOf(address)
	unreachable := h.net.down[h.name] || h.net.down[target]
	h.net.mu.Unlock()
	switch {
	case unreachable:
		return nil, syscall.EHOSTUNREACH
	case ln == nil:
		return nil, syscall.ECONNREFUSED
	}
	raw, err := ln.Dial(ctx, Addr(h.name+":0"))
	if err != nil {
		return nil, err
	}
	return h.net.wrap(raw, h.name, target), nil
}

// Listen takes "tcp:PORT" (0 picks one), whatever the interface, and "listen:tor"
// or "onion:PORT" (at NAME.onion, port 3457 unless said).
func (h *Host) Listen(_ context.Context, endpoint string) (net.Listener, error) {
	e, err := torutil.ParseEndpoint(endpoint)
	if err != nil {
		return nil, err
	}
	name, port := h.name, e.Port
	switch e.Kind {
	case torutil.KindTCP:
	case torutil.KindOnion:
		name += ".onion"
		if port = e.OnionPort; port == 0 {
			port = 3457
		}
	default:
		return nil, fmt.Errorf("listen on %s: %w", e, torutil.ErrRefused)
	}
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	if port == 0 {
		h.net.next++
		port = h.net.next
	}
	address := net.JoinHostPort(name, strconv.Itoa(int(port)))
	if _, taken := h.net.listeners[address]; taken {
		return nil, fmt.Errorf("listen on %s: %w", address, syscall.EADDRINUSE)
	}
	inner := pipe.NewListener(Addr(address))
	h.net.listeners[address] = inner
	return &listener{Listener: inner, net: h.net, address: address}, nil
}

// hostOf is the host that an address belongs to.
func hostOf(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if n := len(host) - len(".onion"); n > 0 && host[n:] == ".onion" {
		return host[:n]
	}
	return host
}

// Addr is "name:port".
type Addr string

// Network is "memory".
func (Addr) Network() string  { return "memory" }
func (a Addr) String() string { return string(a) }

type listener struct {
	*pipe.Listener
	net     *Net
	address string
}

func (l *listener) Accept() (net.Conn, error) {
	raw, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.net.wrap(raw, hostOf(l.address), hostOf(raw.RemoteAddr().String())), nil
}

func (l *listener) Close() error {
	l.net.mu.Lock()
	delete(l.net.listeners, l.address)
	l.net.mu.Unlock()
	return l.Listener.Close()
}

// conn is one end; from is the host that holds it.
type conn struct {
	net.Conn
	net      *Net
	from, to string
}

func (n *Net) wrap(raw net.Conn, from, to string) net.Conn {
	c := &conn{Conn: raw, net: n, from: from, to: to}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.down[from] || n.down[to] {
		raw.Close() // it went down since the dial
		return c
	}
	n.conns[c] = struct{}{}
	return c
}

func (c *conn) Write(p []byte) (int, error) {
	if hook := c.net.hooks.Write; hook != nil {
		if err := hook(c.from, c.to, len(p)); err != nil {
			c.Close()
			return 0, err
		}
	}
	return c.Conn.Write(p)
}

func (c *conn) Close() error {
	c.net.mu.Lock()
	delete(c.net.conns, c)
	c.net.mu.Unlock()
	return c.Conn.Close()
}
