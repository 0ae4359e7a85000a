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
		{"our pending delete of what they do not know, their edit", Case{Theirs: theirs, Ours: gone(Version{}), Pending: true, Forked: true}, Unite},
		{"our published delete of what they do not know, their edit", Case{Theirs: theirs, Ours: gone(ours), Forked: true}, Unite},
		{"equal, ours pending on what they do not know", Case{Theirs: theirs, Pending: true, Equal: true, Forked: true}, Rebase},
		{"equal, theirs first, ours on what they do not know", Case{Theirs: theirs, Ours: ours, Equal: true, Mine: true, Forked: true}, Merge},
		{"both deleted, theirs first, ours on what they do not know", Case{Theirs: gone(theirs), Ours: gone(ours), Forked: true}, Merge},
		{"two edits, waited", Case{Theirs: theirs, Ours: ours, Waited: true}, Conflict},
	} {
		if got := Decide(c.in); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// Over all cases: it is total; bytes of ours that differ are never given up for a
// delete, nor a version that theirs does not descend from; of two sides that both
// published, exactly one acts at once; and who has waited acts.
func TestDecideAlways(t *testing.T) {
	cases := 0
	for _, rel := range []Relation{Unrelated, Same, Newer, Older} {
		for i := range 1 << 8 {
			bit := func(n int) bool { return i>>n&1 == 1 }
			for _, caps := range [][2]Version{{{Cap: "a"}, {Cap: "b"}}, {{Cap: "b"}, {Cap: "a"}}} {
				c := Case{Theirs: caps[0], Ours: caps[1], None: bit(2), Pending: bit(3), Mine: bit(4),
					Equal: bit(5), Waited: bit(6), Forked: bit(7), Relation: rel}
				c.Theirs.Deleted, c.Ours.Deleted = bit(0), bit(1)
				cases++
				always(t, c)
			}
		}
	}
	if cases != 2048 {
		t.Errorf("%d cases", cases)
	}
}

func always(t *testing.T, c Case) {
	got := Decide(c)
	if got < Nothing || got > Merge || got.String() == "" || got != Decide(c) {
		t.Fatalf("%d: %+v", got, c)
	}
	if c.None {
		if got != Take && got != Adopt || (got == Take) == c.Theirs.Deleted {
			t.Errorf("%v of what is new to us: %+v", got, c)
		}
		return
	}
	if (c.Relation == Same || c.Relation == Older) && got != Nothing {
		t.Errorf("%v of what we have: %+v", got, c)
	}
	if c.Relation != Unrelated {
		return
	}
	drops := got == Take || got == Adopt
	if c.Theirs.Deleted && !c.Ours.Deleted && (drops || got == Unite || got == Conflict) {
		t.Errorf("an edit gave way to a delete: %v, %+v", got, c)
	}
	if !c.Theirs.Deleted && c.Ours.Deleted && got != Take && got != Unite {
		t.Errorf("a delete stood before an edit: %v, %+v", got, c)
	}
	if c.Forked && drops {
		t.Errorf("%v, and what ours descends from is lost: %+v", got, c)
	}
	if !c.Theirs.Deleted && !c.Ours.Deleted && !c.Equal && got != Conflict && got != Await {
		t.Errorf("two edits, and %v: %+v", got, c)
	}
	if (c.Pending || c.Waited) && got == Await {
		t.Errorf("waits for ever: %+v", c)
	}
	if c.Pending || c.Waited || !c.Mine || c.Theirs.Deleted != c.Ours.Deleted {
		return
	}
	mirror := c
	mirror.Theirs, mirror.Ours = c.Ours, c.Theirs
	if a, b := got, Decide(mirror); (a == Await) == (b == Await) {
		t.Errorf("%v and %v: %+v", a, b, c)
	}
}
