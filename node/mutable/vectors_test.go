package mutable

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"warren/node/caps"
	"warren/node/grid"
	"warren/node/storage"
)

// Vectors from the real Tahoe (tests/vectors/gen_mutable.py).
type vectorFile struct {
	LeaseSecret []byte       `json:"lease_secret"`
	Cases       []vectorCase `json:"cases"`
}

type vectorCase struct {
	Size, K, N, Servers        int
	Write, Read, Verify, Index string
	Shares                     []vectorShare
}

type vectorShare struct {
	Server, Num  int
	Seed         string
	Share        []byte
	Test         [][3]any
	WriteEnabler string `json:"write_enabler"`
	Renew        string
	Cancel       string
}

func loadVectors(t testing.TB) vectorFile {
	t.Helper()
	var f vectorFile
	readJSON(t, "sdmf.json", &f)
	if len(f.Cases) == 0 {
		t.Fatal("no vectors")
	}
	return f
}

func readJSON(t testing.TB, name string, v any) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatal(err)
	}
}

func testKey(t testing.TB) *Key {
	t.Helper()
	var k struct{ Private, Public []byte }
	readJSON(t, "key.json", &k)
	key, err := ParseKey(k.Private)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(key.publicDER, k.Public) {
		t.Fatal("public key is encoded differently from Tahoe's")
	}
	return key
}

func testContents(size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i*7 + i/251)
	}
	return b
}

func TestVectorCaps(t *testing.T) {
	key := testKey(t)
	for _, c := range loadVectors(t).Cases {
		w := key.Cap()
		if w.Text() != c.Write || w.Read().Text() != c.Read || w.Verify().Text() != c.Verify || w.StorageIndex().Text() != c.Index {
			t.Fatalf("size %d: caps differ from Tahoe's", c.Size)
		}
	}
}

// Tahoe's shares survive parse and format, and ours with the same key, IV and
// sequence number are the same apart from the signature, which verifies.
func TestVectorShares(t *testing.T) {
	key := testKey(t)
	for _, c := range loadVectors(t).Cases {
		for _, vs := range c.Shares {
			s, err := ParseShare(vs.Share)
			if err != nil {
				t.Fatalf("size %d share %d: %v", c.Size, vs.Num, err)
			}
			if !bytes.Equal(s.Marshal(), vs.Share) {
				t.Fatalf("size %d share %d: formats differently", c.Size, vs.Num)
			}
			if s.DataLength != uint64(c.Size) || s.Needed != c.K || s.Total != c.N {
				t.Fatalf("size %d share %d: header %+v", c.Size, vs.Num, s.Header)
			}
			ours, err := Encode(rand.Reader, key, Encoding{SDMF, s.Seqnum, c.K, c.N, func() ([16]byte, error) { return s.IV, nil }}, testContents(c.Size))
			if err != nil {
				t.Fatal(err)
			}
			public, err := parsePublicKey(s.PublicKey)
			if err != nil {
				t.Fatal(err)
			}
			if err := verify(public, s.prefix(), s.Signature); err != nil {
				t.Fatalf("Tahoe's signature: %v", err)
			}
			if err := verify(public, ours[vs.Num].prefix(), ours[vs.Num].Signature); err != nil {
				t.Fatalf("our signature: %v", err)
			}
			mine := ours[vs.Num]
			mine.Signature = s.Signature
			if !bytes.Equal(mine.Marshal(), vs.Share) {
				t.Fatalf("size %d, %d of %d, share %d: ours differs from Tahoe's", c.Size, c.K, c.N, vs.Num)
			}
		}
	}
}

// Tahoe's placement, secrets and test vectors for a new file are ours too.
func TestVectorPlacement(t *testing.T) {
	f := loadVectors(t)
	key := testKey(t)
	for _, c := range f.Cases {
		seqnum := uint64(0)
		seeds := make([][]byte, c.Servers)
		for _, vs := range c.Shares {
			seeds[vs.Server], _ = hex.DecodeString(vs.Seed)
			s, err := ParseShare(vs.Share)
			if err != nil {
				t.Fatal(err)
			}
			seqnum = s.Seqnum
		}
		if seqnum != 1 {
			continue // placed by an earlier version
		}
		var servers []grid.Server
		for _, seed := range seeds {
			servers = append(servers, grid.Server{ID: hex.EncodeToString(seed), LeaseSeed: seed, PermutationSeed: seed})
		}
		candidates := make([]candidate, len(servers))
		for i, s := range grid.Permute(key.Cap().StorageIndex(), servers) {
			if s.ID != hex.EncodeToString(seeds[i]) {
				t.Fatal("servers are permuted differently")
			}
			candidates[i] = candidate{usable: true, roomy: true}
		}
		goal := plan(candidates, c.N, 1)
		if len(goal) != len(c.Shares) {
			t.Fatalf("%d shares placed, not %d", len(goal), len(c.Shares))
		}
		store := &Store{opts: Options{LeaseSecret: f.LeaseSecret}}
		for i, vs := range c.Shares {
			if goal[i].server != vs.Server || goal[i].num != vs.Num {
				t.Fatalf("%d of %d on %d servers: share %d goes to %d, not to %d", c.K, c.N, c.Servers, goal[i].num, goal[i].server, vs.Server)
			}
			secrets, err := store.secrets(key.Cap().WriteKey, key.Cap().StorageIndex(), seeds[vs.Server])
			if err != nil {
				t.Fatal(err)
			}
			for what, pair := range map[string][2]string{
				"write enabler": {hex.EncodeToString(secrets.WriteEnabler[:]), vs.WriteEnabler},
				"renew secret":  {hex.EncodeToString(secrets.Renew[:]), vs.Renew},
				"cancel secret": {hex.EncodeToString(secrets.Cancel[:]), vs.Cancel},
			} {
				if pair[0] != pair[1] {
					t.Fatalf("%s differs from Tahoe's", what)
				}
			}
			if len(vs.Test) != 1 || vs.Test[0][0] != float64(absent.Offset) || vs.Test[0][1] != float64(absent.Size) || vs.Test[0][2] != "" {
				t.Fatalf("Tahoe tests %v for a new share", vs.Test)
			}
		}
	}
}

// We read what Tahoe wrote from servers that hold its shares.
func TestVectorRead(t *testing.T) {
	for _, c := range loadVectors(t).Cases {
		g := newTestGrid(t, c.Servers)
		w, err := caps.Parse(c.Write)
		if err != nil {
			t.Fatal(err)
		}
		file := w.(caps.SSKWrite)
		seqnum := uint64(0)
		for _, vs := range c.Shares {
			g.put(file, vs.Server, vs.Num, vs.Share)
			s, _ := ParseShare(vs.Share)
			seqnum = s.Seqnum
		}
		store := g.store(t, Options{Needed: c.K, Happy: 1, Total: c.N})
		got, version, err := store.Read(context.Background(), file.Read())
		if err != nil {
			t.Fatalf("size %d: %v", c.Size, err)
		}
		if !bytes.Equal(got, testContents(c.Size)) || version.Seqnum != seqnum {
			t.Fatalf("size %d: read %d bytes, version %v", c.Size, len(got), version)
		}
		// And change it.
		if err := store.Overwrite(context.Background(), file, []byte("changed by us")); err != nil {
			t.Fatalf("size %d: overwrite: %v", c.Size, err)
		}
		if got, _, err = store.Read(context.Background(), file.Read()); err != nil || string(got) != "changed by us" {
			t.Fatalf("size %d: read back %q, %v", c.Size, got, err)
		}
	}
}

var _ storage.Client = (*testServer)(nil)
