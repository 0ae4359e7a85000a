package magicfolder

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"warren/magicfolder/fsys"
	"warren/magicfolder/snapshot"
)

// crashedPoll has a participant crash at a step of its next poll.
func (p *party) crashedPoll(step string) {
	p.t.Helper()
	hit := crashAt(p, step)
	if err := p.f.PollNow(p.t.Context()); !*hit || !errors.Is(err, errCrash) {
		p.t.Fatalf("no crash at %s: %v", step, err)
	}
}

// The bytes alone do not say whether a version was put in place that differs from the
// last one in what it is.
func TestCrashWithTheSameBytes(t *testing.T) {
	noLinks(t)
	for _, step := range []string{"download.journalled", "download.placed"} {
		for what, c := range map[string]struct {
			change func(a *party)
			want   string
		}{
			"executable": {func(a *party) { a.chmod("f", true) }, "xtarget"},
			"link":       {func(a *party) { a.link("target", "f") }, "> target"},
		} {
			t.Run(step+" "+what, func(t *testing.T) {
				w := newWorld(t)
				a, b := w.add("alice", false), w.add("bob", false)
				a.write("f", "target")
				w.settle()
				c.change(a)
				a.scan()
				b.crashedPoll(step)
				b.restart()
				w.settle()
				for _, p := range w.parties {
					if got := look(p.dir)["f"]; got != c.want {
						t.Errorf("%s has %q, want %q", p.name, got, c.want)
					}
				}
				w.current()
			})
		}
	}
}

// A conflict that another has ended is over, also after a crash.
func TestCrashBeforeTheConflictIsTidied(t *testing.T) {
	for _, step := range []string{"download.journalled", "download.placed", "download.recorded", "remove.journalled", "remove.taken"} {
		t.Run(step, func(t *testing.T) {
			w := newWorld(t)
			a, b := w.add("alice", false), w.add("bob", false)
			a.write("f", "base")
			w.settle()
			w.conflict(a, b)
			w.settle()
			a.write("f", "from alice")
			a.scan()
			b.crashedPoll(step)
			b.restart()
			w.settle()
			b.has(map[string]string{"f": "from alice"})
			if st := b.f.Status(); len(st.Conflicts) != 0 {
				t.Errorf("conflicts %+v", st.Conflicts)
			}
			w.current()
		})
	}
}

// What a user has made of a conflict by hand is the user's to tidy.
func TestRestartKeepsConflictFiles(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("alice", false), w.add("bob", false)
	a.write("f", "base")
	w.settle()
	w.conflict(a, b)
	b.write("f", "from alice")
	b.scan()
	b.restart()
	w.settle()
	b.has(map[string]string{"f": "from alice", "f.conflict-alice": "from alice"})
}

// Directories that a delete emptied, or that were made for a file that did not get
// there, are nobody's: a restart does not take them for somebody's.
func TestCrashLeavesNoDirectory(t *testing.T) {
	const mark = "/" + snapshot.DirectoryMark
	for what, c := range map[string]struct {
		before, change func(a *party)
		key            string
		// half is what was done of the journalled change; staged is where a file that is
		// deleted goes.
		half func(dir, staged string) error
		want map[string]string
	}{
		"a directory is not removed yet": {
			before: func(a *party) { a.mkdir("d/e") },
			change: func(a *party) { a.rmdir("d/e"); a.rmdir("d") },
			key:    "d/e" + mark,
			half:   func(dir, staged string) error { return os.WriteFile(staged, nil, 0o600) },
			want:   map[string]string{},
		},
		"the one above a directory is not removed yet": {
			before: func(a *party) { a.mkdir("d/e") },
			change: func(a *party) { a.rmdir("d/e"); a.rmdir("d") },
			key:    "d/e" + mark,
			half: func(dir, staged string) error {
				return errors.Join(os.WriteFile(staged, nil, 0o600), os.Remove(filepath.Join(dir, "d/e")))
			},
			want: map[string]string{},
		},
		"the one above a file's is not removed yet": {
			before: func(a *party) { a.write("d/e/f", "text") },
			change: func(a *party) { os.RemoveAll(filepath.Join(a.dir, "d")) },
			key:    "d/e/f",
			half: func(dir, staged string) error {
				return errors.Join(os.Rename(filepath.Join(dir, "d/e/f"), staged), os.Remove(filepath.Join(dir, "d/e")))
			},
			want: map[string]string{},
		},
		"a file is not in its new directories yet": {
			before: func(a *party) {},
			change: func(a *party) { a.write("d/e/f", "text") },
			key:    "d/e/f",
			half:   func(dir, _ string) error { return os.MkdirAll(filepath.Join(dir, "d/e"), 0o755) },
			want:   map[string]string{"d/e/f": "-text"},
		},
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t)
			a, b := w.add("alice", false), w.add("bob", false)
			c.before(a)
			w.settle()
			c.change(a)
			a.scan()
			b.crashedPoll("download.journalled")
			rec, _, err := b.f.load(c.key)
			if err != nil || rec.Move == nil {
				t.Fatalf("no journal: %v", err)
			}
			if err := c.half(b.dir, filepath.Join(b.dir, fsys.Staging, rec.Move.Staged)); err != nil {
				t.Fatal(err)
			}
			b.restart()
			b.scan()
			w.settle()
			for _, p := range w.parties {
				if got := look(p.dir); !maps.Equal(got, c.want) {
					t.Errorf("%s has %q, want %q", p.name, got, c.want)
				}
				for _, dir := range []string{"d", "d/e"} {
					if rec, _, err := p.f.load(dir + mark); err != nil || rec.Disk != nil {
						t.Errorf("%s takes %s for a directory of its own: %v", p.name, dir, err)
					}
				}
			}
			w.current()
		})
	}
}
