package mailbox

import (
	"strings"
	"testing"
	"time"
)

// However fast strangers come, what they can make in the time that it lives does
// not fill the tables: when the flood ends, so does its harm.
func TestNoFloodFillsTheTables(t *testing.T) {
	l := Limits{}.withDefaults()
	short := l.ClaimBurst + int(longLife/l.ClaimEvery)
	long := l.LongBurst + int(l.Lifetime/l.LongEvery)
	if sum := short + long; sum >= l.Nameplates || sum >= l.Mailboxes {
		t.Errorf("%d short and %d long lives fill %d nameplates or %d mailboxes", short, long, l.Nameplates, l.Mailboxes)
	}
}

func TestNewMailboxesAreCounted(t *testing.T) {
	s := newServer(t, Limits{ClaimBurst: 2, ClaimEvery: time.Minute})
	a, b, c := s.side("a"), s.side("b"), s.side("c")
	a.open("x")
	a.send(`{"type": "ping", "ping": 1}`)
	a.expect("pong")
	b.open("y")
	b.send(`{"type": "ping", "ping": 1}`)
	b.expect("pong")
	c.open("z")
	c.refused("too many claims, try again later")
	c = s.side("c")
	c.open("x") // it is there
	c.send(`{"type": "ping", "ping": 1}`)
	c.expect("pong")
}

func TestLongLivesAreCounted(t *testing.T) {
	s := newServer(t, Limits{LongBurst: 1})
	s.side("a").allocate(`, "warren-v1": {"seconds": 7200, "digits": 6}`)
	b := s.side("b")
	b.send(`{"type": "allocate", "warren-v1": {"seconds": 7200, "digits": 6}}`)
	b.refused("too many long-lived mailboxes, try again later")
	s.side("c").allocate(`, "warren-v1": {"seconds": 3600}`)
	s.move(10 * time.Minute)
	s.side("d").allocate(`, "warren-v1": {"seconds": 7200, "digits": 6}`)
}

// The disk is bounded, and what ends makes room.
func TestDisk(t *testing.T) {
	s := newServer(t, Limits{Disk: 512 << 10})
	body := strings.Repeat("00", 60<<10)
	a := s.side("a")
	id := a.claim("7")
	a.open(id)
	for n := 0; ; n++ {
		a.add(strings.Repeat("x", n+1), body)
		var full bool
		for kind := ""; kind == ""; {
			switch m := a.next(); m["type"] {
			case "message":
				kind = "message"
			case "error":
				kind, full = "error", m["error"] == "mailbox server is full, try again later"
			}
		}
		if full {
			break
		}
		if n == 10 {
			t.Fatal("the disk is not bounded")
		}
	}
	a.send(`{"type": "close"}`)
	a.expect("closed")
	b := s.side("b")
	b.open(b.claim("8"))
	b.add("0", body)
	b.message("b", "0", body)
}

// A connection that only takes a place is ended.
func TestDeadlines(t *testing.T) {
	s := newServer(t, Limits{})
	now := time.Now()
	for name, c := range map[string]struct {
		client *client
		want   time.Time
	}{
		"unbound":        {&client{}, now.Add(bindTime)},
		"without box":    {&client{side: "a"}, now.Add(openTime)},
		"at its mailbox": {&client{side: "a", open: true}, time.Time{}},
		"done":           {&client{side: "a", closed: true}, now.Add(bindTime)},
	} {
		c.client.server, c.client.since = s.Server, now
		if got := c.client.deadline(); !got.Equal(c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// Who waits for a side that cancels hears it, now or later, and so does who comes
// with the code then.
func TestCancelIsTold(t *testing.T) {
	s := newServer(t, Limits{})
	a, b := s.side("a"), s.side("b")
	n := a.allocate(`, "warren-v1": {"seconds": 7200, "digits": 6}`)
	id := a.claim(n)
	a.open(id)
	a.add("pake", "aa")
	a.message("a", "pake", "aa")
	b.claim(n)
	b.open(id)
	b.message("a", "pake", "aa")
	a.send(`{"type": "release", "nameplate": %q, "warren-v1": {"reason": "cancelled"}}`, n)
	a.expect("released")
	a.send(`{"type": "close", "mailbox": %q, "mood": "lonely", "warren-v1": {"reason": "cancelled"}}`, id)
	a.expect("closed")
	b.refused("mailbox cancelled")
	b = s.side("b")
	b.open(id)
	b.message("a", "pake", "aa")
	b.refused("mailbox cancelled")
	c := s.side("c")
	c.send(`{"type": "claim", "nameplate": %q, "warren-v1": {"existing": true}}`, n)
	c.refused("nameplate cancelled")
	// Who has called it off may close again.
	a = s.side("a")
	a.open(id)
	a.message("a", "pake", "aa")
	a.send(`{"type": "close", "mood": "lonely", "warren-v1": {"reason": "cancelled"}}`)
	a.expect("closed")
}

// A number that was used lately is not given out: who still has the old code would
// spend the new one.
func TestUsedNumbersRest(t *testing.T) {
	s := newServer(t, Limits{})
	for range 9 {
		a := s.side("a")
		n := a.allocate("")
		if len(n) != 1 {
			t.Fatalf("nameplate %q", n)
		}
		a.send(`{"type": "release", "nameplate": %q}`, n)
		a.expect("released")
	}
	if n := s.side("b").allocate(""); len(n) != 2 {
		t.Errorf("nameplate %q is used again", n)
	}
	s.move(tombstoneLife)
	if n := s.side("c").allocate(""); len(n) != 1 {
		t.Errorf("nameplate %q", n)
	}
}
