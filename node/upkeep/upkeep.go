// Package upkeep keeps alive what must live: it walks everything that can be reached
// from the roots that their owners name, renews the leases on it, notes what is at
// risk, and repairs that.
//
//	u, err := upkeep.Open(options)
//	go u.Run(ctx)
//	u.Now(upkeep.Request{})  // a round at once
//	u.Status()
//
// # What is walked
//
// Options.Roots names the roots. An Item of the kind "" is a file or directory as
// Tahoe-LAFS links them, and a directory leads to its entries. What an Item of any
// other kind leads to, Options.Reach says: a snapshot of a magic folder, for one,
// leads to its parents, which are named in a file and linked nowhere. Immutable
// directories are read once, mutable ones when their version has changed; what they
// led to is remembered, and counts for as long as one cannot be read. An Item is
// visited once in a round, so cycles end.
//
// # When
//
// A round begins some minutes after the start, and then once a day. Leases last 31
// days; one is renewed when the last renewal is a third of that old, or a little
// less, so that what was stored in one go does not fall due in one go. Renewing is
// Check with AddLease, without Verify: each server that holds shares is asked once,
// and says which, and of mutable files the signed headers are read. What is not due
// costs the network nothing, but for mutable directories, whose version is asked
// for in each round.
//
// The pace is a few items a second, less while people's own transfers go on. What
// fails, and what is not whole, is tried again, after an hour at first and after a
// day at most; the rest goes on. While fewer servers are connected than are needed
// to read, nothing is asked and nothing is judged.
//
// # At risk
//
// An item is at risk when its good shares make fewer servers of happiness than the
// node's happy setting (within the item's own k and n). Where a share is missing
// and that is not so, its server may well come back, and another share on a server
// that has one already would help nobody. With Repair, what has been at risk for a
// day, or has no share to lose any more, is repaired, one at a time, if enough servers
// are connected to make it better and people's own transfers leave room. A mutable
// file needs its writecap for that.
//
// # Memory
//
// All of it is in one bbolt file (store.go): a round that was interrupted goes on
// where it stood. It holds capabilities, and is 0600; damaged, it is made anew, which
// costs a walk. Memory is bounded by the largest single directory.
package upkeep

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"warren/node/caps"
	"warren/node/dirnode"
	"warren/node/immutable"
	"warren/node/mutable"
	"warren/node/storage/container"
)

// The schedule.
const (
	firstAfter = 3 * time.Minute // after the start, and up to as much again
	interval   = 24 * time.Hour  // between the ends and beginnings of rounds
	renewAfter = container.LeaseDuration / 3
	// Between two items, of which parallel may be under way.
	pace     = 250 * time.Millisecond
	paceBusy = 10 * pace
	paceNow  = pace / 10 // when somebody asked for the round
	parallel = 2
	// Tries of what failed or is not whole.
	firstRetry   = time.Hour
	lastRetry    = 24 * time.Hour
	lastRetryFit = 3 * lastRetry // of what is not at risk
	patience     = 24 * time.Hour
	// noServers is how long to wait when too few servers are connected.
	noServers = time.Minute
	// longest is the longest sleep: clocks are set, and machines sleep.
	longest = time.Hour
)

// Item is something to keep alive.
type Item struct {
	// Name is, of a root, what people call it ("home:", "folder holidays"), and below
	// it the name in the directory; "" for what has no name of its own.
	Name string
	Cap  caps.Cap
	// Kind says who knows what it leads to: "" a directory as such, else Options.Reach.
	Kind string
	// Past: it is the contents of an earlier version, and kept only with
	// Options.History.
	Past bool
}

// Servers are the storage servers. *grid.Grid is one.
type Servers interface {
	Connected() int
}

// Options of an Upkeep.
type Options struct {
	// Path is the database.
	Path string
	// Automatic: rounds begin by themselves; else only when asked for.
	Automatic bool
	// Repair what is at risk; else only say so.
	Repair bool
	// History keeps the contents of earlier versions, too.
	History bool

	Servers Servers
	// Needed and Happy are the node's k and servers of happiness.
	Needed, Happy int
	Files         *immutable.Client
	Slots         *mutable.Store
	Dirs          *dirnode.Dirs

	// Roots names what must live. It may name some and return an error for others.
	Roots func() ([]Item, error)
	// Reach lists what an item leads to whose Kind is not "". An error is tried again
	// later.
	Reach func(ctx context.Context, it Item) ([]Item, error)
	// Busy says that people wait for transfers of their own; nil: never.
	Busy func() bool

	// Now is the clock; time.Now if nil.
	Now func() time.Time
	// Sleep waits, and ends early with the context's error; nil: a timer.
	Sleep func(ctx context.Context, d time.Duration) error
	Log   *slog.Logger
}

// Upkeep looks after everything. Its methods may be called concurrently.
type Upkeep struct {
	opt       Options
	store     *store
	wake      chan struct{}
	repairing chan struct{} // full while something is being repaired: one at a time

	mu      sync.Mutex // guards waiting and working
	waiting string     // why nothing is done now
	working bool
}

// Open opens the database, or makes it, and starts nothing.
func Open(o Options) (*Upkeep, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Sleep == nil {
		o.Sleep = sleep
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Busy == nil {
		o.Busy = func() bool { return false }
	}
	s, err := openStore(o.Path, o.Log)
	if err != nil {
		return nil, err
	}
	return &Upkeep{opt: o, store: s, wake: make(chan struct{}, 1), repairing: make(chan struct{}, 1)}, nil
}

// Close closes the database. Run must have returned.
func (u *Upkeep) Close() error { return u.store.close() }

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// Request is what a round that somebody asks for does beside what is due.
type Request struct {
	// All renews every lease, however young.
	All bool `json:"all"`
	// Repair repairs what is at risk at once, whatever Options.Repair says.
	Repair bool `json:"repair"`
}

// Now begins a round, in place of the one under way, and returns its number. Run
// does the work.
func (u *Upkeep) Now(q Request) (uint64, error) {
	n, err := u.begin(q, true)
	if err != nil {
		return 0, err
	}
	u.poke()
	return n, nil
}

func (u *Upkeep) poke() {
	select {
	case u.wake <- struct{}{}:
	default:
	}
}

// Run works until ctx ends, and returns its error, or that of the database. Call it
// once.
func (u *Upkeep) Run(ctx context.Context) error {
	if err := u.pause(ctx, firstAfter+rand.N(firstAfter)); err != nil {
		return err
	}
	for {
		r, err := u.store.round()
		if err != nil {
			return err
		}
		idle := r.Number == 0 || !r.Finished.IsZero() && r.Open == 0
		if u.opt.Automatic && idle && !u.opt.Now().Before(u.nextRound(r)) {
			if _, err := u.begin(Request{}, false); err != nil {
				return err
			}
		}
		if got, want := u.opt.Servers.Connected(), u.opt.Needed; got < want {
			u.say(fmt.Sprintf("%d of the %d storage servers are connected that reading needs", got, want), false)
			if err := u.pause(ctx, noServers); err != nil {
				return err
			}
			continue
		}
		u.say("", true)
		worked, err := u.turn(ctx)
		if err != nil {
			return err
		}
		if worked {
			continue
		}
		u.say("", false)
		next, err := u.next()
		if err != nil {
			return err
		}
		if err := u.pause(ctx, min(max(next.Sub(u.opt.Now()), time.Second), longest)); err != nil {
			return err
		}
	}
}

func (u *Upkeep) say(waiting string, working bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.waiting, u.working = waiting, working
}

// nextRound is when the round after r begins by itself. A clock that was set back
// does not stop upkeep for longer than a day.
func (u *Upkeep) nextRound(r round) time.Time {
	if r.Finished.IsZero() || r.Finished.After(u.opt.Now()) {
		return u.opt.Now()
	}
	return r.Finished.Add(interval)
}

// next is when there is something to do again.
func (u *Upkeep) next() (time.Time, error) {
	r, err := u.store.round()
	if err != nil {
		return time.Time{}, err
	}
	at := u.opt.Now().Add(longest)
	if u.opt.Automatic {
		at = u.nextRound(r)
	}
	if first, ok, err := u.store.firstDue(); err != nil {
		return time.Time{}, err
	} else if ok && first.Before(at) {
		at = first
	}
	return at, nil
}

// pause sleeps, but no longer than until something is asked for.
func (u *Upkeep) pause(ctx context.Context, d time.Duration) error {
	short, cancel := context.WithCancel(ctx)
	var waker sync.WaitGroup
	waker.Go(func() {
		select {
		case <-u.wake:
			cancel()
		case <-short.Done():
		}
	})
	err := u.opt.Sleep(short, d)
	cancel()
	waker.Wait()
	if ctx.Err() == nil {
		err = nil
	}
	return err
}

// begin makes a new round of the roots.
func (u *Upkeep) begin(q Request, asked bool) (uint64, error) {
	roots, failed := u.opt.Roots()
	if failed != nil {
		u.opt.Log.Warn("upkeep does not know all that it must keep alive", "error", failed)
	}
	r := round{Started: u.opt.Now().UTC(), Request: q, Asked: asked}
	if failed != nil {
		r.Why = strings.ReplaceAll(text(failed), "\n", "; ") // several are joined by lines
	}
	return u.store.begin(r, func(t *tx, r *round) error {
		for _, it := range roots {
			e, ok := entryOf(it)
			if !ok {
				continue
			}
			if err := u.push(t, r, "", e); err != nil {
				return err
			}
		}
		return nil
	})
}

// turn does a part of what is to be done, and says whether there was any.
func (u *Upkeep) turn(ctx context.Context) (bool, error) {
	var jobs []job
	var passed int
	var r round
	if err := u.store.update(func(t *tx) (err error) {
		if r, err = t.round(); err != nil {
			return err
		}
		jobs, passed, err = u.pick(t, &r)
		return errors.Join(err, t.setRound(r))
	}); err != nil {
		return false, err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, j := range jobs {
		wait := pace
		switch {
		case r.asked():
			wait = paceNow
		case u.opt.Busy():
			wait = paceBusy
		}
		if err := u.opt.Sleep(gctx, wait); err != nil {
			break
		}
		g.Go(func() error {
			o := u.visit(gctx, r, j)
			if gctx.Err() != nil {
				return gctx.Err()
			}
			return u.store.update(func(t *tx) error { return u.settle(t, j, o) })
		})
	}
	if err := errors.Join(g.Wait(), ctx.Err()); err != nil {
		return false, err
	}
	finished, err := u.finish()
	return len(jobs)+passed > 0 || finished, err
}

// finish ends the round under way when nothing of it is left: what it did not meet
// is forgotten.
func (u *Upkeep) finish() (bool, error) {
	r, err := u.store.round()
	if err != nil || r.Open > 0 || r.Number == 0 || !r.Finished.IsZero() {
		return false, err
	}
	if err := u.store.sweep(r.Number); err != nil {
		return false, err
	}
	r, err = u.store.end(r.Number, u.opt.Now().UTC())
	if err != nil {
		return false, err
	}
	if !r.Finished.IsZero() {
		u.opt.Log.Info("upkeep has seen all that must live", "items", r.Done, "renewed", r.Renewed, "repaired", r.Repaired)
	}
	return true, nil
}
