package magicfolder

import (
	"errors"
	"fmt"
	"math/rand"
	"strings"
	"sync"
	"testing"
	"time"

	"warren/magicfolder/scan"
	"warren/magicfolder/state"
)

// ledger is what users wrote and nobody replaced knowingly: each must survive.
type ledger struct {
	alive map[string]string // content -> who wrote it where
	n     int
}

func (l *ledger) write(p *party, path string) {
	l.released(p, path)
	l.n++
	data := fmt.Sprintf("version %d by %s of %s", l.n, p.name, path)
	if l.n%3 == 0 {
		data += strings.Repeat(" long", 20)
	}
	l.alive[data] = p.name + " " + path
	p.mem.Write(path, []byte(data))
}

func (l *ledger) remove(p *party, path string) {
	l.released(p, path)
	p.mem.Remove(path)
}

func (l *ledger) released(p *party, path string) {
	if data, ok := p.mem.Read(path); ok {
		delete(l.alive, string(data))
	}
}

// Random users, crashes at random steps, and a grid that fails before or after
// applying: nobody's bytes are lost, and all converge.
func TestRandomInterleavings(t *testing.T) {
	for seed := range int64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { t.Parallel(); randomRun(t, seed) })
	}
}

// dice is a rand.Source for several goroutines: an upload asks the grid for two
// things at once.
type dice struct {
	mu     sync.Mutex // guards source
	source rand.Source
}

func (d *dice) Int63() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.source.Int63()
}

func (d *dice) Seed(seed int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.source.Seed(seed)
}

func randomRun(t *testing.T, seed int64) {
	rng := rand.New(&dice{source: rand.NewSource(seed)})
	w := newWorld(t)
	for _, name := range []string{"alice", "bob", "carol"}[:2+seed%2] {
		w.add(name, true)
	}
	l := &ledger{alive: map[string]string{}}
	paths := []string{"a", "b/c", "b/d"}
	calm := false
	for _, p := range w.parties {
		p.mem.Before = func(op, path string) {
			// The user saves in the last moment.
			if !calm && rng.Intn(10) == 0 && !strings.Contains(path, scan.ConflictMark) {
				l.write(p, path)
			}
		}
		p.client.Fail = func(op string) error {
			switch {
			case calm:
			case rng.Intn(60) == 0:
				return ErrUnhappy
			case rng.Intn(60) == 0:
				return ErrUnavailable
			}
			return nil
		}
		p.m.opt.Workers = 1
		p.f.opt.Workers = 1
	}
	crashes := 0
	crashing := func(p *party) {
		if rng.Intn(4) > 0 {
			p.fault = nil
			return
		}
		at := rng.Intn(12)
		p.fault = func(step string) error {
			if at--; at == 0 {
				return fmt.Errorf("%s: %w", step, errCrash)
			}
			return nil
		}
	}
	act := func(p *party, do func() error) {
		crashing(p)
		err := do()
		p.fault = nil
		if errors.Is(err, errCrash) {
			crashes++
			p.restart()
			p.f.opt.Workers = 1
		}
	}
	for range 120 {
		p := w.parties[rng.Intn(len(w.parties))]
		path := paths[rng.Intn(len(paths))]
		switch rng.Intn(10) {
		case 0, 1, 2:
			l.write(p, path)
		case 3:
			l.remove(p, path)
		case 4, 5:
			act(p, func() error { return p.f.ScanNow(t.Context()) })
		case 6, 7, 8:
			act(p, func() error { return p.f.PollNow(t.Context()) })
		case 9:
			w.clock.Add(time.Duration(rng.Intn(20)) * time.Second)
		}
	}
	calm = true
	for range 3 {
		w.settle()
	}
	found := map[string]bool{}
	for _, p := range w.parties {
		for _, data := range p.tree() {
			found[data] = true
		}
	}
	for data, who := range l.alive {
		if !found[data] {
			t.Errorf("lost: %q (%s)", data, who)
		}
	}
	conflicts := 0
	for _, p := range w.parties {
		for path := range p.tree() {
			if strings.Contains(path, scan.ConflictMark) {
				conflicts++
			}
		}
	}
	t.Logf("%d writes, %d alive, %d crashes, %d conflict files", l.n, len(l.alive), crashes, conflicts)
	first := w.parties[0].tree()
	for _, p := range w.parties {
		tree := p.tree()
		for _, path := range paths {
			if tree[path] != first[path] {
				t.Errorf("not converged at %s: %s has %q, %s has %q", path, w.parties[0].name, first[path], p.name, tree[path])
			}
		}
		if lines := mustLines(t, p); len(lines) > 0 {
			t.Errorf("%s: the stash is not empty", p.name)
		}
		if left, _ := p.mem.Staged(); len(left) > 0 {
			t.Errorf("%s: staged files are left: %d", p.name, len(left))
		}
	}
	w.current()
}

func mustLines(t testing.TB, p *party) map[string][]state.Stashed {
	t.Helper()
	lines, err := p.f.lines()
	if err != nil {
		t.Fatal(err)
	}
	return lines
}
