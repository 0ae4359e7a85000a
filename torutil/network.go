package torutil

import (
	"context"
	"errors"
	"net"

	"warren/torutil/control"
)

// Dialer opens outgoing stream connections.
//
// DialContext takes network "tcp" and an address "host:port", where host is a
// name, an IP address or a .onion name: the Network decides the transport by
// looking at the host first (a .onion name never reaches a resolver), and fails
// with ErrRefused when its policy allows no transport for it. Network "tor"
// means the same, but through Tor whatever the host (a "tor:" connection hint
// may name a host that is no onion). Safe for concurrent use.
type Dialer interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// Network is the process's only way out. Everything that dials or listens is
// handed one; nothing constructs its own.
type Network interface {
	Dialer

	// Listen opens one of the endpoints of a node ("tcp:PORT",
	// "tcp:PORT:interface=ADDR", "listen:tor" ...; see ParseEndpoint). The
	// listener's address says where it really listens; an onion service's is an
	// onion.Addr.
	Listen(ctx context.Context, endpoint string) (net.Listener, error)

	// Mode says which policy is in force, for status and for hints.
	Mode() Mode

	// Counts says how many connections were made so far, by transport.
	Counts() Counts
}

// Mode is a Network's policy.
type Mode int

// The policies. The zero value reaches nothing.
const (
	ModeNone   Mode = iota // nothing leaves the machine
	ModeDirect             // TCP directly, .onion through Tor if there is one
	ModeTor                // everything through Tor, names never resolved
)

func (m Mode) String() string {
	switch m {
	case ModeDirect:
		return "direct"
	case ModeTor:
		return "tor"
	default:
		return "none"
	}
}

// What callers branch on.
var (
	// ErrRefused: the policy allows no transport for this address or endpoint.
	// A retry gives the same answer.
	ErrRefused = errors.New("refused by the network policy")

	// ErrTorNotReady: the connection must go through Tor, and Tor cannot be
	// reached, or is not up yet. A retry is right; nothing else was tried.
	ErrTorNotReady = control.ErrNotReady

	// ErrNoTor: no tor program could be found to launch.
	ErrNoTor = control.ErrNoTor

	// ErrPrivacy: the settings ask to hide the address and to reveal it.
	ErrPrivacy = errors.New("the settings would reveal this machine's address")

	// ErrEndpoint: an endpoint string that cannot be served.
	ErrEndpoint = errors.New("unusable endpoint")
)
