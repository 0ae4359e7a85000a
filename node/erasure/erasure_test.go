package erasure

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
)

// pattern is the data that the vector generator uses too.
func pattern(n int) []byte {
	out := make([]byte, 0, n+sha256.Size)
	for i := 0; len(out) < n; i++ {
		h := sha256.Sum256(fmt.Appendf(nil, "warren %d", i))
		out = append(out, h[:]...)
	}
	return out[:n]
}

type vector struct {
	K, N, Size int
	Sums       []string // sha256 of each block
}

func load(t testing.TB) []vector {
	t.Helper()
	raw, err := os.ReadFile("testdata/zfec.json")
	if err != nil {
		t.Fatal(err)
	}
	var vs []vector
	if err := json.Unmarshal(raw, &vs); err != nil {
		t.Fatal(err)
	}
	if len(vs) == 0 {
		t.Fatal("no vectors")
	}
	return vs
}

func TestBlocksAreThoseOfZfec(t *testing.T) {
	coders := map[[2]int]*Coder{} // the matrix of a large one takes its time to invert
	for _, v := range load(t) {
		c := coders[[2]int{v.K, v.N}]
		if c == nil {
			var err error
			if c, err = New(v.K, v.N); err != nil {
				t.Fatal(err)
			}
			coders[[2]int{v.K, v.N}] = c
		}
		blocks, err := c.Encode(c.Split(pattern(v.Size)))
		if err != nil {
			t.Fatal(err)
		}
		if len(v.Sums) != v.N {
			t.Fatalf("%d of %d: %d sums", v.K, v.N, len(v.Sums))
		}
		for i, b := range blocks {
			if s := sha256.Sum256(b); hex.EncodeToString(s[:]) != v.Sums[i] {
				t.Fatalf("%d of %d, %d bytes: block %d differs from zfec's", v.K, v.N, v.Size, i)
			}
		}
	}
}

func TestAnyKBlocksGiveTheDataBack(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, p := range [][2]int{{1, 1}, {1, 3}, {2, 3}, {3, 3}, {3, 10}, {7, 10}, {22, 30}, {71, 255}, {101, 256}, {255, 256}, {256, 256}} {
		k, n := p[0], p[1]
		c, err := New(k, n)
		if err != nil {
			t.Fatal(err)
		}
		data := pattern(k * 33)
		blocks, err := c.Encode(c.Split(data))
		if err != nil {
			t.Fatal(err)
		}
		for range 5 {
			some := map[int][]byte{}
			for _, i := range rng.Perm(n)[:k] {
				some[i] = bytes.Clone(blocks[i])
			}
			got, err := c.Decode(some)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(bytes.Join(got, nil), data) {
				t.Fatalf("%d of %d: decoded data differs", k, n)
			}
		}
	}
}

func TestEverySubsetOfThreeOfSix(t *testing.T) {
	c, err := New(3, 6)
	if err != nil {
		t.Fatal(err)
	}
	data := pattern(3 * 100)
	blocks, err := c.Encode(c.Split(data))
	if err != nil {
		t.Fatal(err)
	}
	for mask := range 64 {
		some := map[int][]byte{}
		for i := range 6 {
			if mask>>i&1 == 1 {
				some[i] = blocks[i]
			}
		}
		got, err := c.Decode(some)
		if len(some) < 3 {
			if !errors.Is(err, ErrBlocks) {
				t.Fatalf("mask %b: %v", mask, err)
			}
			continue
		}
		if err != nil || !bytes.Equal(bytes.Join(got, nil), data) {
			t.Fatalf("mask %b: %v", mask, err)
		}
	}
}

func TestOneCoderServesManyAtOnce(t *testing.T) {
	c, err := New(3, 10)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			data := pattern(3*64 + 3*g)
			for i := range 50 {
				blocks, err := c.Encode(c.Split(bytes.Clone(data)))
				if err != nil {
					t.Error(err)
					return
				}
				some := map[int][]byte{}
				for j := range 3 {
					x := (i + g + 3*j) % 10
					some[x] = blocks[x]
				}
				got, err := c.Decode(some)
				if err != nil || !bytes.Equal(bytes.Join(got, nil), data) {
					t.Errorf("goroutine %d: %v", g, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestSplitPadsWithZeros(t *testing.T) {
	c, err := New(3, 4)
	if err != nil {
		t.Fatal(err)
	}
	big := append(make([]byte, 0, 9), 1, 2, 3, 4, 5, 6, 7)
	copy(big[7:9], []byte{9, 9}) // what was there before must not end in a share
	for _, in := range [][]byte{{1, 2, 3, 4, 5, 6, 7}, big} {
		if got := bytes.Join(c.Split(in), []byte("|")); !bytes.Equal(got, []byte{1, 2, 3, '|', 4, 5, 6, '|', 7, 0, 0}) {
			t.Fatalf("split: %v", got)
		}
	}
}

func TestBadArguments(t *testing.T) {
	for _, p := range [][2]int{{0, 1}, {-1, 3}, {2, 1}, {1, 257}, {257, 257}, {0, 0}, {3, -3}} {
		if _, err := New(p[0], p[1]); !errors.Is(err, ErrParameters) {
			t.Errorf("New(%d, %d): %v", p[0], p[1], err)
		}
	}
	for _, n := range []int{2, 4} {
		c, err := New(2, n)
		if err != nil {
			t.Fatal(err)
		}
		for _, data := range [][][]byte{nil, {{1}}, {{1}, {2}, {3}}, {{1}, {2, 3}}, {{}, {}}, {nil, {1}}} {
			if _, err := c.Encode(data); !errors.Is(err, ErrBlocks) {
				t.Errorf("Encode(%v): %v", data, err)
			}
		}
		for _, some := range []map[int][]byte{nil, {0: {1}}, {0: {1}, n: {2}}, {-1: {1}, 1: {2}}, {0: {1}, 1: {2, 3}}, {0: {}, 1: {}}} {
			if _, err := c.Decode(some); !errors.Is(err, ErrBlocks) {
				t.Errorf("Decode(%v): %v", some, err)
			}
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	for _, p := range [][2]int{{3, 10}, {7, 10}, {71, 255}} {
		b.Run(fmt.Sprintf("%dof%d", p[0], p[1]), func(b *testing.B) {
			c, err := New(p[0], p[1])
			if err != nil {
				b.Fatal(err)
			}
			blocks, err := c.Encode(c.Split(pattern(1 << 20)))
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(1 << 20)
			for b.Loop() {
				if err := c.EncodeInto(blocks); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
