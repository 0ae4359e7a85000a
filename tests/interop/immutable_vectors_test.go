package interop

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"warren/node/caps"
	"warren/node/grid"
	"warren/node/immutable"
	"warren/node/storage"
	"warren/node/storage/storagetest"
)

// The expected values in the packages' testdata are what the installed programs
// say, today as when they were recorded.
func TestImmutableVectorsAreCurrent(t *testing.T) {
	root, out := Root(t), t.TempDir()
	t.Setenv("WARREN_VECTORS", out)
	for _, name := range []string{"gen_immutable.py", "gen_grid.py"} {
		Run(t, 5*time.Minute, Python(t), filepath.Join(root, "tests", "vectors", name))
	}
	for _, path := range []string{
		"node/erasure/testdata/zfec.json",
		"node/hashtree/testdata/hashtree.json",
		"node/grid/testdata/happiness.json",
		"node/grid/testdata/permutation.json",
		"node/immutable/testdata/chk.json",
		"node/immutable/testdata/chk-large.json",
		"node/immutable/testdata/layout.json",
	} {
		recorded, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(path)))
		if err != nil {
			t.Fatal(err)
		}
		made, err := os.ReadFile(filepath.Join(out, filepath.FromSlash(path)))
		if err != nil {
			t.Fatal(err)
		}
		if len(recorded) < 1000 || !bytes.Equal(recorded, made) {
			t.Errorf("%s is not what the real programs say", path)
		}
	}
}

// servers are all the servers there are, in one order for all files.
type servers []grid.Server

func (s servers) Permuted(caps.StorageIndex) []grid.Server { return s }

// Capabilities and share bytes of large files, and of many shares of large
// segments: what node/immutable's own tests, under the race detector, are too slow
// for.
func TestLargeFilesAreTahoes(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(filepath.Join(Root(t), "node", "immutable", "testdata", "chk-large.json"))
	if err != nil {
		t.Fatal(err)
	}
	var vs []struct {
		K, N, SegmentSize, Size, ShareSize int
		Cap, All                           string
	}
	if err := json.Unmarshal(raw, &vs); err != nil {
		t.Fatal(err)
	}
	if len(vs) < 17 {
		t.Fatalf("only %d vectors", len(vs))
	}
	// The plaintext that the generator makes in the same way.
	var plain []byte
	for i := 0; len(plain) < 48<<20; i++ {
		h := sha256.Sum256(fmt.Appendf(nil, "warren %d", i))
		plain = append(plain, h[:]...)
	}
	for _, v := range vs {
		var all servers
		for i := range 10 {
			all = append(all, grid.Server{ID: fmt.Sprint("v0-", i), LeaseSeed: []byte("vectors of a tub id!"), Client: storagetest.NewLocal(t)})
		}
		c, err := immutable.New(immutable.Config{
			Servers: all, Needed: v.K, Happy: 1, Total: v.N, SegmentSize: v.SegmentSize, TempDir: t.TempDir(),
			Convergence: immutable.Secret("convergence secret for vectors!!"), LeaseSecret: immutable.Secret("lease secret for the vectors...!"),
		})
		if err != nil {
			t.Fatal(err)
		}
		res, err := c.Upload(t.Context(), bytes.NewReader(plain[:v.Size]), -1)
		if err != nil {
			t.Fatal(err)
		}
		if res.Cap.Text() != v.Cap {
			t.Errorf("%d of %d, %d bytes: not Tahoe's capability", v.K, v.N, v.Size)
			continue
		}
		si, _ := caps.Index(res.Cap)
		sums := make([]string, v.N)
		for _, s := range all {
			held, err := s.Client.ListShares(t.Context(), storage.Immutable, si)
			if err != nil {
				t.Fatal(err)
			}
			for _, share := range held {
				b, err := s.Client.ReadShare(t.Context(), storage.Immutable, si, share, 0, 1<<40)
				if err != nil || len(b) != v.ShareSize {
					t.Fatalf("%d of %d, share %d: %d bytes, Tahoe's %d; %v", v.K, v.N, share, len(b), v.ShareSize, err)
				}
				h := sha256.Sum256(b)
				sums[share] = hex.EncodeToString(h[:])
			}
		}
		if h := sha256.Sum256([]byte(strings.Join(sums, ""))); hex.EncodeToString(h[:]) != v.All {
			t.Errorf("%d of %d, %d bytes: the shares differ from Tahoe's", v.K, v.N, v.Size)
		}
		f, err := c.Open(t.Context(), res.Cap)
		if err != nil {
			t.Fatal(err)
		}
		var back bytes.Buffer
		if err := f.WriteRange(t.Context(), &back, 0, -1); err != nil || !bytes.Equal(back.Bytes(), plain[:v.Size]) {
			t.Errorf("%d of %d, %d bytes: it does not come back: %v", v.K, v.N, v.Size, err)
		}
		f.Close()
	}
}
