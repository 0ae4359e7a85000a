package interop

import (
	"bytes"
	"fmt"
	"net/url"
	"path/filepath"
	"testing"
)

// TestIntroducers: behind our introducer and behind Tahoe's stand a storage server
// of each kind; a client of each kind sees both and stores on both.
func TestIntroducers(t *testing.T) {
	NeedPeers(t)
	for _, kind := range []string{"ours", "Tahoe's"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			in := startIntroducer(t, map[string]string{"ours": Warren(t), "Tahoe's": Tahoe(t)}[kind])
			stores := make([]string, 2)
			clients := make([]*WebClient, 2)
			Together(t,
				func() { _, stores[0] = StartOurStorage(t, in.FURL, "our-storage") },
				func() { _, stores[1] = StartStorage(t, in.FURL, "tahoe-storage") },
				// Happiness is two: an upload must reach both servers.
				func() { clients[0] = StartOurClient(t, in.FURL, 1, 2, 2, 2) },
				func() { clients[1] = StartClient(t, in.FURL, 1, 2, 2, 2) })
			held := func(dir string) int {
				files, err := filepath.Glob(filepath.Join(dir, "storage", "shares", "??", "*", "*"))
				if err != nil {
					t.Fatal(err)
				}
				return len(files)
			}
			for i, c := range clients {
				names := map[string]bool{}
				for _, nickname := range welcomeServers(t, c) {
					names[nickname] = true
				}
				if len(names) != 2 || !names["our-storage"] || !names["tahoe-storage"] {
					t.Errorf("client %d sees %v", i, names)
				}
				before := []int{held(stores[0]), held(stores[1])}
				data := body(uint64(70+i), 50_000)
				cap := string(c.Must(t, "PUT", "/uri", bytes.NewReader(data)))
				dir := string(c.Must(t, "POST", "/uri?t=mkdir", nil))
				for j, store := range stores {
					if n := held(store) - before[j]; n != 2 {
						t.Errorf("client %d left %d shares on server %d, want 2", i, n, j)
					}
				}
				reader := clients[1-i]
				if got := reader.Must(t, "GET", "/uri/"+url.PathEscape(cap), nil); !bytes.Equal(got, data) {
					t.Errorf("client %d reads other bytes", 1-i)
				}
				reader.Must(t, "PUT", "/uri/"+url.PathEscape(dir)+"/"+fmt.Sprint(i), bytes.NewReader(data))
			}
		})
	}
}
