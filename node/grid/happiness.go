package grid

import (
	"maps"
	"slices"
)

// Holdings says which share numbers each server (by ID) holds.
type Holdings map[string]map[int]bool

// Add notes that server holds share.
func (h Holdings) Add(server string, share int) {
	if h[server] == nil {
		h[server] = map[int]bool{}
	}
	h[server][share] = true
}

// Remove forgets that server holds share.
func (h Holdings) Remove(server string, share int) {
	delete(h[server], share)
	if len(h[server]) == 0 {
		delete(h, server)
	}
}

// Happiness is Tahoe's servers of happiness: the largest number of servers that
// can each be paired with a share of its own among those it holds. Any k servers
// of such a pairing hold k different shares.
// (docs/specifications/servers-of-happiness.rst)
func Happiness(h Holdings) int {
	servers := make([]string, 0, len(h))
	for server := range h {
		servers = append(servers, server)
	}
	slices.Sort(servers)
	return len(match(servers, func(server string) []int { return slices.Collect(maps.Keys(h[server])) }))
}

// Place decides which server each of the shares 0..total-1 goes to (or stays
// on). writable and readonly are server IDs in permuted order, without overlap;
// held says what they hold already. The answer has every share, unless there is
// no writable server, when it has those that readonly servers hold.
//
// The order is that of Tahoe's specification: as many read-only servers as
// possible keep a share of theirs, then as many writable ones as possible keep
// one of theirs, then the remaining servers take the remaining shares, those that
// nobody holds first, and what is left over stays where it is or goes to the servers
// with least. So the result reaches the highest happiness there is, leaves no share
// out, and has no more shares sent than these two need.
//
// For a file that nobody holds yet it is the placement of Tahoe 1.20: share i to
// server i modulo the number of servers. But Tahoe keeps its servers in a Python set,
// so that "server i" is another one in each of its processes; ours is the i-th in
// permuted order, as the specification wishes.
//
// Where shares exist, Tahoe 1.20 departs from its specification (happiness_upload.py).
// Its graph of existing shares gives every server every other server's shares
// (_servermap_flow_graph), so that it sends shares that are well placed once more and
// counts on read-only servers for shares that they do not have, which costs happiness; a
// writable server all of whose shares are counted for read-only ones gets nothing
// (share_placement, "new_peers.remove"); left-over shares are all heaped on the servers
// that hold some already. And mostly its answer depends on the order of its sets and on
// which server replied first. Where it does not, and nobody is passed over like that,
// ours is the same, but that ties go to the earlier server and not to the lower id.
// tests/interop/placement_test.go compares the two.
func Place(writable, readonly []string, total int, held Holdings) map[int]string {
	return PlaceExcept(writable, readonly, total, held, nil)
}

// PlaceExcept is Place where some servers cannot take some shares, since a damaged
// one is in the way: barred says which. A share that no server can take is not in
// the answer. With nothing barred it is Place.
func PlaceExcept(writable, readonly []string, total int, held, barred Holdings) map[int]string {
	all := slices.Concat(writable, readonly)
	// One matching for both kinds, read-only servers first: who is paired stays paired.
	placed := match(slices.Concat(readonly, writable), func(server string) []int { return held.shares(server, total) })
	load := map[string]int{}
	for _, server := range placed {
		load[server]++
	}
	idle := slices.DeleteFunc(slices.Clone(writable), func(server string) bool { return load[server] > 0 })
	var missing, spare []int // without a place yet: those that nobody holds, and the others
	for share := range total {
		switch _, done := placed[share]; {
		case done:
		case slices.ContainsFunc(all, func(server string) bool { return held[server][share] }):
			spare = append(spare, share)
		default:
			missing = append(missing, share)
		}
	}
	left := slices.Concat(missing, spare)
	for share, server := range match(idle, func(server string) []int {
		return slices.DeleteFunc(slices.Clone(left), func(share int) bool { return barred[server][share] })
	}) {
		placed[share] = server
		load[server]++
	}
	// least puts what has no place yet on the server with least of those that can have it.
	least := func(shares []int, servers []string, can func(server string, share int) bool) {
		for _, share := range shares {
			if _, done := placed[share]; done {
				continue
			}
			best := ""
			for _, server := range servers {
				if can(server, share) && (best == "" || load[server] < load[best]) {
					best = server
				}
			}
			if best != "" {
				placed[share] = best
				load[best]++
			}
		}
	}
	// What stays comes first: where the rest goes depends on it.
	least(spare, all, func(server string, share int) bool { return held[server][share] })
	least(missing, writable, func(server string, share int) bool { return !barred[server][share] })
	return placed
}

// shares is what server holds of the shares below total, in order.
func (h Holdings) shares(server string, total int) []int {
	var out []int
	for share := range h[server] {
		if share >= 0 && share < total {
			out = append(out, share)
		}
	}
	slices.Sort(out)
	return out
}

// match pairs as many servers as possible with one share each of those that choices
// gives for them, best first. Who is paired stays paired when others come, perhaps with
// another share; nobody changes while there is another way. The answer is by share.
func match(servers []string, choices func(server string) []int) map[int]string {
	edges := make(map[string][]int, len(servers))
	distinct := map[int]bool{}
	for _, server := range servers {
		edges[server] = choices(server)
		for _, share := range edges[server] {
			distinct[share] = true
		}
	}
	owner := map[int]string{}
	var visited map[int]bool
	// try finds server a share, moving others to another of theirs if need be.
	var try func(server string) bool
	try = func(server string) bool {
		for _, share := range edges[server] {
			if _, taken := owner[share]; !taken {
				owner[share] = server
				return true
			}
		}
		for _, share := range edges[server] {
			if !visited[share] {
				visited[share] = true
				if try(owner[share]) {
					owner[share] = server
					return true
				}
			}
		}
		return false
	}
	for _, server := range servers {
		if len(owner) == len(distinct) {
			break
		}
		visited = map[int]bool{}
		try(server)
	}
	return owner
}
