package tor

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"warren/tests/interop"
	"warren/tests/tornet"
	"warren/torutil"
)

// TestOverTor is everything over one network and one grid.
func TestOverTor(t *testing.T) {
	h := newHouse(t)
	shared := randomBytes(t, 700<<10)
	if err := os.MkdirAll(filepath.Join(h.op.folder, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	h.op.write(t, "sub/shared.bin", shared)
	h.op.write(t, "hello.txt", []byte("hello\n"))
	h.must(t, nil, "folder", "add", "-d", h.op.dir, "--name="+folderName, "--author=alice", h.op.folder)
	h.op.current(t, patience)
	t.Run("members", func(t *testing.T) {
		t.Run("launched tor", func(t *testing.T) { t.Parallel(); launchedTor(t, h, shared) })
		t.Run("tor killed amid an upload", func(t *testing.T) { t.Parallel(); torKilled(t, h) })
		t.Run("namespace", func(t *testing.T) { t.Parallel(); inNamespace(t, h, shared) })
		t.Run("tahoe", func(t *testing.T) { t.Parallel(); tahoeServes(t, h) })
	})
}

// launchedTor is the newcomer's usual way: join launches tor. Edits go both ways;
// then the node is killed with -9, and starts again at once on the same directory.
func launchedTor(t *testing.T, h *house, shared []byte) {
	bob := h.node("bob")
	bob.run = h.start(t, nil, "join", "-d", bob.dir, "--yes", "--webport=tcp:0:interface=127.0.0.1", "--tor-launch", "--tor-torrc="+h.net.TorrcFile(), "--mailbox="+h.box, h.invite(t, "bob"), bob.folder)
	bob.has(t, "sub/shared.bin", shared, patience)
	bob.has(t, "hello.txt", []byte("hello\n"), patience)
	bob.write(t, "from-bob.txt", []byte("bob was here\n"))
	h.op.has(t, "from-bob.txt", []byte("bob was here\n"), patience)
	h.op.write(t, "to-bob.txt", []byte("alice was here\n"))
	bob.has(t, "to-bob.txt", []byte("alice was here\n"), patience)

	s, err := bob.status()
	if err != nil {
		t.Fatal(err)
	}
	if s.Network != "tor" || !strings.Contains(s.Tor, "ready") || s.Connections.Tried(torutil.ViaDirect) != 0 || s.Connections.By[torutil.ViaTor].Made == 0 {
		t.Errorf("status: %+v", s)
	}
	bob.run.kill()
	before := time.Now()
	bob.run = h.start(t, nil, "run", bob.dir)
	bob.becomes(t, "on Tor again", patience, func(s status) error {
		if s.connected() < servers {
			return fmt.Errorf("%s; %+v", s.Tor, s.Servers)
		}
		return nil
	})
	t.Logf("connected %v after kill -9 and a new start", time.Since(before).Round(time.Millisecond))
	h.op.write(t, "to-bob.txt", []byte("alice was here again\n"))
	bob.has(t, "to-bob.txt", []byte("alice was here again\n"), patience)
}

// torKilled has the tor of a member die while a large file is on its way: nothing
// goes another way, and when tor is back the upload completes by itself.
func torKilled(t *testing.T, h *house) {
	tor := h.client("dave")
	dave := h.node("dave")
	dave.run = h.start(t, nil, "join", "-d", dave.dir, "--yes", "--webport=tcp:0:interface=127.0.0.1", "--tor-control-port=tcp:"+tor.Control, "--mailbox="+h.box, h.invite(t, "dave"), dave.folder)
	dave.has(t, "hello.txt", []byte("hello\n"), patience)
	large := randomBytes(t, 16<<20)
	dave.write(t, "large.bin", large)
	// A share of it (8 MiB) is on a server in part.
	dave.until(t, "the upload under way", patience, func() error {
		for i := range servers {
			found := false
			filepath.WalkDir(h.path(fmt.Sprintf("server%d/storage/shares/incoming", i)), func(path string, d fs.DirEntry, err error) error {
				if err == nil {
					if info, err := d.Info(); err == nil && info.Mode().IsRegular() && info.Size() > 1<<20 {
						found = true
					}
				}
				return nil
			})
			if found {
				return nil
			}
		}
		return errors.New("no share has begun to arrive")
	})
	tor.Kill()
	if _, err := os.Stat(filepath.Join(h.op.folder, "large.bin")); err == nil {
		t.Error("the file was there before tor was killed: this run shows nothing")
	}
	dave.becomes(t, "without Tor", patience, func(s status) error {
		if s.connected() > 0 {
			return errors.New("servers are connected still")
		}
		if len(s.Folders) != 1 || s.Folders[0].State == "" || s.Folders[0].Reason == "" {
			return fmt.Errorf("the folder does not say why it waits: %+v", s.Folders)
		}
		if n := s.Connections.Tried(torutil.ViaDirect); n != 0 {
			t.Fatalf("%d direct connections", n)
		}
		return nil
	})
	if err := tor.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := time.Now()
	dave.connected(t, servers)
	t.Logf("servers connected %v after tor was back", time.Since(before).Round(time.Millisecond))
	h.op.has(t, "large.bin", large, patience)
}

// inNamespace joins from where only Tor's SOCKS port can be reached: nothing else
// is sent, no DNS query either, although the node is told of an introducer with a
// name and an address in the clear.
func inNamespace(t *testing.T, h *house, shared []byte) {
	tor := h.client("outside")
	ns, err := tornet.NewNamespace(map[string]string{"127.0.0.1:9050": tor.SOCKS})
	if errors.Is(err, tornet.ErrNoNamespace) {
		t.Skipf("SKIP: that a member sends nothing but to Tor was not tested: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	carol := h.node("carol")
	carol.ns = ns
	const web = 3456 // the node's own, on the namespace's loopback
	ns.Allow(web)
	// Without an encoding: the introducer is asked, through Tor too.
	h.must(t, ns, "create-client", "--hide-ip", "--tor-socks-port=tcp:127.0.0.1:9050", "--introducer="+h.furl, "--webport=tcp:"+strconv.Itoa(web)+":interface=127.0.0.1", carol.dir)
	other := "  elsewhere:\n    furl: pb://" + strings.Repeat("a", 32) + "@tcp:introducer.example.org:44190,tcp:198.51.100.7:44190/" + strings.Repeat("b", 32) + "\n"
	list := filepath.Join(carol.dir, "private", "introducers.yaml")
	known, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(list, append(known, other...), 0o600); err != nil {
		t.Fatal(err)
	}
	carol.run = h.start(t, ns, "join", "-d", carol.dir, "--yes", "--mailbox="+h.box, h.invite(t, "carol"), carol.folder)
	carol.has(t, "sub/shared.bin", shared, patience)
	carol.write(t, "from-carol.txt", []byte("carol was here\n"))
	h.op.has(t, "from-carol.txt", []byte("carol was here\n"), patience)
	carol.becomes(t, "only Tor", patience, func(s status) error {
		if s.Connections.Tried(torutil.ViaDirect) != 0 || s.Connections.By[torutil.ViaTor].Made == 0 {
			t.Fatalf("connections %+v", s.Connections)
		}
		if s.Connections.By[torutil.ViaTor].Failed == 0 {
			return errors.New("the other introducer was not tried yet")
		}
		return nil
	})
	carol.run.stop(t)
	stray, all := ns.Stray()
	if len(stray) != 0 || all == 0 {
		t.Errorf("of %d packets, these went astray: %v", all, stray)
	}
	t.Logf("%d packets, all to Tor's SOCKS port or the node's own web API", all)
}

// tahoeServes has the real Tahoe-LAFS run a directory that we made with
// --listen=tor --hide-ip: it starts, and a client of ours stores on it.
func tahoeServes(t *testing.T, h *house) {
	tahoe := interop.Tahoe(t)
	tor := h.client("tahoe")
	dir := h.path("tahoe")
	h.must(t, nil, append([]string{"create-node", "--listen=tor", "--hide-ip", "--tor-control-port=tcp:" + tor.Control, "--nickname=tahoe", "--introducer=" + h.furl, "--webport=none"}, append(encoding(), dir)...)...)
	// It stays to the end: others' shares are on it, and stored means on two servers here.
	running := interop.Start(h.t, tahoe, "run", "--allow-stdin-close", dir)
	interop.Eventually(t, patience, "tahoe's server connected at alice", func() error {
		select {
		case <-running.Done():
			t.Fatalf("tahoe ended\n%s", running.Output())
		default:
		}
		s, err := h.op.status()
		if err != nil {
			return err
		}
		for _, sv := range s.Servers {
			if sv.Nickname == "tahoe" && sv.Connected {
				return nil
			}
		}
		return fmt.Errorf("%+v\n%s", s.Servers, running.Output())
	})
	// Each file goes to three of the four: sooner or later to Tahoe's.
	interop.Eventually(t, patience, "a share on tahoe's disk", func() error {
		file := h.path("for-tahoe")
		if err := os.WriteFile(file, randomBytes(t, 10<<10), 0o600); err != nil {
			return err
		}
		h.must(t, nil, "put", "-d", h.op.dir, file)
		shares, err := filepath.Glob(filepath.Join(dir, "storage/shares/*/*/*"))
		if err == nil && len(shares) == 0 {
			err = errors.New("none yet")
		}
		return err
	})
}

func randomBytes(t testing.TB, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return b
}
