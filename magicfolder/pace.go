package magicfolder

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"warren/magicfolder/remote"
)

// How often the grid is asked for changes, Options.Poll being 5 s:
//
//	1 s       for half a minute after anything went on here, unless the servers tell of changes
//	5 s       else, and after activity where the servers tell
//	15 s      after ten minutes in which nothing went on
//	20 s      where the servers tell of changes by themselves: what they forget to tell
//	          is found so, and that the grid still answers
//
// More seldom where it takes long, as over Tor: asking takes a tenth of the time at most.
// After a poll that failed the pause doubles, up to half a minute. A fifth more or less,
// so that those who began together do not go on together.
const (
	quickPoll   = time.Second
	quickFor    = 30 * time.Second
	lazyAfter   = 10 * time.Minute
	lazyPolls   = 3 // times Options.Poll
	toldPolls   = 4 // times Options.Poll
	askingShare = 10
	slowestPoll = time.Minute
	failedPoll  = 30 * time.Second
)

// A write reaches one server after the other: who is told by the first waits a little
// for the others. Where it turns out that nothing is new, longer from time to time.
const (
	toldPause   = 20 * time.Millisecond
	slowestTold = 30 * time.Second
)

// pollLoop asks the grid for changes, when it is time and when the servers tell of one.
func (f *Folder) pollLoop(ctx context.Context) {
	fails, vain := 0, 0
	var dirs []remote.Cap
	var have []Version
	for {
		if f.poll(ctx) != nil {
			fails++
		} else {
			fails = 0
		}
		before := have
		if dirs, have = f.watchable(); !slices.Equal(before, have) {
			vain = 0
		}
		told, ok := f.rest(ctx, dirs, have, fails)
		if !ok {
			return
		}
		if told {
			if !f.wait(ctx, min(toldPause<<min(vain, 20), slowestTold), f.wakePoll) {
				return
			}
			vain++
		}
	}
}

// watchable is what is worth watching: the Collective, and the directories that could be read.
func (f *Folder) watchable() (dirs []remote.Cap, have []Version) {
	peers := f.allPeers()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.collective == "" {
		return nil, nil
	}
	dirs, have = append(dirs, f.cfg.Collective), append(have, f.collective)
	for _, p := range peers {
		if p.mutable && p.read && p.err == nil {
			dirs, have = append(dirs, p.dir), append(have, p.version)
		}
	}
	return dirs, have
}

// rest waits for the time of the next poll; told says that something may have changed.
func (f *Folder) rest(ctx context.Context, dirs []remote.Cap, have []Version, fails int) (told, ok bool) {
	here, cancel := context.WithCancel(ctx)
	defer cancel()
	var changed <-chan struct{}
	if len(dirs) > 0 && fails == 0 {
		if c, err := f.opt.Grid.Watch(here, dirs, have); err == nil {
			changed = c
		}
	}
	c, stop := f.opt.Clock.After(f.pollInterval(changed != nil, fails))
	defer stop()
	select {
	case <-ctx.Done():
	case <-f.wakePoll:
	case <-c:
	case <-changed:
		return true, ctx.Err() == nil
	}
	return false, ctx.Err() == nil
}

// pollInterval is how long to wait for the next poll, when the servers tell of changes or
// do not, after so many that failed. It remembers the longest that it can be.
func (f *Folder) pollInterval(watched bool, fails int) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	quiet := f.now().Sub(f.stat.active)
	d := f.opt.Poll
	switch {
	case fails > 0:
		d = min(min(quickPoll, d)<<min(fails-1, 10), max(failedPoll, d))
	case watched && quiet >= quickFor:
		d *= toldPolls
	case watched:
	case quiet < quickFor:
		d = min(quickPoll, d)
	case quiet >= lazyAfter:
		d *= lazyPolls
	}
	d = max(d, min(askingShare*f.stat.asking, slowestPoll))
	f.stat.every = d + d/5
	return d - d/5 + rand.N(d*2/5+1)
}

// asked notes how long it took to ask for all versions.
func (f *Folder) asked(took time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stat.asking += (took - f.stat.asking) / 4
}
