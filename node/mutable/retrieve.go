package mutable

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"warren/node/storage"
)

// fetched is the inside of one share, proven, or why there is none.
type fetched struct {
	share  *share
	block  []byte
	sealed []byte // the encrypted private key, when it was asked for
	err    error
}

// retrieve reads a version's contents: k blocks at once from the shares that
// answered first, another whenever one turns out damaged, lost or slow. Damaged
// shares leave the survey; when too few remain the error is ErrNotEnoughShares,
// and the caller may look for more or for another version. withKey also brings
// encrypted private keys along.
func (v *survey) retrieve(ctx context.Context, ver *version, readKey [16]byte, withKey bool) (contents []byte, sealed [][]byte, err error) {
	h := ver.header
	if h.DataLength == 0 && !withKey {
		return []byte{}, nil, nil
	}
	need := h.Needed
	if h.DataLength == 0 {
		need = 1 // one key is enough, there are no blocks
	}
	qctx, cancel := context.WithTimeout(ctx, v.store.opts.CallTimeout)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	results := make(chan fetched, len(ver.shares))
	waiting := slices.Clone(ver.shares)
	active := map[int]bool{} // share numbers fetched or being fetched
	blocks := map[int][]byte{}
	inFlight, extra := 0, 0
	ticker := time.NewTicker(v.store.opts.Patience)
	defer ticker.Stop()
	for {
		for i := 0; i < len(waiting) && len(blocks)+inFlight < need+extra; {
			s := waiting[i]
			if active[s.num] {
				i++
				continue
			}
			waiting = slices.Delete(waiting, i, i+1)
			active[s.num] = true
			inFlight++
			wg.Add(1)
			go func() {
				defer wg.Done()
				results <- v.fetch(qctx, s, withKey)
			}()
		}
		if inFlight == 0 {
			return nil, sealed, fmt.Errorf("%w: %d of %d intact", ErrNotEnoughShares, len(blocks), need)
		}
		select {
		case f := <-results:
			inFlight--
			switch {
			case f.err == nil:
				blocks[f.share.num] = f.block
				if f.sealed != nil {
					sealed = append(sealed, f.sealed)
				}
				if len(blocks) >= need {
					contents, err = decode(h, readKey, blocks)
					return contents, sealed, err
				}
			case errors.Is(f.err, errShare):
				active[f.share.num] = false
				v.drop(f.share)
			default:
				active[f.share.num] = false
				v.lose(f.share, f.err)
			}
		case <-ticker.C:
			extra++
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
}

// fetch reads what the survey did not bring of one share and proves its block.
func (v *survey) fetch(ctx context.Context, s *share, withKey bool) fetched {
	f := fetched{share: s}
	from := s.chain // chain, tree and block lie side by side
	want := []storage.ReadVector{}
	have := uint64(len(s.head))
	if have < s.privateKey {
		want = append(want, storage.ReadVector{Offset: from, Size: s.privateKey - from})
	}
	if withKey && have < s.end {
		want = append(want, storage.ReadVector{Offset: s.privateKey, Size: s.end - s.privateKey})
	}
	var got [][]byte
	if len(want) > 0 {
		answer, err := v.servers[s.server].Client.ReadSlot(ctx, v.index, []int{s.num}, want)
		if err != nil {
			f.err = err
			return f
		}
		if got = answer[s.num]; len(got) != len(want) {
			f.err = fmt.Errorf("%w: gone", errShare)
			return f
		}
		for i, b := range got {
			if uint64(len(b)) != want[i].Size {
				f.err = fmt.Errorf("%w: cut off", errShare)
				return f
			}
		}
	}
	if withKey {
		if have < s.end {
			f.sealed = got[len(got)-1]
		} else {
			f.sealed = s.head[s.privateKey:s.end]
		}
	}
	inner := s.head[min(from, have):min(s.privateKey, have)]
	if have < s.privateKey {
		inner = got[0]
	}
	f.block = inner[s.data-from : s.privateKey-from]
	if s.header.DataLength > 0 {
		f.err = checkBlock(s.header, s.num, parseChain(inner[:s.blocks-from]), parseHashes(inner[s.blocks-from:s.data-from]), f.block)
	}
	return f
}

// findKey opens the file's private key from the sealed ones given, else from
// any share there is.
func (v *survey) findKey(ctx context.Context, writeKey [16]byte, sealed [][]byte) (*Key, error) {
	for _, b := range sealed {
		if key, err := unsealKey(writeKey, b, v.publicDR); err == nil {
			return key, nil
		}
	}
	for _, s := range v.shares {
		var b []byte
		if uint64(len(s.head)) >= s.end {
			b = s.head[s.privateKey:s.end]
		} else {
			qctx, cancel := context.WithTimeout(ctx, v.store.opts.CallTimeout)
			got, err := v.servers[s.server].Client.ReadSlot(qctx, v.index, []int{s.num}, []storage.ReadVector{{Offset: s.privateKey, Size: s.end - s.privateKey}})
			cancel()
			if err != nil || len(got[s.num]) != 1 {
				continue
			}
			b = got[s.num][0]
		}
		if key, err := unsealKey(writeKey, b, v.publicDR); err == nil {
			return key, nil
		}
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return nil, fmt.Errorf("%w: none brings the file's private key", ErrNotEnoughShares)
}
