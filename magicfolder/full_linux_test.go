package magicfolder

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The disk of the folder, or that of our own files, becomes full while versions come and
// go: the user's files stay whole, the folder says what is wrong, and goes on when
// there is room again.
func TestFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIP: a full disk is a small tmpfs here, and mounting one needs root")
	}
	for _, what := range []string{"folder", "state"} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t)
			w.prepare = func(p *party) {
				if p.name != "bob" {
					return
				}
				dir := p.dir
				if what == "state" {
					dir = filepath.Dir(p.state)
				}
				if err := os.MkdirAll(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
					t.Skipf("SKIP: mounting a tmpfs: %v", err)
				}
				t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
			}
			a, b := w.add("alice", false), w.add("bob", false)
			want := map[string]string{}
			for i := range 20 {
				want[fmt.Sprint("f", i)] = fmt.Sprint("base ", i)
				a.write(fmt.Sprint("f", i), fmt.Sprint("base ", i))
			}
			w.settle()
			b.has(want)
			filler := filepath.Join(b.dir, ".warren-staging", ".filler")
			if what == "state" {
				filler = filepath.Join(filepath.Dir(b.state), "filler")
			}
			fill(t, filler)
			// Old and new files come, and large ones; one is edited here, one deleted.
			big := strings.Repeat("large ", 100_000)
			for i := range 10 {
				want[fmt.Sprint("f", i)] = fmt.Sprint("edited by alice ", i, strings.Repeat(" and longer", 1000))
				a.write(fmt.Sprint("f", i), want[fmt.Sprint("f", i)])
			}
			want["big"] = big
			a.write("big", big)
			a.scan()
			b.remove("f15")
			delete(want, "f15")
			if what == "state" {
				want["f16"] = "edited by bob" + strings.Repeat(" at length", 1000)
				b.write("f16", want["f16"])
			}
			for range 4 {
				b.f.ScanNow(t.Context())
				b.f.PollNow(t.Context())
				w.clock.Add(6 * time.Second)
			}
			if st := b.f.Status(); st.State == StateCurrent {
				t.Errorf("nothing is said: %+v", st)
			} else {
				t.Logf("status: %s %s, %d errors: %.300v", st.State, st.Reason, len(st.Errors), st.Errors)
			}
			for path, data := range b.tree() {
				if !strings.HasPrefix(data, "base ") && data != want[path] {
					t.Errorf("%s is %.40q of %d bytes", path, data, len(data))
				}
			}
			if got := b.tree(); len(got) < 19 {
				t.Errorf("bob has %d files", len(got))
			}
			// Also a restart finds no room.
			b.restart()
			b.f.ScanNow(t.Context())
			b.f.PollNow(t.Context())
			if err := os.Remove(filler); err != nil {
				t.Fatal(err)
			}
			for range 4 {
				w.settle()
			}
			a.has(want)
			b.has(want)
			w.current()
		})
	}
}

// fill writes until nothing more fits.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 64 << 10; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
}
