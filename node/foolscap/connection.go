package foolscap

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"warren/node/foolscap/banana"
)

const (
	// outgoingLimit is how much waits for a peer that reads slowly before senders
	// wait. One message may be larger.
	outgoingLimit = 512 << 10
	// replyLimit is how much may wait before replies that cannot wait (pongs,
	// refusals) end the connection: the peer sends and does not read.
	replyLimit = outgoingLimit + 256<<10
	// writeTimeout is how long a peer may take to accept writeChunk bytes.
	writeTimeout = 2 * time.Minute
	writeChunk   = 64 << 10
	// decisionLost is how long a new connection may be silent before a second one by
	// a peer that has not heard of it replaces it.
	decisionLost = 20 * time.Second
	// waitingMessages is how much of a peer's calls waits or runs at once, in
	// messages of the largest size; then it is not read.
	waitingMessages = 2
	// maxReferences is how many objects of ours a peer may hold, and how many of its
	// we hold.
	maxReferences = 2000
)

// connection joins two tubs. It is made by negotiation, attached to its tub, and
// then run.
type connection struct {
	tub  *Tub
	peer string // the other tub's id
	hint string // where we found it; "" when it found us
	conn net.Conn
	agreed
	decoder  *banana.Decoder
	born     int64               // when it was made, Unix nanoseconds
	received atomic.Int64        // when data last came; born if none has come
	room     *semaphore.Weighted // for the calls of the peer that wait or run
	ctx      context.Context
	cancel   context.CancelFunc
	done     chan struct{} // closed when the connection is of no use any more
	wake     chan struct{} // tells the writer that something is queued
	workers  sync.WaitGroup

	mu       sync.Mutex // guards everything below
	err      error      // why it ended; set before done is closed
	encoder  banana.Encoder
	queue    []byte        // encoded, not yet taken by the writer
	drained  chan struct{} // closed and replaced when the writer takes the queue
	sent     []*export     // counted up by the message that is being encoded
	nextCall int64
	pending  map[int64]func(answer any, err error)
	nextClid int64
	exports  map[int64]*export
	exported map[*Object]*export
	imports  map[int64]*imported
}

// newConnection makes a connection of what negotiation left; r holds what it
// read too far.
func newConnection(t *Tub, conn net.Conn, r *bufio.Reader, peer, hint string, a agreed) *connection {
	c := &connection{
		tub: t, peer: peer, hint: hint, conn: conn, agreed: a,
		done: make(chan struct{}), wake: make(chan struct{}, 1),
		drained: make(chan struct{}), pending: map[int64]func(any, error){}, nextCall: 1, nextClid: 1,
		exports: map[int64]*export{}, exported: map[*Object]*export{}, imports: map[int64]*imported{},
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.born = time.Now().UnixNano()
	c.received.Store(c.born)
	vocabulary, _ := banana.Initial(a.vocabulary) // known: negotiated
	limits := t.config.Limits
	if hint != "" {
		limits = t.config.DialedLimits
	}
	c.room = semaphore.NewWeighted(waitingMessages * int64(limits.Message))
	c.encoder = banana.Encoder{Vocabulary: vocabulary, Slice: c.slice}
	c.decoder = banana.NewDecoder(r, vocabulary, limits)
	c.decoder.Ping, c.decoder.Resolve = c.pong, c.resolve
	return c
}

// run serves the connection to its end and returns when nothing of it runs any
// more.
func (c *connection) run() {
	c.workers.Go(c.write)
	c.workers.Go(c.watch)
	c.fail(c.read())
	c.workers.Wait()
}

// fail ends the connection. Only the first reason counts.
func (c *connection) fail(reason error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err = fmt.Errorf("%w: %w", ErrDisconnected, reason)
	pending := c.pending
	c.pending = nil
	close(c.done)
	c.mu.Unlock()

	c.cancel()
	c.conn.Close()
	c.tub.detach(c)
	for _, answer := range pending {
		answer(nil, c.err)
	}
}

// reason is why the connection ended.
func (c *connection) reason() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// unheard says that the peer has been silent since negotiation for longer than one
// that had heard our decision would be: whoever connects wants something.
func (c *connection) unheard() bool {
	return c.received.Load() == c.born && time.Since(time.Unix(0, c.born)) > decisionLost
}

// activity notes when data came in.
type activity struct {
	net.Conn
	at func()
}

func (a activity) Read(b []byte) (int, error) {
	n, err := a.Conn.Read(b)
	if n > 0 {
		a.at()
	}
	return n, err
}

// watch pings an idle peer, and gives up one that does not answer.
func (c *connection) watch() {
	every := min(c.tub.config.Keepalive, c.tub.config.Disconnect)
	timer := time.NewTimer(every)
	defer timer.Stop()
	for {
		select {
		case <-c.done:
			return
		case <-timer.C:
		}
		idle := time.Since(time.Unix(0, c.received.Load()))
		if idle >= c.tub.config.Disconnect {
			c.fail(errors.New("the peer is silent"))
			return
		}
		if idle >= c.tub.config.Keepalive {
			c.reply(banana.AppendToken(nil, banana.PING, 0))
		}
		timer.Reset(every)
	}
}

func (c *connection) pong(n uint64) { c.reply(banana.AppendToken(nil, banana.PONG, n)) }

// reply queues bytes without waiting.
func (c *connection) reply(b []byte) {
	c.mu.Lock()
	c.queue = append(c.queue, b...)
	full := len(c.queue) > replyLimit
	c.mu.Unlock()
	if full {
		c.fail(errors.New("the peer sends and does not read"))
	}
	c.poke()
}

// replyMessage queues one message without waiting.
func (c *connection) replyMessage(s banana.Sequence) {
	c.mu.Lock()
	err := c.encode(s)
	full := len(c.queue) > replyLimit
	c.mu.Unlock()
	if err != nil {
		c.fail(err)
	}
	if full {
		c.fail(errors.New("the peer sends and does not read"))
	}
	c.poke()
}

// encode appends a message to the queue, all or nothing. c.mu is held.
func (c *connection) encode(s banana.Sequence) error {
	if c.err != nil {
		return c.err
	}
	c.sent = c.sent[:0]
	queue, err := c.encoder.Append(c.queue, s)
	if err != nil {
		for _, e := range c.sent {
			c.forget(e, 1)
		}
		return err
	}
	c.queue = queue
	return nil
}

func (c *connection) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// send queues a message once there is room. message makes it in that moment, with
// c.mu held.
func (c *connection) send(ctx context.Context, message func() (banana.Sequence, error)) error {
	for {
		c.mu.Lock()
		if c.err != nil {
			err := c.err
			c.mu.Unlock()
			return err
		}
		if len(c.queue) < outgoingLimit {
			s, err := message()
			if err == nil {
				err = c.encode(s)
			}
			c.mu.Unlock()
			c.poke()
			return err
		}
		drained := c.drained
		c.mu.Unlock()
		select {
		case <-drained:
		case <-c.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// write is the writer: it takes the queue and sends it.
func (c *connection) write() {
	var spare []byte
	for {
		select {
		case <-c.done:
			return
		case <-c.wake:
		}
		c.mu.Lock()
		out := c.queue
		c.queue = spare[:0]
		close(c.drained)
		c.drained = make(chan struct{})
		c.mu.Unlock()
		for b := out; len(b) > 0; {
			n := min(len(b), writeChunk)
			c.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
			if _, err := c.conn.Write(b[:n]); err != nil {
				c.fail(err)
				return
			}
			b = b[n:]
		}
		if spare = out; cap(spare) > writeChunk {
			spare = nil
		}
	}
}

// read is the reader: it returns why it cannot go on.
func (c *connection) read() error {
	for {
		v, err := c.decoder.Next()
		var bad *banana.Violation
		switch {
		case errors.As(err, &bad):
			s, _ := v.(banana.Sequence)
			c.refused(s, bad)
		case errors.Is(err, banana.ErrProtocol):
			// Tell the peer why before hanging up; best effort, it may not read.
			c.conn.SetWriteDeadline(time.Now().Add(time.Second))
			c.conn.Write(banana.AppendError(nil, err.Error()))
			return err
		case err == io.EOF:
			return errors.New("closed by the peer")
		case err != nil:
			return err
		default:
			s, ok := v.(banana.Sequence)
			if !ok {
				release(v)
				return fmt.Errorf("%w: a message that is no call, answer or error", banana.ErrProtocol)
			}
			if err := c.message(s); err != nil {
				return err
			}
		}
	}
}

// refused answers for a message that a Violation cut short after s.
func (c *connection) refused(s banana.Sequence, bad *banana.Violation) {
	defer releaseAll(s.Items)
	if len(s.Items) == 0 {
		return
	}
	id, ok := s.Items[0].(int64)
	if !ok || id <= 0 || id > maxID {
		return
	}
	switch s.Type {
	case "call":
		if !bad.Aborted {
			c.refuse(id, Violation("%s", bad.Reason))
		}
	case "answer", "error":
		if answer := c.take(id); answer != nil {
			answer(nil, bad)
		}
	}
}

func (c *connection) refuse(request int64, f *Failure) {
	if request != 0 {
		c.replyMessage(banana.Sequence{Type: "error", Items: []any{request, f.sequence()}})
	}
}

// take returns the one who waits for an answer, at most once.
func (c *connection) take(request int64) func(any, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	answer := c.pending[request]
	delete(c.pending, request)
	return answer
}

// message handles one whole message. An error ends the connection.
func (c *connection) message(s banana.Sequence) error {
	switch s.Type {
	case "call":
		return c.call(s)
	case "answer", "error":
		if len(s.Items) != 2 {
			return fmt.Errorf("%w: malformed answer", banana.ErrProtocol)
		}
		request, ok := s.Items[0].(int64)
		if !ok {
			return fmt.Errorf("%w: malformed answer", banana.ErrProtocol)
		}
		answer := c.take(request)
		if answer == nil { // given up by its context
			release(s.Items[1])
			return nil
		}
		f, failed := s.Items[1].(*Failure)
		switch {
		case s.Type == "answer" && !failed:
			answer(s.Items[1], nil)
		case failed:
			answer(nil, f)
		default:
			release(s.Items[1])
			answer(nil, &banana.Violation{Reason: "malformed error"})
		}
		return nil
	}
	releaseAll(s.Items) // A kind of message of a later version: Foolscap, too, goes on.
	return nil
}

// call starts a call of the peer.
func (c *connection) call(s banana.Sequence) error {
	request, target, in, err := parseCall(s)
	if errors.Is(err, banana.ErrProtocol) {
		releaseAll(s.Items)
		return err
	}
	in.Peer = c.peer
	if err == nil && target == 0 {
		answer, err := c.self(in)
		in.Args.Release()
		c.answerNow(request, answer, err)
		return nil
	}
	c.mu.Lock()
	e := c.exports[target]
	c.mu.Unlock()
	if err == nil && e == nil {
		err = Violation("no such object")
	}
	if err == nil && e.object.Handler == nil {
		err = NoMethod()
	}
	if err != nil {
		releaseAll(s.Items)
		c.refuse(request, forPeer(err))
		return nil
	}
	size := int64(c.decoder.Size())
	if c.room.Acquire(c.ctx, size) != nil { // Full: not reading on stops the peer.
		return c.reason()
	}
	c.mu.Lock()
	e.queue = append(e.queue, waiting{request, in, size})
	idle := !e.running
	e.running = true
	c.mu.Unlock()
	if idle {
		c.workers.Go(func() { c.work(e) })
	}
	return nil
}

// waiting is a call of the peer whose turn has not come.
type waiting struct {
	request int64
	call    Call
	size    int64 // of its message
}

// work does the calls to one object until none waits.
func (c *connection) work(e *export) {
	for {
		c.mu.Lock()
		if len(e.queue) == 0 || c.err != nil {
			e.running = false
			c.forget(e, 0)
			c.mu.Unlock()
			return
		}
		next := e.queue[0]
		e.queue = e.queue[1:]
		c.mu.Unlock()

		answer, err := e.object.Handler.Handle(c.ctx, next.call)
		if next.request != 0 {
			c.answer(next.request, answer, err)
		}
		c.room.Release(next.size)
	}
}

// answer sends a call's outcome when there is room.
func (c *connection) answer(request int64, v any, err error) {
	s := outcome(request, v, err)
	err = c.send(c.ctx, func() (banana.Sequence, error) { return s, nil })
	if err != nil && c.ctx.Err() == nil {
		// The answer itself cannot be sent: a fault of ours, which the peer may know.
		c.refuse(request, forPeer(err))
	}
}

// answerNow sends a call's outcome without waiting.
func (c *connection) answerNow(request int64, v any, err error) {
	if request != 0 {
		c.replyMessage(outcome(request, v, err))
	}
}

func outcome(request int64, v any, err error) banana.Sequence {
	if err != nil {
		return banana.Sequence{Type: "error", Items: []any{request, forPeer(err).sequence()}}
	}
	return banana.Sequence{Type: "answer", Items: []any{request, v}}
}
