package mutable

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"warren/node/storage"
)

// fetched is a part of the inside of one share, proven, or why there is none.
type fetched struct {
	share  *share
	data   []byte // the blocks asked for, with their salts
	sealed []byte // the encrypted private key, when it was asked for
	err    error
}

// retrieve reads the segments [from, to) of a version: their blocks from k shares at
// once, those that answered first, and from another whenever one turns out damaged,
// lost or slow. Damaged shares leave the survey; when too few remain the error is
// ErrNotEnoughShares, and the caller may look for more or for another version.
// withKey also brings encrypted private keys along.
func (v *survey) retrieve(ctx context.Context, ver *version, from, to int, withKey bool) (contents []byte, sealed [][]byte, err error) {
	h := ver.header
	need := h.Needed
	if from == to {
		if !withKey {
			return []byte{}, nil, nil
		}
		need = 1 // one key is enough, there are no blocks
	}
	qctx, cancel := context.WithTimeout(ctx, v.store.opts.CallTimeout)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	waiting := v.of(ver.prefix)
	results := make(chan fetched, len(waiting))
	active := map[int]*share{} // share numbers fetched or being fetched
	data := map[int][]byte{}
	inFlight, extra := 0, 0
	ticker := time.NewTicker(v.store.opts.Patience)
	defer ticker.Stop()
	for {
		for i := 0; i < len(waiting) && len(data)+inFlight < need+extra; {
			s := waiting[i]
			if active[s.num] != nil {
				i++
				continue
			}
			waiting = slices.Delete(waiting, i, i+1)
			active[s.num] = s
			inFlight++
			wg.Add(1)
			go func() {
				defer wg.Done()
				results <- v.fetch(qctx, s, from, to, withKey)
			}()
		}
		if inFlight == 0 {
			return nil, sealed, fmt.Errorf("%w: %d of %d intact", ErrNotEnoughShares, len(data), need)
		}
		select {
		case f := <-results:
			inFlight--
			switch {
			case f.err == nil:
				data[f.share.num] = f.data
				if f.sealed != nil {
					sealed = append(sealed, f.sealed)
				}
				if len(data) < need {
					continue
				}
				for num, s := range active {
					if s != nil && data[num] == nil {
						v.demote(s)
					}
				}
				if from == to {
					return []byte{}, sealed, nil
				}
				contents, err = decode(h, v.id.readKey, from, to, data)
				return contents, sealed, err
			case errors.Is(f.err, errShare):
				active[f.share.num] = nil
				v.drop(f.share)
			default:
				active[f.share.num] = nil
				v.lose(f.share, f.err)
			}
		case <-ticker.C:
			extra++
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
}

// fetch reads what is not known yet of one share: the blocks of the segments
// [from, to), which it checks; the hash trees before the first of them.
func (v *survey) fetch(ctx context.Context, s *share, from, to int, withKey bool) fetched {
	f := fetched{share: s}
	h := s.header
	var blocks span
	parts := []span{}
	if from < to {
		blocks = span{s.data.from + h.blockAt(from), s.data.from + h.blockAt(to)}
		parts = append(parts, blocks)
	}
	if s.leaves == nil && h.DataLength > 0 {
		parts = append(parts, s.chain, s.tree)
	}
	if withKey {
		parts = append(parts, s.privateKey)
	}
	in, err := v.read(ctx, s, parts)
	if err != nil {
		f.err = err
		return f
	}
	if withKey {
		f.sealed = in(s.privateKey)
	}
	if s.leaves == nil && h.DataLength > 0 {
		if s.leaves, f.err = prove(h, s.num, parseChain(in(s.chain)), parseHashes(in(s.tree))); f.err != nil {
			return f
		}
	}
	if from < to {
		f.data = in(blocks)
		f.err = checkBlocks(h, from, f.data, s.leaves)
	}
	return f
}

// read gets parts of a share, with one question, as far as they are not in its head.
func (v *survey) read(ctx context.Context, s *share, parts []span) (func(span) []byte, error) {
	var want []span
	slices.SortFunc(parts, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	for _, p := range parts {
		if p.to <= uint64(len(s.head)) {
			continue
		}
		if n := len(want); n > 0 && p.from <= want[n-1].to {
			want[n-1].to = max(want[n-1].to, p.to) // side by side
			continue
		}
		want = append(want, p)
	}
	var got [][]byte
	if len(want) > 0 {
		vectors := make([]storage.ReadVector, len(want))
		for i, p := range want {
			vectors[i] = storage.ReadVector{Offset: p.from, Size: p.size()}
		}
		answer, err := v.servers[s.server].Client.ReadSlot(ctx, v.id.index, []int{s.num}, vectors)
		if err != nil {
			return nil, err
		}
		if got = answer[s.num]; len(got) != len(want) {
			return nil, fmt.Errorf("%w: gone", errShare)
		}
		for i, b := range got {
			if uint64(len(b)) != want[i].size() {
				return nil, fmt.Errorf("%w: cut off", errShare)
			}
		}
	}
	return func(p span) []byte {
		for i, w := range want {
			if w.from <= p.from && p.to <= w.to {
				return got[i][p.from-w.from : p.to-w.from]
			}
		}
		return s.head[p.from:p.to]
	}, nil
}

// findKey opens the file's private key from the sealed ones given, else from
// any share there is.
func (v *survey) findKey(ctx context.Context, sealed [][]byte) (*Key, error) {
	for _, b := range sealed {
		if key, err := unsealKey(v.id.writeKey, b, v.publicDR); err == nil {
			return key, nil
		}
	}
	for _, s := range v.shares {
		qctx, cancel := context.WithTimeout(ctx, v.store.opts.CallTimeout)
		in, err := v.read(qctx, s, []span{s.privateKey})
		cancel()
		if err != nil {
			continue
		}
		if key, err := unsealKey(v.id.writeKey, in(s.privateKey), v.publicDR); err == nil {
			return key, nil
		}
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return nil, fmt.Errorf("%w: none brings the file's private key", ErrNotEnoughShares)
}
