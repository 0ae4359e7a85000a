package immutable

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"testing"

	"warren/node/caps"
	"warren/node/grid"
	"warren/node/hashtree"
	"warren/node/storage"
	"warren/node/taghash"
)

// What Tahoe's own writers (WriteBucketProxy, WriteBucketProxy_v2) say of shares too
// large to make: header and length, around the size at which they change from one
// layout to the other and far beyond 12 GiB.
func TestLayoutsOfHugeFilesAreTahoes(t *testing.T) {
	raw, err := os.ReadFile("testdata/layout.json")
	if err != nil {
		t.Fatal(err)
	}
	var vs []struct {
		K, N, Version                int
		SegmentSize, Size, ShareSize uint64
		Header                       string
	}
	if err := json.Unmarshal(raw, &vs); err != nil {
		t.Fatal(err)
	}
	versions, beyond := map[int]int{}, 0
	for _, v := range vs {
		s, err := newShape(v.K, v.N, v.Size, segmentSizeFor(v.K, v.Size, v.SegmentSize))
		if err != nil {
			t.Fatal(err)
		}
		l := newLayout(s)
		header := l.header(s)
		if l.version != v.Version || hex.EncodeToString(header) != v.Header || shareSize(s, l) != v.ShareSize {
			t.Errorf("%d of %d, %d bytes: version %d, %d bytes, header %x; Tahoe's %d, %d, %s",
				v.K, v.N, v.Size, l.version, shareSize(s, l), header, v.Version, v.ShareSize, v.Header)
		}
		got, err := parseHeader(header)
		if err != nil || got != l || got.fits(s) != nil {
			t.Errorf("%+v comes back as %+v: %v", l, got, err)
		}
		versions[l.version]++
		if v.Size > 12<<30 {
			beyond++
		}
	}
	if versions[1] < 30 || versions[2] < 80 || beyond < 30 {
		t.Fatalf("only %v cases by version, %d beyond 12 GiB", versions, beyond)
	}
}

// zeroShare serves one share of a file whose crypttext is all zeros: its blocks are
// equal, parity too, so that the whole of it is known without being anywhere.
type zeroShare struct {
	storage.Client
	share int
	head  []byte
	tail  []byte
	at    uint64 // where tail begins
}

func (z zeroShare) ListShares(context.Context, storage.ShareKind, caps.StorageIndex) ([]int, error) {
	return []int{z.share}, nil
}

func (z zeroShare) ReadShare(_ context.Context, _ storage.ShareKind, _ caps.StorageIndex, share int, offset, size uint64) ([]byte, error) {
	end := z.at + uint64(len(z.tail))
	if share != z.share || offset >= end {
		return nil, storage.ErrNoShare
	}
	out := make([]byte, min(size, end-offset))
	if offset < uint64(len(z.head)) {
		copy(out, z.head[offset:])
	}
	if last := offset + uint64(len(out)); last > z.at {
		from := max(offset, z.at)
		copy(out[from-offset:], z.tail[from-z.at:])
	}
	return out, nil
}

type zeroGrid []grid.Server

func (g zeroGrid) Permuted(caps.StorageIndex) []grid.Server { return g }

// Ranges of files beyond 12 GiB, from shares in layout 2, at the cost of the range.
func TestRangesOfHugeFiles(t *testing.T) {
	for _, f := range []struct {
		k, n    int
		size    uint64
		version int
	}{
		{1, 1, 4<<30 + 12345, 2},
		{3, 10, 13<<30 + 777, 2},
		{3, 10, 12<<30 - 20<<20, 1}, // the largest of the old layout, nearly
		{7, 10, 40<<30 + 1, 2},
	} {
		t.Run(fmt.Sprintf("%dof%d,%d", f.k, f.n, f.size), func(t *testing.T) {
			s, err := newShape(f.k, f.n, f.size, segmentSizeFor(f.k, f.size, DefaultSegmentSize))
			if err != nil {
				t.Fatal(err)
			}
			l := newLayout(s)
			if l.version != f.version {
				t.Fatalf("layout %d", l.version)
			}
			segs, blocks := make([][32]byte, s.segments), make([][32]byte, s.segments)
			full, block := taghash.CrypttextSegment(make([]byte, s.segmentLen(0))), taghash.BlockHash(make([]byte, s.blockLen(0)))
			for i := range s.segments {
				segs[i], blocks[i] = full, block
			}
			segs[s.segments-1] = taghash.CrypttextSegment(make([]byte, s.segmentLen(s.segments-1)))
			blocks[s.segments-1] = taghash.BlockHash(make([]byte, s.blockLen(s.segments-1)))
			tree := hashtree.Build(blocks)
			p := &proof{crypttext: hashtree.Build(segs), blocks: make([]hashtree.Tree, f.n)}
			roots := make([][32]byte, f.n)
			for i := range roots {
				p.blocks[i], roots[i] = tree, tree.Root()
			}
			p.roots = hashtree.Build(roots)
			u := newUEB(s)
			u.CrypttextRoot, u.ShareRoot = p.crypttext.Root(), p.roots.Root()
			p.ueb = u.Format()
			chk := caps.CHK{Key: [16]byte{1, 2, 3}, UEBHash: taghash.UEBHash(p.ueb), Needed: f.k, Total: f.n, Size: f.size}
			data := (f.size + uint64(f.k) - 1) / uint64(f.k)
			var g zeroGrid
			for i := range f.n {
				z := zeroShare{share: i, head: l.header(s), tail: p.tail(l, i), at: l.blocks + data}
				if z.at+uint64(len(z.tail)) != shareSize(s, l) {
					t.Fatal("shareSize is wrong")
				}
				g = append(g, grid.Server{ID: fmt.Sprint("v0-", i), Client: z})
			}
			file, err := newClient(t, g, f.k, 1, f.n).Open(t.Context(), chk)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			got, want := make([]byte, 5000), make([]byte, 5000)
			for _, at := range []uint64{0, 1 << 20, math.MaxUint32 - 2500, f.size / 2, f.size - 5000} {
				n, err := file.ReadAt(t.Context(), got, int64(at))
				if err != nil || n != len(got) {
					t.Fatalf("at %d: %d bytes, %v", at, n, err)
				}
				stream, err := keyStream(chk.Key, at)
				if err != nil {
					t.Fatal(err)
				}
				clear(want)
				stream.XORKeyStream(want, want)
				if !bytes.Equal(got, want) {
					t.Fatalf("at %d: not the bytes of the file", at)
				}
			}
			if n, err := file.ReadAt(t.Context(), got, int64(f.size)-10); n != 10 || err == nil {
				t.Errorf("the end: %d bytes, %v", n, err)
			}
		})
	}
}
