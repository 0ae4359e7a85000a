package control

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"
)

// Address is where one of Tor's ports is: network "tcp" or "unix", and what a
// dial takes with it.
type Address struct {
	Network, Address string
}

func (a Address) String() string {
	if a.Network == "unix" {
		return "unix:" + a.Address
	}
	return a.Address
}

// DialFunc opens a connection to one of Tor's own ports.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// SOCKS dials through Tor's SOCKS port (RFC 1928 with the username and password
// of RFC 1929). Each destination gets its own username and password, by which
// Tor keeps its streams on circuits of their own (IsolateSOCKSAuth): two
// destinations cannot be linked by a shared exit. A destination that does not
// answer for a while is tried over another circuit as well. Safe for concurrent use.
type SOCKS struct {
	dial      DialFunc
	addresses func() ([]Address, error)
	session   string
	patience  time.Duration // how long one circuit is given before another is tried too

	mu   sync.Mutex     // guards ways
	ways map[string]int // destinations whose first circuit was of no use, and the one that was
}

// NewSOCKS returns a dialer over the SOCKS ports that addresses names now; they
// are tried in order, the next one only when nothing answers at the one before.
func NewSOCKS(dial DialFunc, addresses func() ([]Address, error)) *SOCKS {
	// A number of this process's own, so that two nodes on one tor share no
	// circuit either.
	var nonce [8]byte
	rand.Read(nonce[:])
	return &SOCKS{dial: dial, addresses: addresses, session: "warren-" + hex.EncodeToString(nonce[:]),
		patience: circuitPatience, ways: map[string]int{}}
}

const (
	// handshakeTimeout bounds a dial whose context has no deadline. Tor gives up a
	// stream after two minutes (SocksTimeout).
	handshakeTimeout = 130 * time.Second
	// circuitPatience is what a stream to an onion service takes on a bad day. Tor
	// keeps one whose circuit is stuck for its two minutes all the same.
	circuitPatience = 20 * time.Second
	// maxWays is how many circuits one dial tries at most.
	maxWays = 3
	// maxRemembered bounds ways; a grid has far fewer destinations.
	maxRemembered = 4096
)

// DialContext opens a stream to host:port. A name in host is resolved by Tor's
// exit, never here. The connection's RemoteAddr is the destination.
func (s *SOCKS) DialContext(ctx context.Context, host string, port uint16) (net.Conn, error) {
	request, err := connectRequest(host, port)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	name := net.JoinHostPort(host, strconv.Itoa(int(port)))
	s.mu.Lock()
	way := s.ways[name]
	s.mu.Unlock()

	type result struct {
		conn net.Conn
		way  int
		err  error
	}
	results := make(chan result)
	started, running := 0, 0
	start := func() {
		w := way + started
		started++
		running++
		go func() { // its result is received below
			conn, err := s.stream(ctx, name, w, request)
			results <- result{conn, w, err}
		}()
	}
	start()
	more := time.NewTicker(s.patience)
	defer more.Stop()
	var won net.Conn
	for running > 0 {
		select {
		case r := <-results:
			running--
			switch {
			case r.err != nil:
				err = cmp.Or(err, r.err)
			case won == nil:
				won = r.conn
				s.remember(name, way, r.way)
				cancel()
			default:
				r.conn.Close()
			}
		case <-more.C:
			if started < maxWays && won == nil && ctx.Err() == nil {
				start()
			}
		}
	}
	if won == nil {
		return nil, err
	}
	return &stream{Conn: won, remote: destination(name)}, nil
}

// remember has later dials to a destination begin with the circuit that worked.
func (s *SOCKS) remember(name string, began, won int) {
	if began == won {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ways) >= maxRemembered {
		clear(s.ways)
	}
	s.ways[name] = won
}

// stream opens one stream, on the circuit that stands for a destination's way.
func (s *SOCKS) stream(ctx context.Context, name string, way int, request []byte) (net.Conn, error) {
	conn, err := s.reach(ctx)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	user, password := s.isolation(name, way)
	err = handshake(conn, user, password, request)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		if ctx.Err() != nil {
			return nil, fmt.Errorf("through tor: %w", ctx.Err())
		}
		return nil, fmt.Errorf("through tor: %w", err)
	}
	conn.SetDeadline(time.Time{})
	return conn, nil
}

// reach connects to the first SOCKS port that answers.
func (s *SOCKS) reach(ctx context.Context) (net.Conn, error) {
	addresses, err := s.addresses()
	if err != nil {
		return nil, err
	}
	var failures []error
	for _, a := range addresses {
		conn, err := s.dial(ctx, a.Network, a.Address)
		if err == nil {
			return conn, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		failures = append(failures, err)
	}
	return nil, notReady("is tor running? nothing answers at its SOCKS port; nothing was sent another way", errors.Join(failures...))
}

// isolation gives the credentials of a destination's way. The password is a hash
// only because RFC 1929 allows 255 bytes and a name with its port may be longer.
func (s *SOCKS) isolation(name string, way int) (user, password string) {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", name, way))
	return s.session, hex.EncodeToString(sum[:16])
}

// connectRequest is RFC 1928 section 4: version, CONNECT, reserved, address
// type (1 IPv4, 3 name, 4 IPv6), address, port.
func connectRequest(host string, port uint16) ([]byte, error) {
	b := []byte{5, 1, 0}
	if ip, err := netip.ParseAddr(host); err == nil {
		ip = ip.Unmap()
		if ip.Zone() != "" {
			return nil, fmt.Errorf("through tor: %q has a zone", host)
		}
		if ip.Is4() {
			b = append(b, 1)
		} else {
			b = append(b, 4)
		}
		b = append(b, ip.AsSlice()...)
	} else {
		if len(host) == 0 || len(host) > 255 {
			return nil, fmt.Errorf("through tor: a name of %d bytes", len(host))
		}
		b = append(b, 3, byte(len(host)))
		b = append(b, host...)
	}
	return binary.BigEndian.AppendUint16(b, port), nil
}

// handshake speaks the client's side. Only username and password are offered, so
// that a port which would ignore them (and so share circuits) is refused.
func handshake(conn io.ReadWriter, user, password string, request []byte) error {
	if _, err := conn.Write([]byte{5, 1, 2}); err != nil {
		return lost(err)
	}
	var reply [2]byte
	if _, err := io.ReadFull(conn, reply[:]); err != nil {
		return lost(err)
	}
	if reply[0] != 5 {
		return notReady("is this really tor's SOCKS port?", fmt.Errorf("its answer is not SOCKS 5"))
	}
	if reply[1] != 2 {
		return notReady("is this really tor's SOCKS port?", fmt.Errorf("it takes no username, so it cannot isolate streams"))
	}
	auth := []byte{1, byte(len(user))}
	auth = append(auth, user...)
	auth = append(auth, byte(len(password)))
	auth = append(auth, password...)
	if _, err := conn.Write(auth); err != nil {
		return lost(err)
	}
	if _, err := io.ReadFull(conn, reply[:]); err != nil {
		return lost(err)
	}
	if reply[1] != 0 {
		return notReady("is this really tor's SOCKS port?", fmt.Errorf("it refuses the stream's credentials"))
	}
	if _, err := conn.Write(request); err != nil {
		return lost(err)
	}
	var head [4]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return lost(err)
	}
	if head[0] != 5 {
		return fmt.Errorf("not a SOCKS 5 answer")
	}
	if head[1] != 0 {
		return SOCKSError{Code: head[1]}
	}
	// The bound address is of no use; it must be read all the same.
	var rest int
	switch head[3] {
	case 1:
		rest = 4 + 2
	case 4:
		rest = 16 + 2
	case 3:
		var n [1]byte
		if _, err := io.ReadFull(conn, n[:]); err != nil {
			return lost(err)
		}
		rest = int(n[0]) + 2
	default:
		return fmt.Errorf("unknown address type %d in a SOCKS answer", head[3])
	}
	if _, err := io.ReadFull(conn, make([]byte, rest)); err != nil {
		return lost(err)
	}
	return nil
}

// lost is for a SOCKS port that went away in the middle: tor stopped.
func lost(err error) error {
	return notReady("tor went away; a retry is right once it is back", err)
}

// SOCKSError is Tor's answer that the destination could not be reached.
type SOCKSError struct {
	Code byte // RFC 1928 section 6, and Tor's 0xf0 to 0xf7
}

func (e SOCKSError) Error() string {
	switch e.Code {
	case 1:
		return "tor could not reach it"
	case 2:
		return "tor does not allow that address"
	case 3:
		return "network unreachable"
	case 4:
		return "host unreachable"
	case 5:
		return "connection refused"
	case 6:
		return "timed out"
	case 7, 8:
		return "tor does not understand the request"
	case 0xf0:
		return "no descriptor for this onion service is published (is it running?)"
	case 0xf1:
		return "the onion service's descriptor is invalid"
	case 0xf2:
		return "the onion service's introduction points do not answer"
	case 0xf3:
		return "the rendezvous with the onion service failed"
	case 0xf4, 0xf5:
		return "the onion service wants a client key"
	case 0xf6:
		return "not a valid onion address (mistyped?)"
	case 0xf7:
		return "the introduction to the onion service timed out"
	default:
		return fmt.Sprintf("SOCKS error %#x", e.Code)
	}
}

// stream is a connection through Tor: what is at its far end is the destination,
// not the SOCKS port.
type stream struct {
	net.Conn
	remote destination
}

func (s *stream) RemoteAddr() net.Addr { return s.remote }

type destination string

func (destination) Network() string  { return "tor" }
func (d destination) String() string { return string(d) }
