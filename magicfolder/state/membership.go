package state

import (
	"slices"

	"warren/magicfolder/remote"
)

// Membership is the part of a folder's configuration that says who is in it, and
// where its Collective went. It holds secrets: capabilities.
type Membership struct {
	// AdminOnly: invites give out the Collective's readcap alone.
	AdminOnly bool `json:"admin_only,omitempty"`
	// ReadOnly: we have no Personal directory and publish nothing.
	ReadOnly bool `json:"read_only,omitempty"`
	// Admin is the author key of who may tell that the Collective has moved; empty:
	// nobody may. Board is the readcap of the directory where that one does.
	Admin []byte     `json:"admin,omitempty"`
	Board remote.Cap `json:"board,omitempty"`
	// Generation counts the moves.
	Generation uint64 `json:"generation,omitempty"`
	// Renew: our Personal directory is to be made anew, since somebody who was
	// removed can read it. Next is the new one, where another has to enter it for
	// us, and NextRead its readcap.
	Renew    bool       `json:"renew,omitempty"`
	Next     remote.Cap `json:"next,omitempty"`
	NextRead remote.Cap `json:"next_read,omitempty"`
	// Past are the writecaps of Personal directories that were ours, the newest
	// last: an entry that names one is ours, and who does not know the newer looks
	// there for our notes.
	Past []remote.Cap `json:"past,omitempty"`
	// Lost are those of Personal directories that the grid does not have any more: an
	// entry that names one is ours, and nothing is written there.
	Lost []remote.Cap `json:"lost,omitempty"`
}

// Clone shares nothing with m that a change could write to.
func (m Membership) Clone() Membership {
	m.Past, m.Lost = slices.Clone(m.Past), slices.Clone(m.Lost)
	return m
}

// MaxPast is how many directories Past and Lost keep each.
const MaxPast = 8
