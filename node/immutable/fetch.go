package immutable

import (
	"cmp"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"warren/node/grid"
	"warren/node/storage"
	"warren/node/taghash"
)

// minHedge is the least time that a block is waited for before another server is
// asked too: below it, jitter alone would double the traffic.
const minHedge = 250 * time.Millisecond

// lookups is how many servers are asked at once what they hold.
const lookups = 20

// changed wakes those who wait for lookups. f.mu is held.
func (f *File) changed() {
	close(f.news)
	f.news = make(chan struct{})
}

// widen asks more servers, if there are any that have not been asked. f.mu is held.
func (f *File) widen() {
	n := min(len(f.unasked), max(lookups, f.cap.Total))
	for _, s := range f.unasked[:n] {
		if f.spawn(func() { f.lookup(s) }) {
			f.asking++
		}
	}
	f.unasked = f.unasked[n:]
}

// spawn runs work in a goroutine that Close waits for, unless the File is closed.
// f.mu is held.
func (f *File) spawn(work func()) bool {
	if f.closed {
		return false
	}
	f.wg.Go(work)
	return true
}

// lookup asks one server for the numbers of its shares.
func (f *File) lookup(s grid.Server) {
	ctx, cancel := context.WithTimeout(f.ctx, f.c.cfg.QueryTimeout)
	defer cancel()
	shares, err := s.Client.ListShares(ctx, storage.Immutable, f.si)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asking--
	if err != nil {
		f.last = err
	}
	for _, share := range slices.Compact(slices.Sorted(slices.Values(shares))) {
		if share >= 0 && share < f.cap.Total && !f.guessed(s.ID, share) {
			f.remotes = append(f.remotes, &remote{f: f, server: s, share: share, preparing: make(chan struct{}, 1)})
		}
	}
	f.changed()
}

// find waits until reading can start: k shares on k servers without demerits are
// there, or k shares and no more news for as long again as they took to come.
func (f *File) find(ctx context.Context) error {
	started := time.Now()
	var patience <-chan time.Time
	f.mu.Lock()
	f.widen()
	for {
		shares, servers := map[int]bool{}, map[string]bool{}
		for _, r := range f.remotes {
			shares[r.share] = true
			if f.c.speeds.get(r.server.ID).demerits == 0 {
				servers[r.server.ID] = true
			}
		}
		k := f.cap.Needed
		if len(shares) >= k && (len(servers) >= k || f.asking == 0) {
			break
		}
		if f.asking == 0 {
			if len(f.unasked) > 0 {
				f.widen()
				continue
			}
			err := &NotEnoughSharesError{Found: len(shares), Needed: k, Last: f.last}
			f.mu.Unlock()
			return err
		}
		if len(shares) >= k && patience == nil {
			t := time.NewTimer(max(time.Since(started), 20*time.Millisecond))
			defer t.Stop()
			patience = t.C
		}
		news := f.news
		f.mu.Unlock()
		select {
		case <-news:
		case <-patience:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		f.mu.Lock()
	}
	f.mu.Unlock()
	return nil
}

// measure finds out the file's shape: the first segment's shares are prepared,
// which reads the UEB.
func (f *File) measure(ctx context.Context) (shape, error) {
	if s, ok := f.known(); ok {
		return s, nil
	}
	from, total := f.opening()
	err := f.gather(ctx, f.cap.Needed, 1, int(total-from), func(_ context.Context, r *remote) ([]byte, error) {
		// Not the call's context: the shares that are not first will be wanted, too.
		return nil, r.prepare(f.ctx)
	}, nil)
	if err != nil {
		return shape{}, err
	}
	s, _ := f.known()
	return s, nil
}

// assemble fetches, proves, decodes and decrypts one segment.
func (f *File) assemble(ctx context.Context, segment int) ([]byte, error) {
	s, _ := f.known()
	length, size := s.segmentLen(segment), s.blockLen(segment)
	var data [][]byte
	var hash [32]byte // of the segment
	var mine lent
	var used map[int][]byte
	err := f.gather(ctx, s.k, s.k, size, func(ctx context.Context, r *remote) ([]byte, error) {
		return r.block(ctx, segment, &mine)
	}, func(blocks map[int][]byte) (bad map[int]error, err error) {
		// What is decoded from blocks that nobody has looked at yet may be anything,
		// but the hashes of both together cost little more than one of them.
		used = blocks
		if data, err = f.coder.Decode(blocks); err != nil {
			return nil, err
		}
		shares := slices.Sorted(maps.Keys(blocks))
		ordered := make([][]byte, len(shares))
		for i, share := range shares {
			ordered[i] = blocks[share]
		}
		var hashes [][32]byte
		hash, hashes = taghash.SegmentAndBlocks(length, data, ordered)
		bad = map[int]error{}
		for i, share := range shares {
			if want, ok := f.leaf(share, segment); !ok || want != hashes[i] {
				bad[share] = fmt.Errorf("%w: block %d", errCorrupt, segment)
			}
		}
		return bad, nil
	})
	if err != nil {
		return nil, err
	}
	if want, ok := f.leaf(crypttextTree, segment); !ok || want != hash {
		// Every block is what its share's root says: whoever made the shares made them
		// of different files.
		return nil, fmt.Errorf("%w: segment %d does not fit its crypttext hash", ErrMalformed, segment)
	}
	out := f.c.segments.get(s.k * size)
	defer mine.give(&f.c.blocks, used)
	if f.sealed {
		for i, b := range data {
			copy(out[i*size:], b)
		}
		return out[:length:length], nil
	}
	stream, err := keyStream(f.cap.Key, uint64(segment)*s.segmentSize)
	if err != nil {
		return nil, err
	}
	for i, b := range data {
		stream.XORKeyStream(out[i*size:], b)
	}
	return out[:length:length], nil
}

// keyStream is the AES-CTR key stream from a byte offset on.
func keyStream(key [16]byte, offset uint64) (cipher.Stream, error) {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	var counter [aes.BlockSize]byte
	binary.BigEndian.PutUint64(counter[8:], offset/aes.BlockSize)
	stream := cipher.NewCTR(block, counter[:])
	skip := make([]byte, offset%aes.BlockSize)
	stream.XORKeyStream(skip, skip)
	return stream, nil
}

// attempt is one call to one share.
type attempt struct {
	r       *remote
	started time.Time
	overdue bool
	data    []byte
	err     error
}

// gather calls get for shares with different numbers until want of them have
// succeeded, at least width at a time. Shares that fail are replaced by others at
// once, shares that are slow for size bytes are joined by others and may still
// win. Accept, if not nil, is shown what get returned for want of them, by share
// number, and says which have failed all the same; gather goes on until there are
// none, or accept returns an error.
func (f *File) gather(ctx context.Context, width, want, size int, get func(context.Context, *remote) ([]byte, error), accept func(map[int][]byte) (bad map[int]error, err error)) error {
	asked := ctx
	ctx, cancel := context.WithCancel(asked)
	defer cancel()
	defer context.AfterFunc(f.ctx, cancel)()

	results := make(chan *attempt)
	running := map[*attempt]bool{}
	tried := map[*remote]bool{}
	good := map[int]*attempt{}
	var last error
	for len(good) < want {
		switch {
		case asked.Err() != nil:
			return context.Cause(asked)
		case ctx.Err() != nil:
			return errClosed
		}
		active := map[int]bool{} // shares that are on their way in good time
		load := map[string]int{}
		for a := range running {
			load[a.r.server.ID]++
			if !a.overdue {
				active[a.r.share] = true
			}
		}
		f.mu.Lock()
		if f.closed {
			f.mu.Unlock()
			return errClosed
		}
		for len(good)+len(active) < max(width, want) {
			r := f.choose(tried, good, active, load, size)
			if r == nil {
				break
			}
			tried[r], r.used = true, true
			a := &attempt{r: r, started: time.Now()}
			f.spawn(func() {
				a.data, a.err = get(ctx, a.r)
				select {
				case results <- a:
				case <-ctx.Done():
				}
			})
			running[a] = true
			active[r.share] = true
			load[r.server.ID]++
		}
		short := len(good)+len(active) < want
		if short && f.asking == 0 && len(f.unasked) > 0 {
			f.widen()
		}
		news, asking, most := f.news, f.asking, f.longest(size)
		if last == nil {
			last = f.last
		}
		f.mu.Unlock()
		if len(running) == 0 && asking == 0 {
			return &NotEnoughSharesError{Found: len(good), Needed: f.cap.Needed, Last: last}
		}

		timer := time.NewTimer(f.patience(running, most, size))
		select {
		case a := <-results:
			delete(running, a)
			if a.err != nil {
				if !a.r.guess || !errors.Is(a.err, storage.ErrNoShare) {
					last = a.err
				}
				f.failed(ctx, a)
				break
			}
			if good[a.r.share] != nil {
				delete(tried, a.r) // another server was quicker, but what it sent may be bad
				break
			}
			good[a.r.share] = a
			if accept == nil {
				f.c.speeds.answered(a.r.server.ID)
				break
			}
			if len(good) < want {
				break
			}
			blocks := make(map[int][]byte, want)
			for share, a := range good {
				blocks[share] = a.data
			}
			bad, err := accept(blocks)
			if err != nil {
				return err
			}
			for share, a := range good {
				if a.err = bad[share]; a.err == nil {
					f.c.speeds.answered(a.r.server.ID)
					continue
				}
				last = a.err
				delete(good, share)
				f.failed(ctx, a)
			}
		case <-news:
		case <-timer.C:
			for a := range running {
				if !a.overdue && time.Since(a.started) >= f.allowance(a.r.server.ID, most, size) {
					a.overdue = true
					f.c.speeds.failed(a.r.server.ID)
				}
			}
		case <-ctx.Done():
		}
		timer.Stop()
	}
	return nil
}

// choose picks the most promising share that has not been tried. f.mu is held.
func (f *File) choose(tried map[*remote]bool, good map[int]*attempt, active map[int]bool, load map[string]int, size int) *remote {
	var best *remote
	var bestSpeed speed
	for _, r := range f.remotes {
		if tried[r] || good[r.share] != nil || active[r.share] || r.killed() != nil {
			continue
		}
		v := f.c.speeds.get(r.server.ID)
		if best == nil || cmp.Or(
			cmp.Compare(v.demerits, bestSpeed.demerits),
			cmp.Compare(load[r.server.ID], load[best.server.ID]),
			first(r.used, best.used),
			cmp.Compare(v.expect(size), bestSpeed.expect(size)),
		) < 0 {
			best, bestSpeed = r, v
		}
	}
	return best
}

// first compares two flags: what is true comes first.
func first(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// tardy is how many times as long as expected an answer may take.
const tardy = 4

// longest is how long any server may take for size bytes. When even the k quickest
// need long, it is the line that is slow: asking more servers would make it slower.
// f.mu is held.
func (f *File) longest(size int) time.Duration {
	seen := map[string]bool{}
	var known []time.Duration
	for _, r := range f.remotes {
		if seen[r.server.ID] {
			continue
		}
		seen[r.server.ID] = true
		if t := f.c.speeds.get(r.server.ID).expect(size); t > 0 {
			known = append(known, t)
		}
	}
	most := f.c.cfg.HedgeAfter
	if k := min(f.cap.Needed, len(seen)); len(known) >= k && k > 0 {
		slices.Sort(known)
		most = max(most, tardy*known[k-1])
	}
	return most
}

// allowance is how long a server may take for size bytes before it counts as slow.
func (f *File) allowance(id string, most time.Duration, size int) time.Duration {
	if t := f.c.speeds.get(id).expect(size); t > 0 {
		return min(most, max(tardy*t, minHedge))
	}
	return most
}

// patience is the time until the next of those running is overdue.
func (f *File) patience(running map[*attempt]bool, most time.Duration, size int) time.Duration {
	wait := f.c.cfg.StallTimeout
	for a := range running {
		if !a.overdue {
			wait = min(wait, f.allowance(a.r.server.ID, most, size)-time.Since(a.started))
		}
	}
	return max(wait, 0)
}

// failed notes what went wrong with a share. One that is damaged is reported to
// its server; when only a block of it is, the rest stays in use.
func (f *File) failed(ctx context.Context, a *attempt) {
	if ctx.Err() != nil {
		return
	}
	if errors.Is(a.err, storage.ErrNoShare) {
		a.r.kill(a.err)
		if a.r.guess { // nobody had said that it is there
			return
		}
	}
	f.c.speeds.failed(a.r.server.ID)
	f.mu.Lock()
	f.last = a.err
	f.mu.Unlock()
	if !isCorrupt(a.err) {
		return
	}
	reason := a.err.Error()
	f.mu.Lock()
	defer f.mu.Unlock()
	if a.r.advised { // of another block: once is enough
		return
	}
	a.r.advised = true
	f.spawn(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), courtesy) // Close waits for it
		defer cancel()
		_ = a.r.server.Client.AdviseCorrupt(ctx, storage.Immutable, f.si, a.r.share, reason)
	})
}
