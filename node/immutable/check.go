package immutable

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"warren/node/caps"
	"warren/node/grid"
	"warren/node/storage"
	"warren/node/taghash"
)

// CheckOptions says how thorough a check is.
type CheckOptions struct {
	// Verify reads every share and proves every byte of it; otherwise servers are
	// believed when they say which shares they hold.
	Verify bool
	// AddLease adds our lease to, or renews it on, the shares of every server that
	// holds any.
	AddLease bool
}

// ShareAt is one share on one server.
type ShareAt struct {
	Server string // grid.Server.ID
	Share  int
}

// Trouble is what a check could not find out or do.
type Trouble struct {
	Server string
	Share  int // -1: it is about the server
	Err    error
}

func (t Trouble) String() string {
	if t.Share < 0 {
		return fmt.Sprintf("server %s: %v", t.Server, t.Err)
	}
	return fmt.Sprintf("server %s, share %d: %v", t.Server, t.Share, t.Err)
}

// Health is what a check found of one file, as Tahoe-LAFS counts it.
type Health struct {
	Index         caps.StorageIndex
	Needed, Total int
	// Summary is Tahoe's sentence about it.
	Summary string
	// Shares names the servers that hold each good share, in the order of their IDs.
	Shares map[int][]string
	// Corrupt shares do not hold what the capability says, Incompatible ones are of a
	// version that we do not know. Neither count as Shares.
	Corrupt, Incompatible []ShareAt
	// Responding are the servers that said what they hold, in the order of their IDs.
	Responding []string
	// Troubles are servers that did not say, and shares that could not be read to
	// their end. Leases are servers that hold shares and did not take our lease.
	Troubles, Leases []Trouble
}

// Healthy reports whether every share is good somewhere. Corrupt ones beside them
// do no harm.
func (h *Health) Healthy() bool { return len(h.Shares) == h.Total }

// Recoverable reports whether the good shares are enough to read the file.
func (h *Health) Recoverable() bool { return len(h.Shares) >= h.Needed }

// Hosts is the number of servers with good shares.
func (h *Health) Hosts() int { return len(h.holdings()) }

// Happiness is the servers of happiness of the good shares.
func (h *Health) Happiness() int { return grid.Happiness(h.holdings()) }

func (h *Health) holdings() grid.Holdings {
	held := grid.Holdings{}
	for share, servers := range h.Shares {
		for _, id := range servers {
			held.Add(id, share)
		}
	}
	return held
}

// set replaces the good shares.
func (h *Health) set(held grid.Holdings) {
	h.Shares = map[int][]string{}
	for id, shares := range held {
		for share := range shares {
			h.Shares[share] = append(h.Shares[share], id)
		}
	}
	for _, ids := range h.Shares {
		slices.Sort(ids)
	}
}

// Verifier is the capability that a file is checked and repaired by: that of a CHK
// file or immutable directory, from whichever of its capabilities. literal says
// that there is nothing to check: the capability holds the file.
func Verifier(cp caps.Cap) (v caps.CHKVerify, literal bool, err error) {
	switch f := caps.File(cp).(type) {
	case caps.LIT:
		return v, true, nil
	case caps.CHK:
		v = f.Verify()
	case caps.CHKVerify:
		v = f
	default:
		return v, false, fmt.Errorf("immutable: a %s capability names no immutable file", cp.Kind())
	}
	// The shape that is guessed here checks k, n and size, too.
	_, err = newShape(v.Needed, v.Total, v.Size, uint64(max(v.Needed, 1))<<16)
	return v, false, err
}

// Check finds out which connected servers hold which shares of a CHK file or
// immutable directory; its readcap is not needed, its verifycap will do. For a
// literal, which is always healthy, the answer is nil.
//
// A server that fails is no error but shows in Health; the only errors are ctx's
// and those of a capability that cannot be checked. Check changes nothing but
// leases; servers are told of shares that are corrupt.
func (c *Client) Check(ctx context.Context, cp caps.Cap, o CheckOptions) (*Health, error) {
	v, literal, err := Verifier(cp)
	if err != nil || literal {
		return nil, err
	}
	return c.check(ctx, v, c.cfg.Servers.Permuted(v.Index), o)
}

// checked is what one server has to say.
type checked struct {
	responded             bool
	good                  []int
	corrupt, incompatible []int
	troubles              []Trouble
	lease                 error
}

// verifying is how many shares are read at the same time, each from another server,
// with a piece of at most maxPiece in memory.
const verifying = 16

func (c *Client) check(ctx context.Context, v caps.CHKVerify, servers []grid.Server, o CheckOptions) (*Health, error) {
	answers := make([]checked, len(servers))
	room := make(chan struct{}, verifying)
	var wg sync.WaitGroup
	for i, s := range servers {
		wg.Go(func() { answers[i] = c.ask(ctx, v, s, o, room) })
	}
	wg.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}

	h := &Health{Index: v.Index, Needed: v.Needed, Total: v.Total}
	held := grid.Holdings{}
	for i, a := range answers {
		id := servers[i].ID
		if a.responded {
			h.Responding = append(h.Responding, id)
		}
		for _, share := range a.good {
			held.Add(id, share)
		}
		for _, share := range a.corrupt {
			h.Corrupt = append(h.Corrupt, ShareAt{id, share})
		}
		for _, share := range a.incompatible {
			h.Incompatible = append(h.Incompatible, ShareAt{id, share})
		}
		h.Troubles = append(h.Troubles, a.troubles...)
		if a.lease != nil {
			h.Leases = append(h.Leases, Trouble{id, -1, a.lease})
		}
	}
	slices.Sort(h.Responding)
	h.set(held)
	h.Summary = "Healthy"
	if !h.Healthy() {
		h.Summary = fmt.Sprintf("Not Healthy: %d shares (enc %d-of-%d)", len(h.Shares), h.Needed, h.Total)
	}
	return h, nil
}

// ask checks one server.
func (c *Client) ask(ctx context.Context, v caps.CHKVerify, s grid.Server, o CheckOptions, room chan struct{}) (a checked) {
	short, cancel := context.WithTimeout(ctx, c.cfg.QueryTimeout)
	defer cancel()
	listed, err := s.Client.ListShares(short, storage.Immutable, v.Index)
	if err != nil {
		a.troubles = []Trouble{{s.ID, -1, err}}
		return a
	}
	a.responded = true
	if o.AddLease && len(listed) > 0 {
		short, cancel := context.WithTimeout(ctx, c.cfg.QueryTimeout)
		defer cancel()
		a.lease = s.Client.AddLease(short, v.Index, c.lease(v.Index, s.LeaseSeed))
	}
	for _, share := range slices.Compact(slices.Sorted(slices.Values(listed))) {
		if share < 0 || share >= v.Total {
			continue // there is no such share of this file
		}
		if !o.Verify {
			a.good = append(a.good, share)
			continue
		}
		select {
		case room <- struct{}{}:
		case <-ctx.Done():
			return a
		}
		err := c.verify(ctx, v, s, share)
		<-room
		switch {
		case err == nil:
			a.good = append(a.good, share)
		case errors.Is(err, errIncompatible):
			a.incompatible = append(a.incompatible, share)
		case isCorrupt(err):
			a.corrupt = append(a.corrupt, share)
			c.advise(ctx, s, v.Index, share, err)
		default:
			a.troubles = append(a.troubles, Trouble{s.ID, share, err})
		}
	}
	return a
}

// advise tells a server of a share of its that is corrupt.
func (c *Client) advise(ctx context.Context, s grid.Server, si caps.StorageIndex, share int, why error) {
	ctx, cancel := context.WithTimeout(ctx, min(courtesy, c.cfg.QueryTimeout))
	defer cancel()
	_ = s.Client.AdviseCorrupt(ctx, storage.Immutable, si, share, why.Error())
}

// lease gives the secrets of our lease on a file at the server with this lease seed.
func (c *Client) lease(si caps.StorageIndex, seed []byte) storage.LeaseSecrets {
	renew := taghash.FileRenewal(taghash.MyRenewal(c.cfg.LeaseSecret), si)
	cancel := taghash.FileCancel(taghash.MyCancel(c.cfg.LeaseSecret), si)
	return storage.LeaseSecrets{Renew: taghash.BucketRenewal(renew, seed), Cancel: taghash.BucketCancel(cancel, seed)}
}

// missing counts the shares of which there is no good one.
func (h *Health) missing() int { return h.Total - len(h.Shares) }

// clone is a copy whose lists may be changed.
func (h *Health) clone() *Health {
	out := *h
	out.Shares = maps.Clone(h.Shares)
	out.Corrupt, out.Incompatible = slices.Clone(h.Corrupt), slices.Clone(h.Incompatible)
	out.Responding = slices.Clone(h.Responding)
	out.Troubles, out.Leases = slices.Clone(h.Troubles), slices.Clone(h.Leases)
	return &out
}
