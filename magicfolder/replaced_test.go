package magicfolder

import (
	"testing"
	"time"
)

// A file becomes a directory: the others hear of it only when they have followed
// the delete, or have not for long.
func TestFileBecomesDirectory(t *testing.T) {
	for _, away := range []bool{false, true} {
		w := newWorld(t)
		a, b := w.add("alice", true), w.add("bob", true)
		for _, p := range w.parties {
			p.f.opt.Linger = 10 * time.Second
		}
		a.write("f", "a file")
		w.settle()
		a.remove("f")
		a.write("f/sub", "in a directory")
		a.write("g/sub", "unrelated")
		below := func(want bool) {
			t.Helper()
			a.scan()
			a.poll()
			if got := a.head("f/sub") != ""; got != want {
				t.Errorf("f/sub published: %v, want %v", got, want)
			}
		}
		below(false)
		if a.head("g/sub") == "" {
			t.Error("what stands elsewhere waits, too")
		}
		w.clock.Add(11 * time.Second)
		below(false)
		if away {
			w.clock.Add(2 * time.Minute)
			below(true)
		} else {
			b.poll()
			b.has(map[string]string{"g/sub": "unrelated"})
			a.poll()
			below(true)
		}
		w.settle()
		b.has(map[string]string{"f/sub": "in a directory", "g/sub": "unrelated"})
		w.current()
	}
}

// The scan may come to the new file first, and to the delete only later.
func TestFileBecomesDirectoryBeforeItsDeleteIsSeen(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("alice", true), w.add("bob", true)
	for _, p := range w.parties {
		p.f.opt.Linger = 10 * time.Second
	}
	a.write("f", "a file")
	a.write("g", "another")
	w.settle()
	a.write("g", "edited, not published")
	a.f.scan(t.Context())
	for _, name := range []string{"f", "g"} {
		a.remove(name)
		a.write(name+"/sub", "in a directory")
		a.f.keys.try(name) // somebody works on it
	}
	a.scan()
	a.poll()
	for _, name := range []string{"f", "g"} {
		if a.head(name+"/sub") != "" {
			t.Errorf("%s/sub was published before the delete of %s was captured", name, name)
		}
		a.f.keys.unlock(name)
	}
	w.settle()
	w.settle()
	b.has(map[string]string{"f/sub": "in a directory", "g/sub": "in a directory"})
	w.current()
}

// A name that the disk has in NFD is told in NFC and stays what it is here.
func TestDecomposedName(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("alice", false), w.add("bob", false)
	a.write("u\u0308ber", "one")
	w.settle()
	b.has(map[string]string{"\u00fcber": "one"})
	b.write("\u00fcber", "two")
	w.settle()
	a.has(map[string]string{"u\u0308ber": "two"})
	a.write("u\u0308ber", "three")
	w.settle()
	b.has(map[string]string{"\u00fcber": "three"})
	w.current()
}
