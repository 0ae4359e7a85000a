package magicfolder

import (
	"fmt"
	"strings"
	"testing"
)

// Bob's directory shows a version that it showed before a later one, at once and after a
// restart: ignored, with an alarm, until it shows another.
func TestReplayedHeads(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("alice", true), w.add("bob", true)
	var heads []Cap
	for i := range 4 {
		b.write("f", fmt.Sprint("version ", i))
		w.settle()
		heads = append(heads, b.head("f"))
	}
	show := func(c Cap) {
		t.Helper()
		if err := b.client.Update(t.Context(), b.f.config().Personal, []Change{{Entry: Entry{Name: "f", Read: c}}}); err != nil {
			t.Fatal(err)
		}
		a.poll()
	}
	quiet := func() {
		t.Helper()
		if st := a.f.Status(); len(st.Alarms) != 0 {
			t.Errorf("alarms: %q", st.Alarms)
		}
	}
	quiet()
	for _, old := range heads[:3] {
		show(old)
		alarmed(t, a, "older version than before")
		a.restart()
		a.poll()
		alarmed(t, a, "older version than before")
		a.has(map[string]string{"f": "version 3"})
		for _, h := range a.f.headsOf("f") {
			if h.cap != heads[3] {
				t.Error("bob's old version counts")
			}
		}
		show(heads[3])
		quiet()
	}
	// It does not hold up ours, and what follows is taken.
	show(heads[1])
	a.write("f", "alice goes on")
	a.scan()
	if len(mustLines(t, a)) != 0 {
		t.Error("alice's version was not published")
	}
	b.poll()
	b.has(map[string]string{"f": "alice goes on"})
	w.settle()
	quiet()
	w.current()
	// A newcomer who never saw the later one has nothing to compare with.
	show(heads[0])
	alarmed(t, a, "older version than before")
	c := w.add("carol", true)
	c.poll()
	c.has(map[string]string{"f": "alice goes on"})
	for _, s := range a.f.Status().Alarms {
		if strings.Contains(s, "URI:") {
			t.Errorf("alarm %q", s)
		}
	}
}
