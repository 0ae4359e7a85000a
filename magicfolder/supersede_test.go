package magicfolder

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// versions gives the length of our history of a path.
func (p *party) versions(key string) int {
	p.t.Helper()
	n := 0
	for c := p.head(key); c != ""; n++ {
		s, err := p.f.version(p.t.Context(), c)
		if err != nil {
			p.t.Fatal(err)
		}
		c = ""
		if len(s.Parents) > 0 {
			c = s.Parents[0]
		}
	}
	return n
}

// A file that is saved again and again while the servers are away does not become
// a long history; edits that stood for a while stay, and so does what is linked.
func TestEditsInARowAreOneVersion(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("alice", true), w.add("bob", true)
	a.write("f", "first")
	w.settle()
	if n := a.versions("f"); n != 1 {
		t.Fatalf("%d versions", n)
	}
	// In the same second as the published one: that stays.
	a.client.Fail = func(string) error { return ErrUnhappy }
	for i := range 100 {
		a.write("f", fmt.Sprint("quick ", i))
		a.f.ScanNow(t.Context())
		w.clock.Add(4 * time.Second)
	}
	if line := mustLines(t, a)["f"]; len(line) != 1 || len(line[0].Parents) != 1 {
		t.Fatalf("captured: %+v", line)
	}
	if files, err := os.ReadDir(a.f.store.StashDir()); err != nil || len(files) != 1 {
		t.Errorf("in the stash: %v, %v", files, err)
	}
	w.clock.Add(6 * time.Second)
	a.write("f", "after a rest")
	a.f.ScanNow(t.Context())
	// A delete takes no edit's place.
	a.write("g", "to be deleted")
	a.f.ScanNow(t.Context())
	a.remove("f")
	a.f.ScanNow(t.Context())
	a.client.Fail = nil
	a.poll()
	w.settle()
	if n := a.versions("f"); n != 4 {
		t.Errorf("%d versions, want first, quick 99, after a rest, the delete", n)
	}
	b.has(map[string]string{"g": "to be deleted"})
	w.current()
}

// An edit does not throw away what is just being uploaded: else a file that is
// saved all the time would never arrive.
func TestEditsWhileUploading(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("alice", true), w.add("bob", true)
	w.settle()
	n := 0
	a.client.Fail = func(op string) error {
		if op == "PutDirectory" && n < 20 {
			n++
			a.mem.Write("f", fmt.Append(nil, "saved ", n))
			return a.f.scan(t.Context())
		}
		return nil
	}
	a.write("f", "saved 0")
	a.scan()
	a.client.Fail = nil
	if n < 4 {
		t.Fatalf("saved %d times while uploading", n)
	}
	b.poll()
	if tree := b.tree(); tree["f"] == "" {
		t.Error("nothing arrived while it was saved")
	}
	w.settle()
	b.has(map[string]string{"f": fmt.Sprint("saved ", n)})
}
