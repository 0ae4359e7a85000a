// Package torutil is the only way out of the process. Nothing else in the
// program dials, listens or looks up a name: every part is handed a [Network]
// (or a dial func, or a net.Listener that came from one).
//
// Call [Open] with the settings of a node directory. It gives one Network, whose
// policy is Tahoe-LAFS's reading of tahoe.cfg:
//
//   - [ModeDirect] ([connections] tcp = tcp): TCP directly; .onion through Tor
//     if a Tor is there, refused if none is. A .onion name never reaches a
//     resolver.
//   - [ModeTor] ([connections] tcp = tor): everything through Tor's SOCKS port.
//     Names go there as names, and are never resolved here. When Tor is down,
//     dialing fails with [ErrTorNotReady]: nothing falls back.
//   - [ModeNone]: nothing leaves the machine.
//
// In Tor mode no other Network exists in the process. Two things stand beside
// it, and neither leaves the machine: [Local], for numeric loopback and unix
// sockets (Tor's own ports, the local web API), and [Home], by which a node
// reaches its own services in-process. All of them write into one [Ledger], so
// that a status page can say how many connections were made by which transport.
//
// The Tor side lives below: torutil/control attaches to a running tor or
// launches the system's, and has the SOCKS dialer; torutil/onion has onion
// services and their keys.
//
// What is not here: TLS, HTTP, proxies other than Tor's, I2P.
package torutil
