package invite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"warren/invite/message"
	"warren/invite/wormhole"
)

// A node that has been at a foreign mailbox for long is not taken for one that was
// away when it starts again.
func TestSeenOutlivesTheProcess(t *testing.T) {
	h := newHouse(t)
	issued := h.offer(Options{Expires: 50 * time.Minute})
	h.foreign(issued.ID)
	for range 80 { // forty minutes of pings
		h.clock.move(30 * time.Second)
		h.serving(issued.ID).event(wormhole.Alive)
	}
	h.restart()
	if _, err := accept(t, issued.Link.Text()); err != nil {
		t.Error(err)
	}
	h.until(issued.ID, Done)
}

// A dial that takes too long is as good as an absence.
func TestLostWhileDialling(t *testing.T) {
	h := newHouse(t)
	issued := h.offer(Options{Expires: 50 * time.Minute})
	h.foreign(issued.ID)
	h.Inviter.Close()
	reached := false
	h.dial = func(ctx context.Context, n, a string) (net.Conn, error) {
		h.clock.move(foreignAbsence + time.Minute)
		near, far := net.Pipe()
		go func() {
			if _, err := far.Read(make([]byte, 1)); err == nil {
				reached = true
			}
			far.Close()
		}()
		return near, nil
	}
	h.start()
	h.until(issued.ID, Lost)
	h.Inviter.Close()
	if reached {
		t.Error("the mailbox was spoken to")
	}
	h.dial = dial
	h.start()
}

// Times are the wall clock's: a machine that slept was away.
func TestWallClock(t *testing.T) {
	if now := wallClock(); strings.Contains(now.String(), "m=") {
		t.Errorf("%s has a monotonic part", now)
	}
	i, err := New(Config{Ledger: filepath.Join(t.TempDir(), "invites.db"), Dial: dial,
		Settings: func(context.Context, Invite) (message.Settings, error) { return message.Settings{}, nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	if now := i.config.Now(); strings.Contains(now.String(), "m=") {
		t.Errorf("%s has a monotonic part", now)
	}
}

// The operator's node dies between taking the newcomer in and telling it, and comes
// back after the invite's time: the newcomer is a member, and both say so.
func TestTakenInThenExpired(t *testing.T) {
	h := newHouse(t)
	c := newCutter(1<<30, false)
	h.dial = c.dial
	h.joined = func() {
		c.mu.Lock()
		c.left = 1
		c.mu.Unlock()
	}
	issued := h.offer(Options{Folder: "photos", OwnMailbox: true})
	done := make(chan error, 1)
	go func() { _, err := accept(t, issued.Link.Text()); done <- err }()
	<-c.dead
	h.Inviter.Close()
	h.clock.move(2 * time.Hour)
	h.dial, h.joined = dial, nil
	h.start()
	if err := <-done; err != nil {
		t.Errorf("the newcomer is told %v", err)
	}
	if v := h.until(issued.ID, Done); !v.Acknowledged || h.count() != 1 {
		t.Errorf("%+v, %d members", v, h.count())
	}
}

// The same at a mailbox that has forgotten us: the confirmation cannot arrive, but
// who was taken in is not called lost.
func TestTakenInThenLost(t *testing.T) {
	h := newHouse(t)
	issued := h.offer(Options{})
	h.foreign(issued.ID)
	if err := h.serving(issued.ID).change(func(r *record) bool {
		r.State, r.Admitting, r.Acknowledged = Exchanging, true, true
		return true
	}); err != nil {
		t.Fatal(err)
	}
	h.Inviter.Close()
	h.clock.move(foreignAbsence + time.Minute)
	h.start()
	if v := h.until(issued.ID, Done); !strings.Contains(v.Reason, "may not have arrived") {
		t.Errorf("%+v", v)
	}
}

// A newcomer who proved the code and then keeps silent does not hold the invite
// open for ever.
func TestSilentNewcomerExpires(t *testing.T) {
	h := newHouse(t)
	issued := h.offer(Options{OwnMailbox: true})
	ctx, cancel := context.WithCancel(deadline(t))
	done := make(chan error, 1)
	go func() {
		_, err := Accept(ctx, AcceptOptions{CodeOrLink: issued.Link.Text(), Dial: dial, Wait: soon,
			Reply: func(ctx context.Context, _ message.Settings) (message.Acknowledgement, error) {
				<-ctx.Done()
				return message.Acknowledgement{}, ctx.Err()
			}})
		done <- err
	}()
	h.until(issued.ID, Exchanging)
	h.clock.move(time.Hour + time.Minute)
	if v := h.until(issued.ID, Exchanging); v.State.Final() {
		t.Errorf("%+v", v)
	}
	h.clock.move(exchangeTime)
	h.until(issued.ID, Expired)
	cancel()
	<-done
	if h.count() != 0 {
		t.Error("somebody was taken in")
	}
}

// A try that cannot reach the mailbox keeps what an earlier one has claimed: the
// number is given to no third side.
func TestUnreachableKeepsTheStateFile(t *testing.T) {
	h := newHouse(t)
	issued := h.offer(Options{Folder: "photos", OwnMailbox: true})
	h.Inviter.Close()
	state := filepath.Join(t.TempDir(), "join.json")
	with := func(change func(*AcceptOptions)) error {
		ctx, cancel := context.WithCancel(deadline(t))
		defer cancel()
		o := AcceptOptions{CodeOrLink: issued.Link.Text(), Dial: dial, Reply: answer, Wait: soon, StateFile: state,
			Patience: time.Millisecond, Progress: func(s Stage) {
				if s == StageOffline {
					cancel()
				}
			}}
		change(&o)
		_, err := Accept(ctx, o)
		return err
	}
	if err := with(func(*AcceptOptions) {}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if err := with(func(o *AcceptOptions) {
		o.Progress = nil
		o.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, errDead }
	}); !errors.Is(err, wormhole.ErrUnreachable) {
		t.Fatal(err)
	}
	h.start()
	if err := with(func(o *AcceptOptions) { o.Progress = nil }); err != nil {
		t.Error(err)
	}
	h.until(issued.ID, Done)
	if _, err := os.Stat(state); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the state file is still there: %v", err)
	}
}

// What the newcomer can mend does not spend the code.
func TestNotNow(t *testing.T) {
	h := newHouse(t)
	issued := h.offer(Options{Folder: "photos", OwnMailbox: true})
	state := filepath.Join(t.TempDir(), "join.json")
	for _, mend := range []error{fmt.Errorf("Tor only: %w", ErrNotNow), nil} {
		_, err := accept(t, issued.Link.Text(), func(o *AcceptOptions) {
			o.StateFile = state
			o.Reply = func(ctx context.Context, s message.Settings) (message.Acknowledgement, error) {
				if mend != nil {
					return message.Acknowledgement{}, mend
				}
				return answer(ctx, s)
			}
		})
		if !errors.Is(err, mend) {
			t.Errorf("got %v, want %v", err, mend)
		}
	}
	if v := h.until(issued.ID, Done); !v.Acknowledged || h.count() != 1 {
		t.Errorf("%+v, %d members", v, h.count())
	}
}

// A session that still says goodbye does not bring the code back to disk.
func TestStateFileStaysForgotten(t *testing.T) {
	a := &acceptance{options: AcceptOptions{StateFile: filepath.Join(t.TempDir(), "join.json")}, kept: map[string]wormhole.State{}}
	s, err := wormhole.NewState(message.AppID, "ws://127.0.0.1:1/v1", "7-adroitness-zulu", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(a.keep(s.MailboxURL(), s), a.forget(), a.keep(s.MailboxURL(), s)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(a.options.StateFile); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the state file is back: %v", err)
	}
}

// A public mailbox that could not be asked is named when the others know nothing.
func TestMissedMailboxIsNamed(t *testing.T) {
	h := newHouse(t)
	_, err := accept(t, "99-adroitness-zulu", func(o *AcceptOptions) { o.Public = []string{h.url, "ws://127.0.0.1:1/v1"} })
	if !errors.Is(err, wormhole.ErrUnknown) || !strings.Contains(err.Error(), "could not be asked") {
		t.Error(err)
	}
}
