package mailbox

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// testServer is a server under test whose clock the test moves and which can restart.
type testServer struct {
	t      testing.TB
	path   string
	limits Limits
	*Server
	http *httptest.Server

	mu  sync.Mutex // guards now
	now time.Time
}

func newServer(t testing.TB, limits Limits) *testServer {
	s := &testServer{t: t, path: filepath.Join(t.TempDir(), "mailbox.db"), limits: limits, now: time.Unix(1_800_000_000, 0)}
	s.start()
	t.Cleanup(func() { s.stop() })
	return s
}

func (s *testServer) start() {
	s.t.Helper()
	server, err := Open(Config{Path: s.path, Limits: s.limits, Now: s.clock})
	if err != nil {
		s.t.Fatal(err)
	}
	s.Server, s.http = server, httptest.NewServer(server)
}

func (s *testServer) stop() {
	if err := s.Server.Close(); err != nil {
		s.t.Error(err)
	}
	s.http.Close()
}

func (s *testServer) clock() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func (s *testServer) move(d time.Duration) {
	s.t.Helper()
	s.mu.Lock()
	s.now = s.now.Add(d)
	s.mu.Unlock()
	if err := s.Prune(); err != nil {
		s.t.Fatal(err)
	}
}

// peer is a plain client of the protocol.
type peer struct {
	t   testing.TB
	ctx context.Context
	ws  *websocket.Conn
}

func (s *testServer) connect() *peer {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	s.t.Cleanup(cancel)
	ws, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(s.http.URL, "http")+"/v1", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { ws.CloseNow() })
	ws.SetReadLimit(1 << 20)
	p := &peer{s.t, ctx, ws}
	p.expect("welcome")
	return p
}

func (s *testServer) side(name string) *peer {
	s.t.Helper()
	p := s.connect()
	p.send(`{"type": "bind", "appid": "app", "side": %q, "client_version": ["python", "0.24.0"]}`, name)
	return p
}

func (p *peer) send(format string, args ...any) {
	p.t.Helper()
	if err := p.ws.Write(p.ctx, websocket.MessageText, fmt.Appendf(nil, format, args...)); err != nil {
		p.t.Fatal(err)
	}
}

// next reads a frame.
func (p *peer) next() map[string]any {
	p.t.Helper()
	_, b, err := p.ws.Read(p.ctx)
	if err != nil {
		p.t.Fatalf("waiting for a frame: %v", err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		p.t.Fatal(err)
	}
	return m
}

// expect reads up to a frame of the kind given, passing acks.
func (p *peer) expect(kind string) map[string]any {
	p.t.Helper()
	for {
		m := p.next()
		if m["type"] == kind {
			if _, ok := m["server_tx"].(float64); !ok {
				p.t.Errorf("%s without server_tx", kind)
			}
			return m
		}
		if m["type"] != "ack" {
			p.t.Fatalf("got %v, want %s", m, kind)
		}
	}
}

func (p *peer) refused(want string) {
	p.t.Helper()
	if got := p.expect("error")["error"]; got != want {
		p.t.Errorf("refused with %q, want %q", got, want)
	}
}

func (p *peer) allocate(ours string) string {
	p.t.Helper()
	p.send(`{"type": "allocate"%s}`, ours)
	return p.expect("allocated")["nameplate"].(string)
}

func (p *peer) claim(nameplate string) string {
	p.t.Helper()
	p.send(`{"type": "claim", "nameplate": %q}`, nameplate)
	return p.expect("claimed")["mailbox"].(string)
}

func (p *peer) open(mailbox string) { p.send(`{"type": "open", "mailbox": %q}`, mailbox) }

func (p *peer) add(phase, body string) {
	p.send(`{"type": "add", "phase": %q, "body": %q, "id": "i1"}`, phase, body)
}

func (p *peer) message(side, phase, body string) {
	p.t.Helper()
	m := p.expect("message")
	if m["side"] != side || m["phase"] != phase || m["body"] != body {
		p.t.Errorf("got %v, want %s %s %s", m, side, phase, body)
	}
}

func TestProtocol(t *testing.T) {
	s := newServer(t, Limits{})
	a := s.side("a")
	n := a.allocate("")
	if len(n) != 1 {
		t.Errorf("nameplate %q", n)
	}
	id := a.claim(n)
	a.open(id)
	a.add("pake", "00ff")
	a.message("a", "pake", "00ff")
	b := s.side("b")
	if got := b.claim(n); got != id {
		t.Errorf("mailboxes %q and %q", id, got)
	}
	b.open(id)
	b.message("a", "pake", "00ff")
	b.add("pake", "11")
	b.message("b", "pake", "11")
	a.message("b", "pake", "11")
	// Again, as after a reconnection: to the sender, not to the other.
	b.add("pake", "11")
	b.message("b", "pake", "11")
	b.add("0", "")
	a.message("b", "0", "")
	for _, p := range []*peer{a, b} {
		p.send(`{"type": "ping", "ping": 42}`)
		if p == b {
			b.message("b", "0", "")
		}
		if got := p.expect("pong")["pong"]; got != 42.0 {
			t.Errorf("pong %v", got)
		}
		p.send(`{"type": "release", "nameplate": %q}`, n)
		p.expect("released")
		p.send(`{"type": "close", "mailbox": %q, "mood": "happy"}`, id)
		p.expect("closed")
	}
}

func TestListingRefused(t *testing.T) {
	s := newServer(t, Limits{})
	a := s.side("a")
	a.allocate("")
	a.send(`{"type": "list"}`)
	if l := a.expect("nameplates")["nameplates"].([]any); len(l) != 0 {
		t.Errorf("listed %v", l)
	}
}

func TestRestart(t *testing.T) {
	s := newServer(t, Limits{})
	a := s.side("a")
	n := a.allocate("")
	id := a.claim(n)
	a.open(id)
	a.add("pake", "aa")
	a.message("a", "pake", "aa")
	s.stop()
	s.start()
	b := s.side("b")
	if got := b.claim(n); got != id {
		t.Errorf("mailbox %q became %q", id, got)
	}
	b.open(id)
	b.message("a", "pake", "aa")
	a = s.side("a")
	if got := a.claim(n); got != id {
		t.Errorf("claimed again: %q", got)
	}
}

func TestCrowdedLeavesTheTwoAlone(t *testing.T) {
	s := newServer(t, Limits{})
	a, b, c := s.side("a"), s.side("b"), s.side("c")
	n := a.allocate("")
	id := a.claim(n)
	b.claim(n)
	c.send(`{"type": "claim", "nameplate": %q}`, n)
	c.refused("crowded")
	c.open(id)
	c.refused("crowded")
	a.open(id)
	b.open(id)
	a.add("pake", "aa")
	b.message("a", "pake", "aa")
}

func TestReclaim(t *testing.T) {
	s := newServer(t, Limits{})
	a, b := s.side("a"), s.side("b")
	n := a.allocate("")
	b.claim(n)
	a.send(`{"type": "release", "nameplate": %q}`, n)
	a.expect("released")
	a = s.side("a")
	a.send(`{"type": "claim", "nameplate": %q}`, n)
	a.refused("reclaimed")
}

func TestExpiry(t *testing.T) {
	s := newServer(t, Limits{Lifetime: 48 * time.Hour})
	existing := func(n, want string) {
		t.Helper()
		p := s.side("newcomer")
		p.send(`{"type": "claim", "nameplate": %q, "warren-v1": {"existing": true}}`, n)
		if want == "" {
			p.expect("claimed")
		} else {
			p.refused(want)
		}
		p.ws.CloseNow()
	}
	short, long, empty, capped := s.side("a"), s.side("b"), s.side("c"), s.side("d")
	n1 := short.allocate("")
	long.send(`{"type": "allocate", "warren-v1": {"seconds": 7200, "digits": 6}}`)
	m := long.expect("allocated")
	n2 := m["nameplate"].(string)
	if len(n2) != 6 || m["warren-v1"].(map[string]any)["seconds"] != 7200.0 {
		t.Errorf("granted %v", m)
	}
	long.open(long.claim(n2))
	long.add("pake", "aa")
	long.message("b", "pake", "aa")
	n3 := empty.allocate(`, "warren-v1": {"seconds": 7200, "digits": 9}`)
	capped.send(`{"type": "allocate", "warren-v1": {"seconds": 99999999}}`)
	if got := capped.expect("allocated")["warren-v1"].(map[string]any)["seconds"]; got != 48*3600.0 {
		t.Errorf("granted %v seconds", got)
	}
	listener := s.side("e")
	n5 := listener.allocate("")
	listener.open(listener.claim(n5))
	listener.send(`{"type": "ping", "ping": 1}`)
	listener.expect("pong")

	s.move(10 * time.Minute)
	s.move(2 * time.Minute)
	existing(n1, "nameplate expired") // idle, as at the reference server
	existing(n3, "nameplate expired") // a life granted begins with the first message
	existing(n5, "")                  // somebody listens
	existing("777777", "nameplate unknown")
	s.stop()
	s.start()
	existing(n2, "") // long-lived, with nobody there
	s.move(2 * time.Hour)
	existing(n2, "nameplate expired")
	s.move(tombstoneLife)
	existing(n2, "nameplate unknown")
}

func TestExpiryOnTheSecond(t *testing.T) {
	s := newServer(t, Limits{})
	a := s.side("a")
	n := a.allocate(`, "warren-v1": {"seconds": 60}`)
	a.open(a.claim(n))
	a.add("pake", "aa")
	a.message("a", "pake", "aa")
	s.mu.Lock()
	s.now = s.now.Add(time.Minute) // and no prune
	s.mu.Unlock()
	b := s.side("b")
	b.send(`{"type": "claim", "nameplate": %q, "warren-v1": {"existing": true}}`, n)
	b.refused("nameplate expired")
	a.refused("mailbox expired") // who listens is told
}

func TestReasons(t *testing.T) {
	s := newServer(t, Limits{})
	for reason, want := range map[string]string{"cancelled": "nameplate cancelled", "expired": "nameplate expired", "": "nameplate cancelled", "failed": "nameplate failed"} {
		a := s.side("a" + reason)
		n := a.allocate(`, "warren-v1": {"digits": 7}`)
		a.send(`{"type": "release", "nameplate": %q, "warren-v1": {"reason": %q}}`, n, reason)
		a.expect("released")
		b := s.side("b" + reason)
		b.send(`{"type": "claim", "nameplate": %q, "warren-v1": {"existing": true}}`, n)
		b.refused(want)
	}
}

func TestLimits(t *testing.T) {
	s := newServer(t, Limits{Connections: 8, ClaimBurst: 3, ClaimEvery: time.Minute, Messages: 2, MailboxBytes: 100, Nameplates: 3})
	a, b := s.side("a"), s.side("b")
	n := a.allocate("")
	a.send(`{"type": "allocate"}`)
	a.refused("you already allocated one, don't be greedy")
	id := a.claim(n)
	a.send(`{"type": "claim", "nameplate": "5"}`)
	a.refused("only one claim per connection")
	b.claim(n)
	c := s.side("c")
	c.claim("998877")
	d := s.side("d")
	d.send(`{"type": "claim", "nameplate": "998878"}`)
	d.refused("too many claims, try again later")
	// Who belongs there comes back all the same.
	b = s.side("b")
	b.claim(n)
	s.move(3 * time.Minute)
	d = s.side("d")
	d.claim("998879")
	e := s.side("e")
	e.send(`{"type": "claim", "nameplate": "998880"}`)
	e.refused("mailbox server is full, try again later")

	a.open(id)
	a.add("0", strings.Repeat("00", 51))
	a.refused("mailbox is full")
	a.add("0", "00")
	a.message("a", "0", "00")
	a.add("1", "00")
	a.message("a", "1", "00")
	a.add("2", "00")
	a.refused("mailbox is full")

	s.connect() // the eighth
	if _, _, err := websocket.Dial(a.ctx, "ws"+strings.TrimPrefix(s.http.URL, "http")+"/v1", nil); err == nil {
		t.Error("a ninth connection was accepted")
	}
}

func TestFrameLimit(t *testing.T) {
	s := newServer(t, Limits{Frame: 1000})
	a := s.side("a")
	a.send(`{"type": "ping", "ping": 1, "x": "%s"}`, strings.Repeat("x", 2000))
	for {
		if _, _, err := a.ws.Read(a.ctx); err != nil {
			if websocket.CloseStatus(err) != websocket.StatusMessageTooBig {
				t.Errorf("ended with %v", err)
			}
			return
		}
	}
}

func TestFlood(t *testing.T) {
	s := newServer(t, Limits{})
	a := s.side("a")
	for range frameBurst + 10 {
		if a.ws.Write(a.ctx, websocket.MessageText, []byte(`{"type": "list"}`)) != nil {
			break
		}
	}
	for {
		if _, _, err := a.ws.Read(a.ctx); err != nil {
			if websocket.CloseStatus(err) != websocket.StatusPolicyViolation && !strings.Contains(err.Error(), "EOF") && !strings.Contains(err.Error(), "reset") {
				t.Errorf("ended with %v", err)
			}
			return
		}
	}
}

func TestBadFrames(t *testing.T) {
	s := newServer(t, Limits{})
	long := strings.Repeat("9", 300)
	for _, c := range []struct {
		before, frame, want string
	}{
		{"", `nonsense`, "not a JSON object"},
		{"", `[]`, "not a JSON object"},
		{"", `null`, "not a JSON object"},
		{"", "{\"type\": \"\xff\"}", "not a JSON object"},
		{"", `{}`, "missing 'type'"},
		{"", `{"type": 7}`, "bad 'type'"},
		{"", `{"type": "allocate"}`, "must bind first"},
		{"", `{"type": "ping"}`, "ping requires 'ping'"},
		{"", `{"type": "ping", "ping": [1]}`, "ping requires 'ping'"},
		{"", `{"type": "bind", "side": "a"}`, "missing 'appid'"},
		{"", `{"type": "bind", "appid": "x"}`, "missing 'side'"},
		{"", `{"type": "bind", "appid": "x\u0000y", "side": "a"}`, "bad 'appid'"},
		{"", `{"type": "bind", "appid": "x", "side": "` + long + `"}`, "bad 'side'"},
		{"bind", `{"type": "bind", "appid": "x", "side": "a"}`, "already bound"},
		{"bind", `{"type": "dance"}`, "unknown type"},
		{"bind", `{"type": "claim"}`, "missing 'nameplate'"},
		{"bind", `{"type": "claim", "nameplate": 7}`, "bad 'nameplate'"},
		{"bind", `{"type": "claim", "nameplate": "a"}`, "bad 'nameplate'"},
		{"bind", `{"type": "claim", "nameplate": "-1"}`, "bad 'nameplate'"},
		{"bind", `{"type": "claim", "nameplate": "` + long + `"}`, "bad 'nameplate'"},
		{"bind", `{"type": "claim", "nameplate": "1", "warren-v1": []}`, "bad warren-v1"},
		{"bind", `{"type": "allocate", "warren-v1": {"seconds": -1}}`, "bad warren-v1"},
		{"bind", `{"type": "allocate", "warren-v1": {"seconds": 1e30}}`, "bad warren-v1"},
		{"bind", `{"type": "allocate", "warren-v1": {"digits": 99}}`, "bad warren-v1"},
		{"bind", `{"type": "release"}`, "release without nameplate must follow claim"},
		{"bind", `{"type": "release", "nameplate": "1", "warren-v1": {"reason": "\u001b[2J"}}`, "bad warren-v1"},
		{"bind", `{"type": "open"}`, "missing 'mailbox'"},
		{"bind", `{"type": "open", "mailbox": ""}`, "bad 'mailbox'"},
		{"bind", `{"type": "add", "phase": "0", "body": ""}`, "must open mailbox before adding"},
		{"bind", `{"type": "close"}`, "close without mailbox must follow open"},
		{"open", `{"type": "open", "mailbox": "y"}`, "only one open per connection"},
		{"open", `{"type": "add", "body": "00"}`, "missing 'phase'"},
		{"open", `{"type": "add", "phase": "0"}`, "missing 'body'"},
		{"open", `{"type": "add", "phase": "0", "body": "0"}`, "bad 'body'"},
		{"open", `{"type": "add", "phase": "0", "body": "zz"}`, "bad 'body'"},
		{"open", `{"type": "add", "phase": 0, "body": "00"}`, "bad 'phase'"},
		{"open", `{"type": "close", "mailbox": "other"}`, "open and close must use same mailbox"},
	} {
		p := s.connect()
		if c.before != "" {
			p.send(`{"type": "bind", "appid": "bad", "side": "a"}`)
		}
		if c.before == "open" {
			p.open("x")
		}
		p.send("%s", c.frame)
		p.refused(c.want)
		p.ws.CloseNow()
	}
}

func TestHTTP(t *testing.T) {
	s := newServer(t, Limits{})
	for path, want := range map[string]int{"/": 200, "/v2": 404, "/v1": 426} {
		r, err := s.http.Client().Get(s.http.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if r.StatusCode != want {
			t.Errorf("GET %s: %d, want %d", path, r.StatusCode, want)
		}
	}
	// A page of another site in somebody's browser.
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	_, answer, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(s.http.URL, "http")+"/v1", &websocket.DialOptions{HTTPHeader: http.Header{"Origin": {"https://evil.example"}}})
	if err == nil || answer == nil || answer.StatusCode != http.StatusForbidden {
		t.Errorf("foreign origin: %v", err)
	}
}

func FuzzFrame(f *testing.F) {
	for _, s := range []string{
		`{"type": "bind", "appid": "x", "side": "a"}`, `{"type": "allocate", "warren-v1": {"seconds": 5, "digits": 6}}`,
		`{"type": "claim", "nameplate": "5"}`, `{"type": "add", "phase": "0", "body": "00"}`, `{"type": "open", "mailbox": "x"}`,
		`{"type": "close", "mood": "happy"}`, `{"type": "release", "nameplate": "5"}`,
	} {
		f.Add([]byte(s))
	}
	s, err := Open(Config{Path: filepath.Join(f.TempDir(), "mailbox.db")})
	if err != nil {
		f.Fatal(err)
	}
	s.db.NoSync = true
	f.Cleanup(func() { s.Close() })
	f.Fuzz(func(t *testing.T, frame []byte) {
		// Bound or not, open or not: no panic, and every answer is JSON.
		for _, side := range []string{"", "a"} {
			c := &client{server: s, out: make(chan []byte, outgoing), gone: make(chan struct{}), side: side, app: side}
			c.frames = bucket{size: frameBurst, every: frameEvery}
			c.handle(frame)
			c.handle(frame)
			s.mu.Lock()
			c.deafen()
			s.mu.Unlock()
			for len(c.out) > 0 {
				if b := <-c.out; !json.Valid(b) {
					t.Fatalf("answered %q", b)
				}
			}
		}
	})
}
