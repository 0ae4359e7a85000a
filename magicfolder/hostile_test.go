package magicfolder

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"warren/magicfolder/gridtest"
	"warren/magicfolder/remote"
	"warren/magicfolder/snapshot"
)

// mallory holds the Collective's writecap and writes whatever she likes.
type mallory struct {
	t          testing.TB
	g          *gridtest.Client
	collective Cap
	dir        Cap // her Personal directory's writecap
	read       Cap
	name       string
	key        ed25519.PrivateKey
}

func newMallory(w *world, entryName string) *mallory {
	m := &mallory{t: w.t, g: w.grid.Client("mallory"), collective: w.parties[0].f.Collective(), name: "mallory"}
	m.key = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32))
	var err error
	if m.dir, m.read, err = m.g.MakeDirectory(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	m.set(m.collective, Entry{Name: entryName, Read: m.read})
	return m
}

func (m *mallory) set(dir Cap, e Entry) {
	m.t.Helper()
	if err := m.g.Update(m.t.Context(), dir, []Change{{Entry: e}}); err != nil {
		m.t.Fatal(err)
	}
}

func (m *mallory) file(data string) Cap {
	m.t.Helper()
	c, err := m.g.PutFile(m.t.Context(), strings.NewReader(data), int64(len(data)))
	if err != nil {
		m.t.Fatal(err)
	}
	return c
}

func (m *mallory) snapshot(meta snapshot.Metadata, content Cap) Cap {
	m.t.Helper()
	meta.Author.Key = m.key.Public().(ed25519.PublicKey)
	if meta.Author.Name == "" {
		meta.Author.Name = m.name
	}
	if meta.Modified == 0 {
		meta.Modified = 1_700_000_000
	}
	c, err := m.g.PutDirectory(m.t.Context(), snapshot.Entries(m.key, meta, content, m.file(string(meta.Encode())), 1))
	if err != nil {
		m.t.Fatal(err)
	}
	return c
}

func (m *mallory) publish(entry string, c Cap) { m.set(m.dir, Entry{Name: entry, Read: c}) }

func alarmed(t *testing.T, p *party, what string) {
	t.Helper()
	for _, a := range p.f.Status().Alarms {
		if strings.Contains(a, what) {
			return
		}
	}
	t.Errorf("no alarm about %q: %q", what, p.f.Status().Alarms)
}

func TestHostileParticipantNames(t *testing.T) {
	for _, name := range []string{"x/../../y", "..", ".", "", "a\nb", "a\x1b[31mb", "\u202egnp", "back\\slash", strings.Repeat("n", 300), "\xff\xfe"} {
		w := newWorld(t)
		a := w.add("alice", false)
		m := newMallory(w, name)
		m.publish("f", m.snapshot(snapshot.Metadata{Relpath: "f"}, m.file("evil")))
		a.write("f", "mine")
		a.scan()
		a.poll()
		a.has(map[string]string{"f": "mine"})
		alarmed(t, a, "is ignored")
	}
}

func TestHostileEntries(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice", false)
	a.write("mine", "untouched")
	a.scan()
	m := newMallory(w, "mallory")
	outside := filepath.Join(filepath.Dir(a.dir), "outside")
	evil := m.file("evil")
	for _, relpath := range []string{"../outside", "/abs", "a/../../outside", "a//b", "./x", ".", "..", "nul\x00", ".warren-staging/x",
		"x.conflict-alice", strings.Repeat("n", 256), strings.Repeat("d/", 3000) + "f", "a/"} {
		m.publish(snapshot.Mangle(relpath), m.snapshot(snapshot.Metadata{Relpath: relpath}, evil))
	}
	good := func(relpath string) Cap { return m.snapshot(snapshot.Metadata{Relpath: relpath}, evil) }
	// The path inside is another one than the entry's.
	m.publish("lie", good("mine"))
	m.publish("climb", good("../outside"))
	m.publish("@x", good("@x"))
	m.publish("tail@", good("tail@"))
	// Not snapshots at all.
	m.publish("file", evil)
	m.publish("mutable", m.read)
	m.publish("writecap", m.dir)
	m.publish("garbage", "URI:NONSENSE")
	m.publish("empty", "")
	dir, err := m.g.PutDirectory(t.Context(), []Entry{{Name: "content", Read: evil}})
	if err != nil {
		t.Fatal(err)
	}
	m.publish("half", dir)
	// A signature by another key than the one inside.
	meta := snapshot.Metadata{Relpath: "forged", Author: snapshot.Author{Name: "mallory", Key: make([]byte, 32)}}
	forged, err := m.g.PutDirectory(t.Context(), snapshot.Entries(m.key, meta, evil, m.file(string(meta.Encode())), 1))
	if err != nil {
		t.Fatal(err)
	}
	m.publish("forged", forged)
	m.publish("ok", good("ok"))
	for range 3 {
		a.poll()
	}
	a.has(map[string]string{"mine": "untouched", "ok": "evil"})
	if _, err := os.Lstat(outside); err == nil {
		t.Error("a file was written outside the folder")
	}
	alarmed(t, a, "is ignored")
	if n := len(a.f.Status().Alarms); n < 20 {
		t.Errorf("only %d alarms: %q", n, a.f.Status().Alarms)
	}
	for _, s := range a.f.Status().Alarms {
		if strings.Contains(s, "URI:") || strings.ContainsAny(s, "\n\x1b\x00") {
			t.Errorf("alarm %q", s)
		}
	}
}

func TestForgedAuthor(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("alice", true), w.add("bob", true)
	b.write("f", "by bob")
	a.write("h", "by alice")
	w.settle()
	m := newMallory(w, "mallory")
	m.publish("f", m.snapshot(snapshot.Metadata{Relpath: "f", Author: snapshot.Author{Name: "bob"}, Parents: []remote.Cap{b.head("f")}}, m.file("not by bob")))
	m.publish("g", m.snapshot(snapshot.Metadata{Relpath: "g", Author: snapshot.Author{Name: "alice"}}, m.file("not by alice")))
	w.settle()
	for _, p := range w.parties {
		p.has(map[string]string{"f": "by bob", "h": "by alice"})
		alarmed(t, p, "another key")
	}
	// Under her own name she is a participant like others.
	m.publish("f", m.snapshot(snapshot.Metadata{Relpath: "f", Parents: []remote.Cap{b.head("f")}}, m.file("by mallory")))
	w.settle()
	a.has(map[string]string{"f": "by mallory", "h": "by alice"})
	// A newcomer who meets the forgery first is not taken in either.
	m.publish("f", m.snapshot(snapshot.Metadata{Relpath: "f", Author: snapshot.Author{Name: "bob"}, Parents: []remote.Cap{b.head("f")}}, m.file("not by bob")))
	d := w.add("dora", true)
	w.settle()
	d.has(map[string]string{"h": "by alice"})
	alarmed(t, d, "own directory does not show")
	a.write("f", "by alice after all")
	w.settle()
	for _, p := range w.parties {
		p.has(map[string]string{"f": "by alice after all", "h": "by alice"})
	}
	// Bob relays what mallory wrote: that is no forgery.
	if st := b.f.Status(); st.State != StateCurrent {
		t.Errorf("%+v", st)
	}
}

func TestEndlessHistory(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice", true)
	a.write("f", "mine")
	a.scan()
	m := newMallory(w, "mallory")
	var parents []remote.Cap
	evil := m.file("evil")
	a.f.deep = 200
	for range 210 {
		parents = []remote.Cap{m.snapshot(snapshot.Metadata{Relpath: "f", Parents: parents}, evil)}
	}
	m.publish("f", parents[0])
	a.poll()
	a.has(map[string]string{"f": "mine"})
	alarmed(t, a, "history is longer")
	// And it does not hold up our own versions.
	a.write("f", "mine again")
	a.scan()
	if len(mustLines(t, a)) != 0 {
		t.Error("our version was not published")
	}
}

// Two newcomers who take one name, at once, and one whose entry is lost again.
func TestEnrolment(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice", true)
	b, c := w.add("bob", true), w.add("bob", true)
	b.poll()
	c.poll()
	if b.f.Participant() != "bob" || c.f.Participant() != "bob-2" {
		t.Errorf("names %q, %q", b.f.Participant(), c.f.Participant())
	}
	names := func() string {
		var out []string
		for _, p := range a.f.Status().Participants {
			out = append(out, p.Name)
		}
		return fmt.Sprint(out)
	}
	a.poll()
	if names() != "[alice bob bob-2]" {
		t.Errorf("participants %s", names())
	}
	// Somebody's program writes a stale version of the Collective over it.
	err := a.client.Update(t.Context(), a.f.Collective(), []Change{{Entry: Entry{Name: "bob-2"}, Delete: true}})
	if err != nil {
		t.Fatal(err)
	}
	a.poll()
	if names() != "[alice bob]" {
		t.Errorf("participants %s", names())
	}
	c.poll()
	a.poll()
	if names() != "[alice bob bob-2]" {
		t.Errorf("participants %s", names())
	}
	c.write("f", "still here")
	w.settle()
	a.has(map[string]string{"f": "still here"})
	// Another one takes the name while c is away: c takes the next one.
	m := newMallory(w, "eve")
	m.set(m.collective, Entry{Name: "bob-2", Read: m.read})
	c.poll()
	if got := c.f.Participant(); got != "bob-2-2" {
		t.Errorf("name %q", got)
	}
}

// Histories that never end, or only after all the time there is: what is read is
// bounded, read once, and an alarm where it is too much.
func TestHostileHistories(t *testing.T) {
	const most = snapshot.MaxAncestors + 10
	for name, c := range map[string]struct {
		make  func(w *world, m *mallory, of func(parents ...remote.Cap) Cap) Cap
		reads int
		alarm string
	}{
		"10,000 deep": {func(w *world, m *mallory, of func(parents ...remote.Cap) Cap) Cap {
			last := of()
			for range 10_000 {
				last = of(last)
			}
			return last
		}, most, "history is longer"},
		// Each has both of the level below: 2^300 ways, and 600 versions.
		"merges of merges": {func(w *world, m *mallory, of func(parents ...remote.Cap) Cap) Cap {
			x, y := of(), of()
			for range 300 {
				x, y = of(x, y), of(y, x)
			}
			return x
		}, 700, ""},
		// 64 parents each, the most that we take.
		"a bush": {func(w *world, m *mallory, of func(parents ...remote.Cap) Cap) Cap {
			level := []remote.Cap{of()}
			for range 70 {
				var next []remote.Cap
				for len(next) < snapshot.MaxParents {
					next = append(next, of(level...))
				}
				level = next
			}
			return level[0]
		}, most, "history is longer"},
		"a circle": {func(w *world, m *mallory, of func(parents ...remote.Cap) Cap) Cap {
			first := of()
			last := of(first)
			// The first now has the last as its parent.
			meta := snapshot.Metadata{Relpath: "f", Author: snapshot.Author{Name: m.name, Key: m.key.Public().(ed25519.PublicKey)}, Parents: []remote.Cap{last}}
			w.grid.Plant(first, snapshot.Entries(m.key, meta, m.file("evil"), m.file(string(meta.Encode())), 1))
			return last
		}, 10, ""},
		"its own parent": {func(w *world, m *mallory, of func(parents ...remote.Cap) Cap) Cap {
			c := of()
			meta := snapshot.Metadata{Relpath: "f", Author: snapshot.Author{Name: m.name, Key: m.key.Public().(ed25519.PublicKey)}, Parents: []remote.Cap{c}}
			w.grid.Plant(c, snapshot.Entries(m.key, meta, m.file("evil"), m.file(string(meta.Encode())), 1))
			return c
		}, 10, ""},
		"parents that are not there": {func(w *world, m *mallory, of func(parents ...remote.Cap) Cap) Cap {
			return of("URI:DIR2-CHK:aaaaaaaaaaaaaaaaaaaaaaaaaa:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa:3:5:1500")
		}, 100, ""},
		"65 parents": {func(w *world, m *mallory, of func(parents ...remote.Cap) Cap) Cap {
			parents := make([]remote.Cap, 65)
			for i := range parents {
				parents[i] = of()
			}
			return of(parents...)
		}, 10, "more than 64 parents"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			a := w.add("alice", true)
			a.write("f", "mine")
			a.scan()
			m := newMallory(w, "mallory")
			n := 0
			evil := m.file("evil")
			m.publish("f", c.make(w, m, func(parents ...remote.Cap) Cap {
				n++
				return m.snapshot(snapshot.Metadata{Relpath: "f", Author: snapshot.Author{Name: "mallory"}, Parents: parents,
					Modified: int64(n)}, evil)
			}))
			before := a.client.Calls("List")
			for range 5 {
				a.f.PollNow(t.Context())
				w.clock.Add(time.Minute)
			}
			if got := a.client.Calls("List") - before; got > c.reads {
				t.Errorf("%d versions were read", got)
			}
			if data, _ := a.mem.Read("f"); string(data) != "mine" {
				t.Errorf("alice's file is %q", data)
			}
			if c.alarm != "" {
				alarmed(t, a, c.alarm)
			}
			// And our own go on.
			a.write("f", "mine again")
			a.write("g", "another")
			a.f.ScanNow(t.Context())
			for range 3 {
				a.f.PollNow(t.Context())
				w.clock.Add(time.Minute)
			}
			if lines := mustLines(t, a); len(lines) != 0 {
				t.Errorf("our versions are not published: %v, %+v", lines, a.f.Status())
			}
		})
	}
}
