// Package sharedport lets Foolscap and HTTPS share one listener, as Tahoe 1.20
// does (allmydata/protocol_switch.py): a node has one port, one location and one
// onion service for both.
//
// The first bytes of a connection decide:
//
//	47 45 54 20 2f 69 64 2f   "GET /id/": Foolscap, whose plaintext phase it is
//	16 03                     a TLS handshake: HTTPS
//
// Tahoe takes everything that is not Foolscap for HTTPS; here anything else is
// closed at once, and so is who says nothing for PeekTimeout.
//
// New takes a listener; close the side that is not served. Foolscap goes to a
// tub's Serve, TLS (which still holds the handshake) below tls.NewListener or to an
// http.Server's ServeTLS.
package sharedport

import (
	"bufio"
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// PeekTimeout is how long a connection may take to show its protocol, as in
// Tahoe.
const PeekTimeout = 30 * time.Second

// maxUndecided is how many connections may be here at once, not accepted by their
// protocol yet; more wait in the listener's backlog.
const maxUndecided = 1024

const foolscapPrefix = "GET /id/"

// Port is a listener that two protocols share.
type Port struct {
	listener net.Listener
	timeout  time.Duration
	foolscap *side
	tls      *side
	slots    chan struct{}
	ctx      context.Context
	cancel   context.CancelFunc
	work     sync.WaitGroup
}

// New starts to accept from l. The port owns l from now on.
func New(l net.Listener) *Port { return start(l, PeekTimeout) }

func start(l net.Listener, timeout time.Duration) *Port {
	p := &Port{listener: l, timeout: timeout, slots: make(chan struct{}, maxUndecided)}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.foolscap, p.tls = newSide(p), newSide(p)
	p.work.Go(p.accept)
	return p
}

// Foolscap returns the listener of the Foolscap connections. Without anybody who
// accepts from it they wait. Closing it refuses them from then on.
func (p *Port) Foolscap() net.Listener { return p.foolscap }

// TLS returns the listener of the HTTPS connections, before their handshake.
func (p *Port) TLS() net.Listener { return p.tls }

// Close closes the listener and connections that nobody has accepted yet, and
// waits for that. Accepted ones belong to their protocol.
func (p *Port) Close() error {
	p.cancel()
	err := p.listener.Close()
	p.work.Wait()
	return err
}

func (p *Port) accept() {
	defer p.cancel()
	for {
		select {
		case p.slots <- struct{}{}:
		case <-p.ctx.Done():
			return
		}
		conn, err := p.listener.Accept()
		if err != nil {
			<-p.slots
			if errors.Is(err, net.ErrClosed) {
				return
			}
			// No more file descriptors, or a connection that ended too early: it passes.
			select {
			case <-time.After(time.Second):
				continue
			case <-p.ctx.Done():
				return
			}
		}
		p.work.Go(func() {
			defer func() { <-p.slots }()
			side, peeked := p.decide(conn)
			if side == nil || !side.hand(peeked) {
				conn.Close()
			}
		})
	}
}

// decide reads a connection's first bytes and returns whose it is, nil for
// nobody's.
func (p *Port) decide(conn net.Conn) (*side, net.Conn) {
	stop := context.AfterFunc(p.ctx, func() { conn.Close() })
	defer stop()
	conn.SetReadDeadline(time.Now().Add(p.timeout))
	r := bufio.NewReaderSize(conn, 16)
	for n := 1; ; n++ {
		b, err := r.Peek(n)
		if err != nil {
			return nil, nil
		}
		var whose *side
		switch {
		case string(b) == foolscapPrefix:
			whose = p.foolscap
		case n == 2 && b[0] == 0x16 && b[1] == 0x03:
			whose = p.tls
		case n == 1 && b[0] == 0x16, string(b) == foolscapPrefix[:n]:
			continue
		default:
			return nil, nil
		}
		if conn.SetReadDeadline(time.Time{}) != nil {
			return nil, nil
		}
		head, _ := r.Peek(r.Buffered())
		return whose, &peeked{Conn: conn, head: head}
	}
}

// peeked is a connection whose first bytes were read already.
type peeked struct {
	net.Conn
	head []byte // not yet read again; only the reader touches it
}

func (c *peeked) Read(b []byte) (int, error) {
	if len(c.head) > 0 {
		n := copy(b, c.head)
		c.head = c.head[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

// side is one protocol's listener.
type side struct {
	port   *Port
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newSide(p *Port) *side {
	return &side{port: p, conns: make(chan net.Conn), closed: make(chan struct{})}
}

// hand gives a connection to whoever accepts; false when nobody will.
func (s *side) hand(c net.Conn) bool {
	timer := time.NewTimer(s.port.timeout)
	defer timer.Stop()
	select {
	case s.conns <- c:
		return true
	case <-s.closed:
	case <-s.port.ctx.Done():
	case <-timer.C: // a node that speaks only the other protocol
	}
	return false
}

// Accept returns the next connection of this protocol, or net.ErrClosed.
func (s *side) Accept() (net.Conn, error) {
	// A closed listener does not accept, even if a connection is there.
	select {
	case <-s.closed:
		return nil, net.ErrClosed
	case <-s.port.ctx.Done():
		return nil, net.ErrClosed
	default:
	}
	select {
	case c := <-s.conns:
		return c, nil
	case <-s.closed:
	case <-s.port.ctx.Done():
	}
	return nil, net.ErrClosed
}

// Close ends this protocol's half; the other goes on.
func (s *side) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

// Addr is the shared listener's.
func (s *side) Addr() net.Addr { return s.port.listener.Addr() }
