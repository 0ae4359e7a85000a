package magicfolder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/rpc"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"warren/magicfolder/fsys"
	"warren/magicfolder/gridtest"
	"warren/magicfolder/remote"
)

// A participant in a process of its own, which is killed: this test binary, started
// again. The grid, the other participants and the clock that counts passages stay in
// the process of the tests; the two talk over the child's standard input and output.

// killVariable tells this test binary to be the participant that is killed.
const killVariable = "WARREN_TEST_KILLED_FOLDER"

// KillOrder is what a process is to do.
type KillOrder struct {
	State string // the database; its folder is "docs"
	Do    []KillVerb
	// Again: some of it may be done already.
	Again bool
	// Run: then it runs as a node's folder does, until it is stopped.
	Run bool
}

// KillVerb is scan, poll, poll for long, undelete, restore (of the oldest version), resolve (how) or
// remove (whom).
type KillVerb struct{ What, Path, How string }

var scans, polls = KillVerb{What: "scan"}, KillVerb{What: "poll"}

// warden is what the process of the tests does for the other one.
type warden struct {
	grid  *gridtest.Client
	order KillOrder
	// Held is the passage of a step that the process does not get over.
	step string
	n    int
	held chan struct{} // closed when it is there
	stop chan struct{} // closed when it is to end by itself
	gone chan struct{} // closed when it has ended

	mu     sync.Mutex // guards what follows
	passed map[string]int
	said   []string // errors of what it did
}

// Wire is a call of remote.Grid, or what it gives.
type Wire struct {
	Op      string
	Caps    []Cap
	Entries []Entry
	Changes []Change
	Data    []byte
	Version Version
	Asked   []Wire
	Err     string
}

var wireErrors = []error{ErrUnhappy, ErrUnavailable, ErrExists, ErrUnwatched}

func (w *Wire) fail(err error) {
	if err == nil {
		return
	}
	w.Err = err.Error()
	for _, known := range wireErrors {
		if errors.Is(err, known) {
			w.Err = known.Error()
		}
	}
}

func (w *Wire) err() error {
	for _, known := range wireErrors {
		if w.Err == known.Error() {
			return known
		}
	}
	if w.Err != "" {
		return errors.New(w.Err)
	}
	return nil
}

// Grid makes a call for the process.
func (d *warden) Grid(q Wire, out *Wire) error {
	ctx := context.Background()
	var a, b Cap
	var err error
	switch q.Op {
	case "PutFile":
		a, err = d.grid.PutFile(ctx, bytes.NewReader(q.Data), int64(len(q.Data)))
		out.Caps = []Cap{a}
	case "PutDirectory":
		a, err = d.grid.PutDirectory(ctx, q.Entries)
		out.Caps = []Cap{a}
	case "MakeDirectory":
		a, b, err = d.grid.MakeDirectory(ctx)
		out.Caps = []Cap{a, b}
	case "Get":
		var data bytes.Buffer
		err = d.grid.Get(ctx, q.Caps[0], &data)
		out.Data = data.Bytes()
	case "List":
		out.Entries, out.Version, err = d.grid.List(ctx, q.Caps[0])
	case "Update":
		err = d.grid.Update(ctx, q.Caps[0], q.Changes)
	case "Versions":
		for _, v := range d.grid.Versions(ctx, q.Caps) {
			one := Wire{Version: v.Version}
			one.fail(v.Err)
			out.Asked = append(out.Asked, one)
		}
	case "Lost":
		if gone, lerr := d.grid.Lost(ctx, q.Caps[0]); lerr != nil || !gone {
			err = errors.New("not lost")
		}
	case "ReadOnly":
		a, err = d.grid.ReadOnly(q.Caps[0])
		out.Caps = []Cap{a}
	case "Writable":
		if !d.grid.Writable(q.Caps[0]) {
			err = errors.New("not writable")
		}
	default:
		err = fmt.Errorf("no call %q", q.Op)
	}
	out.fail(err)
	return nil
}

// Order gives the process its order.
func (d *warden) Order(_ bool, out *KillOrder) error {
	*out = d.order
	return nil
}

// Pass hears of each passage of a step. From the one that it is held at the process
// gets no answer any more.
func (d *warden) Pass(step string, _ *bool) error {
	d.mu.Lock()
	d.passed[step]++
	here := step == d.step && d.passed[step] == d.n
	d.mu.Unlock()
	if here {
		close(d.held)
		<-d.gone
	}
	return nil
}

// Said hears the errors of what the process was to do.
func (d *warden) Said(all []string, _ *bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.said = all
	return nil
}

// Stopped answers when the process is to end.
func (d *warden) Stopped(bool, *bool) error {
	select {
	case <-d.stop:
	case <-d.gone:
	}
	return nil
}

// wired is the grid as the process sees it.
type wired struct{ c *rpc.Client }

func (g wired) call(ctx context.Context, q Wire) (Wire, error) {
	out := new(Wire) // the answer may still be written to it after we have gone
	call := g.c.Go("warden.Grid", q, out, make(chan *rpc.Call, 1))
	select {
	case <-ctx.Done():
		return Wire{}, ctx.Err()
	case <-call.Done:
	}
	if call.Error != nil {
		return Wire{}, call.Error
	}
	return *out, out.err()
}

func (g wired) one(ctx context.Context, q Wire) (Cap, error) {
	out, err := g.call(ctx, q)
	if err != nil {
		return "", err
	}
	return out.Caps[0], nil
}

func (g wired) PutFile(ctx context.Context, r io.Reader, size int64) (Cap, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return "", err
	}
	return g.one(ctx, Wire{Op: "PutFile", Data: data})
}

func (g wired) PutDirectory(ctx context.Context, entries []Entry) (Cap, error) {
	return g.one(ctx, Wire{Op: "PutDirectory", Entries: entries})
}

func (g wired) MakeDirectory(ctx context.Context) (write, read Cap, err error) {
	out, err := g.call(ctx, Wire{Op: "MakeDirectory"})
	if err != nil {
		return "", "", err
	}
	return out.Caps[0], out.Caps[1], nil
}

func (g wired) Get(ctx context.Context, file Cap, w io.Writer) error {
	out, err := g.call(ctx, Wire{Op: "Get", Caps: []Cap{file}})
	if err != nil {
		return err
	}
	_, err = w.Write(out.Data)
	return err
}

func (g wired) List(ctx context.Context, dir Cap) ([]Entry, Version, error) {
	out, err := g.call(ctx, Wire{Op: "List", Caps: []Cap{dir}})
	return out.Entries, out.Version, err
}

func (g wired) Update(ctx context.Context, dir Cap, changes []Change) error {
	_, err := g.call(ctx, Wire{Op: "Update", Caps: []Cap{dir}, Changes: changes})
	return err
}

func (g wired) Versions(ctx context.Context, dirs []Cap) []remote.Asked {
	all := make([]remote.Asked, len(dirs))
	out, err := g.call(ctx, Wire{Op: "Versions", Caps: dirs})
	for i := range all {
		if err != nil {
			all[i].Err = err
		} else {
			all[i] = remote.Asked{Version: out.Asked[i].Version, Err: out.Asked[i].err()}
		}
	}
	return all
}

func (g wired) Watch(context.Context, []Cap, []Version) (<-chan struct{}, error) {
	return nil, ErrUnwatched
}

func (g wired) ReadOnly(c Cap) (Cap, error) {
	return g.one(context.Background(), Wire{Op: "ReadOnly", Caps: []Cap{c}})
}

func (g wired) Writable(c Cap) bool {
	_, err := g.call(context.Background(), Wire{Op: "Writable", Caps: []Cap{c}})
	return err == nil
}

func (g wired) Lost(ctx context.Context, c Cap) (bool, error) {
	_, err := g.call(ctx, Wire{Op: "Lost", Caps: []Cap{c}})
	return err == nil, nil
}

// ahead is a clock that may be moved on.
type ahead struct {
	Clock
	by atomic.Int64
}

func (a *ahead) Now() time.Time { return a.Clock.Now().Add(time.Duration(a.by.Load())) }

// stdio is the way to the process of the tests.
type stdio struct {
	io.Reader
	io.WriteCloser
}

// passing is a disk of which each change is a step, before and after it.
type passing struct {
	fsys.FS
	pass func(step string) error
}

func (p passing) step(what string, do func() error) error {
	if err := p.pass("disk " + what); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	return p.pass("disk after " + what)
}

func (p passing) Place(staged, path string) error {
	return p.step("Place", func() error { return p.FS.Place(staged, path) })
}

func (p passing) Swap(staged, path string) error {
	return p.step("Swap", func() error { return p.FS.Swap(staged, path) })
}

func (p passing) Take(path, staged string) error {
	return p.step("Take", func() error { return p.FS.Take(path, staged) })
}

func (p passing) Rename(from, to string) error {
	return p.step("Rename", func() error { return p.FS.Rename(from, to) })
}

func (p passing) RemoveDir(path string) error {
	return p.step("RemoveDir", func() error { return p.FS.RemoveDir(path) })
}

func (p passing) Discard(staged string) error {
	return p.step("Discard", func() error { return p.FS.Discard(staged) })
}

func (p passing) Dress(staged, path string, kind fsys.Kind, exec *bool) (st fsys.State, err error) {
	err = p.step("Dress", func() error { st, err = p.FS.Dress(staged, path, kind, exec); return err })
	return st, err
}

// swiftly makes a folder that others wait for.
func swiftly(o *Options) {
	o.Clock, o.Poll, o.Settle, o.Linger = SystemClock(), 50*time.Millisecond, -1, -1
}

// beKilled is the life of the process.
func beKilled() error {
	c := rpc.NewClient(stdio{os.Stdin, os.Stdout})
	var order KillOrder
	if err := c.Call("warden.Order", true, &order); err != nil {
		return err
	}
	pass := func(step string) error { return c.Call("warden.Pass", step, new(bool)) }
	o := Options{Grid: wired{c}, Lost: wired{c}.Lost, StatePath: order.State, Fault: pass}
	if !order.Run {
		o.OpenFS = func(dir string) (fsys.FS, error) {
			disk, err := fsys.Open(dir)
			return passing{disk, pass}, err
		}
	}
	swiftly(&o)
	clock := &ahead{Clock: o.Clock}
	o.Clock = clock
	m, err := NewManager(o)
	if err != nil {
		return err
	}
	f, err := m.Folder("docs")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var said []string
	for _, v := range order.Do {
		err := v.do(ctx, f, clock)
		done := errors.Is(err, ErrNoConflict) || errors.Is(err, ErrNotDeleted) || errors.Is(err, ErrNoMember)
		if err != nil && !(order.Again && done) {
			said = append(said, v.What+": "+err.Error())
		}
	}
	if err := c.Call("warden.Said", said, new(bool)); err != nil {
		return err
	}
	if order.Run {
		go func() {
			c.Call("warden.Stopped", true, new(bool)) // or the other process has gone
			cancel()
		}()
		if err := m.Run(ctx); !errors.Is(err, context.Canceled) {
			return err
		}
	}
	return m.Close()
}

func (v KillVerb) do(ctx context.Context, f *Folder, clock *ahead) (err error) {
	switch v.What {
	case "scan":
		err = f.ScanNow(ctx)
	case "poll":
		err = f.PollNow(ctx)
	case "poll for long":
		for range lossLooks + 1 {
			if err = f.PollNow(ctx); err != nil && !errors.Is(err, ErrUnavailable) {
				return err
			}
			clock.by.Add(int64(lossEvery))
		}
	case "resolve":
		_, err = f.Resolve(ctx, Resolution{Path: v.Path, Keep: Keep(v.How)})
	case "restore":
		var oldest string // their numbers change
		if err = f.History(ctx, v.Path, 1000, func(v FileVersion) error { oldest = v.ID; return nil }); err == nil {
			_, err = f.Restore(ctx, v.Path, oldest)
		}
	case "undelete":
		_, err = f.Undelete(ctx, v.Path)
	case "remove":
		_, err = f.Remove(ctx, v.How)
	default:
		err = errors.New("no such verb")
	}
	return err
}

// child is a running process.
type child struct {
	*warden
	cmd    *exec.Cmd
	stderr bytes.Buffer
	err    error // of its end; to be read when it is gone
}

// start starts a process for a party that is closed. It does not get over the n-th
// passage of a step.
func (p *party) start(o KillOrder, step string, n int) *child {
	p.t.Helper()
	o.State = p.state
	c := &child{warden: &warden{grid: p.client, order: o, step: step, n: n, passed: map[string]int{},
		held: make(chan struct{}), stop: make(chan struct{}), gone: make(chan struct{})}}
	server := rpc.NewServer()
	self, err := os.Executable()
	if err == nil {
		err = server.RegisterName("warden", c.warden)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	c.cmd = exec.Command(self)
	c.cmd.Env = append(os.Environ(), killVariable+"=1", "TMPDIR="+p.temp())
	c.cmd.Dir = p.temp()
	c.cmd.Stderr = &c.stderr
	theirIn, in, err := os.Pipe()
	if err != nil {
		p.t.Fatal(err)
	}
	out, theirOut, err := os.Pipe()
	if err != nil {
		p.t.Fatal(err)
	}
	c.cmd.Stdin, c.cmd.Stdout = theirIn, theirOut
	err = c.cmd.Start()
	theirIn.Close()
	theirOut.Close()
	if err != nil {
		p.t.Fatal(err)
	}
	go server.ServeConn(stdio{out, in})
	go func() {
		c.err = c.cmd.Wait()
		close(c.gone)
		out.Close()
		in.Close()
	}()
	return c
}

// temp is a directory of the party's in which nothing is ever to be found.
func (p *party) temp() string { return filepath.Join(filepath.Dir(filepath.Dir(p.state)), "temp") }

// live waits for the end of a process: killed where it is held, or by itself.
func (c *child) live(t *testing.T) (killed bool) {
	t.Helper()
	select {
	case <-c.held:
		killed = true
	case <-c.gone:
	case <-time.After(2 * time.Minute):
		c.cmd.Process.Kill()
		<-c.gone
		t.Fatalf("the process does not come to an end: %s", c.stderr.String())
	}
	if killed {
		if err := c.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-c.gone
		if c.err == nil {
			t.Fatal("the process outlived that it was killed")
		}
		return true
	}
	if c.err != nil {
		t.Fatalf("the process: %v: %s", c.err, c.stderr.String())
	}
	if len(c.said) > 0 {
		t.Errorf("the process: %q", c.said)
	}
	return false
}

// killCase is something that a participant does, and is killed at.
type killCase struct {
	name string
	// base makes what there is before, and what the others did meanwhile; it gives who
	// is killed and who stays.
	base func(w *world, a, b *party) (killed, other *party)
	do   []KillVerb
	// want is what both have in the end, as look has it; but for own, which the one
	// who is killed has beside, and theirs, which the other has.
	want, own, theirs map[string]string
	// ends gives want and own where it depends on who is who; may be nil.
	ends func(killed, other *party) (want, own map[string]string)
	// kept are contents that are versions of a path for ever.
	kept map[string][]string
	// after looks at more, in the end.
	after func(w *world, killed, other *party)
}

// look gives all that is in a directory: "-" or "x" and the contents of a file, "> "
// and the target of a link, "/" for an empty directory.
func look(dir string) map[string]string {
	out := map[string]string{}
	filepath.WalkDir(dir, func(full string, d os.DirEntry, err error) error {
		rel, rerr := filepath.Rel(dir, full)
		if err != nil || rerr != nil || rel == "." {
			return nil
		}
		if d.Name() == fsys.Staging {
			return filepath.SkipDir
		}
		rel = filepath.ToSlash(rel)
		info, err := d.Info()
		switch {
		case err != nil:
		case d.IsDir():
			if list, err := os.ReadDir(full); err == nil && len(list) == 0 {
				out[rel] = "/"
			}
		case info.Mode()&os.ModeSymlink != 0:
			to, _ := os.Readlink(full)
			out[rel] = "> " + to
		default:
			data, _ := os.ReadFile(full)
			out[rel] = "-" + string(data)
			if info.Mode()&0o100 != 0 {
				out[rel] = "x" + string(data)
			}
		}
		return nil
	})
	return out
}

// left is what lies in the staging area and in the stash.
func (p *party) left() []string {
	var out []string
	for _, dir := range []string{filepath.Join(p.dir, fsys.Staging), p.state + ".stash"} {
		filepath.WalkDir(dir, func(full string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				out = append(out, full)
			}
			return nil
		})
	}
	return out
}

// around is all that lies beside the folders and states of a world's participants.
func around(root string, parties []*party) map[string]string {
	out := map[string]string{}
	filepath.WalkDir(root, func(full string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		for _, p := range parties {
			if full == p.dir || full == filepath.Dir(p.state) {
				return filepath.SkipDir
			}
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		data, _ := os.ReadFile(full)
		out[full] = fmt.Sprint(info.Mode(), info.ModTime().UnixNano(), string(data))
		return nil
	})
	return out
}

func merged(all ...map[string]string) map[string]string {
	out := map[string]string{}
	for _, m := range all {
		maps.Copy(out, m)
	}
	return out
}

// guest is a participant who is invited, with a real directory.
func (w *world) guest(name string) *party {
	w.t.Helper()
	p := &party{t: w.t, name: name, client: w.grid.Client(name), clock: w.clock}
	w.prepare(p)
	p.open()
	w.t.Cleanup(func() { p.m.Close() })
	first := w.parties[0]
	in, err := first.f.Introduction(name)
	if err != nil {
		w.t.Fatal(err)
	}
	p.f, err = p.m.Accept(w.t.Context(), Invitation{Name: "docs", Dir: p.dir, Participant: name, Collective: first.f.Collective(), Introduction: in})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := first.f.Admit(w.t.Context(), Admission{Name: name, Personal: p.f.Readcap(), Key: p.f.AuthorKey()}); err != nil {
		w.t.Fatal(err)
	}
	w.parties = append(w.parties, p)
	return p
}

// run lets it happen, killed at the n-th passage of a step (none: 0), and again where
// the same step comes first after that; then goes on as a node does. It gives the
// passages of the first life.
func (c killCase) run(t *testing.T, step string, n int) map[string]int {
	root := t.TempDir()
	w := newWorld(t)
	w.clock.now = time.Now().Add(-time.Hour)
	w.prepare = func(p *party) {
		p.dir = filepath.Join(root, p.name, "folder")
		p.state = filepath.Join(root, p.name, "state", "magicfolder.db")
		for _, dir := range []string{filepath.Dir(p.state), p.temp()} {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.WriteFile(filepath.Join(root, "secret"), []byte("outside"), 0o644); err != nil {
		t.Fatal(err)
	}
	a := w.add("alice", false)
	k, other := c.base(w, a, w.guest("bob"))
	if err := k.m.Close(); err != nil {
		t.Fatal(err)
	}
	before := around(root, w.parties)

	first := k.start(KillOrder{Do: c.do}, step, n)
	if killed := first.live(t); killed != (n > 0) && n < 2 { // of the later ones there may be fewer
		t.Fatalf("killed: %v", killed)
	}
	if n > 0 {
		k.start(KillOrder{Do: append(slices.Clone(c.do), scans, polls, scans, polls), Again: true}, step, 1).live(t)
	}

	// Now both run, until nothing is left to do.
	if err := other.m.Close(); err != nil {
		t.Fatal(err)
	}
	last := k.start(KillOrder{Do: c.do, Again: true, Run: true}, "", 0)
	o := Options{Grid: other.client, StatePath: other.state}
	swiftly(&o)
	var err error
	if other.m, err = NewManager(o); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- other.m.Run(ctx) }()
	if c.ends != nil {
		c.want, c.own = c.ends(k, other)
	}
	wantKilled, wantOther := merged(c.want, c.own), merged(c.want, c.theirs)
	deadline := time.Now().Add(time.Minute)
	for {
		ok := maps.Equal(look(k.dir), wantKilled) && maps.Equal(look(other.dir), wantOther) && len(k.left()) == 0 && len(other.left()) == 0
		if ok {
			break
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-last.gone:
			last.live(t)
			t.Fatal("the process ended")
		}
		if time.Now().After(deadline) {
			t.Errorf("after a minute %s has %q, want %q, and %s %q, want %q; left %q %q; %+v", k.name, look(k.dir), wantKilled,
				other.name, look(other.dir), wantOther, k.left(), other.left(), other.m.Status())
			break
		}
	}
	close(last.stop)
	last.live(t)
	cancel()
	<-ran
	if err := other.m.Close(); err != nil {
		t.Fatal(err)
	}

	// And once more by hand: it stays so.
	w.clock.now = time.Now()
	for _, p := range []*party{k, other} {
		p.open()
		if p.f, err = p.m.Folder("docs"); err != nil {
			t.Fatal(err)
		}
	}
	w.settle()
	for p, want := range map[*party]map[string]string{k: wantKilled, other: wantOther} {
		if got := look(p.dir); !maps.Equal(got, want) {
			t.Errorf("in the end %s has %q, want %q", p.name, got, want)
		}
		if left := p.left(); len(left) > 0 {
			t.Errorf("%s: left are %q", p.name, left)
		}
		if st := p.f.Status(); c.after == nil && st.State != StateCurrent {
			t.Errorf("%s: %+v", p.name, st)
		}
		for path, list := range c.kept {
			for _, data := range list {
				if !holdsVersion(t, p, path, data) {
					t.Errorf("%s: the version %q of %s is lost", p.name, data, path)
				}
			}
		}
	}
	if now := around(root, w.parties); !maps.Equal(now, before) {
		t.Errorf("outside the folder there is %q, was %q", now, before)
	}
	if c.after != nil {
		c.after(w, k, other)
	}
	return first.passed
}

// Killed at each passage of each step, and once more at the same step while it gets
// over that, a participant gets over it: nothing that anybody wrote is lost, nothing
// stays behind, nothing outside the folder is touched. Each step that the code names
// is passed.
func TestKilled(t *testing.T) {
	if underRace {
		t.Skip("it starts a process for each case, which takes minutes under -race: the Makefile runs it without")
	}
	var mu sync.Mutex // guards passed
	passed := map[string]bool{}
	t.Run("each", func(t *testing.T) {
		for _, c := range killCases {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				steps := c.run(t, "", 0)
				if t.Failed() {
					return
				}
				for step, n := range steps {
					mu.Lock()
					passed[step] = true
					mu.Unlock()
					for _, at := range slices.Compact([]int{1, n}) {
						t.Run(fmt.Sprint(step, " ", at), func(t *testing.T) {
							t.Parallel()
							c.run(t, step, at)
						})
					}
				}
			})
		}
	})
	named, _ := namedSteps(t)
	for step := range named {
		if !passed[step] {
			t.Errorf("nobody is killed at %q", step)
		}
	}
	for step := range passed {
		if !strings.HasPrefix(step, "disk ") && !named[step] {
			t.Errorf("%q is passed and not named", step)
		}
	}
}
