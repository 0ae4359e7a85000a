package foolscap

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"warren/node/furl"
)

// ErrNoHints means that a FURL names no place that this tub can try: no hint, or
// none of a kind that it knows, or it has no dial function.
var ErrNoHints = errors.New("foolscap: no usable connection hint")

const (
	// attemptTimeout bounds all hints of one FURL together. A Tor circuit to an
	// onion service can take most of it.
	attemptTimeout = 2 * time.Minute
	// stagger is the head start of each hint over the next one.
	stagger = 500 * time.Millisecond
	// duplicateGrace is how long the other connection may take to appear when the
	// peer refuses ours as the second.
	duplicateGrace = 5 * time.Second
)

// attempt is the way to one peer, shared by all who wait for it.
type attempt struct {
	done chan struct{} // closed when c or err is set
	c    *connection
	err  error
}

// Reference returns a reference to the object that a FURL names, connecting if
// need be. A Failure of class builtins.KeyError means that the tub has no such
// object. The caller releases the reference.
func (t *Tub) Reference(ctx context.Context, f furl.FURL) (*Remote, error) {
	c, err := t.connected(ctx, f)
	if err != nil {
		return nil, err
	}
	root := &Remote{c: c, im: &imported{}} // clid 0, the connection itself
	answer, err := root.Call(ctx, "getReferenceByName", Args{Keyword: map[string]any{"name": []byte(f.Swissnum)}})
	if err != nil {
		return nil, err
	}
	r, ok := answer.(*Remote)
	if !ok {
		release(answer)
		return nil, disagree("the answer is no reference")
	}
	return r, nil
}

// connected returns the connection to a FURL's tub.
func (t *Tub) connected(ctx context.Context, f furl.FURL) (*connection, error) {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil, ErrClosed
	}
	if c := t.connections[f.TubID]; c != nil {
		t.mu.Unlock()
		return c, nil
	}
	a := t.attempts[f.TubID]
	if a == nil {
		a = &attempt{done: make(chan struct{})}
		t.attempts[f.TubID] = a
		t.running.Go(func() { t.attempt(a, f) })
	}
	attached := t.attached
	t.mu.Unlock()
	for {
		select {
		case <-a.done:
			return a.c, a.err
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-attached: // perhaps the peer came to us meanwhile
		}
		t.mu.Lock()
		c := t.connections[f.TubID]
		attached = t.attached
		t.mu.Unlock()
		if c != nil {
			return c, nil
		}
	}
}

// attempt fills in a.
func (t *Tub) attempt(a *attempt, f furl.FURL) {
	ctx, cancel := context.WithTimeout(t.ctx, attemptTimeout)
	defer cancel()
	if f.TubID == t.id {
		a.c, a.err = t.loop()
	} else {
		a.c, a.err = t.tryHints(ctx, f)
	}
	if errors.Is(a.err, ErrDuplicate) {
		a.c, a.err = t.awaitOther(ctx, f.TubID, a.err)
	}
	if a.err != nil && t.ctx.Err() != nil {
		a.err = ErrClosed
	}
	t.mu.Lock()
	delete(t.attempts, f.TubID)
	t.mu.Unlock()
	close(a.done)
}

// awaitOther waits for the connection because of which ours was refused.
func (t *Tub) awaitOther(ctx context.Context, peer string, refused error) (*connection, error) {
	ctx, cancel := context.WithTimeout(ctx, duplicateGrace)
	defer cancel()
	for {
		t.mu.Lock()
		c, attached := t.connections[peer], t.attached
		t.mu.Unlock()
		if c != nil {
			return c, nil
		}
		select {
		case <-attached:
		case <-ctx.Done():
			return nil, refused
		}
	}
}

// usable are the hints that can be dialed. A "tor" hint is one only for an onion
// host: for another the dial function could not know that Tor is demanded, and
// would tell the network what was to stay hidden.
func usable(hints []furl.Hint) []furl.Hint {
	var out []furl.Hint
	for _, h := range hints {
		if h.Address() != "" && (h.Type == "tcp" || h.Type == "tor" && h.IsOnion()) {
			out = append(out, h)
		}
	}
	return out
}

// tryHints tries a FURL's hints, each a little after the one before or when that
// fails, until one leads to the tub.
func (t *Tub) tryHints(ctx context.Context, f furl.FURL) (*connection, error) {
	hints := usable(f.Hints)
	if len(hints) == 0 || t.config.Dial == nil {
		return nil, ErrNoHints
	}
	ctx, cancel := context.WithCancel(ctx)
	type result struct {
		c   *connection
		err error
	}
	results := make(chan result)
	running := 0
	start := func() {
		h := hints[0]
		hints = hints[1:]
		running++
		go func() { // tryHints receives its result
			c, err := t.tryHint(ctx, f.TubID, h)
			results <- result{c, err}
		}()
	}
	start()
	timer := time.NewTimer(stagger)
	defer timer.Stop()
	var won *connection
	var failures []error
	for running > 0 || len(hints) > 0 && won == nil {
		select {
		case r := <-results:
			running--
			if r.err != nil {
				failures = append(failures, r.err)
			} else if won == nil {
				won = r.c
				cancel()
			}
		case <-timer.C:
		}
		if len(hints) > 0 && won == nil && ctx.Err() == nil {
			start()
			timer.Reset(stagger)
		} else if ctx.Err() != nil {
			hints = nil
		}
	}
	cancel()
	if won != nil {
		return won, nil
	}
	return nil, errors.Join(append(failures, ctx.Err())...)
}

// tryHint connects by one hint; the connection runs by itself then.
func (t *Tub) tryHint(ctx context.Context, peer string, h furl.Hint) (*connection, error) {
	conn, err := t.config.Dial(ctx, "tcp", h.Address())
	if err != nil {
		return nil, fmt.Errorf("foolscap: %s: %w", h.Text(), err)
	}
	c, err := t.negotiateClient(ctx, conn, peer, h)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("foolscap: %s: %w", h.Text(), err)
	}
	t.running.Go(c.run)
	return c, nil
}

// loop connects the tub with itself, inside this process.
func (t *Tub) loop() (*connection, error) {
	ours, theirs := net.Pipe()
	a := agreed{vocabulary: 1}
	near := newConnection(t, ours, bufio.NewReader(ours), t.id, "loopback", a)
	far := newConnection(t, theirs, bufio.NewReader(theirs), t.id, "", a)
	if err := t.attach(near, func(*connection) error { return nil }); err != nil {
		ours.Close()
		theirs.Close()
		return nil, err
	}
	t.running.Go(near.run)
	t.running.Go(far.run)
	return near, nil
}
