package dirnode

import (
	"slices"
	"testing"

	"warren/node/caps"
	"warren/node/mutable"
)

// What another writer replaced by an older state comes back, beside what it wrote; what
// it replaced by something of its own, or we removed, does not; and nothing is written
// when nothing is missing.
func TestUphold(t *testing.T) {
	for _, format := range []mutable.Format{mutable.SDMF, mutable.MDMF} {
		s := newServers(t, 5)
		d, other := newDirs(t, s, 3, 4, 5), newDirs(t, s, 3, 4, 5)
		dir, err := d.MakeIn(ctx, mutable.Kind{Format: format}, []Entry{NewEntry("old", caps.LIT{}, nil)})
		if err != nil {
			t.Fatal(err)
		}
		file, _ := readable(dir)
		before, _, err := other.Mutable.Read(ctx, file)
		if err != nil {
			t.Fatal(err)
		}
		changes := []Change{set("a", caps.LIT{Data: []byte("a")}), set("b", caps.LIT{Data: []byte("b")}), {Delete: true, Entry: Entry{Name: "old"}}}
		if err := d.Edit(ctx, dir, changes); err != nil {
			t.Fatal(err)
		}
		_, v, err := d.List(ctx, dir)
		if err != nil {
			t.Fatal(err)
		}
		if gone, err := d.Uphold(ctx, dir, changes); gone != 0 || err != nil {
			t.Errorf("%d gone: %v", gone, err)
		}
		if now, err := version(ctx, d, dir); now != v || err != nil {
			t.Errorf("nothing was missing, and version %v followed %v: %v", now, v, err)
		}
		// Tahoe's retry: the state of before, and its change.
		stale, err := Writable(dir).Apply(before, []Change{set("theirs", caps.LIT{}), set("b", caps.LIT{Data: []byte("their b")})}, vectorNow, false)
		if err != nil {
			t.Fatal(err)
		}
		if err := other.Mutable.Overwrite(ctx, dir, stale); err != nil {
			t.Fatal(err)
		}
		if gone, err := d.Uphold(ctx, dir, changes); gone != 1 || err != nil {
			t.Errorf("%d gone: %v", gone, err)
		}
		entries, _, err := other.List(ctx, dir)
		if err != nil || !slices.Equal(names(entries), []string{"a", "b", "old", "theirs"}) {
			t.Fatalf("%v: %v", names(entries), err)
		}
		if entries[1].Cap().Text() != (caps.LIT{Data: []byte("their b")}).Text() {
			t.Error("another's entry was replaced")
		}
	}
}
