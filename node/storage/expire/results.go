package expire

import (
	"context"
	"time"

	"warren/node/storage"
)

// Tally counts shares and the bytes of their files.
type Tally struct {
	Shares uint64 `json:"shares"`
	Bytes  uint64 `json:"bytes"`
}

func (t *Tally) add(h storage.Held) {
	t.Shares++
	t.Bytes += h.Bytes
}

// Plus is the sum of two tallies.
func (t Tally) Plus(u Tally) Tally { return Tally{t.Shares + u.Shares, t.Bytes + u.Bytes} }

// Place names a share.
type Place struct {
	StorageIndex string `json:"storage_index"`
	Share        int    `json:"share"`
}

// unknown is the kind of what cannot be read.
const unknown = storage.ShareKind("unknown")

// maxNamed is how many unreadable shares are named.
const maxNamed = 100

// Results are what one round through the shares found.
type Results struct {
	Settings Settings  `json:"settings"`
	Started  time.Time `json:"started"`
	Finished time.Time `json:"finished,omitzero"` // zero: it is under way
	// Buckets is how many storage indexes have shares.
	Buckets uint64 `json:"buckets"`
	// Shares counts by verdict and kind; what is unreadable is of kind "unknown".
	Shares map[Reason]map[storage.ShareKind]Tally `json:"shares"`
	// Removed counts what has been removed, by kind.
	Removed map[storage.ShareKind]Tally `json:"removed"`
	// Unreadable names shares that could not be read, at most 100 of them.
	Unreadable []Place `json:"unreadable"`
	// Failures is how often a directory could not be read or shares not be removed.
	Failures uint64 `json:"failures"`
}

func newResults(s Settings, now time.Time) Results {
	return Results{
		Settings: s, Started: now.UTC(), Shares: map[Reason]map[storage.ShareKind]Tally{},
		Removed: map[storage.ShareKind]Tally{}, Unreadable: []Place{},
	}
}

// clone is a copy that shares nothing with the original.
func (r Results) clone() Results {
	c := r
	c.Shares = map[Reason]map[storage.ShareKind]Tally{}
	for reason, kinds := range r.Shares {
		c.Shares[reason] = map[storage.ShareKind]Tally{}
		for kind, t := range kinds {
			c.Shares[reason][kind] = t
		}
	}
	c.Removed = map[storage.ShareKind]Tally{}
	for kind, t := range r.Removed {
		c.Removed[kind] = t
	}
	c.Unreadable = append([]Place{}, r.Unreadable...)
	return c
}

// count adds a share.
func (r *Results) count(h storage.Held, reason Reason) {
	kinds := r.Shares[reason]
	if kinds == nil {
		kinds = map[storage.ShareKind]Tally{}
		r.Shares[reason] = kinds
	}
	kind := h.Kind
	if h.Err != nil {
		kind = unknown
	}
	t := kinds[kind]
	t.add(h)
	kinds[kind] = t
	if reason == Unreadable && len(r.Unreadable) < maxNamed {
		r.Unreadable = append(r.Unreadable, Place{h.Index.Text(), h.Share})
	}
}

// Sum counts the shares of a verdict, of both kinds.
func (r Results) Sum(reason Reason) Tally {
	var sum Tally
	for _, t := range r.Shares[reason] {
		sum = sum.Plus(t)
	}
	return sum
}

// Total counts all shares.
func (r Results) Total() Tally {
	var sum Tally
	for reason := range r.Shares {
		sum = sum.Plus(r.Sum(reason))
	}
	return sum
}

// Going counts the shares that go, where expiry is enabled.
func (r Results) Going() Tally {
	var sum Tally
	for reason := range r.Shares {
		if reason.Goes() {
			sum = sum.Plus(r.Sum(reason))
		}
	}
	return sum
}

// Examine goes through all shares at once and counts; it removes nothing, and may
// run beside a server. progress, if not nil, is told how many of how many parts are
// done. What cannot be listed is counted as a failure.
func Examine(ctx context.Context, shelf storage.Shelf, s Settings, now time.Time, progress func(done, of int)) (Results, error) {
	r := newResults(s, now)
	prefixes := storage.Prefixes()
	for i, prefix := range prefixes {
		indexes, err := shelf.Indexes(prefix)
		if err != nil {
			r.Failures++
		}
		for _, si := range indexes {
			if err := ctx.Err(); err != nil {
				return r, err
			}
			all, err := storage.Survey(shelf, si)
			if err != nil {
				r.Failures++
				continue
			}
			if len(all) > 0 {
				r.Buckets++
			}
			for _, h := range all {
				r.count(h, s.Judge(h, now))
			}
		}
		if progress != nil {
			progress(i+1, len(prefixes))
		}
	}
	return r, nil
}
