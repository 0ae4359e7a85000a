package disk

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// tmpfsVariable tells TestFullTmpfs that it is in the namespace, where it may mount.
const tmpfsVariable = "WARREN_TEST_TMPFS"

// TestFullTmpfs is TestFull on a real filesystem that is full: of bytes and of files,
// with every number of pages and files left at which a change still fails. Once the
// server knows how much room there is, and once it is mistaken and finds out in the
// write itself.
func TestFullTmpfs(t *testing.T) {
	if os.Getenv(tmpfsVariable) != "" {
		inNamespace(t)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestFullTmpfs$", "-test.v")
	cmd.Env = append(os.Environ(), tmpfsVariable+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	switch {
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EINVAL), strings.Contains(string(out), cannotMount):
		skip(t, "no full filesystem was tried: a tmpfs needs root, or user namespaces: %v %s", err, out)
	case err != nil:
		t.Errorf("%v\n%s", err, out)
	default:
		t.Logf("%s", out)
	}
}

const cannotMount = "cannot mount a tmpfs"

// skip skips with a reason, except in CI, where it fails.
func skip(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("would SKIP, which CI does not allow: "+format, args...)
	}
	t.Skipf("SKIP: "+format, args...)
}

// tmpfs is a small filesystem.
type tmpfs struct {
	t   *testing.T
	dir string
}

const page = 4096

// fill takes all room but for so many pages or files.
func (f tmpfs) fill(what string, left int) {
	f.t.Helper()
	var s unix.Statfs_t
	if err := unix.Statfs(f.dir, &s); err != nil {
		f.t.Fatal(err)
	}
	if err := os.Mkdir(f.filler(), 0o700); err != nil {
		f.t.Fatal(err)
	}
	if what == "pages" {
		if err := os.WriteFile(filepath.Join(f.filler(), "pages"), make([]byte, (int(s.Bavail)-left)*page), 0o600); err != nil {
			f.t.Fatal(err)
		}
		return
	}
	for i := range int(s.Ffree) - 1 - left {
		if err := os.WriteFile(filepath.Join(f.filler(), fmt.Sprint(i)), nil, 0o600); err != nil {
			f.t.Fatal(err)
		}
	}
}

func (f tmpfs) filler() string { return filepath.Join(f.dir, "filler") }

// empty gives the room back.
func (f tmpfs) empty() {
	f.t.Helper()
	if err := os.RemoveAll(f.filler()); err != nil {
		f.t.Fatal(err)
	}
}

// mistaken is a filesystem that says that there is room.
type mistaken struct{ system }

func (mistaken) available(string) (uint64, error) { return math.MaxInt64, nil }

func inNamespace(t *testing.T) {
	dir := t.TempDir()
	// Nothing of it is to be seen outside.
	err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	if err == nil {
		err = unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,nr_inodes=200", 256*page))
	}
	if err != nil {
		t.Fatalf("%s: %v", cannotMount, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	f := tmpfs{t, dir}
	failures := map[string]int{}
	for name, history := range fullHistories() {
		after := outcomes(t, history, day)
		for at := range history {
			for _, what := range []string{"pages", "files"} {
				for i := range 4 {
					known, restart := i%2 == 0, i/2 == 0
					for left := 0; f.try(history, after, at, what, left, known, restart); left++ {
						if t.Failed() {
							return
						}
						failures[name+", "+what]++
					}
				}
			}
		}
	}
	t.Logf("failures: %v", failures)
	for _, c := range []string{"immutable, pages", "immutable, files", "slots, pages", "slots, files"} {
		if failures[c] < 10 {
			t.Errorf("%s: only %d failures: this proves little", c, failures[c])
		}
	}
}

// try goes through a history, and has only so much room left before one of its ops;
// it says whether that was too little. The server then goes on, or another starts.
func (f tmpfs) try(history []op, after []state, at int, what string, left int, known, restart bool) (failed bool) {
	t := f.t
	dir := filepath.Join(f.dir, "storage")
	start := func() *world {
		real, err := newSystem(dir)
		if err != nil {
			t.Fatal(err)
		}
		var fs filesystem = real
		if !known {
			fs = mistaken{real}
		}
		w, err := newWorld(fs, dir)
		if err != nil {
			t.Fatalf("starting: %v", err)
		}
		return w
	}
	w := start()
	for i, o := range history {
		if i == at {
			f.fill(what, left)
		}
		err := w.do(o, after[i])
		failed = failed || err != nil
		where := fmt.Sprintf("%d: %s, with %d %s left (known: %v): %v", at, o.name, left, what, known, err)
		if err := w.settledAs(o, after[i], err); err != nil {
			t.Errorf("%s: %v", where, err)
		}
		for si, s := range w.acked {
			if got, err := look(w.backend, si); si != o.si && (err != nil || between(got, s, s) != nil) {
				t.Errorf("%s: another storage index: %v, %v", where, err, between(got, s, s))
			}
		}
		if i == at && restart {
			// A server starts on what is full, too, and has it all.
			again := start()
			again.now, again.acked = w.now, w.acked
			if err := again.settledAs(o, after[i], err); err != nil {
				t.Errorf("%s, and started again: %v", where, err)
			}
			if err := w.server.Close(); err != nil && !errors.Is(err, os.ErrNotExist) { // its drafts went when the other started
				t.Error(err)
			}
			w = again
		}
		if i == at {
			f.empty()
		}
		if err != nil {
			if err := w.do(o, after[i]); err != nil {
				t.Errorf("%s: asked again, with room: %v", where, err)
			} else if err := w.settledAs(o, after[i], nil); err != nil {
				t.Errorf("%s: asked again, with room: %v", where, err)
			}
		}
		w.now = w.now.Add(day)
	}
	if drafts, err := os.ReadDir(w.backend.incoming); err != nil || len(drafts) > 0 {
		t.Errorf("left in incoming: %v, %v", drafts, err)
	}
	v, err := w.client.Version(t.Context())
	free, aerr := w.backend.Available()
	if err != nil || aerr != nil || v.AvailableSpace != free {
		t.Errorf("room for %d bytes (%v), and there are %d (%v)", v.AvailableSpace, err, free, aerr)
	}
	if err := w.server.Close(); err != nil {
		t.Error(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	return failed
}
