package interop

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"testing"

	"warren/node/caps"
	"warren/node/grid"
	"warren/node/mutable"
	"warren/node/storage"
	"warren/node/storage/gbs"
)

// TestWatchingTahoe: Tahoe's servers have nothing where our watching lies; our client
// does not try, and finds changes by asking.
func TestWatchingTahoe(t *testing.T) {
	NeedPeers(t)
	t.Parallel()
	ctx := context.Background()
	servers := startTahoeServers(t)
	var all []grid.Server
	for i := range 3 {
		nurl := servers.open(filepath.Join(t.TempDir(), "storage"))
		var d net.Dialer
		c := gbs.NewClient(nurl, d.DialContext)
		t.Cleanup(func() { c.Close() })
		if _, err := c.Version(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Watch(ctx, map[caps.StorageIndex]storage.Tag{{1}: {}}, 0); c.Watches() || !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("Tahoe's server can be watched: %v, %v", c.Watches(), err)
		}
		r, err := http.NewRequest("POST", "https://"+nurl.Address()+"/warren/v1/watch", bytes.NewReader(nil))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Tahoe-LAFS "+base64.StdEncoding.EncodeToString([]byte(nurl.Swissnum)))
		plain := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
		resp, err := plain.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		plain.CloseIdleConnections()
		if resp.StatusCode != http.StatusNotFound {
			t.Errorf("Tahoe's server answered %s", resp.Status)
		}
		seed := fmt.Appendf(nil, "a server's number %02d", i)
		all = append(all, grid.Server{ID: string(seed), PermutationSeed: seed, LeaseSeed: seed, Client: c})
	}
	writer, reader := mutableStore(t, slots(all), 2, 3, 3), mutableStore(t, slots(all), 2, 3, 3)
	file, err := writer.Create(ctx, mutable.Kind{}, func(caps.MutableWrite) ([]byte, error) { return []byte("first"), nil })
	if err != nil {
		t.Fatal(err)
	}
	_, readcap := keysOf(file)
	read := []caps.MutableRead{readcap}
	for seqnum := uint64(1); seqnum <= 3; seqnum++ {
		for range 2 { // by a survey, and by asking whether it is still so
			got := reader.Versions(ctx, read)[0]
			if got.Err != nil || got.Version.Seqnum != seqnum {
				t.Fatalf("%+v, want version %d", got, seqnum)
			}
			if _, err := reader.Watch(ctx, read, []mutable.Version{got.Version}); !errors.Is(err, mutable.ErrUnwatched) {
				t.Errorf("watching: %v", err)
			}
		}
		if err := writer.Overwrite(ctx, file, fmt.Append(nil, "after version ", seqnum)); err != nil {
			t.Fatal(err)
		}
	}
}
