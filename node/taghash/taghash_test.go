package taghash_test

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"strconv"
	"testing"

	"warren/node/taghash"
)

// TestAgreesWithTahoe compares every derivation; see tests/vectors/gen_caps.py.
func TestAgreesWithTahoe(t *testing.T) {
	raw, err := os.ReadFile("testdata/derivations.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Name   string
		Args   []string
		Result string
		Text   string
	}
	if err := json.Unmarshal(raw, &cases); err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for i, c := range cases {
		seen[c.Name]++
		b := func(n int) []byte {
			out, err := hex.DecodeString(c.Args[n])
			if err != nil {
				t.Fatalf("case %d: %v", i, err)
			}
			return out
		}
		k16 := func(n int) [16]byte { return [16]byte(b(n)) }
		k32 := func(n int) [32]byte { return [32]byte(b(n)) }
		num := func(n int) int {
			v, err := strconv.Atoi(c.Args[n])
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		var got []byte
		full := func(h [32]byte) { got = h[:] }
		half := func(h [16]byte) { got = h[:] }
		switch c.Name {
		case "Netstring":
			got = taghash.Netstring(b(0))
		case "Tagged":
			full(taghash.Tagged(string(b(0)), b(1)))
			h := taghash.New(string(b(0)))
			h.Write([]byte("to be forgotten"))
			h.Reset()
			for _, x := range b(1) {
				h.Sum(nil) // must not disturb the stream
				h.Write([]byte{x})
			}
			if hex.EncodeToString(h.Sum(nil)) != c.Result || h.Size() != 32 || string(h.Sum([]byte("x"))[:1]) != "x" {
				t.Errorf("case %d: the stream differs", i)
			}
		case "TaggedPair":
			full(taghash.TaggedPair(string(b(0)), b(1), b(2)))
		case "StorageIndex":
			half(taghash.StorageIndex(k16(0)))
		case "BlockHash":
			full(taghash.BlockHash(b(0)))
			var all [3][32]byte
			taghash.BlockHashes(all[:], [][]byte{b(0), b(0), b(0)})
			for _, h := range all {
				if hex.EncodeToString(h[:]) != c.Result {
					t.Errorf("case %d: the hashes of many differ", i)
				}
			}
			h := taghash.NewBlock()
			h.Write(b(0))
			if hex.EncodeToString(h.Sum(nil)) != c.Result {
				t.Errorf("case %d: the stream differs", i)
			}
		case "UEBHash":
			full(taghash.UEBHash(b(0)))
		case "Crypttext":
			h := taghash.NewCrypttext()
			for data, size := b(0), len(b(0))/3+1; len(data) > 0; data = data[min(size, len(data)):] {
				part := data[:min(size, len(data))]
				if h.Segment(part) != taghash.CrypttextSegment(part) {
					t.Errorf("case %d: a segment differs", i)
				}
			}
			full(h.Sum())
		case "CrypttextSegment":
			full(taghash.CrypttextSegment(b(0)))
		case "Convergence":
			h := taghash.NewConvergence(num(0), num(1), uint64(num(2)), b(3))
			h.Write(b(4))
			got = h.Sum(nil)[:16]
		case "MyRenewal":
			full(taghash.MyRenewal(b(0)))
		case "MyCancel":
			full(taghash.MyCancel(b(0)))
		case "FileRenewal":
			full(taghash.FileRenewal(k32(0), k16(1)))
		case "FileCancel":
			full(taghash.FileCancel(k32(0), k16(1)))
		case "BucketRenewal":
			full(taghash.BucketRenewal(k32(0), b(1)))
		case "BucketCancel":
			full(taghash.BucketCancel(k32(0), b(1)))
		case "SSKWriteKey":
			half(taghash.SSKWriteKey(b(0)))
		case "SSKReadKey":
			half(taghash.SSKReadKey(k16(0)))
		case "SSKDataKey":
			half(taghash.SSKDataKey(k16(0), k16(1)))
		case "SSKStorageIndex":
			half(taghash.SSKStorageIndex(k16(0)))
		case "SSKFingerprint":
			full(taghash.SSKFingerprint(b(0)))
		case "SSKWriteEnablerMaster":
			full(taghash.SSKWriteEnablerMaster(k16(0)))
		case "SSKWriteEnabler":
			full(taghash.SSKWriteEnabler(k16(0), b(1)))
		case "DirChildKey":
			half(taghash.DirChildKey(k16(0), k16(1)))
		case "DirChildSalt":
			half(taghash.DirChildSalt(b(0)))
		case "HMAC":
			full(taghash.HMAC(b(0), b(1)))
		case "Permute":
			p := taghash.Permute(k16(0), b(1))
			got = p[:]
		case "Base32":
			if e := taghash.EncodeBase32(b(0)); e != c.Text {
				t.Errorf("case %d: encodes as %s, want %s", i, e, c.Text)
			}
			d, err := taghash.DecodeBase32(c.Text)
			if err != nil {
				t.Errorf("case %d: %v", i, err)
			}
			got, c.Result = d, c.Args[0]
		default:
			t.Fatalf("case %d: unknown name %s", i, c.Name)
		}
		if hex.EncodeToString(got) != c.Result {
			t.Errorf("case %d, %s: got %x, want %s", i, c.Name, got, c.Result)
		}
	}
	if len(seen) != 27 {
		t.Errorf("vectors cover %d of 27 functions", len(seen))
	}
}

func TestSegmentAndBlocks(t *testing.T) {
	// Segments that fill their blocks, and such whose last blocks are padding in part
	// or as a whole; blocks that are the data, and others.
	for _, k := range []int{1, 2, 3, 7} {
		for _, size := range []int{1, 63, 64, 1000, 100000} {
			segment := make([]byte, k*size)
			for i := range segment {
				segment[i] = byte(i*i/7 + i)
			}
			var data, others [][]byte
			for i := range k {
				data = append(data, segment[i*size:(i+1)*size])
				others = append(others, append([]byte{byte(i)}, data[i][1:]...))
			}
			for _, length := range []int{k * size, k*size - 1, (k-1)*size + 1, size, 1} {
				for _, blocks := range [][][]byte{data, others} {
					whole, hashes := taghash.SegmentAndBlocks(length, data, blocks)
					if whole != taghash.CrypttextSegment(segment[:length]) {
						t.Errorf("%d blocks of %d, %d bytes: the segment's hash is wrong", k, size, length)
					}
					if len(hashes) != k {
						t.Fatalf("%d hashes of %d blocks", len(hashes), k)
					}
					for i, h := range hashes {
						if h != taghash.BlockHash(blocks[i]) {
							t.Errorf("%d blocks of %d, %d bytes: block %d is wrong", k, size, length, i)
						}
					}
				}
			}
		}
	}
}

func TestBase32Refuses(t *testing.T) {
	for _, s := range []string{
		"a", "aaa", "aaaaaa", "ab", "aab=", "aaab", "AA", "a1", "a0", "a8", "a9", "aa======", " aa", "aa ", "aa\n", "a\ra", "a-a", "a\x00",
		"\u00e4a", "aaaac7777", "77", "aaaaaaab1", "aaaaaaa\n",
	} {
		if b, err := taghash.DecodeBase32(s); !errors.Is(err, taghash.ErrBase32) {
			t.Errorf("%q: decoded to %x, %v", s, b, err)
		}
	}
}

func FuzzDecodeBase32(f *testing.F) {
	for _, s := range []string{"", "aa", "mzxw6ytboi", "77", "a\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		b, err := taghash.DecodeBase32(s)
		if err == nil && taghash.EncodeBase32(b) != s {
			t.Fatalf("%q is a second spelling", s)
		}
	})
}
