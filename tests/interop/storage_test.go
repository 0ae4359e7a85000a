package interop

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"warren/node/caps"
	"warren/node/furl"
	"warren/node/storage"
	"warren/node/storage/container"
	"warren/node/storage/disk"
	"warren/node/storage/gbs"
	"warren/node/storage/storagetest"
)

const storageSwissnum = "sekritswissnum"

// storageTime is where the clocks of the servers stand that are compared.
var storageTime = time.Unix(1790000000, 0)

// tahoeServers starts Tahoe's storage servers, one a directory.
type tahoeServers struct {
	t   *testing.T
	in  io.Writer
	out *bufio.Scanner
}

func startTahoeServers(t *testing.T) *tahoeServers {
	t.Helper()
	cmd := exec.Command(Python(t), Script(t, "gbs_server.py"), "1790000000")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("Tahoe's servers: %v\n%s", err, stderr.Bytes())
		}
	})
	return &tahoeServers{t, in, bufio.NewScanner(out)}
}

func (s *tahoeServers) open(dir string) furl.NURL {
	s.t.Helper()
	if _, err := io.WriteString(s.in, dir+"\n"); err != nil {
		s.t.Fatal(err)
	}
	if !s.out.Scan() {
		s.t.Fatal("Tahoe's servers are gone")
	}
	nurl, err := furl.ParseNURL(s.out.Text())
	if err != nil {
		s.t.Fatalf("%v: %s", err, s.out.Text())
	}
	return nurl
}

// openOurs serves a directory until close is called.
func openOurs(t *testing.T, dir string) (nurl furl.NURL, close func()) {
	t.Helper()
	backend, err := disk.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	var node [20]byte
	for i := range node {
		node[i] = byte(i + 1) // as gbs_server.py has it
	}
	server := storage.NewServer(backend, storage.Options{NodeID: node, Now: func() time.Time { return storageTime }})
	return serveGBS(t, server)
}

// serveGBS serves a server over HTTPS on loopback until close is called, or the test
// ends, and closes it.
func serveGBS(t *testing.T, server *storage.Server) (nurl furl.NURL, close func()) {
	t.Helper()
	cert := tubCertificate(t, anyTub)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- gbs.NewServer(server.As(storage.Account{}), storageSwissnum, gbs.Options{}).Serve(ctx, l, cert)
	}()
	close = sync.OnceFunc(func() {
		cancel()
		if err := errors.Join(<-done, server.Close()); err != nil {
			t.Errorf("serving: %v", err)
		}
	})
	t.Cleanup(close)
	if nurl, err = gbs.NURL(cert, "127.0.0.1", l.Addr().(*net.TCPAddr).Port, false, storageSwissnum); err != nil {
		t.Fatal(err)
	}
	return nurl, close
}

// tahoeStorageClient sends Tahoe's client through a server's endpoints.
func tahoeStorageClient(t *testing.T, nurl furl.NURL, args ...string) map[string]any {
	t.Helper()
	script := Script(t, "gbs_client.py")
	out := Run(t, 2*time.Minute, Python(t), append([]string{script, nurl.Text()}, args...)...)
	var results map[string]any
	if err := json.Unmarshal([]byte(out), &results); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if len(results) < 60 {
		t.Fatalf("only %d results", len(results))
	}
	return results
}

// otherwise is where our server answers otherwise than Tahoe's, on purpose.
var otherwise = map[string]any{
	// Tahoe's server fails where the request is at fault.
	"raw reason bytes":   400.,
	"raw rtw text share": 400.,
	// Tahoe makes a file named "-1".
	"raw rtw negative share": 400.,
	// Tahoe does not look at what follows the message.
	"raw rtw two items": 400.,
}

// TestStorageEndpoints: Tahoe's client gets the same from our server as from
// Tahoe's, at each endpoint, rightly and wrongly used; and the share files that
// come of it are the same to the byte.
func TestStorageEndpoints(t *testing.T) {
	t.Parallel()
	theirDir, ourDir := filepath.Join(t.TempDir(), "storage"), filepath.Join(t.TempDir(), "storage")
	theirs := tahoeStorageClient(t, startTahoeServers(t).open(theirDir))
	nurl, stop := openOurs(t, ourDir)
	ours := tahoeStorageClient(t, nurl)
	stop()
	for _, name := range slices.Sorted(maps.Keys(theirs)) {
		want := theirs[name]
		if o, ok := otherwise[name]; ok {
			want = o
		}
		a, _ := json.Marshal(ours[name])
		b, _ := json.Marshal(want)
		if !bytes.Equal(a, b) {
			t.Errorf("%s: ours %s, want %s", name, a, b)
		}
	}
	for name := range otherwise {
		if _, ok := theirs[name]; !ok {
			t.Errorf("no step is called %q any more", name)
		}
	}
	sameShares(t, ourDir, theirDir)
	if a, b := advisories(t, ourDir), advisories(t, theirDir); len(b) == 0 || !slices.Equal(a, b) {
		t.Errorf("advisories:\n ours   %q\n theirs %q", a, b)
	}
}

// advisories are the corruption advisories, and what of their names is not the time.
func advisories(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, "corruption-advisories"))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, "corruption-advisories", e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		_, name, _ := strings.Cut(e.Name(), "--")
		name, _, _ = strings.Cut(name, ".") // ours, when the clock stands still
		all = append(all, name+"\n"+string(text))
	}
	slices.Sort(all)
	return all
}

// shareFiles are the share files below a storage directory.
func shareFiles(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	top := filepath.Join(dir, "shares")
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(top, path)
		if err != nil {
			return err
		}
		// "5..": slots that the client script spoils.
		if strings.HasPrefix(rel, "incoming") || strings.HasPrefix(rel, "5") {
			return nil
		}
		files[rel], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatalf("no share files below %s", dir)
	}
	return files
}

func sameShares(t *testing.T, ours, theirs string) {
	t.Helper()
	a, b := shareFiles(t, ours), shareFiles(t, theirs)
	for _, name := range slices.Sorted(maps.Keys(b)) {
		if !bytes.Equal(a[name], b[name]) {
			t.Errorf("share file %s:\n ours   %x\n theirs %x", name, a[name], b[name])
		}
	}
	for name := range a {
		if _, ok := b[name]; !ok {
			t.Errorf("share file %s is ours alone", name)
		}
	}
}

// TestStorageClientOfTahoe: our client passes its suite with Tahoe's servers.
func TestStorageClientOfTahoe(t *testing.T) {
	t.Parallel()
	servers := startTahoeServers(t)
	storagetest.Clients(t, func(t *testing.T) storage.Client {
		var d net.Dialer
		c := gbs.NewClient(servers.open(filepath.Join(t.TempDir(), "storage")), d.DialContext)
		t.Cleanup(func() { c.Close() })
		return c
	}, storagetest.NoRepeat, storagetest.Blunt)
}

// TestStorageDirectoryMoves: one directory, served by Tahoe, us, Tahoe, us; each
// sees what the others did, and writes on.
func TestStorageDirectoryMoves(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "storage")
	servers := startTahoeServers(t)
	first := tahoeStorageClient(t, servers.open(dir), "rightly")
	before := shareFiles(t, dir)

	ctx := t.Context()
	slot, file := caps.StorageIndex(bytes.Repeat([]byte{2}, 16)), caps.StorageIndex(bytes.Repeat([]byte{1}, 16))
	secrets := storage.SlotSecrets{
		WriteEnabler: storagetest.Secret('w'),
		LeaseSecrets: storage.LeaseSecrets{Renew: storagetest.Secret('r'), Cancel: storagetest.Secret('c')},
	}
	var d net.Dialer
	for turn := range 4 {
		var nurl furl.NURL
		stop := func() {}
		if turn%2 == 0 {
			nurl, stop = openOurs(t, dir)
		} else {
			nurl = servers.open(dir)
		}
		c := gbs.NewClient(nurl, d.DialContext)
		if held, err := c.ListShares(ctx, storage.Immutable, file); err != nil || len(held) == 0 {
			t.Fatalf("turn %d: immutable shares %v, %v", turn, held, err)
		}
		data, err := c.ReadShare(ctx, storage.Immutable, file, 0, 0, 1<<20)
		if err != nil || len(data) != 3000 {
			t.Fatalf("turn %d: %d bytes, %v", turn, len(data), err)
		}
		if err := c.AddLease(ctx, file, storage.LeaseSecrets{Renew: storagetest.Secret(byte(turn)), Cancel: storagetest.Secret(1)}); err != nil {
			t.Fatalf("turn %d: %v", turn, err)
		}
		text := bytes.Repeat([]byte{byte('a' + turn)}, 3000*(turn+1))
		expect := []storage.TestVector{{Offset: 0, Size: 6, Specimen: []byte("SEC!ND")}}
		if turn > 0 {
			expect = []storage.TestVector{{Offset: 0, Size: 1, Specimen: []byte{byte('a' + turn - 1)}}}
		}
		wrote, _, err := c.ReadTestWrite(ctx, slot, secrets, map[int]storage.TestWrite{0: {Test: expect, Write: []storage.WriteVector{{Data: text}}}}, nil)
		if err != nil || !wrote {
			t.Fatalf("turn %d: wrote %v, %v", turn, wrote, err)
		}
		reads, err := c.ReadSlot(ctx, slot, []int{0}, []storage.ReadVector{{Size: 1 << 20}})
		if err != nil || !bytes.Equal(reads[0][0], text) {
			t.Fatalf("turn %d: read %d bytes, %v", turn, len(reads[0][0]), err)
		}
		c.Close()
		stop()
	}
	after := shareFiles(t, dir)
	moved := 0
	for name, was := range before {
		now, ok := after[name]
		if !ok {
			t.Errorf("share file %s is lost", name)
		}
		if filepath.Base(filepath.Dir(name)) != file.Text() {
			continue
		}
		moved++
		old, new := openImmutable(t, was), openImmutable(t, now)
		if a, b := shareData(t, old), shareData(t, new); !bytes.Equal(a, b) {
			t.Errorf("share file %s: its data was %x, is %x", name, a, b)
		}
		// Each server's lease is there once, and those from before are.
		oldLeases, newLeases := shareLeases(t, old), shareLeases(t, new)
		if len(newLeases) != len(oldLeases)+4 {
			t.Fatalf("share file %s: %d leases, then %d", name, len(oldLeases), len(newLeases))
		}
		for turn, l := range newLeases[len(oldLeases):] {
			if !l.RenewedBy(storagetest.Secret(byte(turn))) {
				t.Errorf("share file %s: no lease of turn %d where it should be", name, turn)
			}
		}
	}
	if moved == 0 {
		t.Error("no share of the file was compared")
	}
	if len(first) == 0 {
		t.Error("no results")
	}
}

func openImmutable(t *testing.T, b []byte) *container.Immutable {
	t.Helper()
	im, err := container.OpenImmutable(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return im
}

func shareData(t *testing.T, im *container.Immutable) []byte {
	t.Helper()
	b, err := im.Read(0, im.Length())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func shareLeases(t *testing.T, im *container.Immutable) []container.Stored {
	t.Helper()
	all, err := im.Leases()
	if err != nil {
		t.Fatal(err)
	}
	return all
}
