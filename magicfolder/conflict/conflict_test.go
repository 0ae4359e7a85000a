package conflict

import (
	"testing"
)

func TestDecide(t *testing.T) {
	theirs, ours := Version{Cap: "b"}, Version{Cap: "c"}
	gone := func(v Version) Version { v.Deleted = true; return v }
	for _, c := range []struct {
		name string
		in   Case
		want Action
	}{
		{"new to us", Case{Theirs: theirs, None: true}, Take},
		{"deleted before we knew it", Case{Theirs: gone(theirs), None: true}, Adopt},
		{"the same", Case{Theirs: theirs, Ours: theirs, Relation: Same}, Nothing},
		{"an old one", Case{Theirs: theirs, Ours: ours, Relation: Older}, Nothing},
		{"an old one, ours pending", Case{Theirs: theirs, Pending: true, Relation: Older}, Nothing},
		{"an old edit, ours deleted", Case{Theirs: theirs, Ours: gone(ours), Relation: Older}, Nothing},
		{"newer", Case{Theirs: theirs, Ours: ours, Relation: Newer}, Take},
		{"newer delete", Case{Theirs: gone(theirs), Ours: ours, Relation: Newer}, Take},
		{"made again", Case{Theirs: theirs, Ours: gone(ours), Relation: Newer}, Take},
		{"our pending delete, their edit", Case{Theirs: theirs, Ours: gone(Version{}), Pending: true}, Take},
		{"our published delete, their edit", Case{Theirs: theirs, Ours: gone(ours)}, Take},
		{"our pending edit, their delete", Case{Theirs: gone(theirs), Pending: true}, Rebase},
		{"our published edit, their delete", Case{Theirs: gone(theirs), Ours: ours, Mine: true}, Nothing},
		{"both deleted, ours pending", Case{Theirs: gone(theirs), Ours: gone(Version{}), Pending: true}, Adopt},
		{"both deleted, theirs first", Case{Theirs: gone(theirs), Ours: gone(ours)}, Adopt},
		{"both deleted, ours first", Case{Theirs: gone(ours), Ours: gone(theirs)}, Await},
		{"both deleted, ours first, waited", Case{Theirs: gone(ours), Ours: gone(theirs), Waited: true}, Adopt},
		{"equal, ours pending", Case{Theirs: theirs, Pending: true, Equal: true}, Adopt},
		{"equal, theirs first", Case{Theirs: theirs, Ours: ours, Equal: true, Mine: true}, Adopt},
		{"equal, ours first", Case{Theirs: ours, Ours: theirs, Equal: true, Mine: true}, Await},
		{"two edits, ours pending", Case{Theirs: theirs, Pending: true}, Conflict},
		{"two edits, ours first", Case{Theirs: ours, Ours: theirs, Mine: true}, Conflict},
		{"two edits, theirs first", Case{Theirs: theirs, Ours: ours, Mine: true}, Await},
		{"two edits, neither is mine", Case{Theirs: ours, Ours: theirs}, Await},
		{"two edits, waited", Case{Theirs: theirs, Ours: ours, Waited: true}, Conflict},
	} {
		if got := Decide(c.in); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// Over all cases: bytes of ours that differ are never given up for a delete, and
// of two sides that both published exactly one acts at once.
func TestDecideAlways(t *testing.T) {
	bools := []bool{false, true}
	for _, rel := range []Relation{Unrelated, Same, Newer, Older} {
		for i := range 1 << 7 {
			bit := func(n int) bool { return bools[i>>n&1] }
			c := Case{Theirs: Version{"a", bit(0)}, Ours: Version{"b", bit(1)}, None: bit(2), Pending: bit(3), Mine: bit(4),
				Equal: bit(5), Waited: bit(6), Relation: rel}
			got := Decide(c)
			if got.String() == "" {
				t.Fatal("no name")
			}
			if c.None || rel != Unrelated {
				continue
			}
			if c.Theirs.Deleted && !c.Ours.Deleted && (got == Take || got == Adopt) {
				t.Errorf("an edit gave way to a delete: %+v", c)
			}
			if !c.Theirs.Deleted && !c.Ours.Deleted && !c.Equal && (got == Take || got == Adopt || got == Nothing) {
				t.Errorf("two edits, and %v: %+v", got, c)
			}
			if c.Pending || c.Waited || !c.Mine || c.Theirs.Deleted || c.Ours.Deleted {
				continue
			}
			mirror := c
			mirror.Theirs, mirror.Ours = c.Ours, c.Theirs
			if a, b := got, Decide(mirror); (a == Await) == (b == Await) {
				t.Errorf("%v and %v: %+v", a, b, c)
			}
		}
	}
}
