package immutable

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	"warren/node/caps"
	"warren/node/grid"
)

// Repaired is what a check with repair found and achieved.
type Repaired struct {
	Before, After *Health // the same one when there was nothing to repair
	Attempted     bool
	// Failure says why After is not healthy although a repair was attempted.
	Failure error
}

// Successful reports whether a repair was attempted and made the file healthy.
func (r *Repaired) Successful() bool { return r.Attempted && r.After.Healthy() }

// CheckAndRepair is Check, and, when the file is not healthy, makes the missing
// shares again, byte for byte, from any k good ones, and places them as an upload
// would; the readcap is not needed. For a literal the answer is nil.
//
// A damaged share stays where it is, since no client can remove one: the good one
// goes to another server. After counts what Check found good, less what failed or
// turned out to be damaged meanwhile, and what was written to its end, durably. An
// error, NotEnoughSharesError above all, says that nothing could be made; another
// try is safe.
func (c *Client) CheckAndRepair(ctx context.Context, cp caps.Cap, o CheckOptions) (*Repaired, error) {
	v, literal, err := Verifier(cp)
	if err != nil || literal {
		return nil, err
	}
	servers := c.cfg.Servers.Permuted(v.Index)
	before, err := c.check(ctx, v, servers, o)
	if err != nil {
		return nil, err
	}
	if before.Healthy() {
		return &Repaired{Before: before, After: before}, nil
	}
	release, err := c.claim(ctx, v.Index)
	if err != nil {
		return nil, err
	}
	defer release()
	after := before.clone()
	r := repair{c: c, v: v, o: o, health: after, good: after.holdings(), barred: grid.Holdings{}, failed: map[string]error{}}
	for _, s := range servers {
		if slices.Contains(after.Responding, s.ID) {
			r.servers = append(r.servers, s)
		}
	}
	for _, at := range slices.Concat(after.Corrupt, after.Incompatible) {
		r.barred.Add(at.Server, at.Share)
	}
	// What could not be read to its end is there all the same: nothing can be
	// written in its place.
	for _, t := range after.Troubles {
		if t.Share >= 0 {
			r.barred.Add(t.Server, t.Share)
		}
	}
	if err := r.run(ctx); err != nil {
		return nil, err
	}
	after.Summary = "healthy" // Tahoe's words after a repair
	out := &Repaired{Before: before, After: after, Attempted: true}
	if missing := after.missing(); missing > 0 {
		after.Summary = "not healthy"
		out.Failure = fmt.Errorf("immutable: %d of %d shares are still missing: %w", missing, after.Total, cmp.Or(r.last, errNoRoom))
	}
	return out, nil
}

// repair is one repair under way.
type repair struct {
	c       *Client
	v       caps.CHKVerify
	o       CheckOptions
	servers []grid.Server // that answered the check, in permuted order
	health  *Health       // as it will be told
	good    grid.Holdings
	barred  grid.Holdings    // see placement
	failed  map[string]error // servers that failed, and are left out from then on
	last    error
}

// errNoRoom ends a repair that found servers for too few shares.
var errNoRoom = errors.New("no connected server has room for them: connect more storage servers, or give one more space")

// run makes attempts for as long as there are shares missing and something new has
// been learnt: of servers that fail, of shares that are not what they seemed to be.
func (r *repair) run(ctx context.Context) error {
	for first := true; ; first = false {
		failed, barred := maps.Clone(r.failed), count(r.barred)
		err := r.attempt(ctx)
		if err != nil && first {
			return err
		}
		for _, s := range r.servers {
			if r.failed[s.ID] != nil && failed[s.ID] == nil {
				r.suspect(ctx, s)
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		r.health.set(r.good)
		if err != nil { // what was made before stands
			r.last = err
			return nil
		}
		if r.health.missing() == 0 || len(r.failed) == len(failed) && count(r.barred) == barred {
			return nil
		}
	}
}

// suspect asks a server that has failed whether it still has what it had.
func (r *repair) suspect(ctx context.Context, s grid.Server) {
	still := map[int]bool{}
	for _, share := range r.c.ask(ctx, r.v, s, CheckOptions{}, nil).good {
		still[share] = true
	}
	for share := range r.good[s.ID] {
		if !still[share] {
			r.good.Remove(s.ID, share)
		}
	}
}

func count(h grid.Holdings) (n int) {
	for _, shares := range h {
		n += len(shares)
	}
	return n
}

// attempt makes and places what is missing, once. It leaves in r what is good now
// and what it learnt; an error is one that another attempt does not help.
func (r *repair) attempt(ctx context.Context) (err error) {
	f, err := r.open(ctx)
	if err != nil {
		return err
	}
	defer f.Close()
	defer r.learn(f)
	s, err := f.measure(ctx)
	if err != nil {
		return err
	}
	l := newLayout(s)
	p, err := r.place(ctx, l.ueb+l.fieldSize()+uint64(len(f.ueb)))
	if err != nil {
		return err
	}
	ours := 0
	for _, t := range p.targets {
		if t.err == nil {
			ours += len(t.allocated)
		}
	}
	if ours == 0 {
		p.abort(ctx)
		return nil
	}

	reading, stop := context.WithCancel(ctx)
	body, in := io.Pipe()
	var reader sync.WaitGroup
	reader.Go(func() { in.CloseWithError(f.WriteRange(reading, in, 0, -1)) })
	_, push, err := p.send(ctx, s, func(_ int, text []byte) error {
		_, err := io.ReadFull(body, text)
		return err
	}, f.same)
	stop()
	body.Close()
	reader.Wait()
	for id, e := range push.failed() {
		r.failed[id], r.last = e, e
	}
	if err != nil && !errors.Is(err, ErrUnhappy) { // who made it unhappy is known
		return err
	}
	for _, w := range push.writers {
		if w.finished() {
			r.good.Add(w.t.ID, w.share)
		}
	}
	return nil
}

// open makes a File of the shares that are good.
func (r *repair) open(ctx context.Context) (*File, error) {
	v := r.v
	if found := len(r.health.Shares); found < v.Needed {
		return nil, &NotEnoughSharesError{Found: found, Needed: v.Needed, Last: r.last}
	}
	f, err := r.c.newFile(ctx, caps.CHK{UEBHash: v.UEBHash, Needed: v.Needed, Total: v.Total, Size: v.Size}, v.Index)
	if err != nil {
		return nil, err
	}
	f.sealed = true
	for _, s := range r.servers {
		for share := range r.good[s.ID] {
			f.remotes = append(f.remotes, &remote{f: f, server: s, share: share, preparing: make(chan struct{}, 1)})
		}
	}
	return f, nil
}

// learn notes which shares turned out to be damaged, or not to be there, when they
// were read.
func (r *repair) learn(f *File) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range f.remotes {
		err := m.killed()
		if m.advised {
			err = errCorrupt
		}
		if err != nil {
			r.bad(m.server.ID, m.share, err)
		}
	}
}

func (r *repair) bad(id string, share int, why error) {
	if r.barred[id][share] {
		return
	}
	r.good.Remove(id, share)
	r.barred.Add(id, share)
	switch {
	case errors.Is(why, errIncompatible):
		r.health.Incompatible = append(r.health.Incompatible, ShareAt{id, share})
	case isCorrupt(why):
		r.health.Corrupt = append(r.health.Corrupt, ShareAt{id, share})
	default:
		r.health.Troubles = append(r.health.Troubles, Trouble{id, share, why})
	}
}

// place asks for room for what is missing: the holders and the first 2n servers in
// permuted order take part.
func (r *repair) place(ctx context.Context, size uint64) (*placement, error) {
	// Any share that is placed is worth it: the happiness of the rest is no condition.
	p := &placement{client: r.c, needed: r.v.Needed, happy: 1, total: r.v.Total, si: r.v.Index, size: size, barred: r.barred}
	for i, s := range r.servers {
		if r.failed[s.ID] != nil || i >= 2*r.v.Total && len(r.good[s.ID]) == 0 {
			continue
		}
		t := p.add(s)
		for share := range r.good[s.ID] {
			t.held[share] = true
		}
	}
	for p.round(ctx) {
	}
	if ctx.Err() != nil {
		p.abort(ctx)
		return nil, context.Cause(ctx)
	}
	for _, t := range p.targets {
		if t.err != nil {
			r.failed[t.ID], r.last = t.err, t.err
			continue
		}
		for share := range t.held {
			if r.good[t.ID][share] {
				continue
			}
			// It came while we were looking: from somebody else who repairs.
			if r.o.Verify {
				if err := r.c.verify(ctx, r.v, t.Server, share); err != nil {
					delete(t.held, share)
					r.bad(t.ID, share, err)
					continue
				}
			}
			r.good.Add(t.ID, share)
		}
	}
	return p, nil
}

// same sees to it that the shares which were made are those of this file. A UEB
// that says more than ours do (Tahoe before 1.3) is kept as it is.
func (f *File) same(pr *proof) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	shares, ok1 := f.roots.Node(0)
	crypttext, ok2 := f.trees[crypttextTree].Node(0)
	if !ok1 || !ok2 || pr.roots.Root() != shares || pr.crypttext.Root() != crypttext {
		return fmt.Errorf("%w: the shares do not form one file: their uploader made them so, and no repair can help", ErrMalformed)
	}
	pr.ueb, pr.uebHash = f.ueb, f.cap.UEBHash
	return nil
}
