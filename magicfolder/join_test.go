package magicfolder

import (
	"errors"
	"strings"
	"testing"
)

// A newcomer who joins while too few servers take shares gets the files all the
// same, says why it is no participant yet, and becomes one by itself.
func TestJoinBelowHappy(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice", true)
	a.write("f", "for everybody")
	a.scan()
	a.poll()
	b := w.add("bob", true)
	b.client.Fail = func(op string) error {
		if op == "MakeDirectory" || op == "PutFile" || op == "PutDirectory" || op == "Update" {
			return ErrUnhappy
		}
		return nil
	}
	if err := b.f.PollNow(t.Context()); !errors.Is(err, ErrUnhappy) {
		t.Fatalf("error %v", err)
	}
	b.has(map[string]string{"f": "for everybody"})
	if st := b.f.Status(); st.State != StateWaiting || !strings.Contains(st.Reason, "too few") {
		t.Errorf("status %s: %s", st.State, st.Reason)
	}
	b.write("g", "bob's")
	if err := b.f.ScanNow(t.Context()); !errors.Is(err, ErrUnhappy) {
		t.Fatalf("error %v", err)
	}
	b.restart()
	b.client.Fail = nil
	b.poll()
	a.poll()
	a.has(map[string]string{"f": "for everybody", "g": "bob's"})
	w.settle()
	w.current()
}

// Joining asks the grid nothing; what is no Collective gets no entry from us.
func TestJoinOfWhatIsNoFolder(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice", true)
	write, _, err := a.client.MakeDirectory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f, err := a.m.Join(t.Context(), "other", t.TempDir(), "alice", write)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.PollNow(t.Context()); !errors.Is(err, ErrNotCollective) {
		t.Errorf("error %v", err)
	}
	entries, _, err := a.client.List(t.Context(), write)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 0 {
		t.Errorf("%d entries were left in it", len(entries))
	}
}
