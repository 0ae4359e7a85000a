package interop

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"warren/invite"
	"warren/invite/message"
	"warren/invite/wormhole"
	"warren/node/caps"
	"warren/node/furl"
)

const (
	inviteFURL = "pb://aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaq@tcp:127.0.0.1:4321/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	textApp    = "lothar.com/wormhole/text-or-file-xfer"
)

func realMailbox(t testing.TB) string {
	t.Helper()
	_, url := StartMailbox(t)
	return url
}

// onBothMailboxes runs a test through our mailbox server and the real one.
func onBothMailboxes(t *testing.T, test func(t *testing.T, url string)) {
	NeedPeers(t)
	t.Run("our mailbox", func(t *testing.T) { test(t, ourMailbox(t)) })
	t.Run("real mailbox", func(t *testing.T) { test(t, realMailbox(t)) })
}

// runSession runs one of our sessions until the test ends.
func runSession(t testing.TB, url, code string) *wormhole.Session {
	t.Helper()
	state, err := wormhole.NewState(textApp, url, code, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := wormhole.New(wormhole.Config{Dial: loopback, MakeCode: func(n string) (string, error) { return n + "-crossover-clockwork", nil }}, state)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { s.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	return s
}

// The wormhole command exchanges a text with itself and with our session, both
// ways, through both mailbox servers.
func TestWormholeText(t *testing.T) {
	t.Parallel()
	onBothMailboxes(t, func(t *testing.T, url string) {
		program := filepath.Join(NeedPeers(t), "wormhole")
		t.Run("wormhole to wormhole", func(t *testing.T) {
			p := Start(t, program, "--relay-url", url, "send", "--text", "hello")
			code := p.Printed(`Wormhole code is: (\S+)`)
			if out := Run(t, 2*time.Minute, program, "--relay-url", url, "receive", code); !strings.Contains(out, "hello") {
				t.Errorf("received %q", out)
			}
			p.Ends()
		})
		t.Run("wormhole to us", func(t *testing.T) {
			p := Start(t, program, "--relay-url", url, "send", "--text", "grüße")
			s := runSession(t, url, p.Printed(`Wormhole code is: (\S+)`))
			ctx := within(t, 2*time.Minute)
			b, err := s.Message(ctx, 0)
			if err != nil {
				t.Fatal(err)
			}
			var m struct{ Offer struct{ Message string } }
			if err := json.Unmarshal(b, &m); err != nil || m.Offer.Message != "grüße" {
				t.Errorf("received %s (%v)", b, err)
			}
			if err := s.Send(0, mustJSON(t, map[string]any{"answer": map[string]string{"message_ack": "ok"}})); err != nil {
				t.Fatal(err)
			}
			if err := s.Close(ctx, wormhole.MoodHappy, ""); err != nil {
				t.Fatal(err)
			}
			p.Ends()
		})
		t.Run("we to wormhole", func(t *testing.T) {
			s := runSession(t, url, "")
			ctx := within(t, 2*time.Minute)
			code, err := s.Code(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Send(0, mustJSON(t, map[string]any{"offer": map[string]string{"message": "from us"}})); err != nil {
				t.Fatal(err)
			}
			p := Start(t, program, "--relay-url", url, "receive", code)
			b, err := s.Message(ctx, 0)
			if err != nil || !strings.Contains(string(b), "message_ack") {
				t.Errorf("received %s (%v)", b, err)
			}
			if err := s.Close(ctx, wormhole.MoodHappy, ""); err != nil {
				t.Fatal(err)
			}
			p.Ends()
			if !strings.Contains(p.Output(), "from us") {
				t.Errorf("wormhole printed %q", p.Output())
			}
		})
		t.Run("wrong words", func(t *testing.T) {
			p := Start(t, program, "--relay-url", url, "send", "--text", "secret")
			code := p.Printed(`Wormhole code is: (\S+)`)
			s := runSession(t, url, code+"x")
			if _, err := s.Message(within(t, 2*time.Minute), 0); !errors.Is(err, wormhole.ErrWrongCode) {
				t.Errorf("we are told %v", err)
			}
			select {
			case <-p.Done():
			case <-time.After(2 * time.Minute):
				t.Fatal("wormhole does not notice")
			}
			if p.err == nil || !strings.Contains(p.Output(), "confirmation failed") {
				t.Errorf("wormhole is told %q", p.Output())
			}
		})
	})
}

// inviter is ours, with a folder.
func inviter(t testing.TB) *invite.Inviter {
	t.Helper()
	i, err := invite.New(invite.Config{
		Ledger: filepath.Join(t.TempDir(), "invites.db"), Dial: loopback,
		Settings: func(context.Context, invite.Invite) (message.Settings, error) {
			f, err := furl.Parse(inviteFURL)
			return message.Settings{
				Nickname: "Our Grid", Introducer: f, Encoding: message.Encoding{Needed: 2, Happy: 3, Total: 4},
				Ours: &message.Ours{Grid: "Our Grid", Folder: "photos", Tor: message.TorOptional,
					Writecap: caps.DirWrite{SSKWrite: caps.SSKWrite{WriteKey: [16]byte{1}}}},
			}, err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := i.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := i.Close(); err != nil {
			t.Error(err)
		}
	})
	return i
}

func offered(t testing.TB, i *invite.Inviter, url string) invite.Issued {
	t.Helper()
	issued, err := i.Offer(within(t, 2*time.Minute), invite.Options{Name: "bob", Folder: "photos", Mailbox: url})
	if err != nil {
		t.Fatal(err)
	}
	return issued
}

func TestOurInvite(t *testing.T) {
	t.Parallel()
	onBothMailboxes(t, func(t *testing.T, url string) {
		i := inviter(t)
		issued := offered(t, i, url)
		s, err := join(t, url, issued.Code.Text())
		if err != nil || s.Ours == nil || s.Ours.Folder != "photos" {
			t.Fatalf("%v, %v", s, err)
		}
		finished(t, i, issued.ID, true)
	})
}

// A code alone finds its mailbox among several by what the real server lists.
func TestMailboxFoundByListing(t *testing.T) {
	NeedPeers(t)
	t.Parallel()
	a, b := realMailbox(t), realMailbox(t)
	i := inviter(t)
	issued := offered(t, i, b)
	if _, err := invite.Accept(within(t, 2*time.Minute), invite.AcceptOptions{
		CodeOrLink: issued.Code.Text(), Public: []string{a, b}, Dial: loopback,
		Reply: func(context.Context, message.Settings) (message.Acknowledgement, error) {
			return message.Acknowledgement{}, nil
		},
	}); err != nil {
		t.Fatal(err)
	}
	finished(t, i, issued.ID, true)
}

// Gridsync's side, both ways and its older protocol, on the real magic-wormhole.
func TestGridsync(t *testing.T) {
	t.Parallel()
	onBothMailboxes(t, func(t *testing.T, url string) {
		peer := Script(t, "invite_peer.py")
		for _, mode := range []string{"send", "legacy"} {
			p := Start(t, Python(t), peer, mode, url)
			s, err := join(t, url, p.Printed(`code: (\S+)`))
			if err != nil || s.Nickname != "Gridsync's grid" || s.Encoding.Happy != 7 {
				t.Errorf("%s: %v, %v", mode, s, err)
			}
			p.Ends()
		}
		i := inviter(t)
		issued := offered(t, i, url)
		p := Start(t, Python(t), peer, "receive", url, issued.Code.Text())
		got := p.Printed(`received: (.*)`)
		p.Ends()
		var m map[string]any
		if err := json.Unmarshal([]byte(got), &m); err != nil || m["nickname"] != "Our Grid" || m["introducer"] != inviteFURL || m["shares-total"] != 4.0 {
			t.Errorf("gridsync received %s (%v)", got, err)
		}
		finished(t, i, issued.ID, false)
	})
}
