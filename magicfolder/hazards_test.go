package magicfolder

import (
	"fmt"
	"maps"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"warren/magicfolder/state"
)

// moving is the path whose replacement is journalled just now.
func (p *party) moving() string {
	p.t.Helper()
	found := ""
	err := p.f.store.View(func(tx *state.Tx) error {
		return tx.Files(func(_ string, rec state.File) error {
			if rec.Move != nil {
				found = rec.Relpath
			}
			return nil
		})
	})
	if err != nil || found == "" {
		p.t.Fatalf("nothing is on the move (%v)", err)
	}
	return found
}

func (p *party) path(name string) string { return filepath.Join(p.dir, filepath.FromSlash(name)) }

func (p *party) rename(from, to string) {
	p.t.Helper()
	if err := os.MkdirAll(filepath.Dir(p.path(to)), 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.Rename(p.path(from), p.path(to)); err != nil {
		p.t.Fatal(err)
	}
}

// Five hundred files, each changed by the user between the look at it and its
// replacement: in place, by rename, deleted, by a rename of another file, and made
// where there was none. Every byte that the user wrote is in its place, and what came
// lies beside it.
func TestFiveHundredWindows(t *testing.T) {
	const files = 500
	w := newWorld(t)
	a, b := w.add("alice", false), w.add("bob", false)
	b.f.opt.Workers = 1 // one move at a time
	name := func(i int) string { return fmt.Sprintf("d%d/f%03d", i%7, i) }
	index := map[string]int{}
	for i := range files {
		index[name(i)] = i
		if i%5 != 4 {
			a.write(name(i), fmt.Sprint("base ", i))
		}
	}
	w.settle()
	for i := range files {
		a.write(name(i), fmt.Sprint("from alice ", i))
	}
	a.scan()
	done := map[string]bool{}
	b.fault = func(step string) error {
		if step != "download.journalled" {
			return nil
		}
		path := b.moving()
		if done[path] {
			return nil
		}
		done[path] = true
		mine := fmt.Sprint("bob ", index[path])
		switch index[path] % 5 {
		case 1:
			b.write(".saving", mine)
			b.rename(".saving", path)
		case 2:
			b.remove(path)
		case 3:
			// The same size and time as what is expected: the inode alone tells.
			info, err := os.Stat(b.path(path))
			if err != nil {
				return err
			}
			b.write(".saving", strings.Repeat("b", int(info.Size())))
			if err := os.Chtimes(b.path(".saving"), info.ModTime(), info.ModTime()); err != nil {
				return err
			}
			b.rename(".saving", path)
		default:
			b.write(path, mine)
		}
		return nil
	}
	b.poll()
	if len(done) != files {
		t.Fatalf("%d windows", len(done))
	}
	b.fault = nil
	w.settle()
	mine, theirs := map[string]string{}, map[string]string{}
	for i := range files {
		text := fmt.Sprint("bob ", i)
		switch i % 5 {
		case 2:
			text = fmt.Sprint("from alice ", i) // edit beats delete
		case 3:
			text = strings.Repeat("b", len(fmt.Sprint("base ", i)))
		}
		mine[name(i)], theirs[name(i)] = text, text
		if i%5 != 2 {
			mine[name(i)+".conflict-alice"] = fmt.Sprint("from alice ", i)
		}
	}
	b.has(mine)
	a.has(theirs)
	w.current()
}

// Ten thousand renames while both participants scan and poll: every file's bytes are
// there in the end, once, under its last name, on both sides.
func TestRenameStorm(t *testing.T) {
	const files, renames = 60, 10_000
	w := newWorld(t)
	a, b := w.add("alice", false), w.add("bob", false)
	names := make([]string, files) // of file i
	taken := map[string]bool{}
	for i := range files {
		names[i] = fmt.Sprintf("d%d/f%d", i%5, i)
		taken[names[i]] = true
		a.write(names[i], fmt.Sprint("the bytes of file ", i))
	}
	w.settle()
	done := make(chan struct{})
	go func() { // ends after its renames
		defer close(done)
		rng := rand.New(rand.NewSource(1))
		for n := 0; n < renames; n++ {
			i := rng.Intn(files)
			to := fmt.Sprintf("d%d/f%d", rng.Intn(5), rng.Intn(2*files))
			if taken[to] {
				n--
				continue
			}
			err := os.MkdirAll(filepath.Dir(a.path(to)), 0o755)
			if err == nil {
				err = os.Rename(a.path(names[i]), a.path(to))
			}
			if err != nil {
				t.Error(err)
				return
			}
			delete(taken, names[i])
			names[i], taken[to] = to, true
		}
	}()
	for storm := true; storm; {
		select {
		case <-done:
			storm = false
		default:
		}
		// A file that goes while it is looked at is no error of the scan.
		a.scan()
		a.poll()
		b.scan()
		b.poll()
	}
	w.settle()
	want := map[string]string{}
	for i, name := range names {
		want[name] = fmt.Sprint("the bytes of file ", i)
	}
	a.has(want)
	b.has(want)
	w.current()
}

// Two files change places, on one side and on both; three in a ring; and again while
// the other side's version comes.
func TestSwaps(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("alice", false), w.add("bob", false)
	swap := func(p *party, x, y string) {
		p.rename(x, ".aside")
		p.rename(y, x)
		p.rename(".aside", y)
	}
	a.write("A", "one")
	a.write("B", "two") // of the same size
	a.write("C", "three")
	w.settle()
	swap(a, "A", "B")
	w.settle()
	both := func(want map[string]string) {
		t.Helper()
		a.has(want)
		b.has(want)
		w.current()
	}
	both(map[string]string{"A": "two", "B": "one", "C": "three"})
	// The same on both sides is no conflict.
	swap(a, "A", "B")
	swap(b, "A", "B")
	w.settle()
	both(map[string]string{"A": "one", "B": "two", "C": "three"})
	// A ring on one side, and back while the other follows.
	swap(b, "A", "B")
	swap(b, "B", "C")
	b.scan()
	a.poll()
	a.has(map[string]string{"A": "two", "B": "three", "C": "one"})
	swap(a, "B", "C")
	swap(a, "A", "B")
	w.settle()
	// A holds what B held, which holds what C did not: only the bytes matter.
	got := map[string]bool{}
	for _, data := range a.tree() {
		got[data] = true
	}
	if want := (map[string]bool{"one": true, "two": true, "three": true}); !maps.Equal(got, want) {
		t.Errorf("alice has %q", a.tree())
	}
	both(a.tree())
	// Different swaps on both sides at once: nothing is lost.
	swap(a, "A", "B")
	swap(b, "B", "C")
	w.settle()
	w.settle()
	for _, p := range w.parties {
		found := map[string]bool{}
		for _, q := range w.parties {
			for _, data := range q.tree() {
				found[data] = true
			}
		}
		for _, data := range []string{"one", "two", "three"} {
			if !found[data] {
				t.Errorf("%q is lost: %q", data, p.tree())
			}
		}
	}
}

// A file becomes a directory and a directory a file, on one side, and on both against
// each other: what cannot stand is an error that is seen, and no bytes are lost.
func TestFileAgainstDirectory(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("alice", false), w.add("bob", false)
	a.write("x", "a file")
	a.write("y/in", "in a directory")
	w.settle()
	a.remove("x")
	a.write("x/in", "x is a directory")
	if err := os.RemoveAll(a.path("y")); err != nil {
		t.Fatal(err)
	}
	a.write("y", "y is a file")
	w.settle()
	want := map[string]string{"x/in": "x is a directory", "y": "y is a file"}
	a.has(want)
	b.has(want)
	w.current()
	// Alice makes a file where bob makes a directory.
	a.write("z", "alice's file")
	b.write("z/in", "in bob's directory")
	w.settle()
	a.has(map[string]string{"x/in": "x is a directory", "y": "y is a file", "z": "alice's file"})
	b.has(map[string]string{"x/in": "x is a directory", "y": "y is a file", "z/in": "in bob's directory"})
	for _, p := range w.parties {
		if st := p.f.Status(); len(st.Errors) != 1 || st.State == StateCurrent {
			t.Errorf("%s: status %+v", p.name, st)
		}
	}
	// When one makes room, both have both again.
	b.rename("z", "z of bob")
	w.settle()
	w.settle()
	want["z"], want["z of bob/in"] = "alice's file", "in bob's directory"
	a.has(want)
	b.has(want)
	w.current()
}

// Two Unicode forms of one name, and names that differ in case, on a disk that keeps
// them apart.
func TestCollisionsOnDisk(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("alice", false), w.add("bob", false)
	a.write("Name", "upper")
	a.write("name", "lower")
	a.write("e\u0301", "decomposed")
	if err := os.WriteFile(a.path("\u00e9"), []byte("composed"), 0o644); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(a.dir); err != nil || len(entries) != 5 {
		t.Skipf("SKIP: this disk does not keep the names apart (%v)", err)
	}
	w.settle()
	if got := len(a.tree()); got != 4 {
		t.Errorf("alice has %q", a.tree())
	}
	if st := a.f.Status(); len(st.Errors) != 1 || !strings.Contains(st.Errors[0].Message, "Unicode") || st.State != StateProblem {
		t.Errorf("status %+v", st)
	}
	tree := b.tree()
	if tree["Name"] != "upper" || tree["name"] != "lower" || len(tree) != 3 {
		t.Errorf("bob has %q", tree)
	}
	// The one that was in the way is renamed: both are there.
	a.rename("\u00e9", "other")
	w.settle()
	w.current()
	if got := len(b.tree()); got != 4 {
		t.Errorf("bob has %q", b.tree())
	}
}

// What is no file, where a file is or comes: none is opened, followed or replaced, all
// are errors that are seen, and when they are gone the folder goes on.
func TestNoFiles(t *testing.T) {
	kinds := map[string]func(p string) error{
		"fifo":                   mkfifo,
		"device":                 mkdevice,
		"symlink":                func(p string) error { return os.Symlink("/etc/passwd", p) },
		"dangling symlink":       func(p string) error { return os.Symlink("/no/where", p) },
		"symlink to a directory": func(p string) error { return os.Symlink("/etc", p) },
	}
	for kind, make := range kinds {
		t.Run(kind, func(t *testing.T) {
			w := newWorld(t)
			a, b := w.add("alice", false), w.add("bob", false)
			a.write("was", "a file before")
			w.settle()
			put := func(p *party, name string) {
				t.Helper()
				if err := make(p.path(name)); err != nil {
					t.Skipf("SKIP: making a %s here: %v", kind, err)
				}
			}
			// It takes a file's place on one side, and is where a file comes on the other.
			a.remove("was")
			put(a, "was")
			put(b, "comes")
			put(b, "below")
			a.write("comes", "a new file")
			a.write("below/f", "a new file below")
			w.settle()
			// It is no delete, and nothing is written over it or through it.
			a.holds(map[string]string{"comes": "a new file", "below/f": "a new file below"})
			b.holds(map[string]string{"was": "a file before"})
			for p, name := range map[*party]string{a: "was", b: "comes"} {
				info, err := os.Lstat(p.path(name))
				if err != nil || info.Mode().IsRegular() {
					t.Errorf("%s: %s is %v (%v)", p.name, name, info, err)
				}
				if st := p.f.Status(); len(st.Errors) == 0 || st.State == StateCurrent {
					t.Errorf("%s: nothing is said: %+v", p.name, st)
				}
			}
			a.remove("was")
			b.remove("comes")
			b.remove("below")
			for range 4 {
				w.settle()
			}
			want := map[string]string{"comes": "a new file", "below/f": "a new file below"}
			a.has(want)
			b.has(want)
			w.current()
		})
	}
}

// holds is has of the regular files alone.
func (p *party) holds(want map[string]string) {
	p.t.Helper()
	for path, data := range want {
		got, err := os.ReadFile(p.path(path))
		if err != nil || string(got) != data {
			p.t.Errorf("%s: %q is %q, want %q (%v)", p.name, path, got, data, err)
		}
	}
}

// A symlink, or a directory that is one, is swapped in at each moment of a download:
// nothing is written outside the folder, and nothing of the user's is lost.
func TestSymlinkSwappedIn(t *testing.T) {
	for _, step := range []string{"download.staged", "download.journalled", "download.placed", "download.recorded"} {
		for _, what := range []string{"file", "directory", "staging"} {
			t.Run(step+" "+what, func(t *testing.T) {
				w := newWorld(t)
				a, b := w.add("alice", false), w.add("bob", false)
				a.write("d/f", "base")
				w.settle()
				outside := filepath.Join(t.TempDir(), "outside")
				if err := os.MkdirAll(outside, 0o755); err != nil {
					t.Fatal(err)
				}
				secret := filepath.Join(outside, "f")
				if err := os.WriteFile(secret, []byte("not the folder's"), 0o600); err != nil {
					t.Fatal(err)
				}
				a.write("d/f", "from alice")
				a.scan()
				done := false
				b.fault = func(s string) error {
					if s != step || done {
						return nil
					}
					done = true
					switch what {
					case "file":
						b.remove("d/f")
						return os.Symlink(secret, b.path("d/f"))
					case "directory":
						b.rename("d", "aside")
						return os.Symlink(outside, b.path("d"))
					}
					b.rename(".warren-staging", "aside")
					return os.Symlink(outside, b.path(".warren-staging"))
				}
				// It may fail, and has to leave what is outside alone.
				err := b.f.PollNow(t.Context())
				if !done {
					t.Fatal("there was no such moment")
				}
				b.fault = nil
				t.Logf("poll: %v", err)
				untouched := func() {
					t.Helper()
					entries, err := os.ReadDir(outside)
					if got, rerr := os.ReadFile(secret); err != nil || rerr != nil || len(entries) != 1 || string(got) != "not the folder's" {
						t.Fatalf("outside the folder: %d entries, %q (%v, %v)", len(entries), got, err, rerr)
					}
				}
				untouched()
				for range 3 {
					b.f.ScanNow(t.Context())
					b.f.PollNow(t.Context())
					w.clock.Add(6 * time.Second)
				}
				untouched()
				b.restart()
				b.f.ScanNow(t.Context())
				b.f.PollNow(t.Context())
				untouched()
				if st := b.f.Status(); st.State == StateCurrent && what != "file" {
					t.Errorf("nothing is said: %+v", st)
				}
				// The user puts things right again.
				switch what {
				case "file":
					if info, err := os.Lstat(b.path("d/f")); err == nil && info.Mode()&os.ModeSymlink != 0 {
						b.remove("d/f")
					}
				case "directory":
					b.remove("d")
					b.rename("aside", "d")
				case "staging":
					b.remove(".warren-staging")
					b.rename("aside", ".warren-staging")
				}
				for range 3 {
					w.settle()
				}
				w.current()
				untouched()
				x, y := a.tree(), b.tree()
				if x["d/f"] != y["d/f"] {
					t.Errorf("alice has %q, bob %q", x, y)
				}
				if what == "file" && (step == "download.placed" || step == "download.recorded") {
					// In place of what had come, the symlink was its delete.
					if len(x)+len(y) != 0 {
						t.Errorf("alice has %q, bob %q", x, y)
					}
					return
				}
				// A directory that was away and came back may bring what was in it, as an edit.
				if y["d/f"] != "from alice" && y["d/f.conflict-alice"] != "from alice" {
					t.Errorf("what alice wrote is lost: %q, %q", x, y)
				}
			})
		}
	}
}

// A file that has another name outside the folder: what comes replaces the folder's name
// alone, and an edit through the other name is an edit.
func TestHardLink(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("alice", false), w.add("bob", false)
	a.write("f", "base")
	a.write("g", "base of g")
	w.settle()
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.Link(b.path("f"), outside); err != nil {
		t.Skipf("SKIP: no hard links here: %v", err)
	}
	// Two names inside are two files.
	if err := os.Link(b.path("g"), b.path("g2")); err != nil {
		t.Fatal(err)
	}
	a.write("f", "from alice")
	w.settle()
	if got, err := os.ReadFile(outside); err != nil || string(got) != "base" {
		t.Errorf("outside: %q (%v)", got, err)
	}
	want := map[string]string{"f": "from alice", "g": "base of g", "g2": "base of g"}
	a.has(want)
	b.has(want)
	b.write("g", "through one name")
	w.settle()
	want["g"], want["g2"] = "through one name", "through one name"
	a.has(want)
	b.has(want)
	w.current()
	a.write("g2", "one of them alone")
	w.settle()
	want["g2"] = "one of them alone"
	a.has(want)
	b.has(want)
	w.current()
}
