package immutable

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"io"
	"runtime"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"warren/node/erasure"
	"warren/node/hashtree"
	"warren/node/taghash"
)

// plaintext is one pass over a file.
type plaintext struct {
	r io.Reader
	// sums, if not nil, holds a keyed checksum of every segment as the first pass
	// saw it. A segment that has changed since must not be encrypted: the key was
	// derived from the old content, and two plaintexts under one key stream give
	// each other away.
	sums []uint64
	seed maphash.Seed
}

// crypttext yields a file's ciphertext: it fills text with that of one segment,
// without padding. It is called for one segment after the other, by one goroutine.
type crypttext func(segment int, text []byte) error

// encrypt is the crypttext of p under key, which must have this shape.
func encrypt(s shape, key [16]byte, p plaintext) (crypttext, error) {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	stream := cipher.NewCTR(block, make([]byte, aes.BlockSize))
	return func(i int, text []byte) error {
		if _, err := io.ReadFull(p.r, text); err != nil {
			if err == io.EOF || err == io.ErrUnexpectedEOF {
				return fmt.Errorf("%w: it ends in segment %d of %d", ErrSourceChanged, i, s.segments)
			}
			return &sourceError{err}
		}
		if p.sums != nil && maphash.Bytes(p.seed, text) != p.sums[i] {
			return fmt.Errorf("%w: segment %d of %d", ErrSourceChanged, i, s.segments)
		}
		stream.XORKeyStream(text, text)
		return nil
	}, nil
}

// A sink takes the shares that encode makes, a stripe at a time: some segments in a
// row, whose blocks of one share lie side by side.
type sink interface {
	// room is n slices of size bytes, one for the blocks of each share. It may wait.
	room(ctx context.Context, size int) ([][]byte, error)
	// put takes back what room gave, filled, in the same order. Other calls of room
	// may come meanwhile.
	put(blocks [][]byte) error
}

// encode codes the file of this shape whose crypttext next yields into out, per
// segments at a time. Next, the hashes of the crypttext, erasure coding with the
// hashes of blocks, and out run side by side. It touches no network.
func encode(ctx context.Context, s shape, coder *erasure.Coder, next crypttext, per int, out sink) (*proof, error) {
	whole := taghash.NewCrypttext()
	segHashes := make([][32]byte, s.segments)
	blockHashes := make([][32]byte, s.n*s.segments) // share after share

	type stripe struct {
		blocks [][]byte      // of each share
		coded  chan struct{} // gets one for each segment
		count  int
	}
	type slot struct {
		segment int
		text    []byte
		stripe  *stripe
		offset  int          // of the segment's blocks in the stripe's
		uses    atomic.Int32 // stages that still need text
	}
	workers := min(runtime.GOMAXPROCS(0), 8, s.segments)
	slots := min(workers+1, s.segments)
	free := make(chan *slot, slots)
	for range slots {
		free <- &slot{text: make([]byte, s.segmentLen(0))}
	}
	order := make(chan *stripe, stripes+slots) // as read, for out
	hashing, coding := make(chan *slot, slots), make(chan *slot, slots)
	used := func(sl *slot) {
		if sl.uses.Add(-1) == 0 {
			free <- sl
		}
	}

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(order)
		defer close(hashing)
		defer close(coding)
		var st *stripe
		offset := 0
		for i := range s.segments {
			if i%per == 0 {
				st = &stripe{count: min(per, s.segments-i)}
				last := i + st.count - 1
				blocks, err := out.room(ctx, (st.count-1)*s.blockSize()+s.blockLen(last))
				if err != nil {
					return err
				}
				st.blocks, st.coded, offset = blocks, make(chan struct{}, st.count), 0
				select {
				case order <- st:
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
			var sl *slot
			select {
			case sl = <-free:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			sl.segment, sl.stripe, sl.offset = i, st, offset
			offset += s.blockLen(i)
			if err := next(i, sl.text[:s.segmentLen(i)]); err != nil {
				return err
			}
			sl.uses.Store(2)
			hashing <- sl // never blocks, as the next: as much room as slots
			coding <- sl
		}
		return nil
	})
	g.Go(func() error {
		for sl := range hashing {
			segHashes[sl.segment] = whole.Segment(sl.text[:s.segmentLen(sl.segment)])
			used(sl)
		}
		return nil
	})
	for range workers {
		g.Go(func() error {
			hashes, blocks := make([][32]byte, s.n), make([][]byte, s.n)
			for sl := range coding {
				i, size, st := sl.segment, s.blockLen(sl.segment), sl.stripe
				for j := range blocks {
					blocks[j] = st.blocks[j][sl.offset:][:size]
				}
				text := sl.text[:s.segmentLen(i)]
				for _, b := range blocks[:s.k] {
					n := copy(b, text)
					clear(b[n:]) // the padding of the last segment
					text = text[n:]
				}
				used(sl)
				if err := coder.EncodeInto(blocks); err != nil {
					return err
				}
				taghash.BlockHashes(hashes, blocks)
				for j, h := range hashes {
					blockHashes[j*s.segments+i] = h
				}
				st.coded <- struct{}{}
			}
			return nil
		})
	}
	g.Go(func() error {
		for st := range order {
			for range st.count {
				select {
				case <-st.coded:
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
			if err := out.put(st.blocks); err != nil {
				return err
			}
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return prove(s, whole.Sum(), segHashes, blockHashes), nil
}

// proof is everything in the shares of one file that is not blocks.
type proof struct {
	crypttext hashtree.Tree
	blocks    []hashtree.Tree // of each share
	roots     hashtree.Tree   // the share hash tree
	ueb       []byte
	uebHash   [32]byte
}

func prove(s shape, whole [32]byte, segHashes, blockHashes [][32]byte) *proof {
	p := &proof{crypttext: hashtree.Build(segHashes), blocks: make([]hashtree.Tree, s.n)}
	roots := make([][32]byte, s.n)
	for i := range roots {
		p.blocks[i] = hashtree.Build(blockHashes[i*s.segments : (i+1)*s.segments])
		roots[i] = p.blocks[i].Root()
	}
	p.roots = hashtree.Build(roots)
	u := newUEB(s)
	u.CrypttextHash, u.CrypttextRoot, u.ShareRoot = whole, p.crypttext.Root(), p.roots.Root()
	p.ueb = u.Format()
	p.uebHash = taghash.UEBHash(p.ueb)
	return p
}

// fill fills dst with what follows the blocks in a share, from at bytes behind them
// on.
func (p *proof) fill(l layout, share, at int, dst []byte) {
	size := len(p.crypttext) * hashSize
	for len(dst) > 0 {
		n := 0
		switch in := at % size; at / size {
		case 0: // the plaintext hash tree, unused
			n = min(size-in, len(dst))
			clear(dst[:n])
		case 1:
			n = copy(dst, p.crypttext[in/hashSize][in%hashSize:])
		case 2:
			n = copy(dst, p.blocks[share][in/hashSize][in%hashSize:])
		default:
			if n = copy(dst, p.ends(l, share)[at-3*size:]); n == 0 {
				return
			}
		}
		at, dst = at+n, dst[n:]
	}
}

// ends is what follows the hash trees in a share.
func (p *proof) ends(l layout, share int) []byte {
	out := formatChain(p.roots, share)
	if l.version == 1 {
		out = binary.BigEndian.AppendUint32(out, uint32(len(p.ueb)))
	} else {
		out = binary.BigEndian.AppendUint64(out, uint64(len(p.ueb)))
	}
	return append(out, p.ueb...)
}

// shareSize is the length of a whole share. The UEB's length does not depend on
// its hashes, so it is known before they are.
func shareSize(s shape, l layout) uint64 {
	return l.ueb + l.fieldSize() + uint64(len(newUEB(s).Format()))
}

// sourceError marks a failure to read what is to be uploaded, which no other
// server can help.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return "immutable: reading the source: " + e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }
