package story

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"warren/node/caps"
	"warren/tests/interop"
)

// A node is killed with kill -9 amid the change of a mutable file, when none, one or two
// of three servers have taken their shares. Others read the version before or the new
// one, and the next change is whole on all.
func TestPublishKilledBetweenShares(t *testing.T) {
	t.Parallel()
	h, grid := proxies(t, 3)
	writer, reader := h.client(t, "writer", 2, 2, 3), h.client(t, "reader", 2, 2, 3)
	const size = 200_000 // a share is half of it
	for i, format := range []string{"SDMF", "MDMF"} {
		for have := range 3 {
			what := fmt.Sprintf("%s, %d servers have it", format, have)
			file, seed := h.path("file"), byte(100+10*i+have)
			before := noise(t, file, seed, size)
			cap := writer.must(t, "put", "--format="+format, file)
			h.secret(cap)
			parsed, err := caps.Parse(cap)
			if err != nil {
				t.Fatal(err)
			}
			index, _ := caps.Index(parsed)
			shares := func() (held [][]byte) {
				for _, p := range grid {
					found, err := filepath.Glob(filepath.Join(p.server.dir, "storage", "shares", index.Text()[:2], index.Text(), "*"))
					if err != nil || len(found) != 1 {
						t.Fatalf("%s: shares %v, %v", what, found, err)
					}
					b, err := os.ReadFile(found[0])
					if err != nil {
						t.Fatal(err)
					}
					held = append(held, b)
				}
				return held
			}
			first := shares()
			changed := func() (n int) {
				for s, b := range shares() {
					if !bytes.Equal(b, first[s]) {
						n++
					}
				}
				return n
			}

			// The shares go through one by one, until as many have as shall.
			var mu sync.Mutex // guards passed
			passed := 0
			held, stand := make(chan bool, len(grid)), make(chan bool)
			for _, p := range grid {
				p.Watch(true, size/10, func() {
					mu.Lock()
					passed++
					through := passed <= have
					mu.Unlock()
					if !through {
						held <- true
						<-stand
					}
				})
			}
			after := noise(t, file, seed+50, size)
			put := h.spawn("-d", writer.dir, "put", file, cap)
			select {
			case <-held:
			case <-put.Done():
				t.Fatalf("%s: it ended: %s", what, put.Output())
			case <-time.After(2 * time.Minute):
				t.Fatalf("%s: no share was held up", what)
			}
			interop.Eventually(t, time.Minute, what, func() error {
				if n := changed(); n != have {
					return fmt.Errorf("%d", n)
				}
				return nil
			})
			writer.run.Kill()
			<-put.Done()
			for _, p := range grid {
				p.Cut()
			}
			close(stand)

			want := before
			if have == 2 { // enough to be read
				want = after
			}
			reader.connected(t, len(grid))
			reader.fetches(t, cap, want)
			if n := changed(); n != have {
				t.Errorf("%s: %d servers have it in the end", what, n)
			}
			writer.start(t)
			writer.connected(t, len(grid))
			last := noise(t, file, seed+100, size)
			reader.must(t, "put", file, cap)
			writer.fetches(t, cap, last)
			reader.must(t, "check", "--verify", cap)
		}
	}
}
