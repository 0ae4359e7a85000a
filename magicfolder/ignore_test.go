package magicfolder

import (
	"context"
	"strings"
	"testing"
	"time"

	"warren/magicfolder/scan"
)

// noted says whether a remark stands in the status at a path.
func (p *party) noted(path, what string) bool {
	for _, n := range p.f.Status().Notes {
		if n.Path == path && strings.Contains(n.Message, what) {
			return true
		}
	}
	return false
}

func TestIgnored(t *testing.T) {
	forms(t, func(t *testing.T, mem bool) {
		w := newWorld(t)
		a, b := w.add("alice", mem), w.add("bob", mem)
		a.write("build/old", "shared before")
		a.write("log.tmp", "shared before")
		w.settle()
		// From here on alice does not want them. Nobody's go for that.
		a.write(scan.IgnoreFile, "# of alice\nbuild/\n*.tmp\n!keep.tmp\n")
		a.write("d/"+scan.IgnoreFile, "/secret\n")
		a.write("d/secret", "alice's own")
		a.write("d/e/secret", "another one")
		a.write("keep.tmp", "kept")
		a.write("x.tmp", "alice's own")
		a.remove("build/old")
		a.write("log.tmp", "changed, and nobody hears of it")
		w.settle()
		want := map[string]string{"build/old": "shared before", "log.tmp": "shared before", "keep.tmp": "kept", "d/e/secret": "another one",
			scan.IgnoreFile: "# of alice\nbuild/\n*.tmp\n!keep.tmp\n", "d/" + scan.IgnoreFile: "/secret\n"}
		b.has(want)
		w.current()
		// The patterns came to bob with the file. What carol, on another program, sends
		// against them is not taken, and that is said.
		m := newMallory(w, "carol")
		m.send("build/new", "built")
		m.send("y.tmp", "temporary")
		m.send("fine", "fine")
		w.settle()
		want["fine"] = "fine"
		b.has(want)
		w.current()
		for _, p := range w.parties {
			if !p.noted("build/new", "is not taken") || !p.noted("y.tmp", "is not taken") || p.noted("fine", "") {
				t.Errorf("%s: notes %+v", p.name, p.f.Status().Notes)
			}
		}
		// Without the pattern it all arrives, without anybody doing anything else.
		b.write(scan.IgnoreFile, "build/\n")
		w.settle()
		w.settle()
		a.poll()
		tree := a.tree()
		if tree["y.tmp"] != "temporary" || tree["x.tmp"] != "alice's own" || tree["log.tmp"] != "changed, and nobody hears of it" || tree["build/new"] != "" {
			t.Errorf("alice has %q", tree)
		}
		if tree := b.tree(); tree["x.tmp"] != "alice's own" || tree["log.tmp"] != "changed, and nobody hears of it" {
			t.Errorf("bob has %q", tree)
		}
		w.current()
	})
}

// A newcomer takes nothing that the folder's own patterns leave out.
func TestNewcomerReadsThePatternsFirst(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice", true)
	a.write("a.tmp", "shared before the pattern")
	a.write("b", "b")
	w.settle()
	a.write("z/"+scan.IgnoreFile, "x\n")
	a.write(scan.IgnoreFile, "*.tmp\n")
	w.settle()
	b := w.add("bob", true)
	b.poll()
	b.scan()
	b.has(map[string]string{"b": "b", scan.IgnoreFile: "*.tmp\n", "z/" + scan.IgnoreFile: "x\n"})
	w.current()
}

func TestBadPatternsAreTold(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("alice", true), w.add("bob", true)
	a.write(scan.IgnoreFile, "*.o\nx[\n*.tmp\n")
	a.write("f.o", "o")
	a.write("f.tmp", "t")
	a.write("x[", "brackets")
	w.settle()
	if !a.noted(scan.IgnoreFile, `line 2 has no effect`) {
		t.Errorf("notes %+v", a.f.Status().Notes)
	}
	b.has(map[string]string{scan.IgnoreFile: "*.o\nx[\n*.tmp\n", "x[": "brackets"})
	a.write(scan.IgnoreFile, strings.Repeat("a\n", 2000))
	w.settle()
	if !b.noted(scan.IgnoreFile, "from line 1001 on") {
		t.Errorf("notes %+v", b.f.Status().Notes)
	}
	a.write(scan.IgnoreFile, "ok\n")
	w.settle()
	if a.noted(scan.IgnoreFile, "") || b.noted(scan.IgnoreFile, "") {
		t.Error("the note stays")
	}
}

// An event for the patterns alone changes what the rest is.
func TestPatternsByEvent(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice", true)
	a.write("f", "f")
	w.settle()
	a.write(scan.IgnoreFile, "f\n")
	a.poll() // which looks at them as well
	if err := a.f.scan(t.Context(), scan.IgnoreFile); err != nil {
		t.Fatal(err)
	}
	select {
	case <-a.f.wakeScan:
	default:
		t.Error("the folder is not looked at again")
	}
	a.write("f", "ignored")
	if err := a.f.scan(t.Context(), "f"); err != nil {
		t.Fatal(err)
	}
	if line := mustLines(t, a)["f"]; len(line) > 0 {
		t.Errorf("captured %+v", line)
	}
}

// A running folder: patterns that come and go, with nothing but file events.
func TestPatternsWhileRunning(t *testing.T) {
	w := newWorld(t)
	w.add("alice", false)
	p := w.parties[0]
	if err := p.m.Close(); err != nil {
		t.Fatal(err)
	}
	m, err := NewManager(Options{Grid: p.client, StatePath: p.state, Settle: 10 * time.Millisecond, Poll: time.Hour, Scan: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	defer func() { stop(); <-done; m.Close() }()
	f, err := m.Folder("docs")
	if err != nil {
		t.Fatal(err)
	}
	has := func(key string) func() bool {
		return func() bool { rec, _, err := f.load(key); return err == nil && rec.Linked != "" }
	}
	p.write(scan.IgnoreFile, "out/\n")
	until(t, has(scan.IgnoreFile))
	p.write("out/deep/a", "ignored")
	p.write("in/a", "not")
	until(t, has("in/a"))
	if has("out/deep/a")() {
		t.Error("what is ignored was captured")
	}
	// Without the pattern, what was there and what comes are both seen.
	p.write(scan.IgnoreFile, "other/\n")
	until(t, has("out/deep/a"))
	p.write("out/deep/b", "made later")
	until(t, has("out/deep/b"))
}
