package magicfolder

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"warren/magicfolder/remote"
	"warren/magicfolder/scan"
)

// merges counts the versions with several parents in a file's history.
func (p *party) merges(key string) (n int) {
	p.t.Helper()
	seen := map[remote.Cap]bool{}
	for queue := []remote.Cap{p.head(key)}; len(queue) > 0; queue = queue[1:] {
		c := queue[0]
		if seen[c] {
			continue
		}
		seen[c] = true
		parents, err := p.f.parents(p.t.Context(), c)
		if err != nil {
			p.t.Fatal(err)
		}
		n += max(0, len(parents)-1)
		queue = append(queue, parents...)
	}
	return n
}

// race has all write to f and publish before anybody hears of another.
func (w *world) race(round int) {
	w.t.Helper()
	for _, p := range w.parties {
		p.write("f", fmt.Sprintf("round %d of %s", round, p.name))
	}
	var nest func(i int)
	nest = func(i int) {
		p := w.parties[i]
		var once sync.Once
		p.fault = func(step string) error {
			if step == "link.ready" && i+1 < len(w.parties) {
				once.Do(func() { nest(i + 1) })
			}
			return nil
		}
		p.scan()
		p.fault = nil
	}
	nest(0)
	for i, p := range w.parties {
		if i > 0 && p.head("f") == w.parties[0].head("f") {
			w.t.Fatal("there was no race")
		}
	}
}

// However often two or three collide, a file's history holds no more merges than
// magic-folder 24.3 bears, everybody comes to the same bytes, and nobody's are lost.
func TestMergesAreFew(t *testing.T) {
	for _, names := range [][]string{{"alice", "bob"}, {"alice", "bob", "carol"}} {
		t.Run(fmt.Sprint(len(names)), func(t *testing.T) {
			w := newWorld(t)
			for _, name := range names {
				w.add(name, true)
			}
			w.parties[0].write("f", "base")
			w.settle()
			rounds := 2*maxMerges + 2
			for round := range rounds {
				w.race(round)
				w.settle()
				w.settle()
				all := ""
				for _, p := range w.parties {
					tree := p.tree()
					if tree["f"] != w.parties[0].tree()["f"] {
						t.Fatalf("round %d: not converged: %q, %q", round, tree["f"], w.parties[0].tree()["f"])
					}
					if n := p.merges("f"); n > maxMerges {
						t.Fatalf("round %d: %d merges", round, n)
					}
					all += fmt.Sprint(tree)
				}
				for _, name := range names {
					text := fmt.Sprintf("round %d of %s", round, name)
					if !strings.Contains(all, text) && !holdsVersion(t, w.parties[0], "f", text) {
						t.Errorf("%s is lost", text)
					}
				}
				w.current()
				// Those who have looked at them throw the conflict files away.
				for _, p := range w.parties {
					for path := range p.tree() {
						if strings.Contains(path, scan.ConflictMark) {
							p.remove(path)
						}
					}
				}
			}
			if n := w.parties[0].merges("f"); n < maxMerges-1 {
				t.Errorf("only %d merges in %d rounds", n, rounds)
			}
		})
	}
}

// A resolution beyond the limit is a plain child of what most hold.
func TestResolveBeyondTheLimit(t *testing.T) {
	for _, keep := range []Keep{KeepMine, KeepTheirs} {
		w := newWorld(t)
		a, b := w.add("alice", true), w.add("bob", true)
		a.write("f", "base")
		w.settle()
		for round := range maxMerges {
			w.race(round)
			w.settle()
			w.settle()
			for _, p := range w.parties {
				p.remove("f.conflict-alice")
				p.remove("f.conflict-bob")
			}
		}
		if n := a.merges("f"); n != maxMerges {
			t.Fatalf("%d merges", n)
		}
		w.race(maxMerges)
		p, other := a, b
		if a.head("f") < b.head("f") {
			p, other = b, a
		}
		p.poll() // awaits
		theirs, yours := other.head("f"), other.tree()["f"]
		want := p.tree()["f"]
		if keep == KeepTheirs {
			want = yours
		}
		p.resolve(Resolution{Path: "f", Keep: keep})
		p.scan()
		if parents := p.known(p.head("f")).Parents; len(parents) != 1 || parents[0] != theirs {
			t.Errorf("%s: %d parents, theirs among them: %v", keep, len(parents), parents[0] == theirs)
		}
		w.settle()
		for _, q := range w.parties {
			if q.tree()["f"] != want {
				t.Errorf("%s: %s has %q, want %q", keep, q.name, q.tree(), want)
			}
		}
		w.current()
	}
}

// What somebody published and then deleted, while another edited the file, is in the
// history of what stands.
func TestForksStay(t *testing.T) {
	for _, theirs := range []string{"edit", "delete"} {
		t.Run(theirs, func(t *testing.T) {
			w := newWorld(t)
			a, b := w.add("alice", true), w.add("bob", true)
			a.write("f", "base")
			w.settle()
			// Bob publishes an edit and a delete; alice, who is away, something else.
			var once sync.Once
			a.fault = func(step string) error {
				if step == "link.ready" {
					once.Do(func() {
						b.write("f", "by bob, later deleted")
						b.scan()
						b.remove("f")
						b.scan()
					})
				}
				return nil
			}
			if theirs == "edit" {
				a.write("f", "by alice")
			} else {
				a.remove("f")
			}
			a.scan()
			a.fault = nil
			w.settle()
			w.settle()
			for _, p := range w.parties {
				if theirs == "edit" {
					p.has(map[string]string{"f": "by alice"})
				} else {
					p.has(map[string]string{})
				}
				if !holdsVersion(t, p, "f", "by bob, later deleted") {
					t.Errorf("%s: a version is lost: %+v", p.name, p.history("f", 0))
				}
			}
			w.current()
			if a.head("f") != b.head("f") {
				t.Error("the heads differ")
			}
		})
	}
}
