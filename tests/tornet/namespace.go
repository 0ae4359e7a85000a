package tornet

import "errors"

// ErrNoNamespace: network namespaces cannot be made here (they need Linux, root
// and iproute2). A test that wants one skips, and says so.
var ErrNoNamespace = errors.New("no network namespace can be made here")

// Packet is a packet that a namespace's programs should not have sent.
type Packet struct {
	Interface string // "lo", or "sink0" for what would have left the machine
	What      string // "UDP 192.0.2.2 > 192.0.2.53:53"
}

func (p Packet) String() string { return p.Interface + ": " + p.What }
