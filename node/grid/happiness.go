package grid

import "slices"

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
	return len(match(servers, h, func(int) bool { return true }))
}

// Place decides which server each of the shares 0..total-1 goes to (or stays
// on). writable and readonly are server IDs in permuted order, without overlap;
// held says what they hold already. The answer has every share, unless there is
// no writable server, when it has those that readonly servers hold.
//
// The order is that of Tahoe's specification: as many read-only servers as
// possible keep a share of theirs, then as many writable ones as possible keep
// one of theirs, then the remaining servers take the remaining shares, and what
// is left over stays where it is or goes to the servers with least. The result
// reaches the highest happiness there is, and for a file that nobody holds yet
// it is Tahoe's placement: share i to server i modulo the number of servers.
//
// Tahoe 1.20 departs from its specification where shares exist: its graph of
// existing shares gives every server every other server's shares
// (happiness_upload.py, _servermap_flow_graph), so that it moves shares that are
// well placed and counts on read-only servers for shares that they do not have;
// and it heaps all left-over shares on the servers that hold some already. We do
// what the specification says.
func Place(writable, readonly []string, total int, held Holdings) map[int]string {
	return PlaceExcept(writable, readonly, total, held, nil)
}

// PlaceExcept is Place where some servers cannot take some shares, since a damaged
// one is in the way: barred says which. A share that no server can take is not in
// the answer. With nothing barred it is Place.
func PlaceExcept(writable, readonly []string, total int, held, barred Holdings) map[int]string {
	placed := make(map[int]string, total)
	load := map[string]int{}
	put := func(share int, server string) {
		placed[share] = server
		load[server]++
	}
	free := func(share int) bool {
		_, taken := placed[share]
		return share >= 0 && share < total && !taken
	}

	for share, server := range match(readonly, held, free) {
		put(share, server)
	}
	for share, server := range match(writable, held, free) {
		put(share, server)
	}
	var idle []string
	for _, server := range writable {
		if load[server] == 0 {
			idle = append(idle, server)
		}
	}
	if len(barred) == 0 {
		next := 0
		for _, server := range idle {
			for next < total && !free(next) {
				next++
			}
			if next == total {
				break
			}
			put(next, server)
		}
	} else {
		able := Holdings{}
		for _, server := range idle {
			for share := range total {
				if free(share) && !barred[server][share] {
					able.Add(server, share)
				}
			}
		}
		for share, server := range match(idle, able, free) {
			put(share, server)
		}
	}
	for share := range total {
		if !free(share) {
			continue
		}
		best := ""
		for _, server := range writable {
			if held[server][share] && (best == "" || load[server] < load[best]) {
				best = server
			}
		}
		if best == "" {
			for _, server := range writable {
				if !barred[server][share] && (best == "" || load[server] < load[best]) {
					best = server
				}
			}
		}
		if best != "" {
			put(share, best)
		}
	}
	return placed
}

// match pairs as many of servers as possible with one allowed share each, of
// those that they hold. Servers that come first are paired first, with their
// lowest share if that costs nobody anything. The answer is by share.
func match(servers []string, held Holdings, allowed func(int) bool) map[int]string {
	edges := make(map[string][]int, len(servers))
	for _, server := range servers {
		var shares []int
		for share := range held[server] {
			if allowed(share) {
				shares = append(shares, share)
			}
		}
		slices.Sort(shares)
		edges[server] = shares
	}
	owner := map[int]string{}
	var visited map[int]bool
	// try finds server a share, moving others to another of theirs if need be.
	var try func(server string) bool
	try = func(server string) bool {
		for _, share := range edges[server] {
			if visited[share] {
				continue
			}
			visited[share] = true
			other, taken := owner[share]
			if !taken || try(other) {
				owner[share] = server
				return true
			}
		}
		return false
	}
	for _, server := range servers {
		visited = map[int]bool{}
		try(server)
	}
	return owner
}
