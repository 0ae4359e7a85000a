package immutable

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"warren/node/caps"
	"warren/node/grid"
)

// Result is what an upload achieved.
type Result struct {
	// Cap is a caps.LIT or a caps.CHK.
	Cap  caps.Cap
	Size uint64
	// Happiness reached, and the shares written and found; all zero for a LIT.
	Happiness int
	Pushed    int
	Existing  int
	// Shares names the servers that hold each share.
	Shares map[int][]string
}

// Upload stores body and returns its capability. size is its length, below zero
// if that is not known. A body that can seek is read where it stands, twice with
// convergence, and must not change meanwhile (that is noticed: ErrSourceChanged);
// others are read once and spooled if need be.
//
// When Upload returns nil, shares are durable on as many servers as Config.Happy
// asks for. Servers that fail on the way are done without, or replaced by
// starting over with the rest. An UnhappyError says that the grid has too few
// servers now; like every other error it leaves no incomplete shares behind where
// servers could be told, and another try is safe.
func (c *Client) Upload(ctx context.Context, body io.Reader, size int64) (Result, error) {
	src, err := c.newSource(ctx, body, size)
	if err != nil {
		return Result{}, err
	}
	defer src.close()
	if src.shape.segments == 0 {
		return Result{Cap: caps.LIT{Data: src.lit}, Size: src.size}, nil
	}
	avoid := map[string]error{}
	for {
		key := src.key
		if !src.convergent {
			// Another try uses another key: nothing vouches that the plaintext is the same.
			if _, err := io.ReadFull(c.cfg.Rand, key[:]); err != nil {
				return Result{}, fmt.Errorf("immutable: key: %w", err)
			}
		}
		failed := len(avoid)
		res, err := c.attempt(ctx, src, key, avoid)
		if err != nil && ctx.Err() != nil {
			return Result{}, context.Cause(ctx)
		}
		// Starting over helps when servers failed that will now be left out.
		if !errors.Is(err, ErrUnhappy) || len(avoid) == failed || src.once {
			return res, err
		}
	}
}

// attempt uploads once. Servers that fail while shares are written are added to
// avoid.
func (c *Client) attempt(ctx context.Context, src *source, key [16]byte, avoid map[string]error) (Result, error) {
	s := src.shape
	si := storageIndex(key)
	release, err := c.claim(ctx, si)
	if err != nil {
		return Result{}, err
	}
	defer release()
	p, err := c.place(ctx, si, shareSize(s, newLayout(s)), avoid)
	if err != nil {
		return Result{}, err
	}
	existing := 0
	for _, t := range p.targets {
		if t.err == nil {
			existing += len(t.held)
		}
	}

	r, err := src.pass()
	var next crypttext
	if err == nil {
		next, err = encrypt(s, key, plaintext{r: r, sums: src.sums, seed: src.seed})
	}
	if err != nil {
		p.abort(ctx)
		return Result{}, err
	}
	pr, push, err := p.send(ctx, s, next, nil)
	for id, e := range push.failed() {
		avoid[id] = e
	}
	if err != nil {
		return Result{}, err
	}

	stand := push.standing()
	res := Result{
		Cap:       caps.CHK{Key: key, UEBHash: pr.uebHash, Needed: s.k, Total: s.n, Size: s.size},
		Size:      s.size,
		Happiness: grid.Happiness(stand),
		Pushed:    push.pushed(),
		Existing:  existing,
		Shares:    map[int][]string{},
	}
	for id, shares := range stand {
		for share := range shares {
			res.Shares[share] = append(res.Shares[share], id)
		}
	}
	for _, ids := range res.Shares {
		slices.Sort(ids)
	}
	return res, nil
}

// send codes the file of this shape and writes the shares that p has room for.
// Agree, if not nil, sees what the shares say of themselves before the first of
// them is complete. Without an error so many stand that p's client is happy; else
// none that is incomplete is left where servers could be told.
func (p *placement) send(ctx context.Context, s shape, next crypttext, agree func(*proof) error) (*proof, *pusher, error) {
	l := newLayout(s)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	push := newPusher(ctx, p, l.header(s))
	var pr *proof
	coder, err := p.client.coder(s.k, s.n)
	if err == nil {
		pr, err = encode(ctx, s, coder, next, func(_ int, blocks [][]byte) error { return push.blocks(blocks) })
	}
	if err == nil && agree != nil {
		err = agree(pr)
	}
	if err == nil {
		err = push.finish(func(share int) []byte { return pr.tail(l, share) })
	}
	if err != nil {
		cancel(err)
	}
	push.wait()
	if err == nil {
		err = push.unhappy()
	}
	if err != nil {
		p.abort(ctx)
		return nil, push, err
	}
	push.abandonFailed(ctx)
	return pr, push, nil
}

// claim waits until no other upload of this Client writes si.
func (c *Client) claim(ctx context.Context, si caps.StorageIndex) (release func(), err error) {
	for {
		c.mu.Lock()
		other := c.busy[si]
		if other == nil {
			mine := make(chan struct{})
			c.busy[si] = mine
			c.mu.Unlock()
			return func() {
				c.mu.Lock()
				delete(c.busy, si)
				c.mu.Unlock()
				close(mine)
			}, nil
		}
		c.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
