package wormhole_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/psanford/wormhole-william/rendezvous/rendezvousservertest"

	"warren/invite/mailbox"
	"warren/invite/wormhole"
)

const app = "tahoe-lafs.org/invite"

func dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}

func deadline(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func soon(ctx context.Context, attempt int) error {
	timer := time.NewTimer(5 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func serve(t testing.TB, limits mailbox.Limits) string {
	t.Helper()
	s, err := mailbox.Open(mailbox.Config{Path: filepath.Join(t.TempDir(), "mailbox.db"), Limits: limits})
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(s)
	t.Cleanup(func() { s.Close(); h.Close() })
	return "ws" + strings.TrimPrefix(h.URL, "http") + "/v1"
}

// party is a session that can be killed and resumed from what it saved.
type party struct {
	t      testing.TB
	config wormhole.Config
	*wormhole.Session

	mu    sync.Mutex // guards saved
	saved []byte
	kill  context.CancelFunc
	done  chan error
}

func newParty(t testing.TB, url, code string) *party {
	state, err := wormhole.NewState(app, url, code, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := &party{t: t}
	p.config = wormhole.Config{
		Dial: dial, Wait: soon,
		MakeCode: func(nameplate string) (string, error) { return nameplate + "-adroitness-zulu", nil },
		Save: func(s wormhole.State) error {
			b, err := json.Marshal(s)
			p.mu.Lock()
			defer p.mu.Unlock()
			p.saved = b
			return err
		},
	}
	p.start(state)
	t.Cleanup(func() { p.crash() })
	return p
}

func (p *party) start(state wormhole.State) {
	ctx, cancel := context.WithCancel(context.Background())
	p.kill, p.done = cancel, make(chan error, 1)
	p.Session = wormhole.New(p.config, state)
	s := p.Session
	done := p.done
	go func() { done <- s.Run(ctx) }()
}

// crash ends the process's part without a word to the server.
func (p *party) crash() {
	p.kill()
	err := <-p.done
	p.done <- err
}

// resume starts again from what was saved.
func (p *party) resume() {
	p.t.Helper()
	p.mu.Lock()
	saved := p.saved
	p.mu.Unlock()
	var state wormhole.State
	if err := json.Unmarshal(saved, &state); err != nil {
		p.t.Fatal(err)
	}
	p.start(state)
}

func (p *party) mustSend(n int, text string) {
	p.t.Helper()
	if err := p.Send(n, []byte(text)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *party) mustReceive(n int, want string) {
	p.t.Helper()
	got, err := p.Message(deadline(p.t), n)
	if err != nil || string(got) != want {
		p.t.Fatalf("message %d is %q (%v), want %q", n, got, err, want)
	}
}

func TestExchange(t *testing.T) {
	william := rendezvousservertest.NewServer()
	t.Cleanup(william.Close)
	for name, url := range map[string]string{"ours": serve(t, mailbox.Limits{}), "wormhole-william": william.WebSocketURL()} {
		t.Run(name, func(t *testing.T) {
			a := newParty(t, url, "")
			code, err := a.Code(deadline(t))
			if err != nil {
				t.Fatal(err)
			}
			a.mustSend(0, "hello from a")
			b := newParty(t, url, code)
			b.mustSend(0, "hello from b")
			b.mustSend(1, "more from b")
			a.mustReceive(0, "hello from b")
			a.mustReceive(1, "more from b")
			b.mustReceive(0, "hello from a")
			va, err := a.Verifier(deadline(t))
			if err != nil {
				t.Fatal(err)
			}
			vb, err := b.Verifier(deadline(t))
			if err != nil || !bytes.Equal(va, vb) {
				t.Errorf("verifiers differ (%v)", err)
			}
			for _, p := range []*party{a, b} {
				if err := p.Close(deadline(t), wormhole.MoodHappy, "used"); err != nil {
					t.Errorf("Close: %v", err)
				}
				if err := <-p.done; err != nil {
					t.Errorf("Run: %v", err)
				}
				p.done <- nil
			}
		})
	}
}

// Either side is killed after every step; the exchange ends as if it had not been.
func TestKilledAtEveryStep(t *testing.T) {
	url := serve(t, mailbox.Limits{})
	steps := []struct {
		name string
		do   func(a, b *party)
	}{
		{"code", func(a, b *party) {}},
		{"sent 0", func(a, b *party) { a.mustSend(0, "a0"); b.mustSend(0, "b0") }},
		{"received 0", func(a, b *party) { a.mustReceive(0, "b0"); b.mustReceive(0, "a0") }},
		{"sent 1", func(a, b *party) { a.mustSend(1, "a1"); b.mustSend(1, "b1") }},
		{"received 1", func(a, b *party) { a.mustReceive(1, "b1"); b.mustReceive(1, "a1") }},
	}
	for kill := range steps {
		for _, who := range []string{"inviter", "newcomer", "both"} {
			t.Run(fmt.Sprintf("%s after %s", who, steps[kill].name), func(t *testing.T) {
				a := newParty(t, url, "")
				code, err := a.Code(deadline(t))
				if err != nil {
					t.Fatal(err)
				}
				b := newParty(t, url, code)
				for i, step := range steps {
					step.do(a, b)
					if i != kill {
						continue
					}
					if who != "newcomer" {
						a.crash()
						a.resume()
					}
					if who != "inviter" {
						b.crash()
						if b.saved != nil { // nobody saves any more
							b.resume()
						} else {
							b.start(mustState(t, url, code))
						}
					}
					// What was sent before may be sent again: nothing doubles.
					for n := range 2 {
						if a.Sent() > n {
							a.mustSend(n, "again")
						}
					}
				}
				if a.Sent() != 2 || b.Sent() != 2 {
					t.Errorf("sent %d and %d messages", a.Sent(), b.Sent())
				}
			})
		}
	}
}

// A server that welcomes and then only puts us off is left alone for longer and
// longer.
func TestPutOff(t *testing.T) {
	url := serve(t, mailbox.Limits{ClaimBurst: 1, ClaimEvery: time.Hour})
	a := newParty(t, url, "")
	code, err := a.Code(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(deadline(t))
	var attempts []int
	s := wormhole.New(wormhole.Config{Dial: dial, Wait: func(_ context.Context, attempt int) error {
		if attempts = append(attempts, attempt); len(attempts) == 5 {
			cancel()
			return ctx.Err()
		}
		return nil
	}}, mustState(t, url, code))
	if err := s.Run(ctx); !errors.Is(err, context.Canceled) || fmt.Sprint(attempts) != "[0 1 2 3 4]" {
		t.Errorf("%v, %v", attempts, err)
	}
}

func mustState(t *testing.T, url, code string) wormhole.State {
	s, err := wormhole.NewState(app, url, code, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestWrongCode(t *testing.T) {
	url := serve(t, mailbox.Limits{})
	a := newParty(t, url, "")
	code, err := a.Code(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	a.mustSend(0, "secret")
	b := newParty(t, url, strings.Replace(code, "zulu", "absurd", 1))
	for name, p := range map[string]*party{"inviter": a, "guesser": b} {
		if _, err := p.Message(deadline(t), 0); !errors.Is(err, wormhole.ErrWrongCode) {
			t.Errorf("%s: %v", name, err)
		}
		if err := <-p.done; !errors.Is(err, wormhole.ErrWrongCode) {
			t.Errorf("%s: Run gave %v", name, err)
		} else {
			p.done <- err
		}
	}
	// The code is spent, and who comes with the right one hears it.
	c := newParty(t, url, code)
	if _, err := c.Message(deadline(t), 0); !errors.Is(err, wormhole.ErrFailed) {
		t.Errorf("the right code afterwards: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	url := serve(t, mailbox.Limits{})
	ctx := deadline(t)
	t.Run("unknown", func(t *testing.T) {
		p := newParty(t, url, "654321-adroitness-zulu")
		if _, err := p.Message(ctx, 0); !errors.Is(err, wormhole.ErrUnknown) {
			t.Error(err)
		}
	})
	t.Run("crowded", func(t *testing.T) {
		a := newParty(t, url, "")
		code, err := a.Code(ctx)
		if err != nil {
			t.Fatal(err)
		}
		b := newParty(t, url, code)
		b.mustSend(0, "b")
		if _, err := b.Versions(ctx); err != nil {
			t.Fatal(err)
		}
		// Before the two have released the number, a third is refused and
		// they go on; afterwards the code is used.
		c := newParty(t, url, code)
		if _, err := c.Message(ctx, 0); !errors.Is(err, wormhole.ErrCrowded) && !errors.Is(err, wormhole.ErrUsed) {
			t.Error(err)
		}
		a.mustReceive(0, "b")
		a.mustSend(0, "a")
		b.mustReceive(0, "a")
	})
	t.Run("cancelled", func(t *testing.T) {
		a := newParty(t, url, "")
		code, err := a.Code(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Close(ctx, wormhole.MoodLonely, "cancelled"); err != nil {
			t.Fatal(err)
		}
		b := newParty(t, url, code)
		if _, err := b.Message(ctx, 0); !errors.Is(err, wormhole.ErrCancelled) {
			t.Error(err)
		}
	})
	t.Run("unreachable", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		s := wormhole.New(wormhole.Config{Dial: dial, Wait: soon, Attempts: 2}, mustState(t, "ws://"+l.Addr().String()+"/v1", "7-a-b"))
		if err := s.Run(ctx); !errors.Is(err, wormhole.ErrUnreachable) {
			t.Error(err)
		}
	})
	t.Run("not a mailbox", func(t *testing.T) {
		h := httptest.NewServer(nil)
		defer h.Close()
		s := wormhole.New(wormhole.Config{Dial: dial, Wait: soon, Attempts: 1}, mustState(t, "ws"+strings.TrimPrefix(h.URL, "http")+"/v1", "7-a-b"))
		if err := s.Run(ctx); !errors.Is(err, wormhole.ErrUnreachable) {
			t.Error(err)
		}
	})
	t.Run("too large", func(t *testing.T) {
		p := newParty(t, url, "")
		if err := p.Send(0, make([]byte, wormhole.MaxMessage+1)); !errors.Is(err, wormhole.ErrTooLarge) {
			t.Error(err)
		}
		if err := p.Send(3, nil); err == nil {
			t.Error("sent out of order")
		}
	})
	t.Run("full", func(t *testing.T) {
		url := serve(t, mailbox.Limits{Nameplates: 1})
		if _, err := newParty(t, url, "").Code(ctx); err != nil {
			t.Fatal(err)
		}
		// Whoever waits for a code is told, rather than waiting for ever.
		if _, err := newParty(t, url, "").Code(ctx); !errors.Is(err, wormhole.ErrServer) || !strings.Contains(err.Error(), "full, try again later") {
			t.Error(err)
		}
	})
	t.Run("save fails", func(t *testing.T) {
		broken := errors.New("disk full")
		s := wormhole.New(wormhole.Config{Dial: dial, Wait: soon,
			MakeCode: func(n string) (string, error) { return n + "-a-b", nil },
			Save:     func(wormhole.State) error { return broken },
		}, mustState(t, url, ""))
		if err := s.Run(ctx); !errors.Is(err, wormhole.ErrSave) || !errors.Is(err, broken) {
			t.Error(err)
		}
		if text, err := s.Code(ctx); err == nil {
			t.Errorf("the code %q was shown though it was not saved", text)
		}
	})
}

func TestStateRedacted(t *testing.T) {
	s := mustState(t, "ws://127.0.0.1:1/v1", "7-adroitness-zulu")
	for _, text := range []string{fmt.Sprint(s), fmt.Sprintf("%#v", s), fmt.Sprintf("%+v", s), fmt.Sprintf("%s", s), fmt.Sprintf("%x", s)} {
		if strings.Contains(text, "zulu") || strings.Contains(text, "7-") {
			t.Errorf("%q tells the code", text)
		}
	}
	for _, bad := range []string{`{}`, `[]`, `{"side":"a"}`, `{"side":"zulu","scalar":"zz"}`} {
		var s wormhole.State
		if err := json.Unmarshal([]byte(bad), &s); err == nil || strings.Contains(err.Error(), "zulu") {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if _, err := wormhole.NewState(app, "ws://x/v1", "no code", rand.Reader); !errors.Is(err, wormhole.ErrCode) {
		t.Error(err)
	}
}

func TestLook(t *testing.T) {
	info, err := wormhole.Look(deadline(t), dial, serve(t, mailbox.Limits{Lifetime: time.Hour}), app)
	if err != nil || info.MaxSeconds != 3600 || len(info.Nameplates) != 0 {
		t.Errorf("got %+v, %v", info, err)
	}
}
