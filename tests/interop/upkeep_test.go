package interop

import (
	"encoding/binary"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"warren/node/storage/container"
	"warren/node/storage/expire"
	"warren/node/upkeep"
)

// TestUpkeepOfATahoeDirectory: a directory in which Tahoe's commands have made an
// alias and a tree is run by our node, which keeps that tree alive on Tahoe's
// servers: the lease that Tahoe's client made is renewed, no other is added, and
// Tahoe's own lease checker then keeps the tree and drops what no alias names.
func TestUpkeepOfATahoeDirectory(t *testing.T) {
	t.Parallel()
	in := StartIntroducer(t)
	var servers [2]string
	Together(t,
		func() { _, servers[0] = StartStorage(t, in.FURL, "one") },
		func() { _, servers[1] = StartStorage(t, in.FURL, "two") })
	c := StartClient(t, in.FURL, 1, 2, 2, 2)
	tahoe := func(args ...string) string {
		return strings.TrimSpace(Run(t, time.Minute, Tahoe(t), append([]string{"-d", c.Dir}, args...)...))
	}
	file := func(text string) string {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, []byte(strings.Repeat(text, 100)), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	tahoe("create-alias", "home")
	tahoe("put", file("film"), "home:film")
	tahoe("mkdir", "home:sub")
	tahoe("put", "--format=mdmf", file("note"), "home:sub/note")
	stray := strings.TrimSpace(string(c.Must(t, "PUT", "/uri", strings.NewReader(strings.Repeat("stray", 100)))))
	info := c.Must(t, "GET", "/uri/"+stray+"?t=json", nil)
	if !strings.Contains(string(info), "filenode") {
		t.Fatalf("the stray file: %s", info)
	}
	if err := c.Process.Stop(time.Minute); err != nil {
		t.Logf("tahoe run: %v", err) // it ends by a signal
	}

	// Two days are left.
	soon := uint32(time.Now().Add(48 * time.Hour).Unix())
	shares := 0
	for _, dir := range servers {
		for name, data := range allShares(t, filepath.Join(dir, "storage")) {
			setExpiry(t, filepath.Join(dir, "storage", "shares", name), data, soon)
			shares++
		}
	}
	if shares != 10 {
		t.Fatalf("%d shares, want two each of two directories, two files and a stray one", shares)
	}

	c = RunClient(t, Warren(t), c.Dir, 2)
	var s upkeep.Status
	out := Run(t, 2*time.Minute, Warren(t), "-d", c.Dir, "upkeep", "--wait", "--json")
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		t.Fatal(err)
	}
	if s.Known != 4 || s.Last.Renewed != 4 || s.AtRisk != 0 || s.Failed != 0 || s.Last.Unnamed != "" || strings.Contains(out, "URI:") {
		t.Errorf("%s", out)
	}
	if said := Run(t, time.Minute, Warren(t), "-d", c.Dir, "status"); !strings.Contains(said, "4 items kept alive, 4 leases renewed") {
		t.Errorf("warren status: %s", said)
	}
	young, old := 0, 0
	for _, dir := range servers {
		for name, data := range allShares(t, filepath.Join(dir, "storage")) {
			if n := leaseCount(t, data); n != 1 {
				t.Errorf("%s has %d leases: ours is not that of Tahoe's client", name, n)
			}
			switch at := expiry(data); {
			case at == soon:
				old++
			case time.Until(time.Unix(int64(at), 0)) > 30*24*time.Hour:
				young++
			}
		}
	}
	if young != 8 || old != 2 {
		t.Errorf("%d leases renewed, %d left alone", young, old)
	}
	for _, dir := range servers {
		dir = cloneDir(t, filepath.Join(dir, "storage"))
		tahoeExpires(t, checkStep(dir, time.Now().Add(5*24*time.Hour).Unix(), expire.Settings{
			Enabled: true, Mode: expire.Age, Override: int64(container.LeaseDuration / time.Second), Immutable: true, Mutable: true,
		}))
		left := allShares(t, dir)
		for name, data := range left {
			if expiry(data) == soon {
				t.Errorf("Tahoe keeps %s", name)
			}
		}
		if len(left) != 4 {
			t.Errorf("Tahoe keeps %d shares", len(left))
		}
	}
}

// allShares reads the share files of a storage directory, by their path below shares.
func allShares(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	found := map[string][]byte{}
	top := os.DirFS(filepath.Join(dir, "shares"))
	paths, err := fs.Glob(top, "??/*/*")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no shares in %s: %v", dir, err)
	}
	for _, p := range paths {
		if found[p], err = fs.ReadFile(top, p); err != nil {
			t.Fatal(err)
		}
	}
	return found
}

// expiryAt is where a share file with one lease says when that ends.
func expiryAt(data []byte) int {
	if mutable, _ := container.IsMutable(data[:32]); mutable {
		return 100 + 4 // the first lease, behind its owner
	}
	return len(data) - 4
}

func expiry(data []byte) uint32 { return binary.BigEndian.Uint32(data[expiryAt(data):]) }

func setExpiry(t *testing.T, path string, data []byte, at uint32) {
	t.Helper()
	binary.BigEndian.PutUint32(data[expiryAt(data):], at)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
