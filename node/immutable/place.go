package immutable

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"warren/node/caps"
	"warren/node/grid"
	"warren/node/storage"
	"warren/node/taghash"
)

// errRefused is a server that had no room for a share it was offered.
var errRefused = errors.New("immutable: the server took no share")

// target is one server during one upload.
type target struct {
	grid.Server
	lease     storage.LeaseSecrets
	upload    storage.Secret
	held      map[int]bool // complete shares it says it has
	allocated map[int]bool // shares it lets us write, or, with err, may have reserved
	readonly  bool
	err       error // what ended its part, or nil
}

// placement is who holds and who takes which share of one file.
type placement struct {
	client *Client
	// The file's encoding, and how many servers make it happy: Config's in an upload.
	needed, happy, total int

	si      caps.StorageIndex
	size    uint64 // of a share
	targets []*target
	asked   int   // servers that answered
	last    error // of those left out from the start
	// barred are shares that are there and damaged: they do not count, and nothing
	// can be written in their place. Only a repair knows of any.
	barred grid.Holdings
	// keep: another try can go on with what is half written, so it stays when this
	// one is broken off.
	keep bool
}

// place asks servers what they hold of si and finds a home for every share that
// lacks one, as Tahoe does: the first 2n servers in permuted order take part, and
// whoever fails or refuses is left out of the next round. Unlike Tahoe it asks for
// room at once, since most files are new. Servers in avoid failed before. Keep is
// the placement's.
func (c *Client) place(ctx context.Context, si caps.StorageIndex, size uint64, avoid map[string]error, keep bool) (*placement, error) {
	p := &placement{client: c, needed: c.cfg.Needed, happy: c.cfg.Happy, total: c.cfg.Total, si: si, size: size, keep: keep}
	for _, s := range c.cfg.Servers.Permuted(si) {
		if len(p.targets) == 2*p.total {
			break
		}
		if err := avoid[s.ID]; err != nil {
			p.last = err
			continue
		}
		p.add(s)
	}
	if !p.allNew(ctx) {
		for p.round(ctx) {
		}
	}
	if err := p.placed(ctx); err != nil {
		return nil, err
	}
	return p, nil
}

// replace finds other homes for the shares of the servers in avoid, which failed
// while shares were written. What the others hold, whole or in part, stays theirs.
func (p *placement) replace(ctx context.Context, avoid map[string]error) error {
	known := map[string]bool{}
	working := 0
	for _, t := range p.targets {
		known[t.ID] = true
		if t.err == nil {
			t.err = avoid[t.ID]
		}
		if t.err == nil {
			working++
		}
	}
	var more []*target
	for _, s := range p.client.cfg.Servers.Permuted(p.si) {
		if !known[s.ID] && working < 2*p.total {
			more = append(more, p.add(s))
			working++
		}
	}
	p.each(more, func(t *target) { p.query(ctx, t) })
	var holders []*target
	for _, t := range more {
		if t.err == nil {
			p.asked++
		}
		if len(t.held) > 0 {
			holders = append(holders, t)
		}
	}
	p.renew(ctx, holders)
	for p.round(ctx) {
	}
	return p.placed(ctx)
}

// placed is the error of a placement with which there is nothing to do. Then what
// was reserved is given back, unless it may be gone on with.
func (p *placement) placed(ctx context.Context) error {
	if ctx.Err() != nil {
		p.stop(ctx)
		return context.Cause(ctx)
	}
	err := p.unhappy(p.holdings())
	if err != nil {
		p.abort(ctx)
	}
	return err
}

// add has s take part.
func (p *placement) add(s grid.Server) *target {
	t := &target{Server: s, readonly: s.ReadOnly, held: map[int]bool{}, allocated: map[int]bool{}}
	t.lease = p.client.lease(p.si, s.LeaseSeed)
	t.upload = p.client.uploadSecret(p.si, s.LeaseSeed)
	p.targets = append(p.targets, t)
	return t
}

// allNew asks for room as if nobody held a share, and those who get none what they
// hold. It reports whether that was all. If some do hold shares, it was the wrong
// question: what was reserved in vain is given back, and the right one is asked.
func (p *placement) allNew(ctx context.Context) bool {
	wanted := p.wanted()
	p.each(p.targets, func(t *target) {
		if shares := wanted[t.ID]; len(shares) > 0 {
			p.allocate(ctx, t, shares)
		} else {
			p.query(ctx, t)
		}
	})
	all, known := true, false
	var renew []*target
	for _, t := range p.targets {
		if t.err == nil {
			p.asked++
		}
		for _, share := range wanted[t.ID] {
			all = all && t.allocated[share] && t.err == nil
		}
		known = known || len(t.held) > 0
		if len(t.held) > 0 && len(wanted[t.ID]) == 0 {
			renew = append(renew, t) // those who were asked for room have renewed
		}
	}
	if !known {
		return all
	}
	var both sync.WaitGroup
	both.Go(func() { p.renew(ctx, renew) })
	defer both.Wait()
	reserved := map[*target]map[int]bool{}
	for _, t := range p.targets {
		reserved[t], t.allocated = t.allocated, map[int]bool{}
	}
	wanted = p.wanted()
	p.each(p.targets, func(t *target) {
		var ask []int
		for _, share := range wanted[t.ID] {
			if reserved[t][share] {
				t.allocated[share] = true // it may hold a part of it already
				delete(reserved[t], share)
			} else {
				ask = append(ask, share)
			}
		}
		p.drop(ctx, t, reserved[t])
		if len(ask) > 0 {
			p.allocate(ctx, t, ask)
		}
	})
	for _, t := range p.targets {
		if len(wanted[t.ID]) > 0 && (t.err != nil || t.readonly) {
			return false
		}
	}
	return true
}

// uploadSecret is what proves to a server that an upload of si is ours. One secret
// a server: what one of them learns is of no use against another. And the same one
// at every try: a process that died in an upload would find its shares locked by
// itself until the servers' timeout, half an hour, with a fresh one.
func (c *Client) uploadSecret(si caps.StorageIndex, leaseSeed []byte) storage.Secret {
	return taghash.TaggedPair("warren_upload_secret_v1", c.cfg.LeaseSecret, slices.Concat(si[:], leaseSeed))
}

// each calls f for every target at the same time and waits.
func (p *placement) each(targets []*target, f func(*target)) {
	var wg sync.WaitGroup
	for _, t := range targets {
		wg.Go(func() { f(t) })
	}
	wg.Wait()
}

// query notes what t holds.
func (p *placement) query(ctx context.Context, t *target) {
	limited, cancel := context.WithTimeout(ctx, p.client.cfg.QueryTimeout)
	defer cancel()
	shares, err := t.Client.ListShares(limited, storage.Immutable, p.si)
	p.client.speeds.heard(ctx, t.ID, err)
	if err != nil {
		t.err = err
		return
	}
	for _, share := range shares {
		if share >= 0 && share < p.total {
			t.held[share] = true
		}
	}
}

// renew puts our lease on shares that are there already. That it fails is no
// reason to fail the upload: upkeep will try again.
func (p *placement) renew(ctx context.Context, holders []*target) {
	p.each(holders, func(t *target) {
		ctx, cancel := context.WithTimeout(ctx, p.client.cfg.QueryTimeout)
		defer cancel()
		_ = t.Client.AddLease(ctx, p.si, t.lease)
	})
}

// wanted is who should take which shares beside those that stand, or will.
func (p *placement) wanted() map[string][]int {
	var writable, readonly []string
	for _, t := range p.targets {
		switch {
		case t.err != nil:
		case t.readonly:
			readonly = append(readonly, t.ID)
		default:
			writable = append(writable, t.ID)
		}
	}
	wanted := map[string][]int{}
	held := p.holdings()
	for share, id := range grid.PlaceExcept(writable, readonly, p.total, held, p.barred) {
		if !held[id][share] {
			wanted[id] = append(wanted[id], share)
		}
	}
	return wanted
}

// round places the shares and asks for room. It reports whether somebody dropped
// out and another round may help.
func (p *placement) round(ctx context.Context) bool {
	wanted := p.wanted()
	var ask []*target
	for _, t := range p.targets {
		if t.err == nil && len(wanted[t.ID]) > 0 {
			ask = append(ask, t)
		}
	}
	p.each(ask, func(t *target) { p.allocate(ctx, t, wanted[t.ID]) })
	for _, t := range ask {
		if t.err != nil || t.readonly {
			return ctx.Err() == nil
		}
	}
	return false
}

// allocate asks t to take shares. A server that takes less than all is asked for
// nothing more.
func (p *placement) allocate(ctx context.Context, t *target, shares []int) {
	limited, cancel := context.WithTimeout(ctx, p.client.cfg.QueryTimeout)
	defer cancel()
	asked := make(map[int]bool, len(shares))
	for _, share := range shares {
		asked[share] = true
	}
	err := p.request(limited, t, asked)
	if err == nil && len(asked) > 0 && p.takeUp(limited, t, asked) && len(asked) > 0 {
		err = p.request(limited, t, asked)
	}
	p.client.speeds.heard(ctx, t.ID, err)
	switch {
	case errors.Is(err, storage.ErrNoSpace), errors.Is(err, storage.ErrReadOnlyServer), err == nil && len(asked) > 0:
		t.readonly = true
	case err != nil:
		t.err = err
		for share := range asked { // perhaps it did, and only the answer was lost
			t.allocated[share] = true
		}
	}
}

// request asks t for the shares asked and takes out of asked what it has or takes.
func (p *placement) request(ctx context.Context, t *target, asked map[int]bool) error {
	already, allocated, err := t.Client.CreateImmutable(ctx, p.si, t.upload, t.lease, slices.Sorted(maps.Keys(asked)), p.size)
	for _, share := range already { // all that it holds, asked for or not
		if share >= 0 && share < p.total && !p.barred[t.ID][share] {
			t.held[share] = true
			delete(asked, share)
		}
	}
	for _, share := range allocated {
		if asked[share] {
			t.allocated[share] = true
			delete(asked, share)
		}
	}
	return err
}

// takeUp goes on with what an earlier try of ours, which broke off, left half
// written of the shares asked. What cannot be gone on with is dropped; whether there
// was any, so that asking again helps. Our server lists all of it as allocated, and
// nobody comes here; Tahoe's counts it as being written by somebody.
func (p *placement) takeUp(ctx context.Context, t *target, asked map[int]bool) bool {
	dropped := false
	for share := range asked {
		// Every share begins with a zero byte.
		missing, err := storage.Write(ctx, t.Client, p.si, share, t.upload, 0, []byte{0})
		switch {
		case errors.Is(err, storage.ErrNoShare), errors.Is(err, storage.ErrUnauthorized):
			continue // it is full, or the upload is somebody else's
		case err == nil && len(missing) > 0 && missing[len(missing)-1].End == p.size:
			t.allocated[share] = true
			delete(asked, share)
		case t.Client.AbortImmutable(ctx, p.si, share, t.upload) == nil:
			dropped = true
		}
	}
	return dropped
}

// holdings is what stands or, if all goes well, will stand.
func (p *placement) holdings() grid.Holdings {
	h := grid.Holdings{}
	for _, t := range p.targets {
		if t.err != nil {
			continue
		}
		for share := range t.held {
			h.Add(t.ID, share)
		}
		for share := range t.allocated {
			h.Add(t.ID, share)
		}
	}
	return h
}

// unhappy is the error for these holdings, or nil if they suffice.
func (p *placement) unhappy(h grid.Holdings) error {
	got := grid.Happiness(h)
	if got >= p.happy {
		return nil
	}
	e := &UnhappyError{Happy: p.happy, Got: got, Servers: p.asked, Needed: p.needed, Total: p.total, Last: p.last}
	for _, t := range p.targets {
		switch {
		case t.err != nil:
			e.Last = t.err
		case t.readonly && !t.ReadOnly && e.Last == nil:
			e.Last = errRefused
		}
	}
	return e
}

// stop ends a placement whose upload was broken off.
func (p *placement) stop(ctx context.Context) {
	if !p.keep {
		p.abort(ctx)
	}
}

// abort drops every share that is not complete. It works when ctx is over, too:
// otherwise servers keep the room reserved until they time out. Who has just failed to
// answer is not waited for as long again.
func (p *placement) abort(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	p.each(p.targets, func(t *target) {
		limit := p.client.cfg.QueryTimeout
		if t.err != nil {
			limit = min(limit, courtesy)
		}
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		p.drop(ctx, t, t.allocated)
	})
}

func (p *placement) drop(ctx context.Context, t *target, shares map[int]bool) {
	for share := range shares {
		_ = t.Client.AbortImmutable(ctx, p.si, share, t.upload)
	}
}
