package interop

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Our node is killed while it uploads to real Tahoe servers, which hold a part of each
// share then. They say in the answer to a write what they lack: the next process sends
// no more than that. A server that was restarted meanwhile has dropped its part, as
// Tahoe does, and is sent its share anew. A byte of the start of a share is sent again,
// to ask.
func TestUploadsToTahoesServersResume(t *testing.T) {
	NeedPeers(t)
	t.Parallel()
	const (
		k, n  = 2, 3
		size  = 12 << 20
		share = size / k
	)
	in := StartIntroducer(t)
	proxies, dirs, runs := make([]*Proxy, n), make([]string, n), make([]*Process, n)
	var start []func()
	for i := range n {
		start = append(start, func() {
			port := FreePort(t)
			proxies[i] = StartProxy(t, port)
			runs[i], dirs[i] = StartStorage(t, in.FURL, fmt.Sprintf("storage%d", i), fmt.Sprintf("--port=tcp:%d:interface=127.0.0.1", port),
				fmt.Sprintf("--location=tcp:127.0.0.1:%d", proxies[i].Port()))
		})
	}
	Together(t, start...)
	ours, theirs := startClients(t, in.FURL, k, n, n, n)
	for i, restarted := range []int{0, 1} { // servers
		what := fmt.Sprintf("%d servers restarted", restarted)
		data := body(uint64(200+i), size)
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		put, goOn := StandStill(t, proxies, share/2, func() *Process { return Start(t, Warren(t), "-d", ours.Dir, "put", file) })
		ours.Process.Kill()
		<-put.Done()
		for s := range n {
			shares, err := filepath.Glob(filepath.Join(dirs[s], "storage", "shares", "incoming", "??", "*", "*"))
			if err != nil || len(shares) != 1 {
				t.Fatalf("%s: server %d is about to take the shares %v, %v", what, s, shares, err)
			}
		}
		goOn()
		for s := range restarted {
			runs[s].Stop(time.Minute) // Tahoe ends by the signal
			runs[s] = runNode(t, Tahoe(t), dirs[s])
		}
		ours = RunClient(t, Warren(t), ours.Dir, n)
		for _, p := range proxies {
			p.Watch(true, 0, nil)
		}
		out := Run(t, 2*time.Minute, Warren(t), "-d", ours.Dir, "put", "--json", file)
		var told struct {
			Cap       string
			Happiness int
			Pushed    int `json:"shares_pushed"`
			Existing  int `json:"shares_existing"`
			Resumed   int `json:"resumed_bytes"`
		}
		if err := json.Unmarshal([]byte(out), &told); err != nil {
			t.Fatal(err)
		}
		// The lines stood still when a server had got half: the pieces that were on their
		// way then, two at most, do not count.
		const piece = 1 << 20
		if told.Happiness != n || told.Pushed != n || told.Existing != 0 || told.Resumed < (n-restarted)*(share/2-2*piece) || told.Resumed > (n-restarted)*share {
			t.Errorf("%s: %d bytes were there, happiness %d, %d shares pushed, %d existing", what, told.Resumed, told.Happiness, told.Pushed, told.Existing)
		}
		var sent int64
		for _, p := range proxies {
			up, _ := p.Passed()
			sent += up
		}
		t.Logf("%s: %d bytes were there, %d were sent", what, told.Resumed, sent)
		if most := int64(n*share - told.Resumed + n*piece/4); sent > most {
			t.Errorf("%s: %d bytes were sent, %d were there", what, sent, told.Resumed)
		}
		for who, c := range map[string]*WebClient{"ours": ours, "Tahoe's": theirs} {
			if got := c.Must(t, "GET", "/uri/"+url.PathEscape(told.Cap), nil); !bytes.Equal(got, data) {
				t.Errorf("%s: %s client reads %d bytes, other ones", what, who, len(got))
			}
		}
	}
}
