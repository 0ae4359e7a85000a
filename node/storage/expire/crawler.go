package expire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"warren/node/caps"
	"warren/node/durable"
	"warren/node/storage"
)

// The crawler's pace, Tahoe's but for the shorter slices.
const (
	slowStart = 6 * time.Minute        // after the server's start
	slice     = 100 * time.Millisecond // at work, then a pause
	pauses    = 9                      // times as long as the work: a tenth of the time is used
	longest   = 299 * time.Second      // pause
	between   = 12 * time.Hour         // rounds
	saving    = 30 * time.Second       // at work or not, at least, between two writes of the state
	kept      = 10                     // finished rounds
)

// House is the server whose shares the crawler looks at; *storage.Server is one.
type House interface {
	Indexes(prefix string) ([]caps.StorageIndex, error)
	Survey(si caps.StorageIndex) ([]storage.Held, error)
	Remove(si caps.StorageIndex, drop func(storage.Held) bool) ([]storage.Held, error)
}

// Options are what a Crawler needs.
type Options struct {
	Settings Settings
	// State is the path of the file that the crawler's state is kept in.
	State string
	// Now is the clock; time.Now if nil.
	Now func() time.Time
	// Sleep waits, and ends early with the context's error; nil: a timer.
	Sleep func(ctx context.Context, d time.Duration) error
	// Log receives what was removed and what could not be; nil discards.
	Log *slog.Logger
}

// State is where a crawler stands.
type State struct {
	Version int `json:"version"`
	// Current is the round under way; nil between rounds.
	Current *Results `json:"current"`
	// Cursor is the storage index last looked at in it; "" at its beginning.
	Cursor string `json:"cursor"`
	// History are the latest finished rounds, oldest first.
	History []Results `json:"history"`
}

// Last is the latest finished round.
func (s State) Last() (Results, bool) {
	if len(s.History) == 0 {
		return Results{}, false
	}
	return s.History[len(s.History)-1], true
}

// stateVersion is the version of the state's format.
const stateVersion = 1

// Crawler goes through the shares of a server, slowly, again and again.
type Crawler struct {
	house House
	opt   Options

	mu    sync.Mutex // guards state against those who ask; Run alone changes it
	state State
}

// New makes a crawler, which begins where the state's file says. A file that cannot
// be used is logged: the crawler begins anew, which loses counts alone.
func New(house House, opt Options) *Crawler {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Sleep == nil {
		opt.Sleep = sleep
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	c := &Crawler{house: house, opt: opt}
	state, err := load(opt.State)
	if err != nil {
		opt.Log.Warn("the lease checker begins anew: its state cannot be read", "error", err)
	}
	if r := state.Current; r != nil && r.Settings != opt.Settings {
		// Half by these and half by those would be neither.
		state.Current, state.Cursor = nil, ""
	}
	c.state = state
	return c
}

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

// maxState bounds the file: ten rounds, each with a hundred names.
const maxState = 1 << 20

func load(path string) (State, error) {
	fresh := State{Version: stateVersion}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fresh, nil
	}
	if err == nil && info.Size() > maxState {
		err = fmt.Errorf("expire: %s is too long", path)
	}
	if err != nil {
		return fresh, err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return fresh, err
	}
	s, err := parseState(b)
	if err != nil {
		return fresh, fmt.Errorf("expire: %s: %w", path, err)
	}
	return s, nil
}

// parseState reads a state; what is missing in it is made.
func parseState(b []byte) (State, error) {
	var s State
	if err := json.Unmarshal(b, &s); err != nil {
		return State{}, err
	}
	if s.Version != stateVersion {
		return State{}, fmt.Errorf("version %d is not known", s.Version)
	}
	if s.Current == nil {
		s.Cursor = ""
	} else {
		whole := s.Current.clone()
		s.Current = &whole
	}
	if len(s.History) > kept {
		s.History = s.History[len(s.History)-kept:]
	}
	for i, r := range s.History {
		s.History[i] = r.clone()
	}
	return s, nil
}

func (c *Crawler) save() {
	b, err := json.Marshal(c.state)
	if err == nil {
		err = durable.WriteFile(c.opt.State, b, 0o600)
	}
	if err != nil {
		c.opt.Log.Warn("the lease checker's state cannot be kept: after a restart it begins anew", "error", err)
	}
}

// State is a copy of where the crawler stands.
func (c *Crawler) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.state
	if s.Current != nil {
		r := s.Current.clone()
		s.Current = &r
	}
	s.History = append([]Results{}, s.History...) // finished: they change no more
	return s
}

// Run crawls until ctx ends. Call it once.
func (c *Crawler) Run(ctx context.Context) {
	if c.opt.Sleep(ctx, slowStart) != nil {
		return
	}
	for {
		if last, ok := c.state.Last(); ok && c.state.Current == nil && last.Settings == c.opt.Settings {
			// A clock that was set back does not stop the crawler for longer than a pause.
			wait := min(last.Finished.Add(between).Sub(c.opt.Now()), between)
			if wait > 0 && c.opt.Sleep(ctx, wait) != nil {
				return
			}
		}
		if c.round(ctx) != nil {
			return
		}
	}
}

// round goes through the shares, from the cursor on; its error is ctx's.
func (c *Crawler) round(ctx context.Context) error {
	if c.state.Current == nil {
		r := newResults(c.opt.Settings, c.opt.Now())
		c.change(func() { c.state.Current, c.state.Cursor = &r, "" })
	}
	work, saved := c.opt.Now(), c.opt.Now()
	for _, prefix := range storage.Prefixes() {
		if len(c.state.Cursor) >= len(prefix) && prefix < c.state.Cursor[:len(prefix)] {
			continue
		}
		indexes, err := c.house.Indexes(prefix)
		if err != nil {
			c.opt.Log.Warn("the lease checker cannot list shares", "prefix", prefix, "error", err)
			c.change(func() { c.state.Current.Failures++ })
		}
		for _, si := range indexes {
			if si.Text() <= c.state.Cursor {
				continue
			}
			c.bucket(si)
			spent := c.opt.Now().Sub(work)
			if spent < slice && ctx.Err() == nil {
				continue
			}
			if ctx.Err() != nil || c.opt.Now().Sub(saved) >= saving {
				c.save()
				saved = c.opt.Now()
			}
			if err := c.opt.Sleep(ctx, min(pauses*max(spent, 0), longest)); err != nil {
				c.save()
				return err
			}
			work = c.opt.Now()
		}
	}
	c.change(func() {
		r := *c.state.Current
		r.Finished = c.opt.Now().UTC()
		c.state.History = append(c.state.History, r)
		if len(c.state.History) > kept {
			c.state.History = append([]Results{}, c.state.History[len(c.state.History)-kept:]...)
		}
		c.state.Current, c.state.Cursor = nil, ""
	})
	c.save()
	last, _ := c.state.Last()
	c.opt.Log.Info("the lease checker has seen all shares", "shares", last.Total().Shares,
		"expired", last.Going().Shares, "unreadable", last.Sum(Unreadable).Shares, "failures", last.Failures)
	return nil
}

func (c *Crawler) change(do func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	do()
}

// bucket looks at one storage index, and moves the cursor past it.
func (c *Crawler) bucket(si caps.StorageIndex) {
	now := c.opt.Now()
	judge := func(h storage.Held) bool { return c.opt.Settings.Judge(h, now).Goes() }
	all, err := c.house.Survey(si)
	var removed []storage.Held
	for _, h := range all {
		if err == nil && c.opt.Settings.Enabled && judge(h) {
			// Looked at again there, while nobody can renew a lease.
			removed, err = c.house.Remove(si, judge)
			break
		}
	}
	if err != nil {
		c.opt.Log.Warn("the lease checker cannot look after shares", "storage-index", si.Text(), "error", err)
	}
	for _, h := range removed {
		c.opt.Log.Info("removed a share without a lease that holds", "storage-index", si.Text(), "share", h.Share, "kind", h.Kind, "bytes", h.Bytes)
	}
	c.change(func() {
		r := c.state.Current
		c.state.Cursor = si.Text()
		if len(all) > 0 {
			r.Buckets++
		}
		if err != nil {
			r.Failures++
		}
		for _, h := range all {
			r.count(h, c.opt.Settings.Judge(h, now))
		}
		for _, h := range removed {
			t := r.Removed[h.Kind]
			t.add(h)
			r.Removed[h.Kind] = t
		}
	})
}
