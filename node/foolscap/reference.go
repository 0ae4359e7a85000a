package foolscap

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync/atomic"

	"warren/node/foolscap/banana"
)

// export is an object of ours that the peer holds, or whose calls still run.
type export struct {
	clid   int64
	object *Object
	count  int // how often it was sent, less what the peer gave back

	queue   []waiting
	running bool
}

// imported is an object of the peer's that we hold, or have given back without the
// peer's having said that it knows.
type imported struct {
	clid    int64
	kind    string // remote interface name
	count   int    // how often it came, less what was released
	owed    int    // how much was released and not told to the peer
	telling bool   // the peer was told of some and has not answered
}

// Remote is a reference to an object of a peer. Safe for concurrent use.
type Remote struct {
	c        *connection
	im       *imported
	released atomic.Bool
}

// Peer is the id of the tub that the object lives in.
func (r *Remote) Peer() string { return r.c.peer }

// Interface is the remote interface name that the peer gave it: foreign text.
func (r *Remote) Interface() string { return r.im.kind }

// Hint is where the peer was reached ("tcp:HOST:PORT"), or "" when it connected
// to us.
func (r *Remote) Hint() string { return r.c.hint }

// Done is closed when the connection, and with it the reference, is lost.
func (r *Remote) Done() <-chan struct{} { return r.c.done }

// Err is why the connection was lost, once Done is closed.
func (r *Remote) Err() error { return r.c.reason() }

// Same says whether two references name the same object.
func (r *Remote) Same(other *Remote) bool { return r.c == other.c && r.im.clid == other.im.clid }

// Call calls a method and waits for the answer. An exception there is a *Failure;
// ErrDisconnected means that the call may or may not have been done, as does the
// context's error.
func (r *Remote) Call(ctx context.Context, method string, args Args) (any, error) {
	type outcome struct {
		answer any
		err    error
	}
	got := make(chan outcome, 1)
	request, err := r.c.start(ctx, r.im.clid, method, args, func(answer any, err error) { got <- outcome{answer, err} })
	if err != nil {
		return nil, err
	}
	select {
	case o := <-got:
		return o.answer, o.err
	case <-ctx.Done():
		if r.c.take(request) == nil {
			o := <-got // it is just being handed over
			return o.answer, o.err
		}
		return nil, ctx.Err()
	}
}

// Tell calls a method and wants no answer. It returns when the call is queued;
// nobody learns whether it was done.
func (r *Remote) Tell(ctx context.Context, method string, args Args) error {
	return r.c.send(ctx, func() (banana.Sequence, error) {
		return callMessage(0, r.im.clid, method, args), nil
	})
}

// Release gives the reference back: the peer may forget the object. Every Remote
// that was received is to be released once, when it is not needed any more.
func (r *Remote) Release() {
	if r.released.Swap(true) {
		return
	}
	c := r.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	r.im.count--
	r.im.owed++
	if !r.im.telling {
		c.giveBack(r.im)
	}
}

// giveBack tells the peer what was released of one object. It waits for no room in
// the queue, and needs none: one message at a time is under way for each object, so
// that a peer that neither reads nor answers makes us keep no more than that. c.mu
// is held.
func (c *connection) giveBack(im *imported) {
	im.telling = true
	request := c.expect(func(any, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		im.telling = false
		switch {
		case c.err != nil:
		case im.owed > 0:
			c.giveBack(im)
		case im.count == 0 && c.imports[im.clid] == im:
			// Only now: until the peer has heard of it, it may send the object again by
			// number alone.
			delete(c.imports, im.clid)
		}
	})
	args := Args{Keyword: map[string]any{"clid": im.clid, "count": im.owed}}
	im.owed = 0
	if c.encode(callMessage(request, 0, "decref", args)) == nil { // always: it is but numbers
		c.poke()
	}
}

func callMessage(request, clid int64, method string, args Args) banana.Sequence {
	return banana.Sequence{Type: "call", Items: []any{request, clid, []byte(method), args.sequence()}}
}

// start sends a call and arranges for its answer.
func (c *connection) start(ctx context.Context, clid int64, method string, args Args, answer func(any, error)) (int64, error) {
	var request int64
	err := c.send(ctx, func() (banana.Sequence, error) {
		request = c.expect(answer)
		return callMessage(request, clid, method, args), nil
	})
	if err != nil {
		c.take(request)
	}
	return request, err
}

// expect finds a request number that is free. c.mu is held.
func (c *connection) expect(answer func(any, error)) int64 {
	for {
		request := c.nextCall
		if c.nextCall++; c.nextCall > maxID {
			c.nextCall = 1
		}
		if _, taken := c.pending[request]; !taken {
			c.pending[request] = answer
			return request
		}
	}
}

// slice makes what stands for an object in a message. c.mu is held: it is called
// by the encoder.
func (c *connection) slice(v any) (banana.Sequence, error) {
	switch v := v.(type) {
	case *Object:
		e := c.exported[v]
		if e == nil {
			if len(c.exports) >= maxReferences {
				return banana.Sequence{}, errors.New("foolscap: too many objects sent to one peer")
			}
			e = &export{clid: c.nextClid, object: v}
			if c.nextClid++; c.nextClid > maxID {
				return banana.Sequence{}, errors.New("foolscap: too many objects sent on one connection")
			}
			c.exported[v] = e
		}
		c.exports[e.clid] = e
		e.count++
		c.sent = append(c.sent, e)
		if e.count > 1 {
			return banana.Sequence{Type: "my-reference", Items: []any{e.clid}}, nil
		}
		return banana.Sequence{Type: "my-reference", Items: []any{e.clid, []byte(v.Interface)}}, nil
	case *Remote:
		if v.c != c {
			return banana.Sequence{}, ErrGift
		}
		return banana.Sequence{Type: "your-reference", Items: []any{v.im.clid}}, nil
	}
	return banana.Sequence{}, fmt.Errorf("%w: %T", banana.ErrUnsendable, v)
}

// forget takes n references of the peer's away. While calls run, the object keeps
// its place, so that the peer that fetches it again calls it after them. c.mu is
// held.
func (c *connection) forget(e *export, n int) {
	if e.count -= n; e.count > 0 {
		return
	}
	delete(c.exports, e.clid)
	if !e.running {
		delete(c.exported, e.object)
	}
}

// resolve makes the value of a sequence in a message of the peer's.
func (c *connection) resolve(s banana.Sequence) (any, error) {
	bad := func(reason string) error { return &banana.Violation{Reason: reason} }
	switch s.Type {
	case "arguments":
		return s, nil
	case "copyable":
		if len(s.Items) > 0 {
			if name, ok := s.Items[0].([]byte); ok && string(name) == failureCopyable {
				return parseFailure(s)
			}
		}
		return nil, bad("unknown copyable")
	case "my-reference":
		return c.myReference(s.Items)
	case "your-reference":
		if len(s.Items) == 1 {
			if clid, ok := s.Items[0].(int64); ok {
				c.mu.Lock()
				defer c.mu.Unlock()
				if e := c.exports[clid]; e != nil {
					return e.object, nil
				}
			}
		}
		return nil, bad("reference to no object of ours")
	case "their-reference":
		return nil, bad("gifts are refused")
	}
	return nil, bad("unknown sequence type")
}

// myReference takes in a reference to an object of the peer's.
func (c *connection) myReference(items []any) (any, error) {
	bad := &banana.Violation{Reason: "malformed my-reference"}
	if len(items) == 0 || len(items) > 3 {
		return nil, bad
	}
	clid, ok := items[0].(int64)
	if !ok || clid == 0 || clid > maxID || clid < -maxID {
		return nil, bad
	}
	for _, item := range items[1:] {
		if text, ok := item.([]byte); !ok || len(text) > 1000 {
			return nil, bad
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	im := c.imports[clid]
	if im == nil {
		if len(c.imports) >= maxReferences {
			return nil, &banana.Violation{Reason: "too many references"}
		}
		im = &imported{clid: clid}
		if len(items) > 1 {
			im.kind = string(items[1].([]byte))
		}
		c.imports[clid] = im
	}
	if im.count == math.MaxInt32 {
		return nil, &banana.Violation{Reason: "too many references"}
	}
	im.count++
	return &Remote{c: c, im: im}, nil
}

// self answers the calls to the connection itself.
func (c *connection) self(in Call) (any, error) {
	switch in.Method {
	case "getReferenceByName":
		v, err := in.Args.Bind("name")
		if err != nil {
			return nil, err
		}
		if o := c.tub.lookup(v[0]); o != nil {
			return o, nil
		}
		return nil, &Failure{Class: "builtins.KeyError", Message: "unable to find reference", Parents: []string{
			"builtins.KeyError", "builtins.LookupError", "builtins.Exception", "builtins.BaseException", "builtins.object"}}
	case "decref":
		v, err := in.Args.Bind("clid", "count")
		if err != nil {
			return nil, err
		}
		clid, okClid := v[0].(int64)
		n, okCount := v[1].(int64)
		c.mu.Lock()
		defer c.mu.Unlock()
		e := c.exports[clid]
		if e == nil {
			return nil, nil // given back already: the peer may be closing down
		}
		if !okClid || !okCount || n < 0 || n > int64(e.count) {
			return nil, Violation("more given back than was sent")
		}
		c.forget(e, int(n))
		return nil, nil
	}
	return nil, NoMethod() // decgift among them: we send no gifts
}
