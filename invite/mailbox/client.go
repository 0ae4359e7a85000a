package mailbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/coder/websocket"
	bolt "go.etcd.io/bbolt"
)

const (
	// outgoing frames wait for a slow reader; more than a full mailbox of
	// them, and the connection is dropped: it may reconnect and ask again.
	outgoing = 256
	// extension is the key under which ours stands.
	extension = "warren-v1"
	// maxDigits bounds the nameplates that we allot.
	maxDigits = 12
	// A connection sends a burst of frames, then at a calm rate.
	frameBurst = 200
	frameEvery = 50 * time.Millisecond
	// The connection is checked this often, so that half-open ones end.
	pingEvery = time.Minute
	writeTime = 30 * time.Second
	// A connection that does not say who it is, or is done and stays, or opens
	// no mailbox for long, gives its place to others.
	bindTime = 30 * time.Second
	openTime = idleLife
)

// client is one connection. Its fields, but for out and gone, belong to the
// server's mutex: frames are handled under it.
type client struct {
	server *Server
	ws     *websocket.Conn
	out    chan []byte   // frames to send, in order
	gone   chan struct{} // closed when out is full: the reader is too slow
	once   sync.Once     // closes gone

	frames    bucket
	app, side string
	allocated bool
	claimed   bool
	released  bool
	closed    bool
	name      string // the nameplate claimed
	id        string // the mailbox opened
	open      bool
	listening string    // key among the server's listeners
	since     time.Time // it began, or closed its mailbox; of the machine's clock
}

// run serves the connection until it ends.
func (c *client) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.frames = bucket{size: frameBurst, every: frameEvery}
	c.since = time.Now()
	c.welcome()
	var writer sync.WaitGroup
	writer.Go(func() { c.write(ctx); cancel() })
	c.read(ctx)
	cancel()
	writer.Wait()
	c.ws.CloseNow()
	c.server.mu.Lock()
	c.deafen()
	c.server.mu.Unlock()
}

// write sends what is queued, and a ping now and then.
func (c *client) write(ctx context.Context) {
	ticker := time.NewTicker(pingEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.gone:
			return
		case frame := <-c.out:
			limited, cancel := context.WithTimeout(ctx, writeTime)
			err := c.ws.Write(limited, websocket.MessageText, frame)
			cancel()
			if err != nil {
				return
			}
		case <-ticker.C:
			limited, cancel := context.WithTimeout(ctx, writeTime)
			err := c.ws.Ping(limited)
			cancel()
			if err != nil {
				return
			}
		}
	}
}

// read handles frames until the connection ends.
func (c *client) read(ctx context.Context) {
	for {
		limited, cancel := ctx, context.CancelFunc(func() {})
		if end := c.deadline(); !end.IsZero() {
			limited, cancel = context.WithDeadline(ctx, end)
		}
		kind, frame, err := c.ws.Read(limited)
		cancel()
		if err != nil {
			return
		}
		if kind != websocket.MessageText {
			c.ws.Close(websocket.StatusUnsupportedData, "text frames only")
			return
		}
		if !c.handle(frame) {
			c.ws.Close(websocket.StatusPolicyViolation, "too many frames")
			return
		}
	}
}

// deadline is when the connection ends if it stays as it is; zero is never.
func (c *client) deadline() time.Time {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	switch {
	case c.side == "", c.closed:
		return c.since.Add(bindTime)
	case !c.open:
		return c.since.Add(openTime)
	}
	return time.Time{}
}

// handle answers one frame; false ends the connection.
func (c *client) handle(frame []byte) bool {
	s := c.server
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.config.Now()
	if !c.frames.take(now) {
		return false
	}
	f, err := parse(frame)
	if err != nil {
		c.fail(err.Error(), nil)
		return true
	}
	c.send("ack", map[string]any{"id": f.nullable("id")})
	if err := c.dispatch(f, now); err != nil {
		var told refusal
		known := func(e error) bool { return errors.Is(err, e) }
		if !errors.As(err, &told) && !slices.ContainsFunc([]error{errCrowded, errReclaimed, errFull, errClaims, errTooMuch}, known) {
			// The disk is full or broken; which, is not the client's business.
			err = errors.New("internal error, try again later")
		}
		c.fail(err.Error(), f)
	}
	return true
}

// refusal is an error that the client is told.
type refusal string

func (r refusal) Error() string { return string(r) }

func (c *client) dispatch(f fields, now time.Time) error {
	kind, err := f.text("type", 32)
	if err != nil {
		return err
	}
	switch kind {
	case "ping":
		var n json.Number
		if json.Unmarshal(f["ping"], &n) != nil || len(n) > 32 || n == "" {
			return refusal("ping requires 'ping'")
		}
		c.send("pong", map[string]any{"pong": n})
		return nil
	case "bind":
		return c.bind(f)
	}
	if c.side == "" {
		return refusal("must bind first")
	}
	switch kind {
	case "list":
		c.send("nameplates", map[string]any{"nameplates": []any{}})
		return nil
	case "allocate":
		return c.allocate(f, now)
	case "claim":
		return c.claim(f, now)
	case "release":
		return c.release(f, now)
	case "open":
		return c.openMailbox(f, now)
	case "add":
		return c.add(f, now)
	case "close":
		return c.closeMailbox(f, now)
	}
	return refusal("unknown type")
}

func (c *client) bind(f fields) error {
	if c.side != "" {
		return refusal("already bound")
	}
	app, err := f.text("appid", 128)
	if err != nil {
		return err
	}
	side, err := f.text("side", 64)
	if err != nil {
		return err
	}
	c.app, c.side = app, side
	return nil
}

// update runs the rules over one synced transaction.
func (c *client) update(now time.Time, change func(store) error) error {
	return c.server.db.Update(func(tx *bolt.Tx) error {
		return change(store{tx, c.app, now, c.server.limits, func() bool { return c.server.claims.take(now) }})
	})
}

func (c *client) allocate(f fields, now time.Time) error {
	if c.allocated {
		return refusal("you already allocated one, don't be greedy")
	}
	var want struct {
		Seconds int64 `json:"seconds"`
		Digits  int   `json:"digits"`
	}
	if err := f.ours(&want); err != nil {
		return err
	}
	if want.Seconds < 0 || want.Digits < 0 || want.Digits > maxDigits {
		return refusal("bad " + extension)
	}
	granted := min(want.Seconds, int64(c.server.limits.Lifetime/time.Second))
	if granted > int64(longLife/time.Second) && !c.server.long.take(now) {
		return refusal("too many long-lived mailboxes, try again later")
	}
	var expires int64
	if granted > 0 {
		expires = now.Unix() + granted
	}
	var name string
	err := c.update(now, func(s store) (err error) {
		name, err = s.allocate(c.side, want.Digits, expires)
		return err
	})
	if err != nil {
		return err
	}
	c.allocated = true
	c.send("allocated", map[string]any{"nameplate": name, extension: map[string]any{"seconds": granted}})
	return nil
}

func (c *client) claim(f fields, now time.Time) error {
	if c.claimed {
		return refusal("only one claim per connection")
	}
	name, err := f.nameplate()
	if err != nil {
		return err
	}
	var want struct {
		Existing bool `json:"existing"`
	}
	if err := f.ours(&want); err != nil {
		return err
	}
	// One claim a connection, whatever becomes of it.
	c.claimed = true
	if err := c.bury(name, now); err != nil {
		return err
	}
	var id string
	err = c.update(now, func(s store) error {
		np, ok, err := load[nameplate](s, bucketNameplates, name)
		if err != nil {
			return err
		}
		_, mine := np.Sides[c.side]
		// A side that comes back to its own nameplate is not counted against
		// everybody's budget, and who makes a mailbox is counted for that.
		if (ok || want.Existing) && !mine && !c.server.claims.take(now) {
			return errClaims
		}
		switch {
		case !want.Existing || mine:
		case !ok:
			reason, err := s.gone(name)
			if err != nil {
				return err
			}
			return refusal("nameplate " + reason)
		case np.Reason != "":
			return refusal("nameplate " + np.Reason) // called off, and not yet free
		}
		id, err = s.claim(name, c.side, 0)
		return err
	})
	if err != nil {
		return err
	}
	c.name = name
	c.send("claimed", map[string]any{"mailbox": id})
	return nil
}

// bury removes a nameplate whose time has come: the pruner comes once a minute, and
// a life ends on the second.
func (c *client) bury(name string, now time.Time) error {
	over := false
	err := c.server.db.View(func(tx *bolt.Tx) error {
		s := store{tx: tx, app: c.app, now: now, limit: c.server.limits}
		np, ok, err := load[nameplate](s, bucketNameplates, name)
		if err != nil || !ok {
			return err
		}
		b, _, err := load[box](s, bucketMailboxes, np.Mailbox)
		_, over = b.dead(now, len(c.server.listeners[string(s.key(np.Mailbox))]) > 0)
		return err
	})
	if err != nil || !over {
		return err
	}
	return c.server.pruneAt(now)
}

func (c *client) release(f fields, now time.Time) error {
	if c.released {
		return refusal("only one release per connection")
	}
	name := c.name
	if _, ok := f["nameplate"]; ok {
		n, err := f.nameplate()
		if err != nil {
			return err
		}
		if name != "" && n != name {
			return refusal("release and claim must use same nameplate")
		}
		name = n
	}
	if name == "" {
		return refusal("release without nameplate must follow claim")
	}
	reason, err := f.reason()
	if err != nil {
		return err
	}
	if err := c.update(now, func(s store) error { return s.release(name, c.side, reason) }); err != nil {
		return err
	}
	c.released = true
	c.send("released", nil)
	return nil
}

func (c *client) openMailbox(f fields, now time.Time) error {
	if c.open {
		return refusal("only one open per connection")
	}
	id, err := f.text("mailbox", 64)
	if err != nil {
		return err
	}
	var held []stored
	var off string
	err = c.update(now, func(s store) (err error) {
		if off, err = s.open(id, c.side, "", 0); err != nil {
			return err
		}
		held, err = s.messages(id)
		return err
	})
	if err != nil {
		return err
	}
	c.open, c.id = true, id
	c.listening = string(store{app: c.app}.key(id))
	if c.server.listeners[c.listening] == nil {
		c.server.listeners[c.listening] = map[*client]bool{}
	}
	c.server.listeners[c.listening][c] = true
	for _, m := range held {
		c.deliver(m)
	}
	if off != "" {
		c.fail("mailbox "+off, nil)
	}
	return nil
}

func (c *client) add(f fields, now time.Time) error {
	if !c.open {
		return refusal("must open mailbox before adding")
	}
	phase, err := f.text("phase", 64)
	if err != nil {
		return err
	}
	body, err := f.hex("body", c.server.limits.Frame)
	if err != nil {
		return err
	}
	id, err := f.optional("id", 64)
	if err != nil {
		return err
	}
	m := stored{Side: c.side, Phase: phase, Body: body, RX: seconds(now), ID: id}
	added := false
	err = c.update(now, func(s store) (err error) {
		added, err = s.add(c.id, m)
		return err
	})
	if err != nil {
		return err
	}
	if !added {
		// The sender waits for its echo; the other side has the message.
		c.deliver(m)
		return nil
	}
	for l := range c.server.listeners[c.listening] {
		l.deliver(m)
	}
	return nil
}

func (c *client) closeMailbox(f fields, now time.Time) error {
	if c.closed {
		return refusal("only one close per connection")
	}
	id := c.id
	if _, ok := f["mailbox"]; ok {
		m, err := f.text("mailbox", 64)
		if err != nil {
			return err
		}
		if id != "" && m != id {
			return refusal("open and close must use same mailbox")
		}
		id = m
	}
	if id == "" {
		return refusal("close without mailbox must follow open")
	}
	mood, err := f.optional("mood", 32)
	if err != nil {
		return err
	}
	reason, err := f.reason()
	if err != nil {
		return err
	}
	tell := false
	if err := c.update(now, func(s store) (err error) {
		tell, err = s.close(id, c.side, mood, reason)
		return err
	}); err != nil {
		return err
	}
	c.closed, c.open, c.since = true, false, time.Now()
	c.deafen()
	if tell {
		// Nobody else will: the other side would wait until its mailbox dies.
		for l := range c.server.listeners[string(store{app: c.app}.key(id))] {
			l.fail("mailbox "+reason, nil)
		}
	}
	c.send("closed", nil)
	return nil
}

// deafen stops listening. The caller holds the server's mutex.
func (c *client) deafen() {
	if c.listening == "" {
		return
	}
	all := c.server.listeners[c.listening]
	delete(all, c)
	if len(all) == 0 {
		delete(c.server.listeners, c.listening)
	}
	c.listening = ""
}

func (c *client) welcome() {
	w := map[string]any{extension: map[string]any{"max-seconds": int64(c.server.limits.Lifetime / time.Second)}}
	if c.server.config.MOTD != "" {
		w["motd"] = c.server.config.MOTD
	}
	c.send("welcome", map[string]any{"welcome": w})
}

func (c *client) deliver(m stored) {
	var id any
	if m.ID != "" {
		id = m.ID
	}
	c.send("message", map[string]any{"side": m.Side, "phase": m.Phase, "body": m.Body, "server_rx": m.RX, "id": id})
}

// fail reports an error, with the frame that caused it, cut where it is long.
func (c *client) fail(text string, f fields) {
	orig := map[string]any{}
	for _, k := range []string{"type", "id", "nameplate", "mailbox", "phase"} {
		if v, ok := f[k]; ok && len(v) <= 100 {
			orig[k] = v
		}
	}
	c.send("error", map[string]any{"error": text, "orig": orig})
}

// send queues a frame; a client that does not read is dropped.
func (c *client) send(kind string, f map[string]any) {
	if f == nil {
		f = map[string]any{}
	}
	f["type"] = kind
	f["server_tx"] = seconds(c.server.config.Now())
	frame, err := json.Marshal(f)
	if err != nil {
		panic(fmt.Sprintf("mailbox: a frame of ours does not encode: %v", err))
	}
	select {
	case c.out <- frame:
	default:
		c.once.Do(func() { close(c.gone) })
	}
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
