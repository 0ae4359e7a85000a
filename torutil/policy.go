package torutil

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// directTimeout bounds a direct dial whose context has no deadline.
const directTimeout = 30 * time.Second

// torDialer is what a policy needs of Tor: control.SOCKS.
type torDialer interface {
	DialContext(ctx context.Context, host string, port uint16) (net.Conn, error)
}

// policy is the one implementation of Network: which transport each kind of host
// gets, and who opens which endpoint.
type policy struct {
	mode   Mode
	clear  Transport   // for hosts that are no onions: ViaDirect, ViaTor or "" for refused
	direct *net.Dialer // nil unless clear is ViaDirect: in Tor mode there is nothing to fall back to
	tor    torDialer   // nil: no Tor
	noTor  error       // why tor is nil, for .onion hosts
	hidden bool        // reveal-IP-address = false: listen on loopback and onions only
	ledger *Ledger
	onions func(ctx context.Context, e Endpoint) (net.Listener, error) // nil: none
}

// NewNone returns the Network that reaches nothing.
func NewNone(ledger *Ledger) Network {
	return &policy{mode: ModeNone, hidden: true, ledger: ledger}
}

// NewDirect returns a Network without any Tor: TCP directly, .onion refused. A
// node's Network comes from Open; this one is for programs that know they want
// no Tor.
func NewDirect(ledger *Ledger) Network {
	return &policy{mode: ModeDirect, clear: ViaDirect, direct: directDialer(), ledger: ledger}
}

func directDialer() *net.Dialer { return &net.Dialer{Timeout: directTimeout} }

func (p *policy) Mode() Mode     { return p.mode }
func (p *policy) Counts() Counts { return p.ledger.Counts() }

func (p *policy) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := splitAddress(address)
	if err != nil {
		p.ledger.Refused()
		return nil, fmt.Errorf("dial %q: %w: %w", address, ErrRefused, err)
	}
	via, err := p.route(network, host)
	if err != nil {
		p.ledger.Refused()
		return nil, fmt.Errorf("dial %s: %w", address, err)
	}
	var conn net.Conn
	switch via {
	case ViaTor:
		conn, err = p.tor.DialContext(ctx, host, port)
	case ViaDirect:
		conn, err = p.direct.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(int(port))))
	}
	p.ledger.Dialed(via, err)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", address, err)
	}
	return conn, nil
}

// route picks the transport for a host; an error wraps ErrRefused.
func (p *policy) route(network, host string) (Transport, error) {
	switch network {
	case "tcp", "tor":
	default:
		return "", fmt.Errorf("network %q: %w", network, ErrRefused)
	}
	ip, err := netip.ParseAddr(host)
	numeric := err == nil
	if numeric {
		ip = ip.Unmap()
	}
	name := strings.ToLower(host)
	via := p.clear
	switch {
	case inZone(name, "i2p"):
		return "", fmt.Errorf("I2P is not supported: %w", ErrRefused)
	case inZone(name, "onion"), network == "tor":
		via = ViaTor
		if p.tor == nil {
			if p.noTor != nil {
				return "", fmt.Errorf("it needs Tor: %w: %w", ErrRefused, p.noTor)
			}
			return "", fmt.Errorf("it needs Tor, which is off here: %w", ErrRefused)
		}
	}
	switch via {
	case ViaDirect:
		return ViaDirect, nil
	case ViaTor:
	default:
		return "", fmt.Errorf("connections to hosts that are no onion services are off here: %w", ErrRefused)
	}
	if numeric {
		// No exit can reach these, and to ask one would tell it about our
		// own network.
		if ip.Zone() != "" || ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip.IsUnspecified() {
			return "", fmt.Errorf("a private address cannot be reached through Tor: %w", ErrRefused)
		}
		return ViaTor, nil
	}
	if inZone(name, "localhost") || inZone(name, "local") {
		return "", fmt.Errorf("a local name cannot be reached through Tor: %w", ErrRefused)
	}
	return ViaTor, nil
}

func inZone(name, zone string) bool {
	return name == zone || strings.HasSuffix(name, "."+zone)
}

// splitAddress takes "host:port" apart. The host comes without a trailing dot
// ("x.onion." is an onion too), and is a numeric address or made of the letters
// of a name: whatever else would be somebody's parser to confuse.
func splitAddress(address string) (host string, port uint16, err error) {
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, errors.New("not host:port")
	}
	if port, err = parsePort(portText); err != nil {
		return "", 0, err
	}
	if port == 0 {
		return "", 0, errors.New("port 0")
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return host, port, nil
	}
	host = strings.TrimSuffix(host, ".")
	if host == "" || len(host) > 253 {
		return "", 0, errors.New("no host")
	}
	for _, label := range strings.Split(host, ".") {
		if label == "" || len(label) > 63 {
			return "", 0, errors.New("not a host name")
		}
	}
	for _, r := range host {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '-', r == '.', r == '_':
		default:
			return "", 0, errors.New("not a host name")
		}
	}
	// "127.1" and "0x7f000001" are addresses to some resolvers.
	last := host[strings.LastIndexByte(host, '.')+1:]
	if last[0] >= '0' && last[0] <= '9' {
		return "", 0, errors.New("neither a name nor an address in its usual form")
	}
	return host, port, nil
}

func (p *policy) Listen(ctx context.Context, endpoint string) (net.Listener, error) {
	e, err := ParseEndpoint(endpoint)
	if err != nil {
		return nil, err
	}
	if e.Kind == KindOnion {
		if p.onions == nil {
			return nil, fmt.Errorf("listen on %s: no Tor that we control (set [tor] launch = true, or control.port): %w", e, ErrRefused)
		}
		return p.onions(ctx, e)
	}
	if p.hidden && !e.Loopback() {
		return nil, fmt.Errorf("listen on %s: %w: %w (add :interface=127.0.0.1, or set reveal-IP-address = true)", e, ErrPrivacy, ErrRefused)
	}
	return listenEndpoint(ctx, e)
}
