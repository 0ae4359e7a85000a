package mutable

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"warren/node/grid"
	"warren/node/storage"
	"warren/node/taghash"
)

// draft is a version about to be published.
type draft struct {
	key    *Key
	header Header
	shares []Share
	// patch, when it is not nil, is what of the base version's shares changes: it is
	// written where they stand and nowhere else. The shares have no Data then.
	patch *patch
	happy int // distinct servers that must hold it
}

func (d *draft) prefix() prefix { return d.header.prefix() }

// writes is what makes a share of the draft, and its length.
func (d *draft) writes(num int) ([]storage.WriteVector, uint64) {
	if d.patch != nil {
		return d.patch.writes(d.shares[num], num)
	}
	return d.shares[num].writes()
}

// outcome is what became of a publish.
type outcome struct {
	placed []target
	// refused lists the servers on which a test failed: somebody else wrote.
	refused []int
	failed  map[int]error
}

func (o *outcome) contested() bool { return len(o.refused) > 0 }

// candidates describes the survey's servers to plan. unusable are left alone
// (they failed, or refuse without reason); newer are versions that are newer than
// the base and not whole.
func (v *survey) candidates(newer []*version, unusable map[int]bool) []candidate {
	list := make([]candidate, len(v.servers))
	for i := range list {
		list[i].usable = v.state[i] == answered && !unusable[i]
		list[i].roomy = !v.servers[i].ReadOnly
	}
	isNewer := map[prefix]bool{}
	for _, ver := range newer {
		isNewer[ver.prefix] = true
	}
	for _, s := range v.shares {
		t := target{slot: s.slot()}
		if isNewer[s.prefix] {
			t.phase = phaseNewer
		}
		list[s.server].existing = append(list[s.server].existing, t)
	}
	for _, b := range v.bad {
		list[b.server].existing = append(list[b.server].existing, target{slot: b})
	}
	return list
}

// publish writes a draft to the targets of a plan, all shares of one server in
// one atomic operation.
//
// The order keeps racing writers from destroying what the others need. First
// goes the first server of the permuted order that holds shares of the base
// version (of our own last one, where no version is whole) and nothing newer, alone: among writers that saw the same base, one
// wins there and the others stop before they wrote anything. Then the rest.
// Last, and only when nothing was refused so far, the servers that hold shares
// of a newer version that is not whole: by then its writer, should it be alive
// after all, has met our shares and cannot have succeeded.
//
// Shares whose server failed go to other servers, as long as there are any.
func (v *survey) publish(ctx context.Context, d *draft, base *version, newer []*version, unusable map[int]bool) *outcome {
	out := &outcome{failed: map[int]error{}}
	n := len(d.shares)
	servers := v.candidates(newer, unusable)
	for first := true; ; first = false {
		goal := plan(servers, n, d.happy)
		if d.patch != nil {
			goal = slices.DeleteFunc(goal, func(t target) bool { return len(t.test.Specimen) == 0 })
		}
		goal = slices.DeleteFunc(goal, func(t target) bool {
			return slices.ContainsFunc(out.placed, func(p target) bool { return p.server == t.server && p.num == t.num })
		})
		if len(goal) == 0 {
			return out
		}
		batches := batch(goal)
		if first && base != nil {
			batches = v.lock(ctx, d, base, batches, out)
			if !base.recoverable() && len(out.placed) == 0 {
				return out // mending from memory: see recall
			}
		}
		for _, ph := range []phase{phaseBase, phaseNewer} {
			if out.contested() || ctx.Err() != nil {
				return out
			}
			v.write(ctx, d, slices.DeleteFunc(slices.Clone(batches), func(b []target) bool { return batchPhase(b) != ph }), v.store.opts.CallTimeout, out)
		}
		if out.contested() || len(out.failed) == 0 || ctx.Err() != nil || d.patch != nil {
			return out
		}
		// What was placed now counts as existing, what failed as unusable.
		for i := range servers {
			if out.failed[i] != nil {
				servers[i].usable = false
			}
			servers[i].existing = slices.DeleteFunc(out.on(i), func(t target) bool { return t.num >= n })
		}
	}
}

// maxLocks is how many servers are tried, one after the other, to go first. With
// that many failing the rest goes at once, and a clash is found by looking after.
// lockTimeout is how long each is waited for, beside what sending takes.
const (
	maxLocks    = 3
	lockTimeout = 30 * time.Second
)

// lock writes the batch that goes first, or the next when its server fails, and
// returns the others.
func (v *survey) lock(ctx context.Context, d *draft, base *version, batches [][]target, out *outcome) [][]target {
	for range maxLocks {
		if len(batches) == 0 || len(out.placed) > 0 || out.contested() {
			break
		}
		i := lockServer(batches, base)
		if i < 0 {
			if !base.recoverable() {
				break
			}
			i = 0
		}
		limit := v.store.opts.CallTimeout
		if len(batches) > 1 {
			limit = min(limit, lockTimeout)
		}
		v.write(ctx, d, batches[i:i+1], limit, out)
		batches = slices.Delete(batches, i, i+1)
	}
	return batches
}

// on lists what was placed on a server.
func (o *outcome) on(server int) []target {
	return slices.DeleteFunc(slices.Clone(o.placed), func(t target) bool { return t.server != server })
}

// batch groups targets, which are sorted by server.
func batch(goal []target) [][]target {
	var list [][]target
	for i, t := range goal {
		if i == 0 || goal[i-1].server != t.server {
			list = append(list, nil)
		}
		list[len(list)-1] = append(list[len(list)-1], t)
	}
	return list
}

func batchPhase(b []target) phase {
	ph := phaseBase
	for _, t := range b {
		ph = max(ph, t.phase)
	}
	return ph
}

// lockServer is the batch that goes first, see publish; -1 when none replaces a
// share of the base.
func lockServer(batches [][]target, base *version) int {
	second := -1
	for i, b := range batches {
		if !slices.ContainsFunc(b, func(t target) bool {
			return slices.ContainsFunc(base.shares, func(s *share) bool { return s.server == t.server && s.num == t.num })
		}) {
			continue
		}
		if batchPhase(b) == phaseBase {
			return i
		}
		if second < 0 {
			second = i
		}
	}
	return second
}

// write sends batches at once and records what became of them. Servers that are
// much later than the others are given up once the draft stands on enough of those,
// and after limit in any case.
func (v *survey) write(ctx context.Context, d *draft, batches [][]target, limit time.Duration, out *outcome) {
	ctx, cancel := context.WithTimeout(ctx, limit+d.sending(batches))
	defer cancel()
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	type result struct {
		batch []target
		wrote bool
		err   error
	}
	results := make(chan result, len(batches))
	for _, b := range batches {
		go func() { // its result is received below
			wrote, err := v.writeServer(ctx, d, b)
			results <- result{b, wrote, err}
		}()
	}
	began := time.Now()
	var late <-chan time.Time
	for left := len(batches); left > 0; {
		select {
		case r := <-results:
			left--
			server := r.batch[0].server
			switch {
			case r.err != nil:
				out.failed[server] = r.err
			case !r.wrote:
				out.refused = append(out.refused, server)
			default:
				out.placed = append(out.placed, r.batch...)
			}
			if happiness(out.placed) >= d.happy {
				late = time.After(max(laggards*v.store.opts.Patience, laggards*time.Since(began)))
			}
		case <-late:
			giveUp(grid.ErrOutpaced)
		}
	}
}

// laggards is how many times longer than the others, or than Patience, a server may
// take for a write.
const laggards = 3

// sending is how long a write may take longer than a question: 30 s for each MiB
// of the largest batch, since a share is one call, whatever its size.
func (d *draft) sending(batches [][]target) time.Duration {
	most := 0
	for _, b := range batches {
		size := 0
		for _, t := range b {
			writes, _ := d.writes(t.num)
			for _, w := range writes {
				size += len(w.Data)
			}
		}
		most = max(most, size)
	}
	return time.Duration(most) * (30 * time.Second >> 20)
}

func (v *survey) writeServer(ctx context.Context, d *draft, targets []target) (bool, error) {
	server := v.servers[targets[0].server]
	secrets, err := v.store.secrets(v.id.writeKey, v.id.index, server.LeaseSeed)
	if err != nil {
		return false, err
	}
	tw := make(map[int]storage.TestWrite, len(targets))
	for _, t := range targets {
		writes, length := d.writes(t.num)
		// Tahoe leaves the tail of a longer predecessor behind the end; we do not.
		tw[t.num] = storage.TestWrite{Test: []storage.TestVector{t.test}, Write: writes, NewLength: &length}
	}
	wrote, _, err := server.Client.ReadTestWrite(ctx, v.id.index, secrets, tw, []storage.ReadVector{{Offset: 0, Size: sdmfCheckstring}})
	if errors.Is(err, storage.ErrConflict) {
		return false, nil
	}
	return wrote, err
}

// secrets derives what authorises writes of one file on one server, and its lease.
func (s *Store) secrets(writeKey, index [16]byte, leaseSeed []byte) (storage.SlotSecrets, error) {
	if len(leaseSeed) != 20 {
		return storage.SlotSecrets{}, fmt.Errorf("mutable: a server's lease seed has %d bytes, not 20", len(leaseSeed))
	}
	return storage.SlotSecrets{
		WriteEnabler: taghash.SSKWriteEnabler(writeKey, leaseSeed),
		LeaseSecrets: storage.LeaseSecrets{
			Renew:  taghash.BucketRenewal(taghash.FileRenewal(taghash.MyRenewal(s.opts.LeaseSecret), index), leaseSeed),
			Cancel: taghash.BucketCancel(taghash.FileCancel(taghash.MyCancel(s.opts.LeaseSecret), index), leaseSeed),
		},
	}, nil
}

// holders lists the slots in which the survey found a version, together with
// those that took it and then did not answer.
func (v *survey) holders(p prefix, written []target) []target {
	var list []target
	for _, s := range v.shares {
		if s.prefix == p {
			list = append(list, target{slot: s.slot()})
		}
	}
	for _, t := range written {
		if v.state[t.server] != answered {
			list = append(list, t)
		}
	}
	return list
}
