// Package sha256x2 computes SHA-256 of two things at a time.
//
// The SHA instructions of amd64 CPUs have a long latency: one digest, which is a
// chain of them, keeps their unit half busy. Two digests that take turns get 1.8
// times as much done on one core. Whoever has many messages to hash calls Sum,
// best with messages of one length; whoever has two digests of one stream, or of
// two that come at the same pace, uses a Pair. Both give what crypto/sha256 gives.
//
// Where the CPU lacks SHA, SSSE3 or SSE4.1, on other architectures and with
// -tags purego, crypto/sha256 does the work, one digest after the other. On arm64
// it uses that CPU's instructions; there is nothing faster here for it.
package sha256x2

import (
	"crypto/sha256"
	"fmt"
	"hash"
)

// Size is the length of a digest in bytes.
const Size = sha256.Size

// Sum sets out[i] to the SHA-256 of prefix and messages[i]. Neighbours are hashed
// together, so it is quickest when they have one length. Out must be as long as
// messages, or Sum panics, and share no memory with them. It may be called
// concurrently.
func Sum(out [][Size]byte, prefix []byte, messages [][]byte) {
	sum(supported, out, prefix, messages)
}

func sum(fast bool, out [][Size]byte, prefix []byte, messages [][]byte) {
	if len(out) != len(messages) {
		panic(fmt.Sprintf("sha256x2: room for %d digests of %d messages", len(out), len(messages)))
	}
	if !fast || len(messages) == 1 {
		h := sha256.New()
		for i, m := range messages {
			h.Reset()
			h.Write(prefix)
			h.Write(m)
			h.Sum(out[i][:0])
		}
		return
	}
	var start, idle lane
	start.reset()
	feed(&start, &idle, prefix, nil)
	for len(messages) > 0 {
		a, b := start, start
		var second []byte
		if len(messages) > 1 {
			second = messages[1]
		}
		feed(&a, &b, messages[0], second)
		one, two := digests(&a, &b)
		out[0] = one
		if len(messages) == 1 {
			return
		}
		out[1] = two
		messages, out = messages[2:], out[2:]
	}
}

// A Pair is two SHA-256 digests, 0 and 1, that are fed at the same time. It may
// not be used concurrently.
type Pair struct {
	lanes [2]lane
	plain [2]hash.Hash // used instead, if not nil
}

// New returns a Pair of digests of nothing yet.
func New() *Pair { return newPair(supported) }

func newPair(fast bool) *Pair {
	p := new(Pair)
	for i := range p.lanes {
		if !fast {
			p.plain[i] = sha256.New()
		}
		p.Reset(i)
	}
	return p
}

// Write adds a to digest 0 and b to digest 1. The two may be the same memory. It is
// quickest when they have one length; what either has more is hashed alone.
func (p *Pair) Write(a, b []byte) {
	if p.plain[0] == nil {
		feed(&p.lanes[0], &p.lanes[1], a, b)
		return
	}
	if min(len(a), len(b)) < worthwhile {
		p.plain[0].Write(a)
		p.plain[1].Write(b)
		return
	}
	// Without lanes, another core is the next best.
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.plain[1].Write(b)
	}()
	p.plain[0].Write(a)
	<-done
}

// worthwhile is how much takes longer to hash than a goroutine takes to start.
const worthwhile = 64 << 10

// Sum returns the SHA-256 of what digest i, 0 or 1, has been fed so far; more may
// be written after it.
func (p *Pair) Sum(i int) [Size]byte {
	if p.plain[i] != nil {
		return [Size]byte(p.plain[i].Sum(nil))
	}
	var idle lane
	l := p.lanes[i]
	out, _ := digests(&l, &idle)
	return out
}

// Reset has digest i, 0 or 1, begin anew.
func (p *Pair) Reset(i int) {
	if p.plain[i] != nil {
		p.plain[i].Reset()
		return
	}
	p.lanes[i].reset()
}
