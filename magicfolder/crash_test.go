package magicfolder

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"warren/magicfolder/upload"
)

// Every step at which a folder can be crashed, by what is going on.
var steps = map[string][]string{
	"upload":   {"capture.stashed", "capture.recorded", "upload.content", "upload.metadata", "upload.snapshot", "upload.recorded", "link.checked", "link.ready", "link.updated", "link.recorded"},
	"download": {"download.staged", "download.journalled", "download.placed", "download.recorded", "link.checked", "link.ready", "link.updated", "link.recorded"},
	"delete":   {"download.journalled", "download.placed", "download.recorded", "link.updated"},
	"conflict": {"capture.recorded", "upload.snapshot", "link.checked", "download.staged", "conflict.placed", "link.updated", "link.recorded"},
}

func crashAt(p *party, step string) *bool {
	hit := new(bool)
	p.fault = func(s string) error {
		if s == step && !*hit {
			*hit = true
			return fmt.Errorf("%s: %w", s, errCrash)
		}
		return nil
	}
	return hit
}

func TestCrashAtEachStep(t *testing.T) {
	for what, list := range steps {
		for _, step := range list {
			t.Run(what+" "+step, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				a, b := w.add("alice", false), w.add("bob", false)
				a.write("f", "base")
				a.write("gone", strings.Repeat("to be deleted ", 10))
				w.settle()
				crashed := b
				var err error
				var hit *bool
				want := map[string]string{"f": "edited", "gone": strings.Repeat("to be deleted ", 10)}
				switch what {
				case "upload":
					crashed = a
					hit = crashAt(a, step)
					a.write("f", "edited")
					err = a.f.ScanNow(t.Context())
				case "download":
					a.write("f", "edited")
					a.scan()
					hit = crashAt(b, step)
					err = b.f.PollNow(t.Context())
				case "delete":
					a.write("f", "edited")
					a.remove("gone")
					delete(want, "gone")
					a.scan()
					hit = crashAt(b, step)
					err = b.f.PollNow(t.Context())
				case "conflict":
					a.write("f", "from alice")
					a.scan()
					b.write("f", "edited")
					hit = crashAt(b, step)
					err = b.f.ScanNow(t.Context())
				}
				if !*hit || !errors.Is(err, errCrash) {
					t.Fatalf("the crash did not happen: %v", err)
				}
				crashed.restart()
				w.settle()
				a.has(want)
				if what == "conflict" {
					want["f.conflict-alice"] = "from alice"
				}
				b.has(want)
				w.current()
				for _, p := range w.parties {
					left, err := os.ReadDir(p.state + ".stash")
					if err != nil {
						t.Fatal(err)
					}
					for _, d := range left {
						inside, _ := os.ReadDir(filepath.Join(p.state+".stash", d.Name()))
						if len(inside) != 0 {
							t.Errorf("%s: %d files are left in the stash", p.name, len(inside))
						}
					}
				}
			})
		}
	}
}

// The user saves while a download is about to replace the file: after it was
// looked at and journalled, before it is moved.
func TestEditInTheWindow(t *testing.T) {
	for _, how := range []string{"in place", "by rename", "delete", "make"} {
		t.Run(how, func(t *testing.T) {
			w := newWorld(t)
			a, b := w.add("alice", false), w.add("bob", false)
			if how != "make" {
				a.write("f", "base")
			}
			w.settle()
			a.write("f", "from alice")
			a.scan()
			done := false
			b.fault = func(step string) error {
				if step != "download.journalled" || done {
					return nil
				}
				done = true
				switch how {
				case "by rename":
					b.write(".f.tmp", "bob was here")
					return os.Rename(filepath.Join(b.dir, ".f.tmp"), filepath.Join(b.dir, "f"))
				case "delete":
					b.remove("f")
				default:
					b.write("f", "bob was here")
				}
				return nil
			}
			b.poll()
			if !done {
				t.Fatal("there was no window")
			}
			b.fault = nil
			w.settle()
			if how == "delete" {
				// Alice's edit beats bob's delete.
				b.has(map[string]string{"f": "from alice"})
				a.has(map[string]string{"f": "from alice"})
				return
			}
			b.has(map[string]string{"f": "bob was here", "f.conflict-alice": "from alice"})
			a.has(map[string]string{"f": "bob was here"})
		})
	}
}

// An edit that was never scanned when the download comes.
func TestEditNotYetScanned(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("alice", false), w.add("bob", false)
	a.write("f", "base")
	w.settle()
	a.write("f", "from alice")
	a.scan()
	b.write("f", "bob, unscanned")
	b.poll()
	w.settle()
	b.has(map[string]string{"f": "bob, unscanned", "f.conflict-alice": "from alice"})
	// The same for a delete: the edit comes back.
	a.write("f", "alice edits")
	a.scan()
	b.remove("f")
	b.poll()
	b.has(map[string]string{"f": "alice edits", "f.conflict-alice": "from alice"})
}

func TestUnmountedFolderDeletesNothing(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("alice", false), w.add("bob", false)
	a.write("f", "base")
	w.settle()
	if err := os.Rename(b.dir, b.dir+".away"); err != nil {
		t.Fatal(err)
	}
	if err := b.f.ScanNow(t.Context()); !errors.Is(err, ErrMissing) {
		t.Errorf("moved away: %v", err)
	}
	// An empty mount point.
	if err := os.Mkdir(b.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := b.f.ScanNow(t.Context()); !errors.Is(err, ErrMissing) {
		t.Errorf("empty: %v", err)
	}
	if err := b.f.PollNow(t.Context()); !errors.Is(err, ErrMissing) {
		t.Errorf("poll: %v", err)
	}
	if st := b.f.Status(); st.State != StateProblem || !strings.Contains(st.Reason, "not there") {
		t.Errorf("status %+v", st)
	}
	if err := os.Remove(b.dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(b.dir+".away", b.dir); err != nil {
		t.Fatal(err)
	}
	w.settle()
	a.has(map[string]string{"f": "base"})
	w.current()
}

func TestAwkwardNames(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("alice", false), w.add("bob", false)
	want := map[string]string{}
	for _, name := range []string{strings.Repeat("n", 255), strings.Repeat("ü", 127), "line\nbreak", "שלום עולם.txt", "\u202ertl", "a:b?", "con",
		"trailing. ", "@at@_x", "deep/" + strings.Repeat("d/", 60) + "f", "-rf", " ", "#%&;|$(x)`"} {
		want[name] = "content of " + name
		a.write(name, want[name])
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(a.dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(a.dir, "bad\xff"), []byte("x"), 0o644); err != nil {
		t.Skipf("SKIP: this file system takes no invalid UTF-8: %v", err)
	}
	a.scan()
	a.poll()
	b.poll()
	b.has(want)
	st := a.f.Status()
	text := fmt.Sprint(st.Errors)
	if st.State != StateProblem || !strings.Contains(text, "not UTF-8") || !strings.Contains(text, "symbolic link") || len(st.Errors) != 2 {
		t.Errorf("status %+v", st)
	}
	if len(st.Notes) != 6 {
		t.Errorf("notes about Windows: %+v", st.Notes)
	}
	// A conflict on the longest names still finds room.
	long := strings.Repeat("ü", 127)
	a.write(long, "alice")
	a.scan()
	b.write(long, "bob was here")
	b.scan()
	found := false
	for name, data := range b.tree() {
		found = found || (strings.Contains(name, ".conflict-alice") && data == "alice")
	}
	if !found {
		t.Errorf("no conflict file: %q", b.tree())
	}
}

func TestCollisions(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("alice", true), w.add("bob", true)
	b.mem.Fold = true
	a.write("Name", "upper")
	a.write("name", "lower")
	a.scan()
	b.poll()
	b.poll()
	tree := b.tree()
	if len(tree) != 1 {
		t.Errorf("bob has %q", tree)
	}
	st := b.f.Status()
	if len(st.Errors) != 1 || !strings.Contains(st.Errors[0].Message, "case") || st.State == StateCurrent {
		t.Errorf("status %+v", st)
	}
	b.scan()
	a.poll()
	a.has(map[string]string{"Name": "upper", "name": "lower"})
	// Two Unicode forms of one name on a disk that keeps both.
	a.write("e\u0301", "decomposed")
	a.write("\u00e9", "composed")
	a.scan()
	if st := a.f.Status(); len(st.Errors) != 1 || !strings.Contains(st.Errors[0].Message, "Unicode") {
		t.Errorf("status %+v", st)
	}
	if len(a.tree()) != 4 {
		t.Errorf("alice has %q", a.tree())
	}
}

func TestChangingFileIsNotCaptured(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice", true)
	a.write("f", "half written")
	it, err := a.mem.Lstat("f")
	if err != nil {
		t.Fatal(err)
	}
	c := a.f.capturer(a.mem)
	c.Settle = time.Second
	c.Now = func() time.Time { return time.Unix(0, it.State.Modified).Add(time.Second / 2) }
	if _, err := c.File(t.Context(), "f", "f"); !errors.Is(err, upload.ErrChanging) {
		t.Errorf("written half a second ago: %v", err)
	}
	c.Now = func() time.Time { return time.Unix(0, it.State.Modified).Add(time.Second) }
	c.Fault = func(string) error { return nil }
	if ok, err := c.File(t.Context(), "f", "f"); !ok || err != nil {
		t.Errorf("a second later: %v, %v", ok, err)
	}
}
