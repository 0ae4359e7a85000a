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
	// NewKeys is what we, as the folder's admin, tell the others of those who came
	// again with another author key, oldest first.
	NewKeys []NewKey `json:"new_keys,omitempty"`
	// Awaited are those who were invited and have not been seen in the Collective yet:
	// when it moves, they have to hear of it too.
	Awaited []Awaited `json:"awaited,omitempty"`
	// Out are the author keys of those whom we have removed.
	Out [][]byte `json:"out,omitempty"`
}

// NewKey is a participant's change of author key.
type NewKey struct {
	Name string `json:"name"`
	Was  []byte `json:"was"`
	Key  []byte `json:"key"`
}

// Awaited is somebody who was invited.
type Awaited struct {
	Name string `json:"name"`
	Key  []byte `json:"key"` // author key
}

// Clone shares nothing with m that a change could write to.
func (m Membership) Clone() Membership {
	m.Past, m.Lost = slices.Clone(m.Past), slices.Clone(m.Lost)
	m.NewKeys, m.Awaited, m.Out = slices.Clone(m.NewKeys), slices.Clone(m.Awaited), slices.Clone(m.Out)
	return m
}

// MaxPast is how many directories Past and Lost keep each.
const MaxPast = 8
