package invite

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// cutter ends a process's network at its nth write, before or after it is
// delivered, for good: what a kill looks like from outside.
type cutter struct {
	mu    sync.Mutex // guards what follows
	left  int
	after bool
	dead  chan struct{}
}

func newCutter(n int, after bool) *cutter {
	return &cutter{left: n, after: after, dead: make(chan struct{})}
}

var errDead = errors.New("killed")

func (c *cutter) dial(ctx context.Context, network, address string) (net.Conn, error) {
	select {
	case <-c.dead:
		return nil, errDead
	default:
	}
	conn, err := dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &cutConn{conn, c}, nil
}

type cutConn struct {
	net.Conn
	c *cutter
}

func (k *cutConn) Write(b []byte) (int, error) {
	k.c.mu.Lock()
	defer k.c.mu.Unlock()
	k.c.left--
	if k.c.left > 0 {
		return k.Conn.Write(b)
	}
	if k.c.left == 0 {
		if k.c.after {
			k.Conn.Write(b)
		}
		close(k.c.dead)
	}
	k.Conn.Close()
	return 0, errDead
}

// The operator's process is killed at each of its writes: one member or none,
// and both sides are told the truth.
func TestInviterKilledAtEachWrite(t *testing.T) {
	for n := 1; ; n++ {
		finished := false
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("write %d, delivered %v", n, after), func(t *testing.T) {
				h := newHouse(t)
				c := newCutter(n, after)
				h.dial = c.dial
				issued, err := h.Offer(deadline2(t, c.dead), Options{Name: "bob", Folder: "photos", Mailbox: h.url, OwnMailbox: true})
				if err != nil {
					// No code was shown: nobody can come.
					select {
					case <-c.dead:
					default:
						t.Fatal(err)
					}
					return
				}
				done := make(chan error, 1)
				go func() { _, err := accept(t, issued.Link.Text()); done <- err }()
				select {
				case <-c.dead:
					h.Inviter.Close()
					h.dial = dial
					h.start()
					err = <-done
				case err = <-done:
					finished = true
				}
				if err != nil {
					t.Fatalf("the newcomer: %v", err)
				}
				if v := h.until(issued.ID, Done); !v.Acknowledged || h.count() != 1 {
					t.Errorf("%+v, %d members", v, h.count())
				}
			})
		}
		if finished || t.Failed() || n > 60 {
			if n < 10 {
				t.Errorf("only %d writes", n)
			}
			return
		}
	}
}

// deadline2 ends when the process is killed.
func deadline2(t testing.TB, dead <-chan struct{}) context.Context {
	ctx, cancel := context.WithCancel(deadline(t))
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop); cancel() })
	go func() {
		select {
		case <-dead:
			cancel()
		case <-stop:
		}
	}()
	return ctx
}

// The newcomer's process is killed at each of its writes and join is run again.
func TestNewcomerKilledAtEachWrite(t *testing.T) {
	for n := 1; ; n++ {
		finished := false
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("write %d, delivered %v", n, after), func(t *testing.T) {
				h := newHouse(t)
				issued := h.offer(Options{Folder: "photos", OwnMailbox: true})
				state := filepath.Join(t.TempDir(), "join.json")
				c := newCutter(n, after)
				_, err := Accept(deadline2(t, c.dead), AcceptOptions{CodeOrLink: issued.Link.Text(), Dial: c.dial, Reply: answer, Wait: soon, StateFile: state})
				if err == nil {
					finished = true
				} else {
					if _, err = accept(t, issued.Link.Text(), func(o *AcceptOptions) { o.StateFile = state }); err != nil {
						t.Fatalf("the second join: %v", err)
					}
				}
				if v := h.until(issued.ID, Done); !v.Acknowledged || h.count() != 1 {
					t.Errorf("%+v, %d members", v, h.count())
				}
				if _, err := os.Stat(state); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("the state file is still there: %v", err)
				}
			})
		}
		if finished || t.Failed() || n > 60 {
			if n < 8 {
				t.Errorf("only %d writes", n)
			}
			return
		}
	}
}
