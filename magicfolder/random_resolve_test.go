package magicfolder

import (
	"errors"
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"testing"
	"time"

	"warren/magicfolder/scan"
)

// People resolve conflicts one way and another, restore and undelete, while others do
// the same and all crash now and then: no version that was captured is lost, and all
// come to the same.
func TestRandomOutcomes(t *testing.T) {
	for seed := range int64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { t.Parallel(); outcomes(t, seed) })
	}
}

func outcomes(t *testing.T, seed int64) {
	rng := rand.New(rand.NewSource(seed))
	w := newWorld(t)
	for _, name := range []string{"alice", "bob", "carol"}[:2+seed%2] {
		w.add(name, true)
	}
	paths := []string{"a.txt", "b/c"}
	must := map[string]string{}
	did := map[string]int{}
	for _, path := range paths {
		w.parties[0].write(path, "base") // of what nobody has heard a delete leaves nothing
	}
	w.settle()
	act := func(p *party, what string, do func() error) bool {
		if rng.Intn(3) == 0 {
			at := rng.Intn(10)
			p.fault = func(step string) error {
				if at--; at == 0 {
					return fmt.Errorf("%s: %w", step, errCrash)
				}
				return nil
			}
		}
		err := do()
		p.faulting.Lock()
		p.fault = nil
		p.faulting.Unlock()
		switch {
		case err == nil:
			did[what]++
			return true
		case errors.Is(err, errCrash):
			did["crash"]++
			p.restart()
		case errors.Is(err, ErrNoConflict), errors.Is(err, ErrWhose), errors.Is(err, ErrOnlyCopy), errors.Is(err, ErrNotDeleted), errors.Is(err, ErrNoVersion):
		default:
			t.Errorf("%s: %s: %v", p.name, what, err)
		}
		return false
	}
	settle := func() {
		for range 2 {
			w.settle()
		}
	}
	for round := range 6 {
		for _, p := range w.parties {
			for _, path := range paths {
				if rng.Intn(4) == 0 {
					p.mem.Remove(path)
				} else {
					data := fmt.Sprintf("round %d by %s of %s%s", round, p.name, path, strings.Repeat(" long", rng.Intn(2)*20))
					p.mem.Write(path, []byte(data))
					must[data] = p.name + " " + path
				}
			}
			if err := p.f.scan(t.Context()); err != nil {
				t.Fatal(err)
			}
			w.clock.Add(6 * time.Second)
		}
		for range 12 {
			p := w.parties[rng.Intn(len(w.parties))]
			path := paths[rng.Intn(len(paths))]
			switch rng.Intn(7) {
			case 0, 1:
				act(p, "poll", func() error { return p.f.PollNow(t.Context()) })
			case 2:
				act(p, "scan", func() error { return p.f.ScanNow(t.Context()) })
			case 3, 4:
				keep := []Keep{KeepMine, KeepTheirs, KeepBoth}[rng.Intn(3)]
				act(p, "resolve "+string(keep), func() error {
					out, err := p.f.Resolve(t.Context(), Resolution{Path: path, Keep: keep})
					if err == nil && !slices.Contains(paths, out.Path) {
						t.Errorf("%+v", out)
					}
					return err
				})
			case 5:
				act(p, "restore", func() error {
					_, err := p.f.Restore(t.Context(), path, fmt.Sprint(1+rng.Intn(4)))
					return err
				})
			case 6:
				act(p, "undelete", func() error { _, err := p.f.Undelete(t.Context(), path); return err })
			}
			w.clock.Add(6 * time.Second)
		}
		if round%2 == 1 {
			settle()
		}
	}
	settle()
	w.current()
	found := map[string]bool{}
	made := map[string]bool{}
	for _, p := range w.parties {
		for path, data := range p.tree() {
			found[data] = true
			if !strings.Contains(path, scan.ConflictMark) {
				made[path] = true
			}
		}
		if left, _ := p.mem.Staged(); len(left) > 0 || len(mustLines(t, p)) > 0 {
			t.Errorf("%s: left %q, %d lines", p.name, left, len(mustLines(t, p)))
		}
	}
	for path := range made {
		for _, p := range w.parties {
			if p.tree()[path] != w.parties[0].tree()[path] {
				t.Errorf("%s: %s has %q, %s %q", path, w.parties[0].name, w.parties[0].tree()[path], p.name, p.tree()[path])
			}
		}
	}
	for _, path := range paths {
		_, contents := w.parties[0].reachable(path)
		for data := range contents {
			found[data] = true
		}
		if n := w.parties[0].merges(path); n > maxMerges {
			t.Errorf("%s: %d merges", path, n)
		}
	}
	for data, who := range must {
		if !found[data] {
			t.Errorf("lost: %.60q (%s)", data, who)
		}
	}
	t.Logf("%d versions, %v", len(must), did)
}
