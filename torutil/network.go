package torutil

import (
	"context"
	"net"
)

// Dialer opens outgoing stream connections.
//
// DialContext takes network "tcp" and an address "host:port", where host is a
// name, an IP address or a .onion name: the Network decides the transport by
// looking at the host first (a .onion name never reaches a resolver), and fails
// with ErrRefused when its policy allows no transport for it. Safe for
// concurrent use.
type Dialer interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// Network is the process's only way out. Everything that dials or listens is
// handed one; nothing constructs its own.
type Network interface {
	Dialer

	// Listen opens one of the endpoints of a node ("tcp:PORT",
	// "tcp:PORT:interface=ADDR", "listen:tor" ...; see ParseEndpoint). The
	// listener's address says where it really listens.
	Listen(ctx context.Context, endpoint string) (net.Listener, error)

	// Mode says which policy is in force, for status and for hints.
	Mode() Mode
}

// Mode is a Network's policy.
type Mode int

// The policies. The zero value reaches nothing.
const (
	ModeNone   Mode = iota // nothing leaves the machine
	ModeDirect             // TCP directly, .onion through Tor if there is one
	ModeTor                // everything through Tor, names never resolved
)
