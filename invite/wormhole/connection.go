package wormhole

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"
)

const (
	dialTime  = 2 * time.Minute // Tor may build circuits for an onion service first
	writeTime = 30 * time.Second
	pingEvery = 30 * time.Second
	// extension is our mailbox server's key in frames (see invite/mailbox).
	extension = "warren-v1"
)

// socket is a WebSocket to a mailbox server that exchanges JSON objects.
type socket struct{ ws *websocket.Conn }

// dialSocket connects through dial, and only through it.
func dialSocket(ctx context.Context, dial Dial, url string) (*socket, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	transport := &http.Transport{
		DialContext:            dial, // and no Proxy: the environment names no way out
		TLSHandshakeTimeout:    time.Minute,
		ResponseHeaderTimeout:  time.Minute,
		MaxResponseHeaderBytes: 64 << 10,
		DisableKeepAlives:      true,
	}
	client := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	ws, answer, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPClient: client})
	if err != nil {
		if answer != nil {
			return nil, fmt.Errorf("not a mailbox server (HTTP status %d)", answer.StatusCode)
		}
		return nil, err
	}
	ws.SetReadLimit(maxFrame)
	return &socket{ws}, nil
}

func (k *socket) send(ctx context.Context, kind string, fields map[string]any) error {
	if fields == nil {
		fields = map[string]any{}
	}
	fields["type"] = kind
	b, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, writeTime)
	defer cancel()
	return k.ws.Write(ctx, websocket.MessageText, b)
}

// frame is an inbound object: the fields that we look at.
type frame struct {
	Type      string `json:"type"`
	Nameplate string `json:"nameplate"`
	Mailbox   string `json:"mailbox"`
	Side      string `json:"side"`
	Phase     string `json:"phase"`
	Body      string `json:"body"`
	Error     string `json:"error"`
	Orig      struct {
		Type string `json:"type"`
	} `json:"orig"`
	Nameplates []struct {
		ID string `json:"id"`
	} `json:"nameplates"`
	Welcome struct {
		Error string `json:"error"`
		Ours  *struct {
			MaxSeconds int64 `json:"max-seconds"`
		} `json:"warren-v1"`
	} `json:"welcome"`
	Ours struct {
		Seconds int64 `json:"seconds"`
	} `json:"warren-v1"`
}

func parseFrame(b []byte) (frame, error) {
	var f frame
	if err := json.Unmarshal(b, &f); err != nil {
		return f, fmt.Errorf("%w: a frame is not what it should be", ErrServer)
	}
	return f, nil
}

func (k *socket) receive(ctx context.Context) (frame, error) {
	kind, b, err := k.ws.Read(ctx)
	switch {
	case errors.Is(err, websocket.ErrMessageTooBig), websocket.CloseStatus(err) == websocket.StatusMessageTooBig:
		return frame{}, final(ErrTooLarge)
	case err != nil:
		return frame{}, err
	case kind != websocket.MessageText:
		return frame{}, fmt.Errorf("%w: a binary frame", ErrServer)
	}
	return parseFrame(b)
}

// connection is one connection of a session. Only its run goroutine uses it.
type connection struct {
	session *Session
	socket  *socket

	welcomed, bound, ours        bool
	allocating, claiming, opened bool
	releasing, closing           bool
	asked, replayed              bool            // the marker after the old messages: sent, come back
	served                       bool            // the server has done something for us
	sent, echoed                 map[string]bool // our phases, on this connection
}

// run connects and exchanges frames until the connection or the session ends.
func (c *connection) run(ctx context.Context) error {
	s := c.session
	s.mu.Lock()
	url, err, done := s.state.URL, s.err, s.state.Closed || s.state.Closing != "" && s.state.Nameplate == ""
	if done && !s.state.Closed {
		// Nothing was ever taken from the server: nothing to give back.
		err = s.change(func(st *state) error { st.Closed = true; return nil })
	}
	s.mu.Unlock()
	if err != nil {
		return final(err)
	}
	if done {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	var helpers sync.WaitGroup
	defer helpers.Wait()
	defer cancel()
	c.sent, c.echoed = map[string]bool{}, map[string]bool{}
	if c.socket, err = dialSocket(ctx, s.config.Dial, url); err != nil {
		return err
	}
	defer c.socket.ws.CloseNow()

	type arrival struct {
		frame frame
		err   error
	}
	arrivals := make(chan arrival)
	helpers.Go(func() {
		for {
			f, err := c.socket.receive(ctx)
			select {
			case arrivals <- arrival{f, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	})
	pongs := make(chan error)
	helpers.Go(func() {
		ticker := time.NewTicker(pingEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			limited, cancel := context.WithTimeout(ctx, 2*pingEvery)
			err := c.socket.ws.Ping(limited)
			cancel()
			select {
			case pongs <- err:
			case <-ctx.Done():
				return
			}
		}
	})
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-pongs:
			if err != nil {
				return err
			}
			s.config.Event(Alive)
		case a := <-arrivals:
			if a.err != nil {
				return a.err
			}
			if err := c.handle(a.frame); err != nil {
				return err
			}
			if err := c.step(ctx); err != nil {
				return err
			}
		case <-s.wake:
			if err := c.step(ctx); err != nil {
				return err
			}
		}
		s.mu.Lock()
		closed, failed := s.state.Closed, s.err
		s.mu.Unlock()
		if failed != nil {
			return final(failed)
		}
		if closed {
			c.socket.ws.Close(websocket.StatusNormalClosure, "")
			return nil
		}
	}
}

// handle takes one frame into the state.
func (c *connection) handle(f frame) error {
	s := c.session
	s.mu.Lock()
	defer s.mu.Unlock()
	st := &s.state.state
	if f.Type != "welcome" && !c.welcomed {
		return nil
	}
	switch f.Type {
	case "welcome":
		if f.Welcome.Error != "" {
			return final(&saidError{printable(f.Welcome.Error, 120)})
		}
		c.welcomed, s.online = true, true
		c.ours = f.Welcome.Ours != nil
		s.notify()
		s.config.Event(Connected)
	case "allocated":
		if st.Nameplate != "" || !c.allocating {
			return nil
		}
		granted := min(f.Ours.Seconds, s.config.Seconds)
		if s.config.Need && granted < s.config.Seconds {
			return final(ErrNotOurs)
		}
		if err := checkToken(f.Nameplate); err != nil {
			return final(err)
		}
		text, err := s.config.MakeCode(f.Nameplate)
		if err != nil {
			return final(err)
		}
		c.served = true
		return s.change(func(st *state) error {
			st.Granted = max(0, granted)
			return st.setCode(text)
		})
	case "claimed":
		if st.Mailbox != "" || !c.claiming {
			return nil
		}
		if err := checkToken(f.Mailbox); err != nil {
			return final(err)
		}
		c.served = true
		return s.change(func(st *state) error { st.Mailbox = f.Mailbox; return nil })
	case "message":
		c.served = true
		return c.message(f)
	case "pong":
		c.replayed = true
	case "released":
		return s.change(func(st *state) error { st.Released = true; return nil })
	case "closed":
		return s.change(func(st *state) error { st.Closed = true; return nil })
	case "error":
		return c.failed(f)
	}
	return nil
}

// message takes a message, ours echoed or the other side's. The caller holds the
// session's mutex.
func (c *connection) message(f frame) error {
	s := c.session
	st := &s.state.state
	if f.Side == st.Side {
		// What is not ours, or known already, shall cost neither memory nor disk.
		known, stored := st.sentPhase(f.Phase)
		if known {
			c.echoed[f.Phase] = true
		}
		if !known || stored {
			return nil
		}
		return s.change(func(st *state) error { st.stored(f.Phase); return nil })
	}
	body, err := hex.DecodeString(f.Body)
	if err != nil || st.Closing != "" {
		return nil
	}
	if len(body) > MaxMessage+64 {
		return final(ErrTooLarge)
	}
	if !st.wants(f.Side, f.Phase, body) {
		return nil
	}
	hadPeer, hadKey := st.Peer != "", st.Verified
	err = s.change(func(st *state) error {
		st.accept(f.Side, f.Phase, body)
		err := st.advance(s.versions())
		if errors.Is(err, ErrWrongCode) {
			// Spent: say so to the server and, by our version message,
			// to the other side, which cannot open it either.
			st.Closing, st.Reason = moodScary, "failed"
			return nil
		}
		return err
	})
	if !hadPeer && st.Peer != "" {
		s.config.Event(PeerSeen)
	}
	if !hadKey && st.Verified {
		s.config.Event(KeyAgreed)
	}
	return err
}

// failed judges an error frame. The caller holds the session's mutex.
func (c *connection) failed(f frame) error {
	s := c.session
	switch f.Orig.Type {
	case "ping", "list":
		c.replayed = true
		return nil
	case "release":
		return s.change(func(st *state) error { st.Released = true; return nil })
	case "close":
		return s.change(func(st *state) error { st.Closed = true; return nil })
	}
	if s.state.Closing != "" {
		return s.change(func(st *state) error { st.Closed = true; return nil })
	}
	err, again := serverError(f.Error)
	if again && s.state.Nameplate != "" {
		return err
	}
	// Who waits for a code can be told, and try again.
	return final(err)
}

// step sends whatever the state asks for and was not sent on this connection.
func (c *connection) step(ctx context.Context) error {
	if !c.welcomed {
		return nil
	}
	s := c.session
	type message struct {
		kind   string
		fields map[string]any
	}
	var out []message
	queue := func(kind string, fields map[string]any) { out = append(out, message{kind, fields}) }

	s.mu.Lock()
	st := &s.state.state
	if !c.bound {
		c.bound = true
		queue("bind", map[string]any{"appid": st.AppID, "side": st.Side, "client_version": []string{"warren", "1"}})
	}
	switch {
	case st.Closing != "" && st.Mailbox == "":
		// The server may hold our claim without our knowing the mailbox.
		if st.Released {
			if err := s.change(func(st *state) error { st.Closed = true; return nil }); err != nil {
				s.mu.Unlock()
				return err
			}
		}
	case st.Nameplate == "":
		if !c.allocating {
			c.allocating = true
			f := map[string]any{}
			if s.config.Seconds > 0 {
				f[extension] = map[string]any{"seconds": s.config.Seconds, "digits": s.config.Digits}
			}
			queue("allocate", f)
		}
	case st.Mailbox == "":
		if !c.claiming {
			c.claiming = true
			f := map[string]any{"nameplate": st.Nameplate}
			if st.Existing && c.ours {
				f[extension] = map[string]any{"existing": true}
			}
			queue("claim", f)
		}
	case !c.opened && (st.Closing == "" || !st.allStored()):
		c.opened = true
		queue("open", map[string]any{"mailbox": st.Mailbox})
		if stored(st.Out) {
			// The server had messages of ours. Its answer to this ping
			// comes after the old messages: what is not among them, it lost.
			queue("ping", map[string]any{"ping": 1})
			c.asked = true
		}
	}
	if c.opened {
		for _, o := range st.Out {
			missing := !o.Stored || c.asked && c.replayed && !c.echoed[o.Phase]
			if missing && !c.sent[o.Phase] {
				c.sent[o.Phase] = true
				queue("add", map[string]any{"phase": o.Phase, "body": hex.EncodeToString(o.Body)})
			}
		}
	}
	if st.Nameplate != "" && !st.Released && !c.releasing && (st.Closing != "" || st.Peer != "" && st.Mailbox != "") {
		c.releasing = true
		queue("release", withReason(map[string]any{"nameplate": st.Nameplate}, st.Reason))
	}
	if st.Closing != "" && st.Mailbox != "" && !c.closing && !st.Closed {
		c.closing = true
		queue("close", withReason(map[string]any{"mailbox": st.Mailbox, "mood": st.Closing}, st.Reason))
	}
	s.mu.Unlock()

	for _, m := range out {
		if err := c.socket.send(ctx, m.kind, m.fields); err != nil {
			return err
		}
	}
	return nil
}

func stored(out []outgoing) bool {
	for _, o := range out {
		if o.Stored {
			return true
		}
	}
	return false
}

func withReason(f map[string]any, reason string) map[string]any {
	if reason != "" {
		f[extension] = map[string]any{"reason": reason}
	}
	return f
}

// checkToken: a nameplate or mailbox id as servers make them; it is sent back
// and stands in our state.
func checkToken(s string) error {
	if s == "" || len(s) > 100 || printable(s, len(s)) != s {
		return fmt.Errorf("%w: a name that it gave is bad", ErrServer)
	}
	return nil
}

// Info is what one look at a mailbox server tells.
type Info struct {
	Nameplates []string // of the application, where the server lists them
	MaxSeconds int64    // our own server: how long it keeps an exchange at most; else 0
}

// Look asks a mailbox server what waits there, taking nothing. Servers that do
// not list answer with no nameplates.
func Look(ctx context.Context, dial Dial, url, appID string) (Info, error) {
	k, err := dialSocket(ctx, dial, url)
	if err != nil {
		return Info{}, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	defer k.ws.CloseNow()
	var info Info
	for {
		f, err := k.receive(ctx)
		if err != nil {
			return Info{}, fmt.Errorf("%w: %w", ErrUnreachable, err)
		}
		switch f.Type {
		case "welcome":
			if f.Welcome.Error != "" {
				return Info{}, &saidError{printable(f.Welcome.Error, 120)}
			}
			if f.Welcome.Ours != nil {
				info.MaxSeconds = f.Welcome.Ours.MaxSeconds
			}
			state, err := NewState(appID, url, "", nil)
			if err != nil {
				return Info{}, err
			}
			if err := k.send(ctx, "bind", map[string]any{"appid": appID, "side": state.Side}); err != nil {
				return Info{}, err
			}
			if err := k.send(ctx, "list", nil); err != nil {
				return Info{}, err
			}
		case "nameplates":
			for _, n := range f.Nameplates {
				if checkToken(n.ID) == nil {
					info.Nameplates = append(info.Nameplates, n.ID)
				}
			}
			k.ws.Close(websocket.StatusNormalClosure, "")
			return info, nil
		case "error":
			err, _ := serverError(f.Error)
			return Info{}, err
		}
	}
}
