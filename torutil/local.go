package torutil

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// Local dials and listens on this machine only: numeric loopback addresses and
// unix sockets. It is for Tor's own ports, the local web API and its clients,
// and refuses everything else, names included ("localhost" is a name, and
// resolvers have answered strange things to it). Safe for concurrent use.
type Local struct {
	ledger *Ledger
}

// NewLocal returns a Local that counts into ledger.
func NewLocal(ledger *Ledger) *Local { return &Local{ledger: ledger} }

// DialContext opens a connection to a numeric loopback address ("tcp") or a
// socket's path ("unix").
func (l *Local) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	switch network {
	case "unix":
	case "tcp", "tcp4", "tcp6":
		if !numericLoopback(address) {
			l.ledger.Refused()
			return nil, fmt.Errorf("dial %s: not a numeric loopback address: %w", address, ErrRefused)
		}
	default:
		l.ledger.Refused()
		return nil, fmt.Errorf("dial %s %s: unknown network: %w", network, address, ErrRefused)
	}
	// Resolver is irrelevant: the address is numeric.
	conn, err := (&net.Dialer{Timeout: directTimeout}).DialContext(ctx, network, address)
	l.ledger.Dialed(ViaLocal, err)
	return conn, err
}

// Listen opens an endpoint on loopback ("tcp:3456:interface=127.0.0.1",
// "unix:PATH"). An endpoint that others could reach is refused.
func (l *Local) Listen(ctx context.Context, endpoint string) (net.Listener, error) {
	e, err := ParseEndpoint(endpoint)
	if err != nil {
		return nil, err
	}
	if !e.Loopback() {
		return nil, fmt.Errorf("listen on %s: other machines could reach it (add :interface=127.0.0.1): %w", e, ErrRefused)
	}
	return listenEndpoint(ctx, e)
}

func numericLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// listenEndpoint opens a TCP or unix endpoint as it stands.
func listenEndpoint(ctx context.Context, e Endpoint) (net.Listener, error) {
	var lc net.ListenConfig
	switch e.Kind {
	case KindTCP:
		network, address := e.bind()
		ln, err := lc.Listen(ctx, network, address)
		if err != nil {
			return nil, fmt.Errorf("listen on %s: %w", e, err)
		}
		return ln, nil
	case KindUnix:
		if err := removeStaleSocket(e.Path); err != nil {
			return nil, fmt.Errorf("listen on %s: %w", e, err)
		}
		ln, err := lc.Listen(ctx, "unix", e.Path)
		if err != nil {
			return nil, fmt.Errorf("listen on %s: %w", e, err)
		}
		if err := os.Chmod(e.Path, e.Perm); err != nil {
			ln.Close()
			return nil, fmt.Errorf("listen on %s: %w", e, err)
		}
		return ln, nil
	default:
		return nil, fmt.Errorf("listen on %s: %w", e, ErrEndpoint)
	}
}

// removeStaleSocket removes the socket that a killed process left behind: one
// that nobody answers on. Anything else at that path stays.
func removeStaleSocket(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode()&os.ModeSocket == 0 {
		return fmt.Errorf("%s exists and is no socket", path)
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		conn.Close()
		return fmt.Errorf("%s: %w", path, syscall.EADDRINUSE)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	return os.Remove(path)
}
