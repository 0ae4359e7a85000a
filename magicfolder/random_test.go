package magicfolder

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand"
	"strings"
	"sync"
	"testing"
	"time"

	"warren/magicfolder/fsys"
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
	if l.n%5 == 0 {
		data = strings.ReplaceAll(data, " ", "-")
	}
	l.alive[data] = p.name + " " + path
	if l.n%5 == 0 {
		p.mem.Symlink(data, path) // that stays inside
	} else {
		p.mem.Write(path, []byte(data))
	}
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
		switch rng.Intn(12) {
		case 10:
			if it, err := p.mem.Lstat(path); err == nil && it.Kind == fsys.Regular {
				p.mem.Chmod(path, rng.Intn(2) == 0)
			}
		case 11:
			if dir := []string{"e", "b", "g/h"}[rng.Intn(3)]; rng.Intn(3) > 0 {
				p.mem.Mkdir(dir)
			} else {
				p.mem.Rmdir(dir)
			}
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
			if x, y := w.parties[0].is(path), p.is(path); x != y {
				t.Errorf("not converged at %s: %s has %s, %s has %s", path, w.parties[0].name, x, p.name, y)
			}
			if tree[path] != first[path] {
				t.Errorf("not converged at %s: %s has %q, %s has %q", path, w.parties[0].name, first[path], p.name, tree[path])
			}
		}
		for _, dir := range []string{"e", "g/h"} {
			if x, y := w.parties[0].is(dir), p.is(dir); x != y {
				t.Errorf("directory %s: %s has %q, %s has %q", dir, w.parties[0].name, x, p.name, y)
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

// reachable are the caps of all versions of a path that a participant can reach from its
// own head and those of the others that it has seen; contents are their bytes.
func (p *party) reachable(key string) (list map[Cap]bool, contents map[string]bool) {
	p.t.Helper()
	rec, _, err := p.f.load(key)
	if err != nil {
		p.t.Fatal(err)
	}
	queue := []Cap{rec.Head}
	for _, h := range p.f.headsOf(key) {
		queue = append(queue, h.cap)
	}
	list, contents = map[Cap]bool{}, map[string]bool{}
	for len(queue) > 0 {
		c := queue[0]
		queue = queue[1:]
		if c == "" || list[c] {
			continue
		}
		list[c] = true
		s, err := p.f.version(p.t.Context(), c)
		if err != nil {
			p.t.Errorf("%s: a version of %q cannot be read: %v", p.name, key, err)
			continue
		}
		queue = append(queue, s.Parents...)
		if !s.Deleted() {
			var b bytes.Buffer
			if err := p.client.Get(p.t.Context(), s.Content, &b); err != nil {
				p.t.Errorf("%s: the bytes of a version of %q: %v", p.name, key, err)
			}
			contents[b.String()] = true
		}
	}
	return list, contents
}

// People edit, delete and rename offline, with scans and restarts between, and meet in
// any order: all know the same versions in the end, and each that was once captured is
// a file, a conflict file or in the history.
func TestOfflineEdits(t *testing.T) {
	for _, devices := range []int{2, 3} {
		for seed := range int64(50) {
			t.Run(fmt.Sprintf("%d devices %d", devices, seed), func(t *testing.T) {
				t.Parallel()
				offlineRun(t, devices, seed)
			})
		}
	}
}

func offlineRun(t *testing.T, devices int, seed int64) {
	rng := rand.New(rand.NewSource(seed))
	w := newWorld(t)
	for _, name := range []string{"alice", "bob", "carol"}[:devices] {
		w.add(name, true)
	}
	paths := []string{"a", "b/c", "b/d", "e"}
	must := map[string]string{} // content -> who had it where when it was captured
	n := 0
	write := func(p *party, path string) {
		n++
		p.mem.Write(path, fmt.Appendf(nil, "version %d by %s of %s%s", n, p.name, path, strings.Repeat(" long", n%3*20)))
	}
	remove := func(p *party, path string) {
		p.mem.Remove(path)
	}
	// An edit within moments of the one before stands for both: each is a while later.
	captured := func(p *party) {
		for path, data := range p.tree() {
			if !strings.Contains(path, scan.ConflictMark) {
				must[data] = p.name + " " + path
			}
		}
		w.clock.Add(6 * time.Second)
	}
	for _, path := range paths[:2] {
		write(w.parties[0], path)
	}
	w.settle()
	for range 3 {
		for _, p := range w.parties {
			p.client.Fail = func(string) error { return ErrUnavailable }
			for range 1 + rng.Intn(4) {
				path := paths[rng.Intn(len(paths))]
				switch rng.Intn(6) {
				case 0:
					remove(p, path)
				case 1:
					if data, ok := p.mem.Read(path); ok {
						remove(p, path)
						p.mem.Write(paths[rng.Intn(len(paths))], data)
					}
				default:
					write(p, path)
				}
				if rng.Intn(2) == 0 {
					if err := p.f.scan(t.Context()); err != nil {
						t.Fatal(err)
					}
					captured(p)
				}
				if rng.Intn(3) == 0 {
					p.restart()
				}
			}
		}
		for range 2 * devices {
			p := w.parties[rng.Intn(devices)]
			p.client.Fail = nil
			switch rng.Intn(3) {
			case 0:
				p.poll()
			case 1:
				p.scan()
				captured(p)
			case 2:
				p.restart()
			}
		}
	}
	for _, p := range w.parties {
		p.client.Fail = nil
		if err := p.f.scan(t.Context()); err != nil {
			t.Fatal(err)
		}
		captured(p)
	}
	for range 3 {
		w.settle()
	}
	w.current()
	found := map[string]bool{}
	conflicts := 0
	for _, p := range w.parties {
		for path, data := range p.tree() {
			found[data] = true
			if strings.Contains(path, scan.ConflictMark) {
				conflicts++
			}
		}
	}
	for _, path := range paths {
		first, contents := w.parties[0].reachable(path)
		for data := range contents {
			found[data] = true
		}
		for _, p := range w.parties[1:] {
			if list, _ := p.reachable(path); !maps.Equal(list, first) {
				t.Errorf("%s: %s knows %d versions, %s %d", path, w.parties[0].name, len(first), p.name, len(list))
			}
		}
	}
	lost := 0
	for data, who := range must {
		if !found[data] {
			lost++
			t.Errorf("lost: %.60q (%s)", data, who)
		}
	}
	t.Logf("%d writes, %d captured, %d conflict files", n, len(must), conflicts)
}
