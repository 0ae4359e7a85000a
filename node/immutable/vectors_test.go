package immutable

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"warren/node/caps"
	"warren/node/erasure"
)

type chkVector struct {
	K, N, SegmentSize, Size, ShareSize int
	V2                                 bool
	Cap, All, Renew, Cancel            string
	Shares                             []string
}

func loadVectors(t testing.TB) []chkVector {
	t.Helper()
	raw, err := os.ReadFile("testdata/chk.json")
	if err != nil {
		t.Fatal(err)
	}
	var vs []chkVector
	if err := json.Unmarshal(raw, &vs); err != nil {
		t.Fatal(err)
	}
	if len(vs) < 80 {
		t.Fatalf("only %d vectors", len(vs))
	}
	return vs
}

// check compares shares with the recorded hashes.
func (v chkVector) check(t *testing.T, shares map[int][]byte) {
	t.Helper()
	var all strings.Builder
	for i := range v.N {
		if len(shares[i]) != v.ShareSize {
			t.Fatalf("%d of %d, %d bytes: share %d is %d bytes, Tahoe's %d", v.K, v.N, v.Size, i, len(shares[i]), v.ShareSize)
		}
		h := sha256.Sum256(shares[i])
		sum := hex.EncodeToString(h[:])
		if len(v.Shares) > 0 && v.Shares[i] != sum {
			t.Errorf("%d of %d, %d bytes: share %d differs from Tahoe's", v.K, v.N, v.Size, i)
		}
		all.WriteString(sum)
	}
	if h := sha256.Sum256([]byte(all.String())); hex.EncodeToString(h[:]) != v.All {
		t.Errorf("%d of %d, %d bytes in segments of %d: shares differ from Tahoe's", v.K, v.N, v.Size, v.SegmentSize)
	}
}

func TestCapsAndSharesAreTahoes(t *testing.T) {
	plain := pattern(6 << 20)
	for _, v := range loadVectors(t) {
		if v.V2 {
			continue
		}
		g := newGrid(t, min(v.N, 10))
		c := newClient(t, g, v.K, min(v.N, 10), v.N, func(cfg *Config) { cfg.SegmentSize = v.SegmentSize })
		// Every way in must give the same capability.
		var res Result
		var err error
		switch v.Size % 3 {
		case 0:
			res, err = c.Upload(t.Context(), bytes.NewReader(plain[:v.Size]), -1)
		case 1:
			res, err = c.Upload(t.Context(), onlyReader{bytes.NewReader(plain[:v.Size])}, -1)
		default:
			res, err = c.Upload(t.Context(), onlyReader{bytes.NewReader(plain[:v.Size])}, int64(v.Size))
		}
		if err != nil {
			t.Fatal(err)
		}
		if res.Cap.Text() != v.Cap {
			t.Errorf("%d of %d, %d bytes in segments of %d: not Tahoe's capability", v.K, v.N, v.Size, v.SegmentSize)
		}
		parsed, err := caps.Parse(v.Cap)
		if err != nil {
			t.Fatal(err)
		}
		if si, ok := caps.Index(parsed); ok {
			v.check(t, g.shares(t, si))
			for _, n := range g.nodes {
				for _, l := range n.leases {
					if hex.EncodeToString(l.Renew[:]) != v.Renew || hex.EncodeToString(l.Cancel[:]) != v.Cancel {
						t.Fatal("not Tahoe's lease secrets")
					}
				}
			}
			if res.Pushed != v.N || res.Existing != 0 {
				t.Errorf("pushed %d, found %d", res.Pushed, res.Existing)
			}
		}
		mustDownload(t, c, parsed, plain[:v.Size])
	}
}

// A share in layout 2 appears only beyond 4 GiB, so Tahoe was made to write small
// ones, and our writer is asked for one directly.
func TestLayoutVersionTwo(t *testing.T) {
	count := 0
	for _, v := range loadVectors(t) {
		if !v.V2 {
			continue
		}
		count++
		parsed, err := caps.Parse(v.Cap)
		if err != nil {
			t.Fatal(err)
		}
		chk := parsed.(caps.CHK)
		plain := pattern(v.Size)
		s, err := newShape(v.K, v.N, uint64(v.Size), segmentSizeFor(v.K, uint64(v.Size), uint64(v.SegmentSize)))
		if err != nil {
			t.Fatal(err)
		}
		l := layoutOf(s, 2)
		coder, err := erasure.New(v.K, v.N)
		if err != nil {
			t.Fatal(err)
		}
		shares := map[int][]byte{}
		for i := range v.N {
			shares[i] = l.header(s)
		}
		p, err := encode(t.Context(), s, coder, textOf(t, s, chk.Key, plain), 2, collect{s.n, func(blocks [][]byte) error {
			for i, b := range blocks {
				shares[i] = append(shares[i], b...)
			}
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		for i := range v.N {
			shares[i] = append(shares[i], p.tail(l, i)...)
			if uint64(len(shares[i])) != shareSize(s, l) {
				t.Fatal("shareSize is wrong")
			}
		}
		v.check(t, shares)
		g := newGrid(t, v.N)
		for i, n := range g.nodes {
			n.put(t, chk.StorageIndex(), i, shares[i])
		}
		mustDownload(t, newClient(t, g, 3, 1, 10), chk, plain)
	}
	if count == 0 {
		t.Fatal("no vectors")
	}
}
