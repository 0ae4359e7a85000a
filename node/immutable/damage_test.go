package immutable

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"warren/node/caps"
)

// One bit in every field of a share, in every position that matters, with no
// other share to fall back to: it is noticed, or the field is one that nobody
// reads and the data is right.
func TestEveryDamageIsNoticed(t *testing.T) {
	g := newGrid(t, 1)
	c := newClient(t, g, 1, 1, 1, func(cfg *Config) { cfg.SegmentSize = 256 })
	data := pattern(1200) // five segments, so trees of eight leaves
	chk := mustUpload(t, c, data).Cap.(caps.CHK)
	share := g.shares(t, chk.StorageIndex())[0]
	s, err := newShape(1, 1, 1200, 256)
	if err != nil {
		t.Fatal(err)
	}
	l := newLayout(s)
	unread := func(at uint64) bool {
		switch {
		case at >= 4 && at < 12, at >= 16 && at < 20: // block size, data size, unused offset
			return true
		case at >= l.blocks+1200 && at < l.crypttext: // plaintext hash tree
			return true
		case at >= l.crypttext && at < l.blockHashes: // inner nodes are computed
			return at-l.crypttext < 7*hashSize
		case at >= l.blockHashes && at < l.chain:
			return at-l.blockHashes < 7*hashSize
		}
		return false
	}
	noticed := 0
	for at := range uint64(len(share)) {
		bit := byte(1) << (at % 8)
		node := g.nodes[0]
		node.set(func(n *fakeNode) {
			n.advised = nil
			n.lie = func(_ int, off uint64, b []byte) []byte {
				if at >= off && at-off < uint64(len(b)) {
					b = bytes.Clone(b)
					b[at-off] ^= bit
				}
				return b
			}
		})
		got, err := download(t, c, chk)
		if !bytes.HasPrefix(data, got) {
			t.Fatalf("byte %d damaged: wrong data was returned", at)
		}
		if err == nil {
			// Hashes of padding and of the other leaves are not needed for every proof.
			if unread(at) || at >= l.crypttext && at < l.chain {
				continue
			}
			t.Fatalf("byte %d damaged, nobody noticed", at)
		}
		noticed++
		if !errors.Is(err, ErrNotEnoughShares) || !errors.Is(err, errCorrupt) && !errors.Is(err, ErrMalformed) {
			t.Fatalf("byte %d: %v", at, err)
		}
		if len(node.advised) == 0 {
			t.Fatalf("byte %d: the server was not told", at)
		}
	}
	if noticed < 1200+32*10 {
		t.Errorf("only %d damages were noticed", noticed)
	}
}

func TestDamagedSharesAreReplaced(t *testing.T) {
	g := newGrid(t, 6)
	c := newClient(t, g, 3, 6, 6, func(cfg *Config) { cfg.SegmentSize = 4096 })
	data := pattern(50000)
	chk := mustUpload(t, c, data).Cap.(caps.CHK)
	rng := rand.New(rand.NewPCG(7, 8))
	for range 200 {
		for _, i := range rng.Perm(6)[:3] {
			at, bit := uint64(rng.IntN(20000)), byte(1)<<rng.IntN(8)
			g.nodes[i].set(func(n *fakeNode) {
				n.lie = func(_ int, off uint64, b []byte) []byte {
					if at >= off && at-off < uint64(len(b)) {
						b = bytes.Clone(b)
						b[at-off] ^= bit
					}
					return b
				}
			})
		}
		mustDownload(t, c, chk, data)
		for _, n := range g.nodes {
			n.set(func(n *fakeNode) { n.lie = nil })
		}
	}
}

// However many blocks are wrong, a server hears once of each share.
func TestAdvisoriesAreFew(t *testing.T) {
	g := newGrid(t, 3)
	c := newClient(t, g, 2, 3, 3, func(cfg *Config) { cfg.SegmentSize = 4096 })
	data := pattern(1 << 20)
	chk := mustUpload(t, c, data).Cap.(caps.CHK)
	s, err := newShape(2, 3, 1<<20, 4096)
	if err != nil {
		t.Fatal(err)
	}
	l := newLayout(s)
	for _, n := range g.nodes[:2] {
		n.lie = func(_ int, off uint64, b []byte) []byte {
			if off >= l.blocks && off < l.blocks+512<<10 && len(b) <= 2048 {
				b = make([]byte, len(b))
			}
			return b
		}
	}
	f, err := c.Open(t.Context(), chk)
	if err != nil {
		t.Fatal(err)
	}
	for at := range int64(20) {
		if _, err := f.ReadAt(t.Context(), make([]byte, 10), at*4096); !errors.Is(err, ErrNotEnoughShares) {
			t.Fatalf("segment %d: %v", at, err)
		}
	}
	f.Close()
	for _, n := range g.nodes[:2] {
		if len(n.advised) != 1 {
			t.Errorf("%s: %d advisories", n.id, len(n.advised))
		}
	}
}

func TestLyingServers(t *testing.T) {
	for name, lie := range map[string]func(share int, offset uint64, data []byte) []byte{
		"nothing":   func(int, uint64, []byte) []byte { return nil },
		"too short": func(_ int, _ uint64, b []byte) []byte { return b[:len(b)/2] },
		"too much":  func(_ int, _ uint64, b []byte) []byte { return append(b, make([]byte, 1<<20)...) },
		"zeros":     func(_ int, _ uint64, b []byte) []byte { return make([]byte, len(b)) },
		"huge UEB": func(_ int, off uint64, b []byte) []byte {
			b = bytes.Clone(b)
			if off == 0 && len(b) > 36 {
				binary.BigEndian.PutUint32(b[binary.BigEndian.Uint32(b[32:]):], 1<<31)
			}
			return b
		},
	} {
		g := newGrid(t, 5)
		c := newClient(t, g, 2, 5, 5)
		data := pattern(20000)
		cp := mustUpload(t, c, data).Cap
		for _, n := range g.nodes[:3] {
			n.lie = lie
		}
		mustDownload(t, c, cp, data)
		g.nodes[3].lie = lie
		got, err := download(t, c, cp)
		if name == "huge UEB" && err == nil && bytes.Equal(got, data) {
			continue // the one honest UEB was read first, and the others' blocks are sound
		}
		if !errors.Is(err, ErrNotEnoughShares) || len(got) > 0 {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}

// Two servers have the same share, and the one that is quicker sends a bad block.
// That shows only when the other share has come; the slower server has long answered
// by then, and is asked again.
func TestTheSlowerCopyIsTheGoodOne(t *testing.T) { synctest.Test(t, testTheSlowerCopyIsTheGoodOne) }

func testTheSlowerCopyIsTheGoodOne(t *testing.T) {
	g := newGrid(t, 2)
	data := pattern(1 << 20)
	cp := mustUpload(t, newClient(t, g, 2, 2, 2), data).Cap.(caps.CHK)
	shares := g.shares(t, cp.StorageIndex())
	g = newGrid(t, 3)
	wait := func(ctx context.Context, seconds int) error {
		select {
		case <-time.After(time.Duration(seconds) * time.Second):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	var mu sync.Mutex // guards what follows
	asked := 0
	var liar *fakeNode
	for _, n := range g.nodes[:2] {
		n.put(t, cp.StorageIndex(), 0, shares[0])
		n.onRead = func(ctx context.Context, _ int, offset, _ uint64) error {
			if offset != header1 { // where the block begins
				return nil
			}
			mu.Lock()
			asked++
			turn := asked
			if turn == 1 {
				liar = n
			}
			mu.Unlock()
			switch turn {
			case 1:
				return wait(ctx, 8)
			case 2: // after three seconds
				return wait(ctx, 10)
			}
			return nil
		}
		n.lie = func(_ int, offset uint64, b []byte) []byte {
			mu.Lock()
			defer mu.Unlock()
			if b = bytes.Clone(b); n == liar && offset == header1 {
				b[1] ^= 1
			}
			return b
		}
	}
	g.nodes[2].put(t, cp.StorageIndex(), 1, shares[1])
	g.nodes[2].onRead = func(ctx context.Context, _ int, offset, _ uint64) error {
		if offset != header1 {
			return nil
		}
		return wait(ctx, 20)
	}
	mustDownload(t, newClient(t, g, 2, 2, 2), cp, data)
	if asked != 3 || len(liar.advised) != 1 {
		t.Errorf("asked %d times, %d advisories", asked, len(liar.advised))
	}
}

// The share that one server has for another: right bytes under a wrong number.
func TestSharesUnderWrongNumbers(t *testing.T) {
	g := newGrid(t, 4)
	c := newClient(t, g, 2, 4, 4)
	data := pattern(20000)
	chk := mustUpload(t, c, data).Cap.(caps.CHK)
	shares := g.shares(t, chk.StorageIndex())
	wrong := newGrid(t, 3)
	for i, n := range wrong.nodes {
		n.put(t, chk.StorageIndex(), i, shares[i+1])
	}
	if got, err := download(t, newClient(t, wrong, 2, 1, 4), chk); !errors.Is(err, ErrNotEnoughShares) || len(got) > 0 {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	// Another file's shares altogether.
	other := mustUpload(t, c, pattern(20001)).Cap.(caps.CHK)
	foreign := g.shares(t, other.StorageIndex())
	for i, n := range newGrid(t, 3).nodes {
		n.put(t, chk.StorageIndex(), i, foreign[i])
		wrong.nodes[i] = n
	}
	if got, err := download(t, newClient(t, wrong, 2, 1, 4), chk); !errors.Is(err, ErrNotEnoughShares) || len(got) > 0 {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
}

// An uploader can make shares whose blocks are all sound and whose decoded data
// is not what the UEB promises.
func TestDishonestUploader(t *testing.T) {
	g := newGrid(t, 3)
	c := newClient(t, g, 2, 3, 3)
	data := pattern(5000)
	s, err := newShape(2, 3, 5000, 5000)
	if err != nil {
		t.Fatal(err)
	}
	coder, err := c.coder(2, 3)
	if err != nil {
		t.Fatal(err)
	}
	var key [16]byte
	var kept [][]byte
	_, err = encode(t.Context(), s, coder, textOf(t, s, key, data), 1, collect{s.n, func(blocks [][]byte) error {
		for _, b := range blocks {
			kept = append(kept, bytes.Clone(b))
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	kept[2][7] ^= 1 // a parity block that belongs to no file, hashed as it is
	var hashes [][32]byte
	for _, b := range kept {
		hashes = append(hashes, blockHash(b))
	}
	p := prove(s, [32]byte{}, [][32]byte{segmentHash(append(bytes.Clone(kept[0]), kept[1]...)[:5000])}, hashes)
	l := newLayout(s)
	chk := caps.CHK{Key: key, UEBHash: p.uebHash, Needed: 2, Total: 3, Size: 5000}
	for i, n := range g.nodes {
		n.put(t, chk.StorageIndex(), i, bytes.Join([][]byte{l.header(s), kept[i], p.tail(l, i)}, nil))
	}
	for i := range g.nodes {
		two := &fakeGrid{nodes: []*fakeNode{g.nodes[i], g.nodes[(i+1)%3]}}
		got, err := download(t, newClient(t, two, 2, 1, 3), chk)
		if i == 0 {
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("from the data blocks: %v", err)
			}
		} else if !errors.Is(err, ErrMalformed) || len(got) > 0 {
			t.Errorf("with the false block: %d bytes, %v", len(got), err)
		}
	}
	for _, n := range g.nodes {
		if len(n.advised) != 0 {
			t.Errorf("%s is blamed for it", n.id)
		}
	}
}
