package control

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"
)

// Config says which tor to use. Exactly one of Control and Launch.
type Config struct {
	// Dial reaches Tor's ports on this machine.
	Dial DialFunc

	// Control are the control ports of a running tor, tried in order.
	Control []Address

	// Password is for a tor with HashedControlPassword, used when there is no
	// better way.
	Password string

	// Launch, when set, starts a tor of our own.
	Launch *Launch

	// Progress is told what happens, one call at a time. It must not block for
	// long, and may be nil.
	Progress func(Progress)
}

// Stage is a step in a tor's life.
type Stage string

// The stages. After StageLost the others come again.
const (
	StageLaunch    Stage = "launch"    // a tor process is being started
	StageAttach    Stage = "attach"    // the control port was reached
	StageBootstrap Stage = "bootstrap" // Tor builds its view of the network; Percent moves
	StageReady     Stage = "ready"     // circuits can be built
	StageOnion     Stage = "onion"     // an onion service: registered, published
	StageLost      Stage = "lost"      // tor went away or cannot be reached; Err says why
)

// Progress is one report.
type Progress struct {
	Stage   Stage
	Percent int    // of the bootstrap
	Summary string // for people
	Err     error  // for StageLost, and for a warning during the bootstrap
}

// Status is the state of a Tor now.
type Status struct {
	Attached bool   // a control session is open
	Launched bool   // tor is ours
	PID      int    // of a launched tor
	Version  string // of tor
	Percent  int
	Summary  string
	SOCKS    []Address
	Sessions int // how many control sessions were opened: restarts are one less
	Err      error
}

// Keeper is something that must exist in tor: an onion service. All its funcs are
// called from one goroutine at a time and must not call back into the Tor.
type Keeper struct {
	// Up makes it, in a new session. On error it is tried again.
	Up func(*Session) error

	// Down unmakes it, when it is released while a session is open.
	Down func(*Session)

	// Descriptor sees each HS_DESC event; optional.
	Descriptor func(action, address, reason string)
}

// Tor is a tor that is watched and kept. Safe for concurrent use.
type Tor struct {
	cfg    Config
	cancel context.CancelFunc
	done   chan struct{}
	kick   chan struct{} // a keeper was added

	report sync.Mutex // serialises cfg.Progress

	mu      sync.Mutex // guards all below
	session *Session   // nil while there is none
	status  Status
	keepers map[int]*kept
	nextID  int
	changed chan struct{} // closed and replaced whenever status changes
}

// Start launches tor, or begins to attach to one. A tor that cannot be launched
// (ErrNoTor, a bad torrc) is an error; one that cannot be attached to is reported
// as progress and tried again until Close, because it may well start later.
// Bootstrapping goes on in the background: see WaitReady.
func Start(ctx context.Context, cfg Config) (*Tor, error) {
	if (cfg.Launch == nil) == (len(cfg.Control) == 0) {
		return nil, errors.New("tor: name either control ports or what to launch")
	}
	t := &Tor{
		cfg:     cfg,
		done:    make(chan struct{}),
		kick:    make(chan struct{}, 1),
		keepers: make(map[int]*kept),
		changed: make(chan struct{}),
	}
	t.status.Launched = cfg.Launch != nil
	var first *Session
	if cfg.Launch != nil {
		var err error
		if first, err = t.open(ctx); err != nil {
			return nil, err
		}
	}
	run, cancel := context.WithCancel(context.Background())
	t.cancel = cancel
	if first != nil {
		t.setSession(first)
	}
	go t.supervise(run, first)
	return t, nil
}

// Close ends the session, and a launched tor with it.
func (t *Tor) Close() error {
	t.cancel()
	<-t.done
	return nil
}

// retry is the pause before the n-th try in a row.
func retry(n int) time.Duration {
	const longest = 30 * time.Second
	if n > 5 {
		return longest
	}
	return min(longest, time.Second<<n>>1)
}

// supervise owns the session: it alone opens, serves and closes sessions.
func (t *Tor) supervise(ctx context.Context, s *Session) {
	defer close(t.done)
	for failures := 0; ; {
		if s == nil {
			var err error
			if s, err = t.open(ctx); err != nil {
				if ctx.Err() != nil {
					return
				}
				t.lost(err)
				if !pause(ctx, retry(failures)) {
					return
				}
				failures++
				continue
			}
			t.setSession(s)
		}
		opened := time.Now()
		t.serve(ctx, s)
		s.close()
		s = nil
		if ctx.Err() != nil {
			t.setSession(nil)
			return
		}
		// A tor that dies at once again and again is given growing pauses.
		if time.Since(opened) > time.Minute {
			failures = 0
		}
		if !pause(ctx, retry(failures)) {
			return
		}
		failures++
	}
}

// serve keeps the keepers in a session until it ends.
func (t *Tor) serve(ctx context.Context, s *Session) {
	up := make(map[int]bool)
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.done:
			t.setSession(nil)
			t.lost(s.err())
			return
		case raw := <-s.events:
			t.event(raw)
			continue
		case <-t.kick:
		case <-again.C:
		}
		failed := false
		for id, k := range t.allKeepers() {
			if up[id] {
				continue
			}
			if err := k.raise(s); err != nil {
				t.tell(Progress{Stage: StageOnion, Summary: "tor does not take the onion service yet", Err: err})
				failed = true
				continue
			}
			up[id] = true
		}
		if failed {
			again.Reset(2 * time.Second)
		}
	}
}

// kept is a Keeper and whether it still is wanted.
type kept struct {
	Keeper
	mu       sync.Mutex // guards released and session; held over Up and Down
	released bool
	session  *Session // where it is up
}

func (k *kept) raise(s *Session) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.released {
		return nil
	}
	if err := k.Up(s); err != nil {
		return err
	}
	k.session = s
	return nil
}

func (k *kept) release(current *Session) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.released && k.session != nil && k.session == current && k.Down != nil {
		k.Down(current)
	}
	k.released = true
}

// Keep leaves something that must exist in every session. release takes it away.
func (t *Tor) Keep(k Keeper) (release func()) {
	keeper := &kept{Keeper: k}
	t.mu.Lock()
	id := t.nextID
	t.nextID++
	t.keepers[id] = keeper
	t.mu.Unlock()
	select {
	case t.kick <- struct{}{}:
	default:
	}
	return func() {
		t.mu.Lock()
		delete(t.keepers, id)
		s := t.session
		t.mu.Unlock()
		keeper.release(s)
	}
}

func (t *Tor) allKeepers() map[int]*kept {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.keepers)
}

// SOCKS gives the SOCKS ports of the tor as it is now; ErrNotReady while there
// is none.
func (t *Tor) SOCKS() ([]Address, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.session == nil {
		err := t.status.Err
		if err == nil {
			err = errors.New("no contact with it yet")
		}
		hint := "is tor running, and its ControlPort on? nothing was sent another way"
		if t.status.Launched {
			hint = "it is being launched again; nothing was sent another way"
		}
		return nil, notReady(hint, err)
	}
	if len(t.session.socks) == 0 {
		return nil, notReady("give it a SocksPort, or name one in [tor] socks.port", errors.New("this tor has no SOCKS port on this machine"))
	}
	return t.session.socks, nil
}

// Status is the state now.
func (t *Tor) Status() Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.status
}

// WaitReady waits until Tor has bootstrapped. An error is ctx's, or ErrClosed;
// both wrap ErrNotReady and say how far it came.
func (t *Tor) WaitReady(ctx context.Context) error {
	for {
		t.mu.Lock()
		status, changed := t.status, t.changed
		t.mu.Unlock()
		if status.Attached && status.Percent == 100 {
			return nil
		}
		select {
		case <-changed:
		case <-t.done:
			return notReady("start again", ErrClosed)
		case <-ctx.Done():
			return notReady(fmt.Sprintf("it came to %d%%: %s", status.Percent, status.Summary), ctx.Err())
		}
	}
}

// Watch calls f each time that Tor has become ready, for the first time or again,
// until ctx ends or the Tor is closed.
func (t *Tor) Watch(ctx context.Context, f func()) {
	for told := 0; ; {
		t.mu.Lock()
		status, changed := t.status, t.changed
		t.mu.Unlock()
		if status.Attached && status.Percent == 100 && status.Sessions != told {
			told = status.Sessions
			f()
		}
		select {
		case <-changed:
		case <-t.done:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (t *Tor) setSession(s *Session) {
	t.mu.Lock()
	t.session = s
	t.status.Attached = s != nil
	t.status.Percent, t.status.Summary = 0, ""
	t.status.PID, t.status.SOCKS = 0, nil
	if s != nil {
		t.status.Err = nil
		t.status.Sessions++
		t.status.Version = s.version
		t.status.SOCKS = s.socks
		t.status.PID = s.pid()
	}
	t.broadcast()
	t.mu.Unlock()
	if s != nil {
		t.tell(Progress{Stage: StageAttach, Summary: "connected to tor " + s.version})
		t.event("STATUS_CLIENT " + s.phase)
	}
}

// broadcast is called with mu held.
func (t *Tor) broadcast() {
	close(t.changed)
	t.changed = make(chan struct{})
}

func (t *Tor) lost(err error) {
	t.mu.Lock()
	t.status.Err = err
	t.broadcast()
	t.mu.Unlock()
	t.tell(Progress{Stage: StageLost, Summary: "tor cannot be reached", Err: err})
}

func (t *Tor) tell(p Progress) {
	if t.cfg.Progress == nil {
		return
	}
	t.report.Lock()
	defer t.report.Unlock()
	t.cfg.Progress(p)
}

func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
