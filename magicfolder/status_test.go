package magicfolder

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"warren/magicfolder/remote"
	"warren/magicfolder/snapshot"
	"warren/magicfolder/state"
	"warren/magicfolder/upload"
)

var errBroken = errors.New("broken")

func (p *party) errorsAre(want ...string) {
	p.t.Helper()
	var got []string
	for _, e := range p.f.Status().Errors {
		got = append(got, e.Path)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		p.t.Errorf("%s: errors %q, want %q", p.name, got, want)
	}
}

// A file that could not be captured and is deleted by its user is no error any more.
func TestErrorEndsWithTheFile(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice", true)
	a.write("unreadable", "x")
	a.write("other", "y")
	a.fault = func(step string) error {
		if step == "capture.stashed" {
			return errBroken
		}
		return nil
	}
	a.scan()
	a.errorsAre("other", "unreadable")
	a.remove("unreadable")
	a.f.scan(t.Context(), "unreadable")
	a.errorsAre("other")
	a.fault = nil
	w.settle()
	a.errorsAre()
	w.current()
}

// A version that cannot be put in place is not downloaded again at each poll, is
// said to be a problem, and is taken when the way is free.
func TestBlockedVersionWaits(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("alice", false), w.add("bob", false)
	w.settle()
	b.write("way", "bob's file, where alice has a directory")
	a.write("way/f", strings.Repeat("large", 100))
	a.scan()
	b.poll()
	b.errorsAre("way/f")
	before := b.client.Calls("Get")
	for range 10 {
		b.poll()
		w.clock.Add(10 * time.Second)
	}
	if n := b.client.Calls("Get") - before; n != 0 {
		t.Errorf("%d downloads of what cannot be placed", n)
	}
	if st := b.f.Status(); st.State != StateProblem {
		t.Errorf("state %q, %q", st.State, st.Reason)
	}
	b.remove("way")
	w.settle()
	a.has(map[string]string{"way/f": strings.Repeat("large", 100)})
	b.has(map[string]string{"way/f": strings.Repeat("large", 100)})
	w.current()
}

// What fails for reasons that come with the download is tried ever less often, at
// once after Retry, and forgotten when the participant leaves.
func TestFailingDownloadsPause(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice", true)
	w.settle()
	m := newMallory(w, "mallory")
	nowhere := remote.Cap("URI:CHK:aaaaaaaaaaaaaaaaaaaaaaaaaa:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa:3:5:1000")
	m.publish("f", m.snapshot(snapshot.Metadata{Relpath: "f"}, nowhere))
	a.poll()
	a.errorsAre("f")
	tries := func(polls int, pause time.Duration) int {
		before := a.client.Calls("Get")
		for range polls {
			a.poll()
			w.clock.Add(pause)
		}
		return a.client.Calls("Get") - before
	}
	if n := tries(120, time.Second); n < 3 || n > 8 {
		t.Errorf("%d tries in two minutes", n)
	}
	w.clock.Add(2 * time.Minute)
	if n := tries(10, 2*time.Minute); n != 10 {
		t.Errorf("%d tries in ten polls of two minutes", n)
	}
	a.m.Retry()
	if n := tries(1, 0); n != 1 {
		t.Errorf("%d tries after Retry", n)
	}
	if err := m.g.Update(t.Context(), m.collective, []Change{{Entry: Entry{Name: "mallory"}, Delete: true}}); err != nil {
		t.Fatal(err)
	}
	a.poll()
	a.errorsAre()
	w.settle()
	w.current()
}

// A version of ours that gives way to another's while it is on its way up is no
// error of the file's.
func TestDroppedWhileUploading(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice", true)
	w.settle()
	a.write("f", "given up")
	if err := a.f.scan(t.Context()); err != nil {
		t.Fatal(err)
	}
	line := mustLines(t, a)["f"]
	if err := a.f.store.Update(func(tx *state.Tx) error { return tx.DropStashed(line[0]) }); err != nil {
		t.Fatal(err)
	}
	a.f.store.Discard(line)
	up := &upload.Uploader{Grid: a.client, Store: a.f.store, Key: a.f.key, Now: a.f.now}
	if err := up.Line(t.Context(), "alice", line); !errors.Is(err, upload.ErrMoved) {
		t.Errorf("error %v", err)
	}
}

// However many rounds it takes, everything goes up at once.
func TestManyRounds(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice", true)
	a.f.round = 1
	for i := range 100 {
		a.write(fmt.Sprint(i), "one round each")
	}
	a.scan()
	if n := len(mustLines(t, a)); n != 0 {
		t.Errorf("%d files are left", n)
	}
}
