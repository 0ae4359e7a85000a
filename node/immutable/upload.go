package immutable

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"warren/node/caps"
	"warren/node/grid"
	"warren/node/storage"
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
	// Resumed is how many bytes of the shares written were not sent, since servers
	// had them from a try that broke off.
	Resumed uint64
	// Shares names the servers that hold each share.
	Shares map[int][]string
}

// Progress is how far an upload is: what servers have taken, or had, of the bytes of
// all shares that are to be written. Total falls when a server fails.
type Progress struct{ Written, Total uint64 }

type progressKey struct{}

// WithProgress has uploads under ctx call report, one call at a time, when servers
// have taken more. An upload that has nothing to send, because all shares stand,
// never calls it. What ctx has uploads call already is called too.
func WithProgress(ctx context.Context, report func(Progress)) context.Context {
	if outer, inner := reporter(ctx), report; outer != nil {
		report = func(p Progress) { outer(p); inner(p) }
	}
	return context.WithValue(ctx, progressKey{}, report)
}

func reporter(ctx context.Context) func(Progress) {
	report, _ := ctx.Value(progressKey{}).(func(Progress))
	return report
}

// Upload stores body and returns its capability. size is its length, below zero
// if that is not known. A body that can seek is read where it stands, twice with
// convergence, and must not change meanwhile (that is noticed: ErrSourceChanged);
// others are read once and spooled if need be.
//
// When Upload returns nil, shares are durable on as many servers as Config.Happy
// asks for. Servers that fail on the way are done without, or replaced; with
// convergence what the others have taken is then not sent again. An UnhappyError
// says that the grid has too few servers now; like every other error it leaves no
// incomplete shares behind where servers could be told, and another try is safe.
// Only when ctx ends, with convergence, they stay: another Upload of the same
// content, by this process or a later one, goes on where this one was, until the
// servers give up waiting (half an hour). What dies without a word leaves the same.
func (c *Client) Upload(ctx context.Context, body io.Reader, size int64) (Result, error) {
	src, err := c.newSource(ctx, body, size)
	if err != nil {
		return Result{}, err
	}
	defer src.close()
	if src.shape.segments == 0 {
		return Result{Cap: caps.LIT{Data: src.lit}, Size: src.size}, nil
	}
	u := &uploading{c: c, src: src, key: src.key, avoid: map[string]error{}}
	if src.convergent {
		release, err := c.claim(ctx, storageIndex(src.key))
		if err != nil {
			return Result{}, err
		}
		defer release()
	}
	defer u.leaveSilent(ctx)()
	for {
		failed := len(u.avoid)
		res, err := u.attempt(ctx)
		switch {
		case err == nil:
			return res, nil
		case ctx.Err() != nil:
			return Result{}, context.Cause(ctx)
		case errors.Is(err, ErrUnhappy) && len(u.silent) > 0 && !(src.once && u.begun):
			for _, id := range u.silent { // then they must be waited for
				delete(u.avoid, id)
			}
			u.silent = nil
			continue
		// Starting over helps when servers failed that will now be left out.
		case errors.Is(err, ErrUnhappy) && len(u.avoid) > failed && !src.once:
			continue
		case u.p != nil:
			u.p.abort(ctx)
		}
		return Result{}, err
	}
}

// uploading is one Upload on its way.
type uploading struct {
	c     *Client
	src   *source
	key   [16]byte
	avoid map[string]error // servers that failed while shares were written
	begun bool             // to read the body
	// silent are servers in avoid only because earlier uploads waited for them in vain.
	silent []string
	// p is the placement that another attempt goes on with; existing, pushed and
	// resumed count what it found and achieved so far.
	p                *placement
	existing, pushed int
	resumed          uint64
}

// errSilent stands for a server that has not answered lately.
var errSilent = errors.New("immutable: the server did not answer an earlier upload")

// leaveSilent leaves out the servers that let an earlier upload wait in vain, if there
// are enough others. They are asked meanwhile, until done is called: those that
// answer are back for the next upload.
func (u *uploading) leaveSilent(ctx context.Context) (done func()) {
	si := storageIndex(u.key)
	var silent []grid.Server
	others := 0
	for _, s := range u.c.cfg.Servers.Permuted(si) {
		switch {
		case u.c.speeds.isSilent(s.ID):
			silent = append(silent, s)
		case !s.ReadOnly:
			others++
		}
	}
	if len(silent) == 0 || others < u.c.cfg.Happy {
		return func() {}
	}
	ctx, cancel := context.WithTimeout(ctx, u.c.cfg.QueryTimeout)
	var asking sync.WaitGroup
	for _, s := range silent {
		u.avoid[s.ID] = errSilent
		u.silent = append(u.silent, s.ID)
		asking.Go(func() {
			_, err := s.Client.ListShares(ctx, storage.Immutable, si)
			u.c.speeds.heard(ctx, s.ID, err)
		})
	}
	return func() {
		cancel()
		asking.Wait()
	}
}

// place finds homes for the shares, or other homes after an attempt that failed.
func (u *uploading) place(ctx context.Context) error {
	if u.p != nil {
		before := len(u.p.targets)
		if err := u.p.replace(ctx, u.avoid); err != nil {
			u.p = nil
			return err
		}
		for _, t := range u.p.targets[before:] {
			u.existing += len(t.held)
		}
		return nil
	}
	if !u.src.convergent {
		// Another try uses another key: nothing vouches that the plaintext is the same.
		if _, err := io.ReadFull(u.c.cfg.Rand, u.key[:]); err != nil {
			return fmt.Errorf("immutable: key: %w", err)
		}
	}
	s := u.src.shape
	p, err := u.c.place(ctx, storageIndex(u.key), shareSize(s, newLayout(s)), u.avoid, u.src.convergent)
	if err != nil {
		return err
	}
	u.existing, u.pushed, u.resumed = 0, 0, 0
	for _, t := range p.targets {
		if t.err == nil {
			u.existing += len(t.held)
		}
	}
	u.p = p
	return nil
}

// attempt uploads once. Servers that fail while shares are written are added to
// avoid.
func (u *uploading) attempt(ctx context.Context) (Result, error) {
	if err := u.place(ctx); err != nil {
		return Result{}, err
	}
	s, p := u.src.shape, u.p
	if !p.keep {
		u.p = nil // it ends with this attempt
	}
	u.begun = true
	r, err := u.src.pass()
	var next crypttext
	if err == nil {
		next, err = encrypt(s, u.key, plaintext{r: r, sums: u.src.sums, seed: u.src.seed})
	}
	if err != nil {
		p.abort(ctx)
		return Result{}, err
	}
	pr, push, err := p.send(ctx, s, next, nil)
	for id, e := range push.failed() {
		u.avoid[id] = e
		u.c.speeds.heard(ctx, id, e)
	}
	u.pushed += push.pushed()
	u.resumed += push.resumed()
	if err != nil {
		push.settle()
		return Result{}, err
	}

	stand := push.standing()
	res := Result{
		Cap:       caps.CHK{Key: u.key, UEBHash: pr.uebHash, Needed: s.k, Total: s.n, Size: s.size},
		Size:      s.size,
		Happiness: grid.Happiness(stand),
		Pushed:    u.pushed,
		Existing:  u.existing,
		Resumed:   u.resumed,
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
// none that is incomplete is left where servers could be told, unless p keeps them.
func (p *placement) send(ctx context.Context, s shape, next crypttext, agree func(*proof) error) (*proof, *pusher, error) {
	l := newLayout(s)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	per, done := p.client.memory(s)
	defer done()
	push := newPusher(ctx, p, s, l, per)
	var pr *proof
	coder, err := p.client.coder(s.k, s.n)
	if err == nil {
		pr, err = encode(ctx, s, coder, next, per, push)
	}
	if err == nil && agree != nil {
		err = agree(pr)
	}
	if err == nil {
		err = push.finish(ctx, func(share, at int, dst []byte) { pr.fill(l, share, at, dst) })
	}
	switch {
	case err != nil && p.keep && errors.Is(err, ErrUnhappy):
		// What is on its way need not be sent again if it arrives.
		late := time.AfterFunc(courtesy, func() { cancel(err) })
		defer late.Stop()
		push.halt()
	case err != nil:
		cancel(err)
	}
	push.wait()
	if err == nil {
		err = push.unhappy()
	}
	if err != nil {
		p.stop(ctx)
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
