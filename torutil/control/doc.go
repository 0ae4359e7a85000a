// Package control finds Tor and keeps hold of it: it attaches to a running tor
// by its control port, or launches the system's with a private data directory,
// and dials through its SOCKS port.
//
// [Start] gives a [Tor], which lives until Close. It reports what happens through
// a callback (launching, bootstrap percent, lost, back), notices when tor
// restarts, connects or launches again with growing pauses, and runs the hooks
// that callers left with [Tor.Keep] on every new control session: that is how
// onion services (torutil/onion) come back after a restart of tor.
//
// A launched tor dies with us however we die: it holds our process id
// (__OwningControllerProcess) and a control connection that owns it
// (TAKEOWNERSHIP, which bine's own launcher does not send), so that after kill -9
// the data directory is free again.
//
// [SOCKS] is the dialer. It hands names to Tor as they are, isolates each
// destination on circuits of its own, and fails with [ErrNotReady] when Tor
// cannot be reached.
//
// The control protocol is github.com/cretz/bine/control's. What it gets wrong is
// done here: several SocksPorts in net/listeners/socks, bootstrap summaries with
// spaces in them, password authentication when the cookie cannot be read.
package control
