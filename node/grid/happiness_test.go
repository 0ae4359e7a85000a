package grid

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
)

func holdings(m map[string][]int) Holdings {
	h := Holdings{}
	for server, shares := range m {
		for _, share := range shares {
			h.Add(server, share)
		}
	}
	return h
}

func clone(h Holdings) Holdings {
	out := Holdings{}
	for server, shares := range h {
		out[server] = maps.Clone(shares)
	}
	return out
}

func TestPlacementAndHappinessAgainstTahoe(t *testing.T) {
	raw, err := os.ReadFile("testdata/happiness.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Writable, Readonly []string
		Total              int
		Held               map[string][]int
		Placed             map[string]string
		Before, After      int
	}
	if err := json.Unmarshal(raw, &cases); err != nil {
		t.Fatal(err)
	}
	if len(cases) == 0 {
		t.Fatal("no vectors")
	}
	fresh := 0
	for i, c := range cases {
		held := holdings(c.Held)
		if got := Happiness(held); got != c.Before {
			t.Errorf("case %d: happiness %d, Tahoe says %d", i, got, c.Before)
		}
		placed := Place(c.Writable, c.Readonly, c.Total, held)
		if len(c.Held) == 0 && len(c.Readonly) == 0 {
			fresh++
			want := map[int]string{}
			for share, server := range c.Placed {
				n, err := strconv.Atoi(share)
				if err != nil {
					t.Fatal(err)
				}
				want[n] = server
			}
			if !maps.Equal(placed, want) {
				t.Errorf("case %d: placed %v, Tahoe %v", i, placed, want)
			}
		}
		after := clone(held)
		for share, server := range placed {
			after.Add(server, share)
		}
		if got := Happiness(after); got < c.After {
			t.Errorf("case %d: happiness %d afterwards, Tahoe reaches %d", i, got, c.After)
		}
	}
	if fresh < 20 {
		t.Errorf("only %d cases without existing shares", fresh)
	}
}

func TestPlacementKeepsItsPromises(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 500 {
		total := 1 + rng.IntN(12)
		var writable, readonly []string
		held := Holdings{}
		for i := range 1 + rng.IntN(14) {
			id := fmt.Sprintf("s%d", i)
			if rng.IntN(4) == 0 {
				readonly = append(readonly, id)
			} else {
				writable = append(writable, id)
			}
			for range rng.IntN(4) {
				held.Add(id, rng.IntN(total))
			}
		}
		placed := Place(writable, readonly, total, held)
		isReadonly := map[string]bool{}
		for _, id := range readonly {
			isReadonly[id] = true
		}
		after := clone(held)
		fresh := map[string]int{}
		for share, server := range placed {
			if share < 0 || share >= total {
				t.Fatalf("share %d of %d", share, total)
			}
			if isReadonly[server] && !held[server][share] {
				t.Fatalf("read-only %s is to take share %d", server, share)
			}
			if !held[server][share] {
				fresh[server]++
			}
			after.Add(server, share)
		}
		if len(writable) > 0 && len(placed) != total {
			t.Fatalf("%d shares of %d placed", len(placed), total)
		}
		onlyReadonly := Holdings{}
		for _, id := range readonly {
			for share := range held[id] {
				onlyReadonly.Add(id, share)
			}
		}
		if want := min(total, Happiness(onlyReadonly)+len(writable)); Happiness(after) < want {
			t.Fatalf("happiness %d, possible %d", Happiness(after), want)
		}
		if n := len(writable); n > 0 {
			missing := map[int]bool{}
			for share := range total {
				missing[share] = true
			}
			for _, shares := range held {
				for share := range shares {
					delete(missing, share)
				}
			}
			sent := 0
			for _, count := range fresh {
				sent += count
			}
			if need := max(Happiness(after)-Happiness(held), len(missing)); sent != need {
				t.Fatalf("%d shares are sent, %d are needed", sent, need)
			}
			for server, count := range fresh {
				if count > (total+n-1)/n {
					t.Fatalf("%s is to take %d of %d new shares among %d servers", server, count, total, n)
				}
			}
		}
		if again := Place(writable, readonly, total, held); !maps.Equal(again, placed) {
			t.Fatal("the same question has two answers")
		}
	}
}

func TestWellPlacedSharesStay(t *testing.T) {
	held := holdings(map[string][]int{"c": {0}, "a": {1}, "b": {2}, "d": {3}})
	got := Place([]string{"a", "b", "c", "d", "e"}, nil, 5, held)
	want := map[int]string{0: "c", 1: "a", 2: "b", 3: "d", 4: "e"}
	if !maps.Equal(got, want) {
		t.Fatalf("%v", got)
	}
}

func TestHappinessOfTheSpecification(t *testing.T) {
	h := holdings(map[string][]int{"1": {1, 2, 3, 4}, "2": {6}, "3": {3}, "4": {4}, "5": {2}})
	if got := Happiness(h); got != 5 {
		t.Fatalf("%d", got)
	}
	h.Remove("2", 6)
	if got := Happiness(h); got != 4 {
		t.Fatalf("%d", got)
	}
	if Happiness(nil) != 0 {
		t.Fatal("nobody is happy")
	}
}

// Where a damaged share is in the way, another share goes there, or nothing does.
func TestPlaceExcept(t *testing.T) {
	servers := []string{"a", "b", "c", "d"}
	for name, c := range map[string]struct {
		held, barred map[string][]int
		happiness    int
		nowhere      []int
	}{
		"two change places": {map[string][]int{"c": {2}, "d": {3}}, map[string][]int{"a": {0}, "b": {1}}, 4, nil},
		"on top of another": {map[string][]int{"b": {1}, "c": {2}, "d": {3}}, map[string][]int{"a": {0}}, 3, nil},
		"no server at all":  {map[string][]int{"d": {3}}, map[string][]int{"a": {0}, "b": {0}, "c": {0}, "d": {0}}, 3, []int{0}},
	} {
		held, barred := holdings(c.held), holdings(c.barred)
		after := clone(held)
		placed := PlaceExcept(servers, nil, 4, held, barred)
		for share, server := range placed {
			if barred[server][share] {
				t.Errorf("%s: share %d to %s, where it cannot go", name, share, server)
			}
			after.Add(server, share)
		}
		for share := range 4 {
			if _, ok := placed[share]; ok == slices.Contains(c.nowhere, share) {
				t.Errorf("%s: share %d: %v", name, share, ok)
			}
		}
		if got := Happiness(after); got != c.happiness {
			t.Errorf("%s: happiness %d: %v", name, got, placed)
		}
	}
}
