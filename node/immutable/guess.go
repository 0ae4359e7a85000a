package immutable

import (
	"context"
	"errors"
	"io"
	"sync"

	"warren/node/caps"
	"warren/node/storage"
)

// Fetch writes the whole of a file to w, as Open and File.WriteRange do. A small one
// takes one question to k servers if its shares are where an upload to the servers of
// now would put them: the first servers in permuted order are asked for them at once,
// and only where that was wrong is everybody asked what he holds. Where it is mostly
// wrong, as with what Tahoe uploaded, it is tried ever more seldom.
func (c *Client) Fetch(ctx context.Context, cp caps.Cap, w io.Writer) error {
	f, err := c.prospect(ctx, cp)
	if err != nil {
		return err
	}
	defer f.Close()
	if f.coder != nil {
		if _, total := f.opening(); total > wholeShare || !c.guesses.worth() {
			err = f.find(ctx)
		} else {
			f.presume()
			defer func() { c.guesses.learn(f.missed()) }()
		}
	}
	if err != nil {
		return err
	}
	return f.WriteRange(ctx, w, 0, -1)
}

// presume takes the shares to be where an upload would have put them (grid.Place).
func (f *File) presume() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.unasked {
		if share := len(f.remotes); share < f.cap.Total && !s.ReadOnly {
			f.remotes = append(f.remotes, &remote{f: f, server: s, share: share, guess: true, preparing: make(chan struct{}, 1)})
		}
	}
}

// guessed says whether a share was taken to be on a server, and not found missing.
// f.mu is held.
func (f *File) guessed(server string, share int) bool {
	for _, r := range f.remotes {
		if r.guess && r.server.ID == server && r.share == share && !errors.Is(r.killed(), storage.ErrNoShare) {
			return true
		}
	}
	return false
}

// missed says whether a share was not where it was guessed to be.
func (f *File) missed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.remotes {
		if r.guess && errors.Is(r.killed(), storage.ErrNoShare) {
			return true
		}
	}
	return false
}

// guesses remembers how good they are.
type guesses struct {
	mu sync.Mutex
	// mu guards what follows.
	rest  int // how many files are fetched without
	after int // how many will be, after the next bad one
}

// maxRest is how many files are fetched without a guess, when all were bad.
const maxRest = 64

func (g *guesses) worth() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.rest > 0 {
		g.rest--
		return false
	}
	return true
}

func (g *guesses) learn(bad bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !bad {
		g.after = 0
		return
	}
	g.after = min(max(2*g.after, 1), maxRest)
	g.rest = g.after
}
