// Package conflict decides what happens when a participant's version of a file
// meets ours. It is a function from values to values: no clock, disk or grid.
//
// The rules, in one place:
//   - A version that ours descends from changes nothing; one that descends from
//     ours replaces it.
//   - Edit beats delete.
//   - Versions with equal contents never conflict: one of them is adopted.
//   - What one of us published stays in the history: where a version gives way
//     that descends from one which the other does not know, the outcome descends
//     from both.
//   - What nobody has seen of ours yet moves on top of theirs, because
//     magic-folder 24.3 never leaves a conflict that it has once seen. Our bytes
//     stay in place and theirs go to a conflict file.
//   - When both versions were published already, one side publishes a version
//     that descends from both. Which side is decided by comparing the two caps,
//     so that not both do; should the other side never do it (24.3 does not),
//     ours does after a wait.
package conflict

import "warren/magicfolder/remote"

// Relation of their version to our newest.
type Relation int

// Relations. What we have not published yet is related through its parents.
const (
	Unrelated Relation = iota
	Same
	Newer // theirs descends from ours
	Older // ours descends from theirs
)

// Version is one side of a decision.
type Version struct {
	Cap     remote.Cap
	Deleted bool
}

// Case is everything that a decision depends on.
type Case struct {
	Theirs Version
	// Ours is our newest version; None when we have never had the file. Its Cap
	// is empty while Pending.
	Ours Version
	None bool
	// Pending: our newest version has not been published.
	Pending bool
	// Mine: we are the author of our newest version.
	Mine     bool
	Relation Relation
	// Equal: both versions have the same bytes.
	Equal bool
	// Forked: ours descends from a version that theirs does not descend from.
	Forked bool
	// Waited: this same meeting of versions was seen long enough ago.
	Waited bool
}

// Action is what to do.
type Action int

// Actions.
const (
	// Nothing: ours stands.
	Nothing Action = iota
	// Take: their version goes to disk and becomes ours; pending ones of ours
	// (deletes only) are dropped.
	Take
	// Adopt: their version becomes ours, the disk is right already.
	Adopt
	// Rebase: our pending version becomes a child of theirs.
	Rebase
	// Conflict: their bytes go to a conflict file, ours stay in place and are
	// published as a child of theirs.
	Conflict
	// Await: the other side is to act; look again later.
	Await
	// Unite: Take, and then publish their bytes as a version that descends from both.
	Unite
	// Merge: our bytes, which are theirs, are published as a version that descends
	// from both.
	Merge
)

func (a Action) String() string {
	return [...]string{"nothing", "take", "adopt", "rebase", "conflict", "await", "unite", "merge"}[a]
}

// Decide says what to do. It is total: each Case has an Action.
func Decide(c Case) Action {
	switch {
	case c.None && c.Theirs.Deleted:
		return Adopt
	case c.None:
		return Take
	case c.Relation == Same || c.Relation == Older:
		return Nothing
	case c.Relation == Newer && !c.Pending:
		return Take
	}
	// Two lines of descent from here on.
	if c.Ours.Deleted && !c.Theirs.Deleted {
		if c.Forked {
			return Unite
		}
		return Take
	}
	if c.Theirs.Deleted && !c.Ours.Deleted {
		if c.Pending {
			return Rebase
		}
		return Nothing
	}
	if c.Ours.Deleted || c.Equal {
		switch {
		case !c.Pending && !c.Waited && c.Theirs.Cap >= c.Ours.Cap:
			return Await
		case !c.Forked:
			return Adopt
		case c.Pending:
			return Rebase
		}
		return Merge
	}
	if c.Pending || c.Waited || (c.Mine && c.Ours.Cap < c.Theirs.Cap) {
		return Conflict
	}
	return Await
}
