package disk

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"warren/node/caps"
	"warren/node/storage"
)

// deadly is the real filesystem, and kills this process in place of a step.
type deadly struct {
	system
	// step is called before each step that changes something, with its name.
	step func(name string)
}

func (d deadly) open(name string, flag int) (handle, error) {
	if flag&os.O_CREATE != 0 {
		d.step("create " + kind(name))
	}
	h, err := d.system.open(name, flag)
	if err != nil {
		return nil, err
	}
	return deadlyFile{h, d.step}, nil
}

func (d deadly) mkdir(name string) error {
	d.step("make " + kind(name))
	return d.system.mkdir(name)
}

func (d deadly) makeAll(dir string) error {
	d.step("make " + kind(dir))
	return d.system.makeAll(dir)
}

func (d deadly) rename(from, to string) error {
	d.step("rename " + kind(from) + " to " + kind(to))
	return d.system.rename(from, to)
}

func (d deadly) remove(name string) error {
	d.step("remove " + kind(name))
	return d.system.remove(name)
}

func (d deadly) removeAll(dir string) error {
	d.step("remove all of " + kind(dir))
	return d.system.removeAll(dir)
}

func (d deadly) copy(to, from handle) error {
	d.step("copy share")
	return d.system.copy(to.(deadlyFile).handle, from.(deadlyFile).handle)
}

func (d deadly) sync(files []handle, dirs ...string) error {
	var kinds []string
	inner := make([]handle, 0, len(files))
	for _, f := range files {
		kinds = append(kinds, kind(f.Name()))
		inner = append(inner, f.(deadlyFile).handle)
	}
	for _, dir := range dirs {
		kinds = append(kinds, kind(dir))
	}
	slices.Sort(kinds)
	d.step("sync " + strings.Join(slices.Compact(kinds), ", "))
	return d.system.sync(inner, dirs...)
}

func (d deadly) writeFile(name string, data []byte) error {
	d.step("write " + kind(name))
	if err := d.system.writeFile(name, data); err != nil {
		return err
	}
	d.step("answer for " + kind(name))
	return nil
}

type deadlyFile struct {
	handle
	step func(name string)
}

func (f deadlyFile) WriteAt(p []byte, off int64) (int, error) {
	f.step("write " + kind(f.Name()))
	return f.handle.WriteAt(p, off)
}

// killed is what is done to a server that is killed in each of its steps: each kind
// of change, on a fresh directory and on one that has something already.
var killed = []op{
	upload(numbered(1, 1), 700, 0, 3),
	upload(numbered(1, 2), 100, 0),
	lease(numbered(1, 1), 2),
	lease(numbered(1, 1), 2),
	change(numbered(1, 3), 1, 300, []int{0, 1}, nil),
	change(numbered(1, 3), 2, 1500, []int{1, 2}, []int{0}),
	lease(numbered(1, 3), 2),
	lease(numbered(1, 3), 4),
	lease(numbered(1, 3), 6),
	lease(numbered(1, 3), 8),
	lease(numbered(1, 3), 2),
	advise(storage.Mutable, numbered(1, 3), 1),
	change(numbered(1, 3), 3, 0, nil, []int{1, 2}),
	expire(numbered(1, 1), 0),
	expire(numbered(1, 1), 3),
}

// wantSteps are the steps in which the server must have been killed.
var wantSteps = []string{
	"remove all of incoming", "make incoming", "make advisories",
	"create draft", "write draft", "sync draft", "make prefix", "make bucket", "rename draft to share",
	"sync bucket, prefix, shares", "sync bucket, prefix", "sync bucket", "answered",
	"write share", "sync share", "copy share", "remove share", "remove bucket", "sync prefix",
	"write advisory", "answer for advisory",
}

// killVariable tells this test binary to be the server that is killed: its order.
const killVariable = "WARREN_TEST_KILL"

type killOrder struct {
	Dir string
	// Step is the one that it does not live to make.
	Step int
}

func TestMain(m *testing.M) {
	if text := os.Getenv(killVariable); text != "" {
		var o killOrder
		if err := json.Unmarshal([]byte(text), &o); err != nil {
			panic(err)
		}
		if err := beKilled(o); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// beKilled does the ops, says each that is acknowledged on its standard output, and
// kills itself. It returns if there are fewer steps.
func beKilled(o killOrder) error {
	left := o.Step
	step := func(name string) {
		if left--; left >= 0 {
			return
		}
		fmt.Printf("step %s\n", name)
		self, err := os.FindProcess(os.Getpid())
		if err == nil {
			err = self.Kill()
		}
		if err != nil {
			panic(err)
		}
		select {} // Windows and others take their time
	}
	real, err := newSystem(o.Dir)
	if err != nil {
		return err
	}
	w, err := newWorld(deadly{real, step}, o.Dir)
	if err != nil {
		return err
	}
	for _, op := range killed {
		if err := op.do(w.client); err != nil {
			return fmt.Errorf("%s: %w", op.name, err)
		}
		fmt.Println("acknowledged")
		step("answered")
		w.now = w.now.Add(day)
	}
	return w.server.Close()
}

// TestKilled kills a server with signal 9 in place of each of its steps, and starts
// another on what it left: what it had acknowledged is there; of the change that it
// was at, each share is there whole, or not at all, or as before; nothing is there
// twice, and nothing takes room that nobody can read.
func TestKilled(t *testing.T) {
	after := outcomes(t, killed, day)
	var mu sync.Mutex
	seen := map[string]int{} // mu guards it
	live := false            // and this: a server had fewer steps
	top := t.TempDir()
	var wg sync.WaitGroup
	slots := make(chan struct{}, 4)
	for n := 0; ; n++ {
		slots <- struct{}{}
		mu.Lock()
		stop := live || t.Failed()
		mu.Unlock()
		if stop {
			break
		}
		wg.Go(func() {
			defer func() { <-slots }()
			step, err := killIn(filepath.Join(top, fmt.Sprint(n)), n, after)
			if err != nil {
				t.Errorf("killed in step %d (%s): %v", n, step, err)
			}
			mu.Lock()
			defer mu.Unlock()
			if seen[step]++; step == "" {
				live = true
			}
		})
	}
	wg.Wait()
	delete(seen, "")
	for _, s := range wantSteps {
		if seen[s] == 0 {
			t.Errorf("killed in no step that would %s", s)
		}
	}
	t.Logf("killed in %v", seen)
}

// killIn kills a server in its n-th step, starts another and looks at it. It says
// which step that was; none: it had done all.
func killIn(dir string, n int, after []state) (step string, err error) {
	order, err := json.Marshal(killOrder{dir, n})
	if err != nil {
		return "", err
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), killVariable+"="+string(order))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	said := strings.Split(strings.TrimSpace(string(out)), "\n")
	step, died := strings.CutPrefix(said[len(said)-1], "step ")
	if died != (err != nil) || stderr.Len() > 0 {
		return "", fmt.Errorf("it ended with %w, and said %q, %s", err, said, stderr.String())
	}
	acked := strings.Count(string(out), "acknowledged\n")
	if !died {
		step = ""
		if acked != len(killed) {
			return "", fmt.Errorf("it acknowledged %d of %d", acked, len(killed))
		}
	}
	w := &world{now: firstDay, acked: map[caps.StorageIndex]state{}}
	for i, o := range killed[:acked] {
		w.acked[o.si] = after[i]
		w.now = w.now.Add(day)
	}
	if acked < len(killed) {
		w.flying = []flight{{killed[acked], after[acked]}}
	}
	real, err := newSystem(dir)
	if err != nil {
		return step, err
	}
	return step, w.check(real, dir, func() (all []string) {
		filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				rel, _ := filepath.Rel(dir, path)
				all = append(all, rel)
			}
			return err
		})
		return all
	})
}
