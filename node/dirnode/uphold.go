package dirnode

import (
	"context"
	"slices"

	"warren/node/caps"
)

// Uphold looks whether entries that Edit has set are there, and sets those that are
// not again: Tahoe-LAFS 1.20, when its write was refused because of ours, may replace
// the directory by what it was before and its own change. It says how many were gone.
//
// Whoever cares calls it some seconds after Edit and as long as others may be at work.
// An entry that somebody else removed on purpose looks the same; one that somebody
// replaced stays as it is. Removals are not repeated.
func (d *Dirs) Uphold(ctx context.Context, dir caps.WriteDir, changes []Change) (gone int, err error) {
	now := d.now()
	form := Writable(dir)
	err = d.Mutable.Modify(ctx, dir, func(old []byte) ([]byte, error) {
		children, err := form.children(old)
		if err != nil {
			return nil, err
		}
		missing := slices.DeleteFunc(slices.Clone(changes), func(ch Change) bool {
			_, found := slices.BinarySearchFunc(children, Normalize(ch.Entry.Name), byName)
			return found || ch.Delete
		})
		gone = max(gone, len(missing)) // of the first attempt: later ones see what it wrote
		if len(missing) == 0 {
			return nil, nil
		}
		return form.Apply(old, missing, now, true)
	})
	return gone, err
}
