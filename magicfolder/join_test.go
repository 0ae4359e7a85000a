package magicfolder

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
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

// A newcomer's write that hangs, its entry's or later its own directory's, keeps
// nobody's files from it.
func TestReadingBesideAWriteThatHangs(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice", true)
	a.write("f", "for everybody")
	a.scan()
	a.poll()
	b := w.add("bob", true)
	release := make(chan struct{})
	b.client.Fail = func(op string) error {
		if op == "Update" {
			<-release
		}
		return nil
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { // ends below, with ctx
		b.f.Run(ctx)
		close(ended)
	}()
	defer func() { stop(); <-ended }()
	until := func(what string, cond func() bool) {
		t.Helper()
		for limit := time.Now().Add(time.Minute); !cond(); time.Sleep(time.Millisecond) {
			if time.Now().After(limit) {
				close(release)
				t.Fatalf("%s: %+v", what, b.f.Status())
			}
		}
	}
	until("the first file", func() bool { return slices.Contains(b.mem.Files(), "f") })
	a.write("g", "a later one")
	a.scan()
	poke(b.f.wakePoll)
	until("a file written meanwhile", func() bool { return slices.Contains(b.mem.Files(), "g") })
	if st := b.f.Status(); st.State == StateCurrent {
		t.Errorf("state %q before it is a participant", st.State)
	}
	close(release)
	until("its own entry", func() bool {
		poke(b.f.wakePoll)
		return b.f.Status().State == StateCurrent
	})
	a.poll()
	if n := len(a.f.Status().Participants); n != 2 {
		t.Errorf("%d participants", n)
	}
}

// Whose own directory cannot be read for a while, its servers being away, gets what the
// others wrote, and publishes once it can be read.
func TestOwnDirectoryAway(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("alice", true), w.add("bob", true)
	a.write("f", "for everybody")
	w.settle()
	a.write("g", "for everybody, too")
	a.scan()
	b.write("f", "bob's")
	versions := 0
	b.client.Fail = func(op string) error {
		if op != "Version" {
			return nil
		}
		if versions++; versions == 3 { // of the Collective, of alice's, of our own
			return ErrUnavailable
		}
		return nil
	}
	if err := b.f.poll(t.Context()); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("error %v", err)
	}
	b.has(map[string]string{"f": "bob's", "g": "for everybody, too"})
	if st := b.f.Status(); st.State != StateOffline || !strings.Contains(st.Reason, "our directory") {
		t.Errorf("status %s: %s", st.State, st.Reason)
	}
	b.client.Fail = nil
	b.scan()
	w.settle()
	w.current()
	a.has(map[string]string{"f": "bob's", "g": "for everybody, too"})
}
