package snapshot

import (
	"context"

	"warren/magicfolder/remote"
)

// MaxAncestors bounds how many versions one question about ancestry reads.
const MaxAncestors = 4096

// Parents returns the parents of a snapshot that it has read and checked.
type Parents func(ctx context.Context, c remote.Cap) ([]remote.Cap, error)

// IsAncestor says whether old is young or among its ancestors. It walks
// breadth first, because the usual answer is the parent; it ends on cyclic
// histories, and with ErrTooDeep beyond limit versions.
func IsAncestor(ctx context.Context, parents Parents, old, young remote.Cap, limit int) (bool, error) {
	if old == young {
		return true, nil
	}
	seen := map[remote.Cap]bool{young: true}
	queue := []remote.Cap{young}
	for len(queue) > 0 {
		next := queue[0]
		queue = queue[1:]
		ps, err := parents(ctx, next)
		if err != nil {
			return false, err
		}
		for _, p := range ps {
			if p == old {
				return true, nil
			}
			if !seen[p] {
				if len(seen) >= limit {
					return false, ErrTooDeep
				}
				seen[p] = true
				queue = append(queue, p)
			}
		}
	}
	return false, nil
}
