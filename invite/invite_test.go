package invite

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"warren/invite/mailbox"
	"warren/invite/message"
	"warren/invite/wormhole"
	"warren/node/caps"
	"warren/node/furl"
)

const testFURL = "pb://aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaq@tcp:127.0.0.1:4321/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

func deadline(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}

func soon(ctx context.Context, _ int) error {
	timer := time.NewTimer(2 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// clock is a time that the test moves.
type clock struct {
	mu     sync.Mutex // guards both
	now    time.Time
	timers map[chan time.Time]time.Time
}

func newClock() *clock {
	return &clock{now: time.Unix(1_800_000_000, 0), timers: map[chan time.Time]time.Time{}}
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) After(d time.Duration) <-chan time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	ch := make(chan time.Time, 1)
	c.timers[ch] = c.now.Add(d)
	return ch
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	for ch, at := range c.timers {
		if !c.now.Before(at) {
			ch <- c.now
			delete(c.timers, ch)
		}
	}
}

// house is a mailbox server, an operator and what the operator has taken in.
type house struct {
	t     testing.TB
	clock *clock
	url   string
	path  string // the ledger
	dial  wormhole.Dial

	*Inviter

	mu      sync.Mutex // guards what follows
	members map[string]message.Acknowledgement
	changes chan Invite
	refuse  error  // what Joined returns
	joined  func() // called by Joined, if not nil
	server  *mailbox.Server
	http    *httptest.Server
}

func newHouse(t testing.TB) *house {
	h := &house{t: t, clock: newClock(), path: filepath.Join(t.TempDir(), "invites.db"), dial: dial,
		members: map[string]message.Acknowledgement{}, changes: make(chan Invite, 100)}
	s, err := mailbox.Open(mailbox.Config{Path: filepath.Join(t.TempDir(), "mailbox.db"), Now: h.clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	h.server, h.http = s, httptest.NewServer(s)
	h.url = "ws" + strings.TrimPrefix(h.http.URL, "http") + "/v1"
	t.Cleanup(func() { s.Close(); h.http.Close() })
	h.start()
	t.Cleanup(func() { h.Inviter.Close() })
	return h
}

func (h *house) start() {
	h.t.Helper()
	i, err := New(Config{
		Ledger: h.path, Dial: func(ctx context.Context, n, a string) (net.Conn, error) { return h.dial(ctx, n, a) },
		Now: h.clock.Now, After: h.clock.After, Wait: soon,
		Settings: func(_ context.Context, v Invite) (message.Settings, error) {
			f, err := furl.Parse(testFURL)
			s := message.Settings{Nickname: "Our Grid", Introducer: f, Encoding: message.Encoding{Needed: 1, Happy: 1, Total: 2}}
			s.Ours = &message.Ours{Grid: "Our Grid", Folder: v.Folder, Tor: message.TorOptional}
			if v.Folder != "" {
				s.Ours.Writecap = caps.DirWrite{SSKWrite: caps.SSKWrite{WriteKey: [16]byte{1}}}
			}
			return s, err
		},
		Joined: func(_ context.Context, v Invite, a message.Acknowledgement) error {
			h.mu.Lock()
			defer h.mu.Unlock()
			if h.refuse != nil {
				return h.refuse
			}
			h.members[v.ID] = a
			if h.joined != nil {
				h.joined()
			}
			return nil
		},
		Changed: func(v Invite) { h.changes <- v },
	})
	if err != nil {
		h.t.Fatal(err)
	}
	if err := i.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.Inviter = i
}

func (h *house) restart() {
	h.t.Helper()
	if err := h.Inviter.Close(); err != nil {
		h.t.Fatal(err)
	}
	h.start()
}

func (h *house) offer(o Options) Issued {
	h.t.Helper()
	if o.Name == "" {
		o.Name = "bob"
	}
	o.Mailbox = h.url
	issued, err := h.Offer(deadline(h.t), o)
	if err != nil {
		h.t.Fatal(err)
	}
	return issued
}

// until waits for a state.
func (h *house) until(id string, want State) Invite {
	h.t.Helper()
	limit := time.After(2 * time.Minute)
	for {
		for _, v := range h.List() {
			if v.ID != id {
				continue
			}
			if v.State == want {
				return v
			}
			if v.State.Final() {
				h.t.Fatalf("invite is %s (%s), want %s", v.State, v.Reason, want)
			}
		}
		select {
		case <-h.changes:
		case <-limit:
			h.t.Fatalf("not %s in time: %+v", want, h.List())
		}
	}
}

func (h *house) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.members)
}

func answer(context.Context, message.Settings) (message.Acknowledgement, error) {
	return message.Acknowledgement{Participant: "bob", Keys: map[string]string{"node": "pub-v0-abc"}}, nil
}

func accept(t testing.TB, what string, change ...func(*AcceptOptions)) (message.Settings, error) {
	o := AcceptOptions{CodeOrLink: what, Dial: dial, Reply: answer, Wait: soon}
	for _, c := range change {
		c(&o)
	}
	return Accept(deadline(t), o)
}

func TestOfferAccept(t *testing.T) {
	h := newHouse(t)
	issued := h.offer(Options{Folder: "photos", OwnMailbox: true, Expires: 7 * 24 * time.Hour})
	if issued.Code.Words() != 4 || len(issued.Code.Nameplate()) < 6 || issued.CodeAloneIsEnough {
		t.Errorf("%d words, nameplate of %d digits, alone: %v", issued.Code.Words(), len(issued.Code.Nameplate()), issued.CodeAloneIsEnough)
	}
	var stages []Stage
	var mu sync.Mutex // guards stages
	s, err := accept(t, issued.Link.Text(), func(o *AcceptOptions) {
		o.Progress = func(s Stage) { mu.Lock(); defer mu.Unlock(); stages = append(stages, s) }
	})
	if err != nil {
		t.Fatal(err)
	}
	if s.Ours == nil || s.Ours.Folder != "photos" || s.Ours.Participant != "bob" || s.Ours.Invite != issued.ID || s.Introducer.Text() != testFURL {
		t.Errorf("received %v", s)
	}
	v := h.until(issued.ID, Done)
	if !v.Acknowledged || v.Keys["node"] != "pub-v0-abc" || h.count() != 1 || h.members[issued.ID].Keys["node"] != "pub-v0-abc" {
		t.Errorf("%+v, %d members", v, h.count())
	}
	want := []Stage{StageConnecting, StageKeyAgreed, StageSettings, StageAcknowledged, StageMember}
	mu.Lock()
	if fmt.Sprint(stages) != fmt.Sprint(want) {
		t.Errorf("stages %v", stages)
	}
	mu.Unlock()
	if _, err := accept(t, issued.Link.Text()); !errors.Is(err, wormhole.ErrUsed) {
		t.Errorf("a used code: %v", err)
	}
	if err := h.Cancel(issued.ID); !errors.Is(err, ErrTooLate) {
		t.Errorf("cancelling a used code: %v", err)
	}
}

func TestShortInvite(t *testing.T) {
	h := newHouse(t)
	h.Inviter.config.Public = []string{h.url}
	issued := h.offer(Options{})
	if issued.Code.Words() != 2 || !issued.CodeAloneIsEnough {
		t.Errorf("%d words, alone: %v", issued.Code.Words(), issued.CodeAloneIsEnough)
	}
	s, err := accept(t, issued.Code.Text(), func(o *AcceptOptions) { o.Public = []string{h.url} })
	if err != nil || s.Ours.Folder != "" {
		t.Errorf("%v, %v", s, err)
	}
}

func TestRefusedOffers(t *testing.T) {
	h := newHouse(t)
	ctx := deadline(t)
	for name, c := range map[string]struct {
		o    Options
		want error
	}{
		"slash in the name": {Options{Name: "../x", Mailbox: h.url}, message.ErrCharacters},
		"no name":           {Options{Mailbox: h.url}, message.ErrLength},
		"a second":          {Options{Name: "bob", Mailbox: h.url, Expires: time.Second}, ErrExpires},
		"a year":            {Options{Name: "bob", Mailbox: h.url, Expires: 365 * 24 * time.Hour}, ErrExpires},
		"unreachable":       {Options{Name: "bob", Mailbox: "ws://127.0.0.1:1/v1"}, wormhole.ErrUnreachable},
	} {
		if _, err := h.Offer(ctx, c.o); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if l := h.List(); len(l) != 0 {
		t.Errorf("refused offers are listed: %+v", l)
	}
}

func TestCancelAndExpire(t *testing.T) {
	h := newHouse(t)
	a, b := h.offer(Options{OwnMailbox: true}), h.offer(Options{OwnMailbox: true, Expires: 2 * time.Hour})
	if err := h.Cancel(a.ID); err != nil {
		t.Fatal(err)
	}
	h.until(a.ID, Cancelled)
	h.until(b.ID, Waiting)
	h.clock.move(3 * time.Hour)
	h.until(b.ID, Expired)
	h.Inviter.Close() // the goodbyes are said or cut off; either way:
	h.start()
	for _, v := range h.List() {
		h.until(v.ID, v.State)
	}
	for want, i := range map[error]Issued{wormhole.ErrCancelled: a, wormhole.ErrExpired: b} {
		<-h.serving(i.ID).served // the goodbye is said
		if _, err := accept(t, i.Link.Text()); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	if err := h.Cancel("nonsense"); !errors.Is(err, ErrNoInvite) {
		t.Error(err)
	}
	if h.count() != 0 {
		t.Error("somebody was taken in")
	}
}

func TestExpiredWhileAway(t *testing.T) {
	h := newHouse(t)
	issued := h.offer(Options{OwnMailbox: true})
	h.Inviter.Close()
	h.clock.move(2 * time.Hour)
	h.start()
	h.until(issued.ID, Expired)
}

func TestOwnMailboxOutlivesAbsence(t *testing.T) {
	h := newHouse(t)
	issued := h.offer(Options{OwnMailbox: true, Expires: 48 * time.Hour})
	h.Inviter.Close()
	h.clock.move(24 * time.Hour)
	if err := h.server.Prune(); err != nil {
		t.Fatal(err)
	}
	// The newcomer comes while the inviter is away, and is told to wait.
	offline := make(chan struct{}, 10)
	done := make(chan error, 1)
	go func() {
		_, err := accept(t, issued.Link.Text(), func(o *AcceptOptions) {
			o.Patience = time.Millisecond
			o.Progress = func(s Stage) {
				if s == StageOffline {
					offline <- struct{}{}
				}
			}
		})
		done <- err
	}()
	<-offline
	h.start()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	h.until(issued.ID, Done)
}

func TestLostAtForeignMailbox(t *testing.T) {
	h := newHouse(t)
	for _, away := range []time.Duration{9 * time.Minute, 11 * time.Minute} {
		issued := h.offer(Options{Expires: 40 * time.Minute})
		h.foreign(issued.ID)
		h.Inviter.Close()
		h.clock.move(away)
		dialled := false
		h.dial = func(ctx context.Context, n, a string) (net.Conn, error) { dialled = true; return dial(ctx, n, a) }
		h.start()
		if away < foreignAbsence {
			if _, err := accept(t, issued.Link.Text()); err != nil {
				t.Errorf("after %v: %v", away, err)
			}
			h.until(issued.ID, Done)
		} else {
			h.until(issued.ID, Lost)
			h.Inviter.Close()
			if dialled {
				t.Error("a lost invite's mailbox was touched")
			}
			h.start()
		}
		h.dial = dial
	}
}

// serving is the goroutine of an invite.
func (h *house) serving(id string) *offer {
	h.Inviter.mu.Lock()
	defer h.Inviter.mu.Unlock()
	return h.invites[id]
}

// foreign makes the ledger believe that the mailbox is not ours.
func (h *house) foreign(id string) {
	if err := h.serving(id).change(func(r *record) bool { r.Own = false; return true }); err != nil {
		h.t.Fatal(err)
	}
}

func TestLostWhileDisconnected(t *testing.T) {
	h := newHouse(t)
	issued := h.offer(Options{Expires: 40 * time.Minute})
	h.foreign(issued.ID)
	h.clock.move(foreignAbsence + time.Minute)
	h.server.Close() // every connection ends
	h.until(issued.ID, Lost)
}

func TestWrongGuess(t *testing.T) {
	h := newHouse(t)
	issued := h.offer(Options{OwnMailbox: true})
	guess := issued.Code.Nameplate() + "-adroitness-zulu"
	if guess == issued.Code.Text() {
		guess = issued.Code.Nameplate() + "-adviser-zulu"
	}
	if _, err := accept(t, guess, func(o *AcceptOptions) { o.Mailbox = h.url }); !errors.Is(err, wormhole.ErrWrongCode) {
		t.Errorf("the guesser: %v", err)
	}
	v := h.until(issued.ID, Failed)
	if !strings.Contains(v.Reason, "wrong words") {
		t.Errorf("the operator is told %q", v.Reason)
	}
	if h.count() != 0 {
		t.Error("a guesser was taken in")
	}
}

func TestBothRefuse(t *testing.T) {
	h := newHouse(t)
	t.Run("the newcomer's disk is full", func(t *testing.T) {
		issued := h.offer(Options{})
		full := errors.New("no space left on device")
		if _, err := accept(t, issued.Link.Text(), func(o *AcceptOptions) {
			o.Reply = func(context.Context, message.Settings) (message.Acknowledgement, error) {
				return message.Acknowledgement{}, full
			}
		}); !errors.Is(err, full) {
			t.Error(err)
		}
		if v := h.until(issued.ID, Failed); !strings.Contains(v.Reason, "refused") {
			t.Errorf("the operator is told %q", v.Reason)
		}
	})
	t.Run("the operator's node cannot take it in", func(t *testing.T) {
		h.mu.Lock()
		h.refuse = errors.New("member table is broken")
		h.mu.Unlock()
		issued := h.offer(Options{})
		_, err := accept(t, issued.Link.Text())
		if !errors.Is(err, message.ErrRefused) || strings.Contains(err.Error(), "table") {
			t.Errorf("the newcomer is told %v", err)
		}
		h.until(issued.ID, Failed)
	})
	if h.count() != 0 {
		t.Error("somebody was taken in")
	}
}

func TestSecretsAreForgotten(t *testing.T) {
	h := newHouse(t)
	issued := h.offer(Options{Folder: "photos"})
	if _, err := accept(t, issued.Link.Text()); err != nil {
		t.Fatal(err)
	}
	h.until(issued.ID, Done)
	<-h.serving(issued.ID).served
	records, err := h.ledger.all()
	if err != nil || len(records) != 1 || records[0].Session != nil {
		t.Errorf("%d records, %v", len(records), err)
	}
	info, err := os.Stat(h.path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the ledger is %v (%v)", info.Mode(), err)
	}
	h.clock.move(keepEnded + time.Hour)
	h.restart()
	if l := h.List(); len(l) != 0 {
		t.Errorf("an old invite is still listed: %+v", l)
	}
}

func TestPublicMailboxes(t *testing.T) {
	a, b := newHouse(t), newHouse(t)
	issued := b.offer(Options{})
	// Ours do not list: both are tried, the right one answers.
	if _, err := accept(t, issued.Code.Text(), func(o *AcceptOptions) { o.Public = []string{a.url, b.url} }); err != nil {
		t.Fatal(err)
	}
	// One is down.
	issued = b.offer(Options{})
	if _, err := accept(t, issued.Code.Text(), func(o *AcceptOptions) { o.Public = []string{"ws://127.0.0.1:1/v1", b.url} }); err != nil {
		t.Fatal(err)
	}
	// All are down.
	if _, err := accept(t, issued.Code.Text(), func(o *AcceptOptions) {
		o.Public = []string{"ws://127.0.0.1:1/v1", "ws://127.0.0.1:2/v1"}
	}); !errors.Is(err, wormhole.ErrUnreachable) {
		t.Error(err)
	}
	// Nobody knows it.
	if _, err := accept(t, "99-adroitness-zulu", func(o *AcceptOptions) { o.Public = []string{a.url, b.url} }); !errors.Is(err, wormhole.ErrUnknown) {
		t.Error(err)
	}
}

func TestTwoNewcomers(t *testing.T) {
	h := newHouse(t)
	issued := h.offer(Options{Folder: "photos", OwnMailbox: true})
	results := make(chan error, 2)
	for range 2 {
		go func() { _, err := accept(t, issued.Link.Text()); results <- err }()
	}
	won := 0
	for range 2 {
		if err := <-results; err == nil {
			won++
		} else if !errors.Is(err, wormhole.ErrCrowded) && !errors.Is(err, wormhole.ErrUsed) {
			t.Errorf("the loser is told %v", err)
		}
	}
	if won != 1 || h.count() != 1 {
		t.Errorf("%d joined, %d members", won, h.count())
	}
}
