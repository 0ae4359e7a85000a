package gateway

import (
	"context"

	"warren/magicfolder"
	"warren/node/grid"
	"warren/node/mutable"
)

// Lost says whether a grid has a mutable directory no more, as magicfolder.Options.Lost
// demands it: before and after the question all servers that are known are connected, the
// same ones, each has answered, and what they hold makes no version. A share that is
// there and not ours to read may be one of a version: then it is not lost.
func Lost(ctx context.Context, servers *grid.Grid, slots *mutable.Store, dir magicfolder.Cap) (bool, error) {
	c, err := parse(dir)
	if err != nil {
		return false, err
	}
	before, all := present(servers)
	if !all {
		return false, nil
	}
	h, err := slots.Check(ctx, c, mutable.CheckOptions{})
	if err != nil {
		return false, err
	}
	if h.Recoverable() || len(h.Incompatible) > 0 || len(h.Troubles) > 0 || len(h.Responding) != len(before) {
		return false, nil
	}
	for _, id := range h.Responding {
		delete(before, id)
	}
	after, all := present(servers)
	return all && len(before) == 0 && len(after) == len(h.Responding), nil
}

// present lists the servers that are known; all: each is connected.
func present(servers *grid.Grid) (ids map[string]bool, all bool) {
	ids = map[string]bool{}
	for _, s := range servers.Servers() {
		if !s.Connected {
			return nil, false
		}
		ids[s.ID] = true
	}
	return ids, len(ids) > 0
}
