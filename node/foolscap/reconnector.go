package foolscap

import (
	"context"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"warren/node/furl"
)

// Reconnector keeps a connection to one object: see Tub.Keep.
type Reconnector struct {
	tub     *Tub
	furl    furl.FURL
	serve   func(ctx context.Context, r *Remote)
	cancel  context.CancelFunc
	stopped chan struct{}
	now     chan struct{} // asks for an attempt without waiting

	mu     sync.Mutex // guards status
	status Status
}

// Status says how a Reconnector stands.
type Status struct {
	// Connected says whether there is a connection, Since since when that is so
	// (zero before the first attempt ends).
	Connected bool
	Since     time.Time
	// Hint is where the peer was reached ("tcp:HOST:PORT"), "" when it came to us.
	Hint string
	// Trying says that an attempt is under way. Otherwise, while not connected, the
	// next one is at NextAttempt, and LastError says why there is none.
	Trying      bool
	LastAttempt time.Time
	NextAttempt time.Time
	LastError   error
}

// Keep connects to the object that a FURL names and connects again whenever the
// connection is lost, waiting longer after each failure. serve is called for
// every connection, with a context that ends with it; the next attempt begins
// after it has returned and the connection is lost. It ends with Stop or the tub.
func (t *Tub) Keep(f furl.FURL, serve func(ctx context.Context, r *Remote)) *Reconnector {
	r := &Reconnector{tub: t, furl: f, serve: serve, stopped: make(chan struct{}), now: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(t.ctx)
	r.cancel = cancel
	if err := t.enter(); err != nil {
		cancel()
		close(r.stopped)
		r.status.LastError = err
		return r
	}
	go func() { // Stop and Tub.Close wait for it
		defer t.running.Done()
		defer close(r.stopped)
		r.run(ctx)
	}()
	return r
}

// Stop ends it and waits until serve has returned. The connection stays for
// others who use it.
func (r *Reconnector) Stop() {
	r.cancel()
	<-r.stopped
}

// Retry begins a waiting attempt at once: something has changed, Tor has come up.
func (r *Reconnector) Retry() {
	select {
	case r.now <- struct{}{}:
	default:
	}
}

// Status says how it stands.
func (r *Reconnector) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status
}

func (r *Reconnector) set(change func(s *Status)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.status)
}

func (r *Reconnector) run(ctx context.Context) {
	delay := r.tub.config.RetryMin
	for ctx.Err() == nil {
		r.set(func(s *Status) { s.Trying, s.LastAttempt, s.NextAttempt = true, time.Now(), time.Time{} })
		remote, err := r.attempt(ctx)
		if err == nil {
			delay = r.tub.config.RetryMin
			r.set(func(s *Status) {
				*s = Status{Connected: true, Since: time.Now(), Hint: remote.Hint(), LastAttempt: s.LastAttempt}
			})
			err = r.connected(ctx, remote)
			r.set(func(s *Status) { s.Connected, s.Since = false, time.Now() })
		} else {
			delay = grow(delay, r.tub.config.RetryMax)
		}
		wait := jitter(delay)
		r.set(func(s *Status) {
			s.Trying, s.LastError, s.NextAttempt = false, err, time.Now().Add(wait)
			if s.Since.IsZero() {
				s.Since = time.Now()
			}
		})
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-r.now:
			delay = r.tub.config.RetryMin
		}
		timer.Stop()
	}
}

func (r *Reconnector) attempt(ctx context.Context) (*Remote, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*attemptTimeout)
	defer cancel()
	return r.tub.Reference(ctx, r.furl)
}

// connected runs serve and returns why the connection was lost.
func (r *Reconnector) connected(ctx context.Context, remote *Remote) error {
	defer remote.Release()
	live, cancel := context.WithCancel(ctx)
	defer cancel()
	finished := make(chan struct{})
	go func() { // waited for below
		defer close(finished)
		r.serve(live, remote)
	}()
	select {
	case <-remote.Done():
	case <-ctx.Done():
	}
	cancel()
	<-finished
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return remote.Err()
}

// grow is the next delay after a failure: e times the last, as Foolscap has it.
func grow(d, limit time.Duration) time.Duration {
	return min(time.Duration(float64(d)*math.E), limit)
}

// jitter spreads a delay by a quarter, so that a grid's nodes do not all return in
// the same moment.
func jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.75 + 0.5*rand.Float64()))
}
