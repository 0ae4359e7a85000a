package hashtree

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"testing"
)

func testLeaves(n int) [][32]byte {
	out := make([][32]byte, n)
	for i := range out {
		out[i] = sha256.Sum256(fmt.Appendf(nil, "leaf %d", i))
	}
	return out
}

func TestTreesAreThoseOfTahoe(t *testing.T) {
	raw, err := os.ReadFile("testdata/hashtree.json")
	if err != nil {
		t.Fatal(err)
	}
	var vs []struct {
		Leaves      int
		Root, Nodes string
		Needed      [][]int
	}
	if err := json.Unmarshal(raw, &vs); err != nil {
		t.Fatal(err)
	}
	if len(vs) == 0 {
		t.Fatal("no vectors")
	}
	for _, v := range vs {
		tree := Build(testLeaves(v.Leaves))
		if root := tree.Root(); hex.EncodeToString(root[:]) != v.Root {
			t.Errorf("%d leaves: root %x", v.Leaves, root)
		}
		all := sha256.New()
		for _, h := range tree {
			all.Write(h[:])
		}
		if got := hex.EncodeToString(all.Sum(nil)); got != v.Nodes {
			t.Errorf("%d leaves: nodes differ", v.Leaves)
		}
		if len(tree) != Size(v.Leaves) {
			t.Errorf("%d leaves: %d nodes, Size says %d", v.Leaves, len(tree), Size(v.Leaves))
		}
		at := slices.Compact(slices.Sorted(slices.Values([]int{0, 1 % v.Leaves, v.Leaves / 2, v.Leaves - 1})))
		for i, leaf := range at {
			got := slices.Sorted(slices.Values(tree.Needed(leaf)))
			if !slices.Equal(got, v.Needed[i]) {
				t.Errorf("%d leaves, leaf %d: needs %v, want %v", v.Leaves, leaf, got, v.Needed[i])
			}
		}
	}
}

func proof(tree Tree, nodes []int) map[int][32]byte {
	m := map[int][32]byte{}
	for _, i := range nodes {
		m[i] = tree[i]
	}
	return m
}

func TestEveryLeafIsProvenAndEveryFlippedBitIsNoticed(t *testing.T) {
	for _, n := range []int{1, 2, 3, 5, 8, 13} {
		leaves := testLeaves(n)
		tree := Build(leaves)
		for leaf := range n {
			in, err := New(n)
			if err != nil {
				t.Fatal(err)
			}
			if err := in.SetRoot(tree.Root()); err != nil {
				t.Fatal(err)
			}
			nodes := proof(tree, tree.Needed(leaf))
			for i, h := range nodes {
				bad := maps.Clone(nodes)
				h[31] ^= 1
				bad[i] = h
				if err := in.Set(bad, map[int][32]byte{leaf: leaves[leaf]}); !errors.Is(err, ErrBadHash) {
					t.Fatalf("%d leaves: bad node %d: %v", n, i, err)
				}
				less := maps.Clone(nodes)
				delete(less, i)
				if err := in.Set(less, map[int][32]byte{leaf: leaves[leaf]}); !errors.Is(err, ErrMissing) {
					t.Fatalf("%d leaves: without node %d: %v", n, i, err)
				}
			}
			wrong := leaves[leaf]
			wrong[0] ^= 0x80
			if err := in.Set(nodes, map[int][32]byte{leaf: wrong}); !errors.Is(err, ErrBadHash) {
				t.Fatalf("%d leaves: bad leaf %d: %v", n, leaf, err)
			}
			for i := 1; i < len(tree); i++ {
				if _, ok := in.Node(i); ok {
					t.Fatal("a refused Set left something behind")
				}
			}
			if err := in.Set(nodes, map[int][32]byte{leaf: leaves[leaf]}); err != nil {
				t.Fatal(err)
			}
			if h, ok := in.Leaf(leaf); !ok || h != leaves[leaf] {
				t.Fatal("the leaf is not known afterwards")
			}
		}
	}
}

func TestWholeTreeAtOnceAndLeavesOneByOne(t *testing.T) {
	leaves := testLeaves(11)
	tree := Build(leaves)
	in, err := New(11)
	if err != nil {
		t.Fatal(err)
	}
	all := map[int][32]byte{}
	for i, h := range tree {
		all[i] = h
	}
	if err := in.SetRoot(tree.Root()); err != nil {
		t.Fatal(err)
	}
	if err := in.Set(all, nil); err != nil {
		t.Fatal(err)
	}
	for i, h := range leaves {
		if err := in.Set(nil, map[int][32]byte{i: h}); err != nil {
			t.Fatal(err)
		}
		h[3] ^= 4
		if err := in.Set(nil, map[int][32]byte{i: h}); !errors.Is(err, ErrBadHash) {
			t.Fatal(err)
		}
	}
}

func TestNothingIsBelievedWithoutARoot(t *testing.T) {
	leaves := testLeaves(4)
	tree := Build(leaves)
	in, err := New(4)
	if err != nil {
		t.Fatal(err)
	}
	whole := map[int][32]byte{}
	for i, h := range tree {
		whole[i] = h
	}
	for _, nodes := range []map[int][32]byte{{4: tree[4]}, whole, {0: tree[0]}} {
		if err := in.Set(nodes, map[int][32]byte{0: leaves[0]}); !errors.Is(err, ErrMissing) {
			t.Fatal(err)
		}
	}
	if err := in.Set(map[int][32]byte{1: tree[1], 2: tree[2]}, nil); !errors.Is(err, ErrMissing) {
		t.Fatal(err)
	}
	if _, ok := in.Node(0); ok {
		t.Fatal("the root is what somebody said")
	}
	if err := in.SetRoot(tree.Root()); err != nil {
		t.Fatal(err)
	}
	if err := in.SetRoot(tree[1]); !errors.Is(err, ErrBadHash) {
		t.Fatal(err)
	}
}

// Somebody else's capability may speak of a file of any size, and each share of it
// has a tree.
func TestAHugeTreeOfWhichLittleIsKnownIsSmall(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 100 {
		in, err := New(MaxLeaves)
		if err != nil {
			t.Fatal(err)
		}
		if err := in.SetRoot([32]byte{1}); err != nil {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if size := (after.TotalAlloc - before.TotalAlloc) / 100; size > 64<<10 {
		t.Errorf("%d bytes", size)
	}
}

func TestNumbersOutsideTheTree(t *testing.T) {
	for _, n := range []int{0, -1, MaxLeaves + 1} {
		if _, err := New(n); !errors.Is(err, ErrRange) {
			t.Errorf("New(%d): %v", n, err)
		}
	}
	in, err := New(3)
	if err != nil {
		t.Fatal(err)
	}
	if err := in.SetRoot([32]byte{}); err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{-1, 7, 1 << 30} {
		if err := in.Set(map[int][32]byte{i: {}}, nil); !errors.Is(err, ErrRange) {
			t.Errorf("node %d: %v", i, err)
		}
		if err := in.Set(nil, map[int][32]byte{i: {}}); !errors.Is(err, ErrRange) {
			t.Errorf("leaf %d: %v", i, err)
		}
		if _, ok := in.Node(i); ok {
			t.Errorf("node %d is known", i)
		}
	}
}
