package tornet_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"warren/tests/interop"
	"warren/tests/tornet"
	"warren/torutil"
	"warren/torutil/control"
	"warren/torutil/onion"
)

// shared is one network for all the tests, made when the first wants it.
var shared struct {
	once sync.Once
	net  *tornet.Network
	err  error
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "tornet")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Setenv("TORNET_TEST_DIR", dir)
	// The tests wait for tor more than they work.
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if shared.net != nil {
		shared.net.Close()
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

func network(t *testing.T) *tornet.Network {
	t.Helper()
	if err := tornet.Available(); err != nil {
		interop.Skip(t, "nothing about a real Tor network was tested: %v", err)
	}
	if testing.Short() {
		t.Skip("SKIP: -short: nothing about a real Tor network was tested")
	}
	shared.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		shared.net, shared.err = tornet.Start(ctx, os.Getenv("TORNET_TEST_DIR"), os.Stderr)
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.net
}

func client(t *testing.T, name string, extra ...string) *tornet.Client {
	t.Helper()
	c, err := network(t).Client(t.Context(), name, extra...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Kill)
	return c
}

func open(t *testing.T, c torutil.Config) (torutil.Network, *torutil.Handle) {
	t.Helper()
	n, h, err := torutil.Open(t.Context(), c, func(p torutil.Progress) {
		t.Logf("%s: %s %d%% %s %v", t.Name(), p.Stage, p.Percent, p.Summary, p.Err)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return n, h
}

// patience is how long what crosses Tor is waited for: a stream whose circuit got
// stuck is given up by tor after two minutes, and then tried anew.
const patience = 5 * time.Minute

// patiently dials again until it succeeds: circuits to a fresh onion service
// fail now and then, and a tor that comes back needs its time.
func patiently(t *testing.T, n torutil.Dialer, address string) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		conn, err := n.DialContext(ctx, "tcp", address)
		if err == nil {
			return conn
		}
		select {
		case <-time.After(250 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("dial %s: %v", address, err)
		}
	}
}

// server is a node with an onion service that serves body(offset) to whoever
// sends an offset and a line end.
type server struct {
	address string
	body    []byte
	handle  *torutil.Handle
}

func serve(t *testing.T, c *tornet.Client, size int) *server {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "private"), 0o700); err != nil {
		t.Fatal(err)
	}
	made, err := torutil.CreateOnion(dir)
	if err != nil {
		t.Fatal(err)
	}
	n, h := open(t, torutil.Config{NodeDir: dir, TCP: "tor", Tor: torutil.TorConfig{
		ControlPort: "tcp:" + c.Control, Onion: true,
		OnionLocalPort: made.LocalPort, OnionExternalPort: made.ExternalPort, OnionKeyFile: made.KeyFile,
	}})
	ln, err := n.Listen(t.Context(), "listen:tor")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	if addr, ok := ln.Addr().(onion.Addr); !ok || "tor:"+addr.String() != made.TubLocation {
		t.Errorf("listener at %v, location %s", ln.Addr(), made.TubLocation)
	}
	s := &server{address: ln.Addr().String(), body: make([]byte, size), handle: h}
	rand.Read(s.body)
	go s.run(ln)
	select {
	case <-h.Published():
	case <-time.After(patience):
		t.Fatal("the onion service was not published")
	}
	return s
}

func (s *server) run(ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			var from int
			if _, err := fmt.Fscanf(bufio.NewReader(conn), "%d\n", &from); err == nil && from >= 0 && from <= len(s.body) {
				conn.Write(s.body[from:])
			}
		}()
	}
}

// fetch reads the body from an offset to its end.
func (s *server) fetch(t *testing.T, n torutil.Dialer) {
	t.Helper()
	conn := patiently(t, n, s.address)
	defer conn.Close()
	fmt.Fprintf(conn, "0\n")
	got, err := io.ReadAll(conn)
	if err != nil || sha256.Sum256(got) != sha256.Sum256(s.body) {
		t.Fatalf("%d bytes of %d, %v", len(got), len(s.body), err)
	}
}

func onlyTor(t *testing.T, n torutil.Network) {
	t.Helper()
	counts := n.Counts()
	if counts.Tried(torutil.ViaDirect) != 0 || counts.By[torutil.ViaTor].Made == 0 {
		t.Errorf("connections: %+v", counts)
	}
	t.Logf("connections: %+v", counts)
}

// A service on one tor is reached through another, also when the other has
// several SocksPorts and is known by its control port only; and it comes back
// when its tor was killed and started again.
func TestOnionService(t *testing.T) {
	t.Parallel()
	serving := client(t, "serving")
	attached := client(t, "attached", "SocksPort 127.0.0.1:auto IsolateDestAddr", "SocksPort 127.0.0.1:auto")
	s := serve(t, serving, 1<<20)
	n, h := open(t, torutil.Config{TCP: "tor", Tor: torutil.TorConfig{ControlPort: "tcp:" + attached.Control}})
	if err := h.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	if status, ok := h.Tor(); !ok || len(status.SOCKS) != 3 || status.Percent != 100 {
		t.Errorf("status %+v; want three SocksPorts", status)
	}
	s.fetch(t, n)
	onlyTor(t, n)

	serving.Kill()
	if err := serving.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.fetch(t, n)
	if status, _ := s.handle.Tor(); status.Sessions != 2 {
		t.Errorf("status %+v; want a second session", status)
	}
}

// Two destinations never share a circuit.
func TestIsolation(t *testing.T) {
	t.Parallel()
	c := client(t, "isolated")
	local := torutil.NewLocal(&torutil.Ledger{})
	socks := control.NewSOCKS(local.DialContext, func() ([]control.Address, error) {
		return []control.Address{{Network: "tcp", Address: c.SOCKS}}, nil
	})
	circuits := map[int]string{} // of the streams to each port
	for range 2 {
		ln, err := local.Listen(t.Context(), "tcp:0:interface=127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		port := ln.Addr().(*net.TCPAddr).Port
		// Through an exit of the private network, whose exits may go to loopback.
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		var conn net.Conn
		for conn == nil {
			if conn, err = socks.DialContext(ctx, "127.0.0.1", uint16(port)); err == nil {
				break
			}
			select {
			case <-time.After(250 * time.Millisecond):
			case <-ctx.Done():
				t.Fatal(err)
			}
		}
		defer conn.Close()
		for _, line := range strings.Split(info(t, c, "stream-status"), "\n") {
			f := strings.Fields(strings.TrimPrefix(line, "stream-status=")) // ID, status, circuit, target
			if len(f) >= 4 && f[1] == "SUCCEEDED" && f[3] == fmt.Sprintf("127.0.0.1:%d", port) {
				circuits[port] = f[2]
			}
		}
	}
	seen := map[string]bool{}
	for _, circuit := range circuits {
		seen[circuit] = true
	}
	if len(circuits) != 2 || len(seen) != 2 {
		t.Errorf("streams are on circuits %v", circuits)
	}
}

// info asks a tor's control port, with a tool that is not ours to test.
func info(t *testing.T, c *tornet.Client, key string) string {
	t.Helper()
	answer, err := c.Ask("GETINFO " + key)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// serveAt is serve for a service of its own ("onion:80"), whose key is made the
// first time.
func serveAt(t *testing.T, c *tornet.Client, endpoint string, size int) *server {
	t.Helper()
	dir := t.TempDir()
	n, _ := open(t, torutil.Config{NodeDir: dir, TCP: "tor", Tor: torutil.TorConfig{ControlPort: "tcp:" + c.Control}})
	var addresses [2]string
	var last *onion.Listener
	for i := range addresses {
		ln, err := n.Listen(t.Context(), endpoint)
		if err != nil {
			t.Fatal(err)
		}
		addresses[i], last = ln.Addr().String(), ln.(*onion.Listener)
		if i == 0 {
			ln.Close()
		}
	}
	if addresses[0] != addresses[1] {
		t.Errorf("the address changed: %v", addresses)
	}
	t.Cleanup(func() { last.Close() })
	s := &server{address: addresses[1], body: make([]byte, size)}
	rand.Read(s.body)
	go s.run(last)
	select {
	case <-last.Published():
	case <-time.After(patience):
		t.Fatal("the onion service was not published")
	}
	return s
}

// Tor is killed amid a transfer: the transfer breaks, no other way is tried, and
// everything goes on when tor is back.
func TestTorKilledAmidTransfer(t *testing.T) {
	t.Parallel()
	serving, using := client(t, "amid-serving"), client(t, "amid-using")
	s := serveAt(t, serving, "onion:80:privateKeyFile=private/mailbox.privkey", 8<<20)
	n, _ := open(t, torutil.Config{TCP: "tor", Tor: torutil.TorConfig{SOCKSPort: "tcp:" + using.SOCKS}})
	conn := patiently(t, n, s.address)
	fmt.Fprintf(conn, "0\n")
	got := make([]byte, len(s.body))
	half, err := io.ReadFull(conn, got[:1<<20])
	if err != nil {
		t.Fatal(err)
	}
	using.Kill()
	// What is on the way still arrives; then it ends short.
	more, err := io.ReadFull(conn, got[half:])
	if err == nil {
		t.Skip("SKIP: the whole transfer was on the way already: this run shows nothing")
	}
	conn.Close()
	have := half + more
	for range 3 {
		if _, err := n.DialContext(t.Context(), "tcp", s.address); !errors.Is(err, torutil.ErrTorNotReady) {
			t.Fatalf("dial without tor: %v", err)
		}
	}
	if _, err := n.DialContext(t.Context(), "tcp", "example.org:80"); !errors.Is(err, torutil.ErrTorNotReady) {
		t.Fatalf("dial without tor: %v", err)
	}
	if err := using.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn = patiently(t, n, s.address)
	defer conn.Close()
	fmt.Fprintf(conn, "%d\n", have)
	if _, err := io.ReadFull(conn, got[have:]); err != nil || sha256.Sum256(got) != sha256.Sum256(s.body) {
		t.Fatalf("after tor came back: %v", err)
	}
	onlyTor(t, n)
}

// launched is the configuration of a node that launches its own tor.
func launched(t *testing.T, dir string) torutil.Config {
	return torutil.Config{NodeDir: dir, TCP: "tor", Tor: torutil.TorConfig{Launch: true, TorrcFile: network(t).TorrcFile()}}
}

// TestLauncher is the process that TestLaunched kills.
func TestLauncher(t *testing.T) {
	dir, torrc := os.Getenv("TORNET_TEST_LAUNCHER"), os.Getenv("TORNET_TEST_TORRC")
	if dir == "" {
		t.Skip("part of TestLaunched")
	}
	_, h := open(t, torutil.Config{NodeDir: dir, TCP: "tor", Tor: torutil.TorConfig{Launch: true, TorrcFile: torrc}})
	if err := h.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	fmt.Println("ready")
	select {}
}

// A node that launches tor is killed with -9 and starts again on the same
// directory; the tor of the second is killed, and launched anew.
func TestLaunched(t *testing.T) {
	t.Parallel()
	s := serve(t, client(t, "for-launched"), 1<<16)
	dir := t.TempDir()
	first := exec.Command(os.Args[0], "-test.run=^TestLauncher$")
	first.Env = append(os.Environ(), "TORNET_TEST_LAUNCHER="+dir, "TORNET_TEST_TORRC="+network(t).TorrcFile())
	out, err := first.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	first.Process.Kill()
	first.Wait()
	if line != "ready\n" {
		t.Fatalf("the first node: %q, %v", line, err)
	}

	n, h := open(t, launched(t, dir))
	if err := h.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.fetch(t, n)
	status, _ := h.Tor()
	tor, err := os.FindProcess(status.PID)
	if err != nil {
		t.Fatal(err)
	}
	tor.Kill()
	s.fetch(t, n)
	if again, _ := h.Tor(); again.PID == status.PID || again.Sessions != 2 {
		t.Errorf("status %+v after %+v", again, status)
	}
	onlyTor(t, n)
}

// TestInside is the process that TestNamespace runs in the namespace.
func TestInside(t *testing.T) {
	address := os.Getenv("TORNET_TEST_INSIDE")
	if address == "" {
		t.Skip("part of TestNamespace")
	}
	n, h := open(t, torutil.Config{TCP: "tor", Tor: torutil.TorConfig{SOCKSPort: "tcp:127.0.0.1:9050"}})
	if err := h.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"example.invalid:80", "203.0.113.7:80", "[2001:db8::7]:80", "localhost:80", "127.0.0.1:80"} {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		conn, err := n.DialContext(ctx, "tcp", name)
		cancel()
		if err == nil {
			conn.Close()
			t.Errorf("%s was reached", name)
		}
	}
	conn := patiently(t, n, address)
	defer conn.Close()
	fmt.Fprintf(conn, "0\n")
	got, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("%x\n", sha256.Sum256(got))
}

// In a network namespace whose only way out is Tor's SOCKS port, a node works,
// and sends no packet and no DNS query anywhere else.
func TestNamespace(t *testing.T) {
	t.Parallel()
	using := client(t, "outside")
	ns, err := tornet.NewNamespace(map[string]string{"127.0.0.1:9050": using.SOCKS})
	if errors.Is(err, tornet.ErrNoNamespace) {
		t.Skipf("SKIP: that a node sends nothing but to Tor was not tested: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	s := serve(t, client(t, "ns-serving"), 1<<18)
	var out strings.Builder
	inside := exec.Command(os.Args[0], "-test.run=^TestInside$", "-test.v")
	inside.Env = append(os.Environ(), "TORNET_TEST_INSIDE="+s.address)
	inside.Stdout, inside.Stderr = &out, &out
	if err := ns.Start(inside); err != nil {
		t.Fatal(err)
	}
	err = inside.Wait()
	if want := fmt.Sprintf("%x\n", sha256.Sum256(s.body)); err != nil || !strings.Contains(out.String(), want) {
		t.Fatalf("inside: %v\n%s", err, out.String())
	}
	stray, all := ns.Stray()
	if len(stray) != 0 || all == 0 {
		t.Errorf("of %d packets, these went astray: %v", all, stray)
	}
	t.Logf("%d packets, all to Tor's SOCKS port", all)
}

// The watch itself: what a leak would send is seen.
func TestNamespaceSeesLeaks(t *testing.T) {
	t.Parallel()
	ns, err := tornet.NewNamespace(nil)
	if errors.Is(err, tornet.ErrNoNamespace) {
		t.Skipf("SKIP: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	if stray, _ := ns.Stray(); len(stray) != 0 {
		t.Errorf("before anything: %v", stray)
	}
	inside := exec.Command(os.Args[0], "-test.run=^TestLeaker$")
	inside.Env = append(os.Environ(), "TORNET_TEST_LEAKER=1")
	if err := ns.Start(inside); err != nil {
		t.Fatal(err)
	}
	inside.Wait()
	stray, _ := ns.Stray()
	for _, want := range []string{"sink0: TCP 192.0.2.2 > 203.0.113.7:80", "sink0: TCP 2001:db8::2 > [2001:db8:1::7]:80", "lo: TCP 127.0.0.1 > 127.0.0.1:81", "UDP 192.0.2.2 > "} {
		found := false
		for _, p := range stray {
			found = found || strings.Contains(p.String(), want)
		}
		if !found {
			t.Errorf("%q was not seen: %v", want, stray)
		}
	}
}

// TestLeaker does what the program must never do.
func TestLeaker(t *testing.T) {
	if os.Getenv("TORNET_TEST_LEAKER") == "" {
		t.Skip("part of TestNamespaceSeesLeaks")
	}
	for _, address := range []string{"203.0.113.7:80", "[2001:db8:1::7]:80", "127.0.0.1:81"} {
		d := net.Dialer{Timeout: 100 * time.Millisecond}
		if conn, err := d.Dial("tcp", address); err == nil {
			conn.Close()
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, "203.0.113.53:53")
	}}
	resolver.LookupHost(ctx, "example.org")
}

// TestHolder is the process that TestHolderKilled kills.
func TestHolder(t *testing.T) {
	dir := os.Getenv("TORNET_TEST_HOLDER")
	if dir == "" {
		t.Skip("part of TestHolderKilled")
	}
	tornet.Start(t.Context(), dir, os.Stderr)
	select {}
}

// A process that holds a network is killed with -9: no tor outlives it.
func TestHolderKilled(t *testing.T) {
	t.Parallel()
	if err := tornet.Available(); err != nil || runtime.GOOS != "linux" {
		t.Skipf("SKIP: that no tor is left over was not tested: %v", err)
	}
	dir := t.TempDir()
	holder := exec.Command(os.Args[0], "-test.run=^TestHolder$")
	holder.Env = append(os.Environ(), "TORNET_TEST_HOLDER="+dir)
	out, err := holder.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	ours := tors(t, dir)
	holder.Process.Kill()
	holder.Wait()
	if err != nil || len(ours) != 7 {
		t.Errorf("%d tors run: %q, %v", len(ours), line, err)
	}
	// Where ownership was taken they go at once; 15 s is how often tor looks
	// after its owner otherwise.
	deadline := time.Now().Add(12 * time.Second)
	for len(ours) != 0 {
		if time.Now().After(deadline) {
			t.Fatalf("left over: %v", ours)
		}
		<-time.After(20 * time.Millisecond)
		ours = tors(t, dir)
	}
}

// tors lists the processes that were started with a path below dir.
func tors(t *testing.T, dir string) (found []string) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range all {
		text, err := os.ReadFile(path)
		if err == nil && strings.HasPrefix(string(text), "tor\x00") && strings.Contains(string(text), dir) {
			found = append(found, path)
		}
	}
	return found
}
