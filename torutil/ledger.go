package torutil

import "sync"

// Transport is how a connection travels.
type Transport string

// The transports.
const (
	ViaDirect Transport = "direct"     // TCP from this machine's address
	ViaTor    Transport = "tor"        // through Tor's SOCKS port
	ViaLocal  Transport = "local"      // loopback and unix sockets
	InProcess Transport = "in-process" // a node's own service
)

// Tally counts outgoing connections of one transport.
type Tally struct {
	Made   uint64 `json:"made"`   // opened
	Failed uint64 `json:"failed"` // tried on the wire, and failed
}

// Counts holds a tally for each transport that was tried, and under Refused how
// many dials the policy refused before anything was tried.
type Counts struct {
	By      map[Transport]Tally `json:"by"`
	Refused uint64              `json:"refused"`
}

// Tried is how many connections were tried by a transport, with or without
// success: the number that must be zero for "direct" when Tor is on.
func (c Counts) Tried(t Transport) uint64 { return c.By[t].Made + c.By[t].Failed }

// Ledger counts the connections of a process. A Network, its Local and its Home
// write into one. The zero value is ready; safe for concurrent use.
type Ledger struct {
	mu     sync.Mutex // guards counts
	counts Counts
}

// Counts is a copy of the tallies so far.
func (l *Ledger) Counts() Counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	by := make(map[Transport]Tally, len(l.counts.By))
	for t, tally := range l.counts.By {
		by[t] = tally
	}
	return Counts{By: by, Refused: l.counts.Refused}
}

// Dialed records the outcome of one dial.
func (l *Ledger) Dialed(t Transport, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.counts.By == nil {
		l.counts.By = make(map[Transport]Tally)
	}
	tally := l.counts.By[t]
	if err == nil {
		tally.Made++
	} else {
		tally.Failed++
	}
	l.counts.By[t] = tally
}

// Refused records a dial that the policy did not allow.
func (l *Ledger) Refused() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts.Refused++
}
