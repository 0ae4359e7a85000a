package mutable

import (
	"cmp"
	"slices"
	"strconv"

	"warren/node/grid"
	"warren/node/storage"
)

// absent is the test that a slot holds no share.
var absent = storage.TestVector{Size: 1}

// target is one share to be written.
type target struct {
	slot
	phase phase
}

// phase orders the writes of one publish; see Store.publish.
type phase int

const (
	phaseBase  phase = iota // shares of the version that the new one builds on, and all that is not newer
	phaseNewer              // shares of a newer version that is not whole
)

// candidate is a server as placement sees it.
type candidate struct {
	usable   bool // takes writes to shares that it has
	roomy    bool // takes new shares as well
	existing []target
}

// plan decides what is written where: each share that exists is replaced in its
// place, as Tahoe does; a share number without a home goes to the roomy server
// with the fewest shares, earlier in the permuted order first. When that leaves
// fewer than happy distinct servers (a file once made on too few), servers
// without a share get a second copy of one that stands in a crowd.
//
// servers are in permuted order; the result is by server.
func plan(servers []candidate, n, happy int) []target {
	var goal []target
	load := make([]int, len(servers))
	homes := make([]int, n)
	add := func(t target) {
		goal = append(goal, t)
		load[t.server]++
		homes[t.num]++
	}
	for _, c := range servers {
		for _, t := range c.existing {
			if c.usable && t.num < n {
				add(t)
			}
		}
	}
	var roomy []int
	for i, c := range servers {
		if c.usable && c.roomy {
			roomy = append(roomy, i)
		}
	}
	// The order is fixed before the first share is placed and then walked in
	// circles: Tahoe's way, so that the two put shares in the same places.
	slices.SortStableFunc(roomy, func(a, b int) int { return cmp.Compare(load[a], load[b]) })
	next := 0
	for num := range homes {
		if homes[num] > 0 || len(roomy) == 0 {
			continue
		}
		add(target{slot{roomy[next%len(roomy)], num, absent}, phaseBase})
		next++
	}
	for _, i := range roomy {
		if happiness(goal) >= happy {
			break
		}
		if load[i] > 0 {
			continue
		}
		if num, ok := crowded(goal, load, homes); ok {
			add(target{slot{i, num, absent}, phaseBase})
		}
	}
	slices.SortStableFunc(goal, func(a, b target) int { return cmp.Compare(a.server, b.server) })
	return goal
}

// crowded picks the share number with the fewest homes from the server with the
// most shares.
func crowded(goal []target, load, homes []int) (num int, ok bool) {
	best := -1
	for i, t := range goal {
		if load[t.server] < 2 {
			continue
		}
		if best < 0 {
			best = i
			continue
		}
		b := goal[best]
		if c := cmp.Or(cmp.Compare(load[b.server], load[t.server]), cmp.Compare(homes[t.num], homes[b.num])); c < 0 {
			best = i
		}
	}
	if best < 0 {
		return 0, false
	}
	return goal[best].num, true
}

// happiness is Tahoe's servers of happiness of what is placed.
func happiness(placed []target) int {
	held := grid.Holdings{}
	for _, t := range placed {
		held.Add(strconv.Itoa(t.server), t.num)
	}
	return grid.Happiness(held)
}
