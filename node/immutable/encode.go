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

// maxInFlight bounds the memory for segments that are between two stages.
const maxInFlight = 64 << 20

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

// encode codes the file of this shape whose crypttext next yields, and hands the n
// blocks of each segment, in order, to emit, which must be done with them when it
// returns. Next, erasure coding and hashing, and emit run side by side. It touches
// no network.
func encode(ctx context.Context, s shape, coder *erasure.Coder, next crypttext, emit func(segment int, blocks [][]byte) error) (*proof, error) {
	whole := taghash.NewCrypttext()
	segHashes := make([][32]byte, s.segments)
	blockHashes := make([][32]byte, s.n*s.segments) // share after share

	type slot struct {
		segment int
		buf     []byte   // n blocks
		blocks  [][]byte // of this segment, into buf
		coded   chan struct{}
	}
	workers := min(runtime.GOMAXPROCS(0), 8, s.segments)
	slots := min(max(maxInFlight/(s.n*s.blockSize()), 1), workers+2, s.segments)
	free := make(chan *slot, slots)
	for range slots {
		free <- &slot{buf: make([]byte, s.n*s.blockLen(0)), blocks: make([][]byte, s.n), coded: make(chan struct{}, 1)}
	}
	order := make(chan *slot, slots) // as read, for emit
	work := make(chan *slot, slots)

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(order)
		defer close(work)
		for i := range s.segments {
			var sl *slot
			select {
			case sl = <-free:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			sl.segment = i
			text := sl.buf[:s.segmentLen(i)]
			if err := next(i, text); err != nil {
				return err
			}
			segHashes[i] = whole.Segment(text)
			order <- sl // never blocks: as much room as slots
			work <- sl
		}
		return nil
	})
	for range workers {
		g.Go(func() error {
			hashes := make([][32]byte, s.n)
			for sl := range work {
				i, size := sl.segment, s.blockLen(sl.segment)
				clear(sl.buf[s.segmentLen(i) : s.k*size]) // the padding of the last segment
				for j := range sl.blocks {
					sl.blocks[j] = sl.buf[j*size : (j+1)*size]
				}
				if err := coder.EncodeInto(sl.blocks); err != nil {
					return err
				}
				taghash.BlockHashes(hashes, sl.blocks)
				for j, h := range hashes {
					blockHashes[j*s.segments+i] = h
				}
				sl.coded <- struct{}{}
			}
			return nil
		})
	}
	g.Go(func() error {
		for sl := range order {
			select {
			case <-sl.coded:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			if err := emit(sl.segment, sl.blocks); err != nil {
				return err
			}
			free <- sl
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

// tail is what follows the blocks in a share.
func (p *proof) tail(l layout, share int) []byte {
	tree := len(p.crypttext) * hashSize
	out := make([]byte, tree, 3*tree+4096) // the plaintext hash tree, unused
	for _, t := range []hashtree.Tree{p.crypttext, p.blocks[share]} {
		for i := range t {
			out = append(out, t[i][:]...)
		}
	}
	out = append(out, formatChain(p.roots, share)...)
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
