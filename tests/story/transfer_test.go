package story

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"warren/tests/interop"
)

// stored is what `warren put --json` prints.
type stored struct {
	Cap       string `json:"cap"`
	Size      int64  `json:"size"`
	Happiness int    `json:"happiness"`
	Pushed    int    `json:"shares_pushed"`
	Existing  int    `json:"shares_existing"`
	Resumed   int64  `json:"resumed_bytes"`
}

// proxies is a house with servers behind proxies.
func proxies(t testing.TB, servers int) (*house, []*proxy) {
	t.Helper()
	h := newHouse(t, 0)
	var all []*proxy
	for i := range servers {
		all = append(all, h.behind(t, fmt.Sprintf("server%d", i+1)))
	}
	return h, all
}

// storedOn is a house with servers behind proxies, and a client of them that has stored
// a file as 2 of 4 shares.
func storedOn(t testing.TB, servers, size int) (h *house, grid []*proxy, client *node, s stored, data []byte) {
	t.Helper()
	h, grid = proxies(t, servers)
	client = h.client(t, "client", 2, 3, 4)
	data = noise(t, h.path("file"), 1, size)
	client.json(t, &s, "put", h.path("file"))
	return h, grid, client, s, data
}

// passedUp is what went to all the servers since Watch.
func passedUp(grid []*proxy) (total int64) {
	for _, p := range grid {
		up, _ := p.Passed()
		total += up
	}
	return total
}

// noise writes a file of its own kind for each seed, and returns its bytes.
func noise(t testing.TB, path string, seed byte, size int) []byte {
	t.Helper()
	b := make([]byte, size)
	rand.NewChaCha8(sha256.Sum256([]byte{seed})).Read(b)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return b
}

// fetches wants the file behind a cap to be these bytes.
func (n *node) fetches(t testing.TB, cap string, want []byte) {
	t.Helper()
	at := n.h.path("fetched")
	defer os.Remove(at)
	n.must(t, "get", cap, at)
	if got, err := os.ReadFile(at); err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %d bytes that are not the %d stored (%v)", len(got), len(want), err)
	}
}

// noLeftovers wants nothing that get leaves half done.
func (h *house) noLeftovers(t testing.TB) {
	t.Helper()
	left, err := filepath.Glob(h.path(".warren-get-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// Servers are killed with kill -9 at each stage of uploads and downloads, in grids
// where one more server than needed stands by.
func TestServersKilledDuringTransfers(t *testing.T) {
	t.Parallel()
	h, grid := proxies(t, 11)
	const size = 2 << 20
	ran := 0
	for _, e := range [][2]int{{1, 1}, {2, 4}, {3, 10}} {
		k, n := e[0], e[1]
		client := h.client(t, fmt.Sprintf("client%d-%d", k, n), k, n, n)
		file := h.path("file")
		data := noise(t, file, byte(n), size)
		var first stored
		client.json(t, &first, "put", file)
		for _, percent := range []int64{0, 25, 50, 75, 99} {
			for _, up := range []bool{true, false} {
				ran++
				what := fmt.Sprintf("%d of %d, %d %%, upload %v", k, n, percent, up)
				// The first whose share, or its answers, have got so far is killed.
				var once sync.Once
				var victim *proxy
				for _, p := range grid {
					p.Watch(up, size/int64(k)*percent/100, func() {
						once.Do(func() {
							p.server.run.Kill()
							p.Cut() // what it had sent is lost, too
							victim = p
						})
					})
				}
				if up {
					other := noise(t, h.path("other"), byte(100+ran), size)
					var s stored
					client.json(t, &s, "put", h.path("other"))
					if s.Happiness != n || s.Size != size || s.Pushed != n || s.Existing != 0 {
						t.Errorf("%s: %+v", what, s)
					}
					client.fetches(t, s.Cap, other) // the dead one is still dead
				} else {
					r := client.do(t, "get", first.Cap, h.path("got"))
					got, err := os.ReadFile(h.path("got"))
					switch {
					case r.code == 0 && (n > 1 || percent == 0): // of 0 %: it may be one that holds nothing
						if err != nil || !bytes.Equal(got, data) {
							t.Errorf("%s: %d wrong bytes, %v", what, len(got), err)
						}
					case n > 1 || r.code != 5 || !os.IsNotExist(err) || !strings.Contains(r.err, "warren status shows"):
						t.Errorf("%s: exit %d, %v\n%s", what, r.code, err, r.err)
					}
					os.Remove(h.path("got"))
					var total int64
					for _, p := range grid {
						_, down := p.Passed()
						total += down
					}
					if n > 1 && total > size*8/5 {
						t.Errorf("%s: %d bytes came for %d: it began again", what, total, size)
					}
				}
				h.noLeftovers(t)
				for _, p := range grid {
					p.Watch(up, 0, nil)
				}
				if once.Do(func() {}); victim == nil {
					t.Fatalf("%s: nobody was killed", what)
				}
				victim.server.start(t)
				client.connected(t, len(grid))
			}
		}
		client.stop(t)
	}
	if ran != 30 {
		t.Fatalf("%d cases", ran)
	}
}

// Uploads break off midway, in three ways, and are repeated: what the servers have
// is not sent again.
func TestPutThatBrokeOff(t *testing.T) {
	t.Parallel()
	h, grid := proxies(t, 4)
	var lines []*interop.Proxy
	for _, p := range grid {
		lines = append(lines, p.Proxy)
	}
	client := h.client(t, "client", 2, 4, 4)
	const size = 6 << 20
	for i, way := range []string{"Ctrl-C", "put killed", "node killed"} {
		file := h.path("file")
		data := noise(t, file, byte(i), size)
		// Every server gets half of its share, then the line stands still.
		put, goOn := interop.StandStill(t, lines, size/2/2, func() *interop.Process { return h.spawn("-d", client.dir, "put", file) })
		switch way {
		case "Ctrl-C":
			put.Stop(time.Minute)
			if out := put.Output(); !strings.HasPrefix(out, "warren: interrupted\n") || !strings.Contains(out, "goes on from there") {
				t.Errorf("%s: it said %q", way, out)
			}
		case "put killed":
			put.Kill()
		case "node killed":
			client.run.Kill()
			<-put.Done()
			if out := put.Output(); !strings.HasPrefix(out, "warren: ") || strings.Contains(out, "URI:") {
				t.Errorf("%s: it said %q", way, out)
			}
		}
		if way == "node killed" {
			client.start(t)
			client.connected(t, len(grid))
		}
		for _, p := range grid {
			p.Watch(true, 0, nil)
		}
		var s stored
		client.json(t, &s, "put", file)
		goOn() // not before: the first must not go on, should the node hear late of its end
		if s.Happiness != 4 || s.Pushed != 4 || s.Resumed < size/2 {
			t.Errorf("%s: %+v", way, s)
		}
		if whole, total := int64(size/2*4), passedUp(grid); total > whole*3/4 {
			t.Errorf("%s: %d bytes were sent the second time, of %d", way, total, whole)
		}
		client.fetches(t, s.Cap, data)
		// What stands is found and not sent at all.
		for _, p := range grid {
			p.Watch(true, 0, nil)
		}
		r := client.do(t, "put", file)
		if strings.TrimSpace(r.out) != s.Cap || r.err != "on the grid already and not sent again: 4 of 4 shares\n" {
			t.Errorf("%s: once more: %q, %q", way, r.out, r.err)
		}
		if total := passedUp(grid); total > 100_000 {
			t.Errorf("%s: %d bytes were sent when all was there", way, total)
		}
	}
	// Ctrl-C during a download: no file, nor a part of one.
	var s stored
	client.json(t, &s, "put", h.path("file"))
	stand, once := make(chan struct{}), make(chan struct{})
	var first sync.Once
	for _, p := range grid {
		p.Watch(false, size/2/2, func() {
			first.Do(func() { close(once) })
			<-stand
		})
	}
	capFile := h.spawn("-d", client.dir, "get", s.Cap, h.path("half"))
	<-once
	capFile.Stop(time.Minute)
	close(stand)
	if out := capFile.Output(); out != "warren: interrupted\n  no file was written, and none was changed\n" {
		t.Errorf("it said %q", out)
	}
	if _, err := os.Stat(h.path("half")); !os.IsNotExist(err) {
		t.Errorf("half a file is there: %v", err)
	}
	h.noLeftovers(t)
}

// Of five servers one sends and takes a byte a second, and one says nothing at all.
func TestServersThatAreSlowOrMute(t *testing.T) {
	t.Parallel()
	const size = 2 << 20
	h, grid, client, s, data := storedOn(t, 6, size)
	// Two of those that hold a share.
	var slow []*proxy
	for _, p := range grid {
		held := 0
		err := filepath.WalkDir(filepath.Join(p.server.dir, "storage", "shares"), func(_ string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				held++
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if held > 0 && len(slow) < 2 {
			slow = append(slow, p)
		}
	}
	if len(slow) != 2 {
		t.Fatalf("%d servers hold shares", len(slow))
	}
	slow[0].Set(interop.Trickle)
	slow[1].Set(interop.Mute)
	client.fetches(t, s.Cap, data)
	other := noise(t, h.path("other"), 2, size)
	client.json(t, &s, "put", h.path("other"))
	if s.Happiness < 3 {
		t.Errorf("%+v", s)
	}
	client.fetches(t, s.Cap, other)
	h.noLeftovers(t)
}

// When no server says anything there is an error, and neither capability nor file.
func TestServersThatAreAllMute(t *testing.T) {
	t.Parallel()
	const size = 2 << 20
	h, grid, client, s, _ := storedOn(t, 4, size)
	for _, p := range grid {
		p.Set(interop.Mute)
		p.Cut()
	}
	noise(t, h.path("third"), 3, size)
	r := client.do(t, "put", h.path("third"))
	if r.code != 5 || r.out != "" || !strings.Contains(r.err, "too few servers took shares") {
		t.Errorf("exit %d, %q, %q", r.code, r.out, r.err)
	}
	if r := client.do(t, "get", s.Cap, h.path("nothing")); r.code != 5 {
		t.Errorf("exit %d, %s", r.code, r.err)
	}
	if _, err := os.Stat(h.path("nothing")); !os.IsNotExist(err) {
		t.Errorf("a file is there: %v", err)
	}
	h.noLeftovers(t)
}
