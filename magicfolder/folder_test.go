package magicfolder

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"warren/magicfolder/fsys"
	"warren/magicfolder/gridtest"
	"warren/magicfolder/snapshot"
)

// hand is a clock that a test moves.
type hand struct {
	mu  sync.Mutex
	now time.Time
}

func (h *hand) Now() time.Time { h.mu.Lock(); defer h.mu.Unlock(); return h.now }

func (h *hand) Add(d time.Duration) { h.mu.Lock(); defer h.mu.Unlock(); h.now = h.now.Add(d) }

func (h *hand) After(time.Duration) (<-chan time.Time, func()) { return nil, func() {} }

// party is one participant: a manager over a shared grid with one folder.
type party struct {
	t      testing.TB
	name   string
	client *gridtest.Client
	clock  *hand
	state  string
	dir    string
	mem    *fsys.Memory // nil: a real directory
	fault  func(step string) error
	// faulting guards fault: workers meet it together.
	faulting sync.Mutex
	m        *Manager
	f        *Folder
}

type world struct {
	t       testing.TB
	grid    *gridtest.Grid
	clock   *hand
	parties []*party
	prepare func(p *party) // called before a participant's files are made
}

func newWorld(t testing.TB) *world {
	return &world{t: t, grid: gridtest.New(), clock: &hand{now: time.Unix(1_800_000_000, 0)}}
}

// add brings a participant in; the first one creates the folder.
func (w *world) add(name string, inMemory bool) *party {
	w.t.Helper()
	p := &party{t: w.t, name: name, client: w.grid.Client(name), clock: w.clock,
		state: filepath.Join(w.t.TempDir(), "magicfolder.db"), dir: filepath.Join(w.t.TempDir(), "folder")}
	if inMemory {
		p.mem = fsys.NewMemory()
	}
	if w.prepare != nil {
		w.prepare(p)
	}
	p.open()
	ctx := w.t.Context()
	var err error
	if len(w.parties) == 0 {
		p.f, err = p.m.Create(ctx, "docs", p.dir, name)
	} else {
		p.f, err = p.m.Join(ctx, "docs", p.dir, name, w.parties[0].f.Collective())
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.parties = append(w.parties, p)
	w.t.Cleanup(func() { p.m.Close() })
	return p
}

func (p *party) open() {
	p.t.Helper()
	o := Options{Grid: p.client, Lost: p.client.Lost, StatePath: p.state, Clock: p.clock, Settle: -1, Linger: -1, Poll: 5 * time.Second,
		Fault: func(step string) error {
			p.faulting.Lock()
			defer p.faulting.Unlock()
			if p.fault == nil {
				return nil
			}
			return p.fault(step)
		}}
	if testing.Verbose() && os.Getenv("FOLDER_LOG") != "" {
		o.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("party", p.name)
	}
	if p.mem != nil {
		o.OpenFS = func(string) (fsys.FS, error) { return p.mem, nil }
	}
	m, err := NewManager(o)
	if err != nil {
		p.t.Fatal(err)
	}
	p.m = m
}

// restart is a new process on the same disk and state.
func (p *party) restart() {
	p.t.Helper()
	p.fault = nil
	if err := p.m.Close(); err != nil {
		p.t.Fatal(err)
	}
	p.open()
	f, err := p.m.Folder("docs")
	if err != nil {
		p.t.Fatal(err)
	}
	p.f = f
}

func (p *party) write(path, data string) {
	p.t.Helper()
	if p.mem != nil {
		p.mem.Write(path, []byte(data))
		return
	}
	full := filepath.Join(p.dir, filepath.FromSlash(path))
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(data), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

func (p *party) remove(path string) {
	p.t.Helper()
	if p.mem != nil {
		p.mem.Remove(path)
		return
	}
	if err := os.Remove(filepath.Join(p.dir, filepath.FromSlash(path))); err != nil {
		p.t.Fatal(err)
	}
}

// tree is everything that the user sees.
func (p *party) tree() map[string]string {
	out := map[string]string{}
	if p.mem != nil {
		for _, path := range p.mem.Files() {
			data, _ := p.mem.Read(path)
			out[path] = string(data)
		}
		return out
	}
	filepath.WalkDir(p.dir, func(full string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if d != nil && d.Name() == fsys.Staging {
				return filepath.SkipDir
			}
			return err
		}
		data, _ := os.ReadFile(full)
		rel, _ := filepath.Rel(p.dir, full)
		out[filepath.ToSlash(rel)] = string(data)
		return nil
	})
	return out
}

func (p *party) has(want map[string]string) {
	p.t.Helper()
	got := p.tree()
	for path, data := range want {
		if got[path] != data {
			p.t.Errorf("%s: %q is %q, want %q (all: %q)", p.name, path, got[path], data, got)
		}
	}
	for path := range got {
		if _, ok := want[path]; !ok {
			p.t.Errorf("%s: unexpected %q = %q", p.name, path, got[path])
		}
	}
}

func (p *party) scan() {
	p.t.Helper()
	if err := p.f.ScanNow(p.t.Context()); err != nil {
		p.t.Fatalf("%s: scan: %v", p.name, err)
	}
}

func (p *party) poll() {
	p.t.Helper()
	if err := p.f.PollNow(p.t.Context()); err != nil {
		p.t.Fatalf("%s: poll: %v", p.name, err)
	}
}

// settle lets everybody scan and poll until nothing is left to do.
func (w *world) settle() {
	w.t.Helper()
	for range 8 {
		for _, p := range w.parties {
			p.scan()
			p.poll()
		}
		w.clock.Add(6 * time.Second)
	}
}

func (w *world) current() {
	w.t.Helper()
	for _, p := range w.parties {
		if st := p.f.Status(); st.State != StateCurrent {
			w.t.Errorf("%s: state %q, %q: %+v", p.name, st.State, st.Reason, st)
		}
	}
}

func forms(t *testing.T, do func(t *testing.T, inMemory bool)) {
	t.Run("disk", func(t *testing.T) { do(t, false) })
	t.Run("memory", func(t *testing.T) { do(t, true) })
}

func TestCreateEditDelete(t *testing.T) {
	forms(t, func(t *testing.T, mem bool) {
		w := newWorld(t)
		a, b := w.add("alice", mem), w.add("bob", mem)
		a.write("notes.txt", "one")
		a.write("dir/sub/@at", strings.Repeat("long ", 100))
		a.scan()
		b.poll()
		b.has(map[string]string{"notes.txt": "one", "dir/sub/@at": strings.Repeat("long ", 100)})
		b.write("notes.txt", "two!")
		b.scan()
		a.poll()
		a.has(map[string]string{"notes.txt": "two!", "dir/sub/@at": strings.Repeat("long ", 100)})
		a.remove("dir/sub/@at")
		a.scan()
		b.poll()
		b.has(map[string]string{"notes.txt": "two!"})
		if !mem {
			// Alice's directory is empty now, and there: so is bob's, until she removes it.
			if left, err := os.ReadDir(filepath.Join(b.dir, "dir", "sub")); err != nil || len(left) != 0 {
				t.Errorf("the emptied directory: %v, %v", left, err)
			}
			if err := os.RemoveAll(filepath.Join(a.dir, "dir")); err != nil {
				t.Fatal(err)
			}
			w.settle()
			if _, err := os.Stat(filepath.Join(b.dir, "dir")); !os.IsNotExist(err) {
				t.Error("the removed directory stayed")
			}
		}
		// Made again after the delete.
		b.write("dir/sub/@at", "again")
		b.scan()
		a.poll()
		a.has(map[string]string{"notes.txt": "two!", "dir/sub/@at": "again"})
		w.settle()
		w.current()
	})
}

func TestConflictKeepsBoth(t *testing.T) {
	forms(t, func(t *testing.T, mem bool) {
		w := newWorld(t)
		a, b := w.add("alice", mem), w.add("bob", mem)
		a.write("f", "base")
		w.settle()
		a.write("f", "from alice")
		b.write("f", "from bob!")
		a.scan()
		b.scan() // reads alice's head before linking
		b.has(map[string]string{"f": "from bob!", "f.conflict-alice": "from alice"})
		w.settle()
		a.has(map[string]string{"f": "from bob!"})
		b.has(map[string]string{"f": "from bob!", "f.conflict-alice": "from alice"})
		w.current()
		if st := b.f.Status(); len(st.Conflicts) != 1 || st.Conflicts[0].File != "f.conflict-alice" {
			t.Errorf("conflicts: %+v", st.Conflicts)
		}
		// A second conflict must not overwrite the first one's file.
		a.write("f", "alice again")
		b.write("f", "bob again!!")
		a.scan()
		b.scan()
		w.settle()
		b.has(map[string]string{"f": "bob again!!", "f.conflict-alice": "from alice", "f.conflict-alice.2": "alice again"})
		a.has(map[string]string{"f": "bob again!!"})
		if !mem {
			os.Remove(filepath.Join(b.dir, "f.conflict-alice"))
			os.Remove(filepath.Join(b.dir, "f.conflict-alice.2"))
			if st := b.f.Status(); len(st.Conflicts) != 0 {
				t.Errorf("removed conflict files are still reported: %+v", st.Conflicts)
			}
		}
	})
}

// Both link before either reads the other: the race that reading heads cannot
// close.
func TestConflictAfterRace(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("alice", true), w.add("bob", true)
	a.write("f", "base")
	w.settle()
	a.write("f", "from alice")
	b.write("f", "from bob!")
	var once sync.Once
	a.fault = func(step string) error {
		if step == "link.ready" {
			// Bob publishes between alice's look and her update.
			once.Do(b.scan)
		}
		return nil
	}
	a.scan()
	a.fault = nil
	w.settle()
	w.settle()
	ta, tb := a.tree(), b.tree()
	if ta["f"] != tb["f"] {
		t.Errorf("not converged: %q, %q", ta, tb)
	}
	for _, tree := range []map[string]string{ta, tb} {
		all := fmt.Sprint(tree)
		if !strings.Contains(all, "from alice") || !strings.Contains(all, "from bob!") {
			t.Errorf("a version is lost: %q", tree)
		}
		if len(tree) != 2 {
			t.Errorf("more files than needed: %q", tree)
		}
	}
	w.current()
}

func TestEditBeatsDelete(t *testing.T) {
	for _, race := range []bool{false, true} {
		t.Run(fmt.Sprint(race), func(t *testing.T) {
			w := newWorld(t)
			a, b := w.add("alice", true), w.add("bob", true)
			a.write("f", "base")
			w.settle()
			b.write("f", "edited by bob")
			a.remove("f")
			if race {
				var once sync.Once
				a.fault = func(step string) error {
					if step == "link.ready" {
						once.Do(b.scan)
					}
					return nil
				}
			} else {
				b.scan()
			}
			a.scan()
			a.fault = nil
			w.settle()
			a.has(map[string]string{"f": "edited by bob"})
			b.has(map[string]string{"f": "edited by bob"})
			w.current()
		})
	}
}

func TestDeleteLingers(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("alice", true), w.add("bob", true)
	for _, p := range w.parties {
		p.f.opt.Linger = 10 * time.Second
	}
	a.write("f", "base")
	a.write("g", "base")
	w.settle()
	base := a.head("f")
	// An edit made meanwhile wins, and nobody hears of the delete.
	a.remove("f")
	a.scan()
	if a.head("f") != base || a.f.Status().ToUpload.Files != 1 {
		t.Fatal("the delete did not wait")
	}
	w.clock.Add(9 * time.Second)
	b.write("f", "edited by bob")
	b.scan()
	w.clock.Add(2 * time.Second)
	a.scan()
	a.has(map[string]string{"f": "edited by bob", "g": "base"})
	if a.head("f") != b.head("f") {
		t.Error("alice published something of her own")
	}
	// Made again meanwhile: an edit, whose parent is what was there.
	was := a.head("g")
	a.remove("g")
	a.scan()
	a.write("g", "again")
	a.scan()
	rec, _, err := a.f.load("g")
	if err != nil {
		t.Fatal(err)
	}
	s, err := a.f.version(t.Context(), rec.Head)
	if err != nil || len(s.Parents) != 1 || s.Parents[0] != was {
		t.Errorf("parents %q, %v", s.Parents, err)
	}
	a.remove("g")
	a.scan()
	w.settle()
	b.has(map[string]string{"f": "edited by bob"})
	w.current()
}

func TestDeletedOnBothSides(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("alice", true), w.add("bob", true)
	a.write("f", "base")
	w.settle()
	a.remove("f")
	b.remove("f")
	var once sync.Once
	a.fault = func(step string) error {
		if step == "link.ready" {
			once.Do(b.scan)
		}
		return nil
	}
	a.scan()
	w.settle()
	a.has(map[string]string{})
	b.has(map[string]string{})
	w.current()
	if ha, hb := a.head("f"), b.head("f"); ha != hb {
		t.Error("the heads differ")
	}
}

func (p *party) head(key string) Cap {
	rec, _, err := p.f.load(key)
	if err != nil {
		p.t.Fatal(err)
	}
	return rec.Head
}

func TestSameContentIsNoConflict(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice", true)
	long := strings.Repeat("x", 100)
	a.write("f", long)
	a.scan()
	b := w.add("bob", true)
	b.write("f", long)
	b.scan()
	w.settle()
	a.has(map[string]string{"f": long})
	b.has(map[string]string{"f": long})
	if a.head("f") != b.head("f") {
		t.Error("the heads differ")
	}
	w.current()
}

// A snapshot's metadata stands in its capability, unless it is too long for that.
func TestMetadataInItsCapability(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("alice", true), w.add("bob", true)
	data := strings.Repeat("x", 100)
	deep := strings.Repeat(strings.Repeat("d", 200)+"/", 12) + "f" // longer than what is inlined
	for path, want := range map[string]struct {
		prefix string
		stored int
	}{"f": {"URI:LIT:", 0}, deep: {"URI:CHK:", 1}} {
		before := a.client.Calls("PutFile")
		a.write(path, data)
		a.scan()
		if n := a.client.Calls("PutFile") - before - 1; n != want.stored {
			t.Errorf("%.10s: %d files stored beside the content, want %d", path, n, want.stored)
		}
		entries, _, err := a.client.List(t.Context(), a.head(snapshot.Key(path)))
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, e := range entries {
			if e.Name == "metadata" {
				found = strings.HasPrefix(e.Read.Text(), want.prefix)
			}
		}
		if !found {
			t.Errorf("%.10s: metadata is no %s: %+v", path, want.prefix, entries)
		}
	}
	w.settle()
	b.has(map[string]string{"f": data, deep: data})
	w.current()
}

func TestUnhappyWaits(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("alice", true), w.add("bob", true)
	w.settle()
	a.write("f", "edit below happy")
	a.client.Fail = func(op string) error {
		if op == "PutFile" || op == "PutDirectory" || op == "Update" {
			return ErrUnhappy
		}
		return nil
	}
	if err := a.f.ScanNow(t.Context()); !errors.Is(err, ErrUnhappy) {
		t.Fatalf("error %v", err)
	}
	st := a.f.Status()
	if st.State != StateWaiting || st.ToUpload.Files != 1 || !strings.Contains(st.Reason, "too few") {
		t.Errorf("status %+v", st)
	}
	a.restart()
	if st := a.f.Status(); st.ToUpload.Files != 1 {
		t.Errorf("after a restart: %+v", st)
	}
	a.client.Fail = nil
	a.poll()
	b.poll()
	b.has(map[string]string{"f": "edit below happy"})
	w.settle()
	w.current()
}

func TestOfflineIsNotUpToDate(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice", true)
	w.settle()
	w.current()
	a.client.Fail = func(string) error { return ErrUnavailable }
	if err := a.f.PollNow(t.Context()); err == nil {
		t.Fatal("no error")
	}
	if st := a.f.Status(); st.State != StateOffline || st.Reason == "" {
		t.Errorf("status %+v", st)
	}
	a.client.Fail = nil
	a.poll()
	w.current()
	w.clock.Add(time.Hour)
	if st := a.f.Status(); st.State == StateCurrent {
		t.Error("up to date without having asked for an hour")
	}
}

func TestManySmallFilesCostOneUpdate(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("alice", false), w.add("bob", false)
	w.settle()
	for i := range 300 {
		a.write(fmt.Sprintf("d%d/f%d", i%7, i), fmt.Sprintf("content %d", i))
	}
	before := a.client.Calls("Update")
	start := time.Now()
	a.scan()
	b.poll()
	t.Logf("300 files in %v", time.Since(start))
	if n := a.client.Calls("Update") - before; n > 3 {
		t.Errorf("%d updates", n)
	}
	if got := len(b.tree()); got != 300 {
		t.Errorf("%d files arrived", got)
	}
	if n := b.client.Calls("Update"); n > 6 {
		t.Errorf("bob: %d updates", n)
	}
}

func TestRunsByItself(t *testing.T) {
	g := gridtest.New()
	var folders []*Folder
	var dirs []string
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	for i, name := range []string{"alice", "bob"} {
		m, err := NewManager(Options{Grid: g.Client(name), StatePath: filepath.Join(t.TempDir(), "db"),
			Poll: 50 * time.Millisecond, Settle: 20 * time.Millisecond, Linger: 100 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		wg.Go(func() { m.Run(ctx); m.Close() })
		var f *Folder
		if i == 0 {
			f, err = m.Create(ctx, "docs", dir, name)
		} else {
			f, err = m.Join(ctx, "docs", dir, name, folders[0].Collective())
		}
		if err != nil {
			t.Fatal(err)
		}
		folders, dirs = append(folders, f), append(dirs, dir)
	}
	until(t, func() bool { return folders[0].Status().State == StateCurrent })
	if err := os.MkdirAll(filepath.Join(dirs[0], "x/y"), 0o755); err != nil {
		t.Fatal(err)
	}
	os.WriteFile(filepath.Join(dirs[0], "x/y/f"), []byte("hello"), 0o644)
	arrived := func(path, want string) func() bool {
		return func() bool { data, _ := os.ReadFile(path); return string(data) == want }
	}
	until(t, arrived(filepath.Join(dirs[1], "x/y/f"), "hello"))
	os.WriteFile(filepath.Join(dirs[1], "x/y/f"), []byte("hello back"), 0o644)
	until(t, arrived(filepath.Join(dirs[0], "x/y/f"), "hello back"))
	os.Remove(filepath.Join(dirs[0], "x/y/f"))
	until(t, func() bool { _, err := os.Stat(filepath.Join(dirs[1], "x/y/f")); return os.IsNotExist(err) })
}

// until polls a condition that file events and goroutines make true.
func until(t *testing.T, cond func() bool) {
	t.Helper()
	deadline := time.After(2 * time.Minute)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-deadline:
			t.Fatal("the condition did not become true")
		case <-tick.C:
		}
	}
}
