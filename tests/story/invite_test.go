package story

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"warren/invite"
	"warren/tests/interop"
)

// toll stands between a node and the mailbox and counts what the node says. At
// the nth thing, before or after it is passed on, it calls ring and lets nothing
// more through.
type toll struct {
	url string

	mu    sync.Mutex // guards what follows
	left  int        // 0: not armed
	after bool
	ring  func()
	shut  bool
}

func newToll(t testing.TB, mailbox int) *toll {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := &toll{url: fmt.Sprintf("ws://%s/v1", l.Addr())}
	var work sync.WaitGroup
	t.Cleanup(func() { l.Close(); work.Wait() })
	work.Go(func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", mailbox))
			if err != nil {
				from.Close()
				continue
			}
			work.Go(func() { o.pass(to, from); to.Close(); from.Close() })
			work.Go(func() { io.Copy(from, to); to.Close(); from.Close() })
		}
	})
	return o
}

// pass copies what the node says, a write at a time.
func (o *toll) pass(to io.Writer, from io.Reader) {
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		o.mu.Lock()
		rings := o.left == 1
		if o.left > 0 {
			o.left--
		}
		if rings {
			o.shut = true
		}
		shut, after, ring := o.shut, o.after, o.ring
		o.mu.Unlock()
		if !shut || rings && after {
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
		if rings {
			ring()
		}
		if shut {
			return
		}
	}
}

// arm has the nth thing from now ring.
func (o *toll) arm(n int, after bool, ring func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.left, o.after, o.ring, o.shut = n, after, ring, false
}

// disarm lets everything through, and says whether it has rung.
func (o *toll) disarm() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	rung := o.shut
	o.left, o.shut = 0, false
	return rung
}

// The operator's process is killed (-9) at each thing that it says to the mailbox
// during an exchange, and started again: the newcomer becomes a member once, and
// the ledger and the newcomer's command both say so.
func TestOperatorKilledAtEachPhase(t *testing.T) {
	t.Parallel()
	h := newHouse(t, 1)
	const workers = 2
	var mu sync.Mutex // guards next and last
	next, last := 0, 1<<30
	var work sync.WaitGroup
	defer work.Wait()
	for w := range workers {
		toll := newToll(t, h.boxPort)
		op := h.client(t, fmt.Sprintf("op%d", w), 1, 1, 1)
		op.share(t, "docs", map[string]string{"hello": "world"})
		t.Run(fmt.Sprintf("worker%d", w), func(t *testing.T) {
			t.Parallel()
			for {
				mu.Lock()
				i := next
				next++
				done := i/2 >= last
				mu.Unlock()
				if done || t.Failed() {
					return
				}
				n, after := 1+i/2, i%2 == 1
				if !killedAt(t, h, op, toll, i, n, after) {
					mu.Lock()
					last = min(last, n)
					mu.Unlock()
				}
			}
		})
	}
	t.Cleanup(func() {
		if last < 4 || last == 1<<30 {
			t.Errorf("the exchange had %d things to be killed at", last)
		}
		t.Logf("killed before and after each of %d things that the operator said", last-1)
	})
}

// killedAt kills the operator at the nth thing after the code was shown. False
// when the exchange ended before.
func killedAt(t *testing.T, h *house, op *node, toll *toll, i, n int, after bool) bool {
	t.Helper()
	what := fmt.Sprintf("killed at %d, passed on %v", n, after)
	name := fmt.Sprintf("bob%d", i)
	is := op.invite(t, name, "docs", "--mailbox="+toll.url)
	killed := make(chan struct{})
	toll.arm(n, after, func() { op.run.Kill(); close(killed) })
	bob, folder, args := h.joinArgs(name, is.Code)
	bob.run = h.spawn(args...)
	rung := false
	interop.Eventually(t, time.Minute, what, func() error {
		select {
		case <-killed:
			rung = true
			return nil
		case <-bob.run.Done():
			return nil
		default:
		}
		if strings.Contains(bob.run.Output(), "node running in") && op.invited(t, is.ID).State.Final() {
			return nil
		}
		return errors.New("neither killed nor done")
	})
	if rung {
		toll.disarm()
		op.start(t)
		op.connected(t, 1)
	} else {
		rung = toll.disarm()
	}
	bob.answers(t)
	interop.Eventually(t, time.Minute, what+": the ledger", func() error {
		if v := op.invited(t, is.ID); v.State != invite.Done || !v.Acknowledged {
			return fmt.Errorf("%s (%s)", v.State, v.Reason)
		}
		return nil
	})
	holds(t, folder, map[string]string{"hello": "world"})
	members := 0
	interop.Eventually(t, time.Minute, what+": the newcomer in the folder", func() error {
		members = 0
		for _, p := range op.folder(t, "docs").Participants {
			if strings.HasPrefix(p.Name, name) {
				members++
			}
		}
		if members == 0 {
			return errors.New("not in it")
		}
		return nil
	})
	if members != 1 {
		t.Errorf("%s: %d members", what, members)
	}
	bob.stop(t)
	return rung
}

// Killed between printing the code and join, and again while away: the newcomer
// waits, is told so, and comes in when the operator is back.
func TestOperatorAwayWhenTheNewcomerComes(t *testing.T) {
	t.Parallel()
	h := newHouse(t, 1)
	op := h.client(t, "op", 1, 1, 1)
	op.share(t, "docs", map[string]string{"hello": "world"})
	is := op.invite(t, "bob", "docs", "--expires=7d")
	if !is.Own || strings.Count(is.Code, "-") != 4 || len(strings.SplitN(is.Code, "-", 2)[0]) < 6 {
		t.Errorf("a code for a week: %d words, own mailbox %v", strings.Count(is.Code, "-"), is.Own)
	}
	op.run.Kill()
	bob, folder, args := h.joinArgs("bob", is.Code)
	bob.run = h.spawn(args...)
	interop.Eventually(t, time.Minute, "the newcomer told that the inviter is offline", func() error {
		if !strings.Contains(bob.run.Output(), "the inviter is offline, waiting") {
			return errors.New(bob.run.Output())
		}
		return nil
	})
	// The newcomer is killed, too, and tries again with the same command.
	bob.run.Kill()
	bob.run = h.spawn(args...)
	op.start(t)
	bob.answers(t)
	holds(t, folder, map[string]string{"hello": "world"})
	if v := op.becomes(t, is.ID, invite.Done); !v.Acknowledged {
		t.Errorf("%+v", v)
	}
	op.participants(t, "docs", "op", "bob")
}

// The mailbox, too, is killed in the middle and comes back.
func TestMailboxKilled(t *testing.T) {
	t.Parallel()
	h := newHouse(t, 1)
	op := h.client(t, "op", 1, 1, 1)
	op.share(t, "docs", map[string]string{"hello": "world"})
	is := op.invite(t, "bob", "docs", "--expires=1d")
	h.boxProc.Kill()
	r := h.do(t, func() []string { _, _, args := h.joinArgs("bob", is.Code); return args }()...)
	wantError(t, r, 1, "mailbox server cannot be reached", "nothing was spent: try again")
	if _, err := os.Stat(h.path("bob")); !errors.Is(err, os.ErrNotExist) {
		t.Error("a join that reached nobody made a node directory")
	}
	h.startMailbox()
	_, folder := h.join(t, "bob", is.Code)
	holds(t, folder, map[string]string{"hello": "world"})
}

// wantError wants a command to have failed with this exit code, an error of one
// line that holds text, and a hint that holds hint ("" for none).
func wantError(t testing.TB, r result, code int, text, hint string) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(r.err), "\n")
	said, hinted := "", ""
	for i, l := range lines {
		if s, ok := strings.CutPrefix(l, "warren: "); ok {
			said = s
			if i+1 < len(lines) {
				hinted = strings.TrimSpace(lines[i+1])
			}
		}
	}
	switch {
	case r.code != code:
		t.Errorf("exit %d, want %d: %s%s", r.code, code, r.out, r.err)
	case !strings.Contains(said, text) || said == "":
		t.Errorf("error %q, want %q in it\n%s", said, text, r.err)
	case (hint == "") != (hinted == "") || !strings.Contains(hinted, hint):
		t.Errorf("hint %q, want %q in it (error %q)", hinted, hint, said)
	case strings.TrimSpace(r.out) != "":
		t.Errorf("a failure prints %q on standard output", r.out)
	}
}
