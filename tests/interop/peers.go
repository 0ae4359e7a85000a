// Package interop proves that warren and the real programs work together:
// Tahoe-LAFS 1.20, magic-folder 24.3, magic-wormhole 0.24 and its mailbox
// server 0.8, installed by scripts/peers.
//
// This file starts those programs. Its helpers take a testing.TB, end what they
// started when the test ends, and skip, loudly, when the programs are not
// installed (CI fails on such a skip: see NeedPeers).
package interop

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// Root is the top of the source tree.
func Root(t testing.TB) string {
	t.Helper()
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		t.Fatal("no caller information")
	}
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}

// NeedPeers returns the bin directory of the real programs' virtual environment:
// $WARREN_PEERS/bin, else .peers/bin. Without one the test is skipped, or, where
// CI is set, failed: CI installs them, so there it is an error.
func NeedPeers(t testing.TB) string {
	t.Helper()
	venv := os.Getenv("WARREN_PEERS")
	if venv == "" {
		venv = filepath.Join(Root(t), ".peers")
	}
	bin := filepath.Join(venv, "bin")
	if _, err := os.Stat(filepath.Join(bin, "tahoe")); err != nil {
		Skip(t, "the real programs are not installed (%v): run scripts/peers", err)
	}
	return bin
}

// Skip skips with a reason, except in CI, where it fails: everything that a test
// needs can be installed there.
func Skip(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("would SKIP, which CI does not allow: "+format, args...)
	}
	t.Skipf("SKIP: "+format, args...)
}

// Python returns the path of the peers' Python interpreter.
func Python(t testing.TB) string { return filepath.Join(NeedPeers(t), "python") }

// Tahoe returns the path of the real tahoe command.
func Tahoe(t testing.TB) string { return filepath.Join(NeedPeers(t), "tahoe") }

// Script returns the path of one of this package's programs for the peers' Python,
// which drive the real programs' code.
func Script(t testing.TB, name string) string {
	return filepath.Join(Root(t), "tests", "interop", "scripts", name)
}

// Run runs a program to its end and returns its standard output; a failure fails
// the test with what it printed. limit bounds its time.
func Run(t testing.TB, limit time.Duration, name string, args ...string) string {
	t.Helper()
	out, err := TryRun(t, limit, name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TryRun is Run for a program that may fail; the error holds what it printed.
func TryRun(t testing.TB, limit time.Duration, name string, args ...string) (string, error) {
	t.Helper()
	return TryRunInput(t, limit, nil, name, args...)
}

// TryRunInput is TryRun with a standard input.
func TryRunInput(t testing.TB, limit time.Duration, stdin io.Reader, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &errOut
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w\n%s%s", filepath.Base(name), strings.Join(args, " "), err, out.String(), errOut.String())
	}
	return out.String(), nil
}

// FreePort returns a loopback TCP port that was free a moment ago.
func FreePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// Process is a program that a test started.
type Process struct {
	t     testing.TB
	cmd   *exec.Cmd
	stdin io.Closer
	log   string
	done  chan struct{}
	err   error
}

// Start starts a program that runs until Stop or the test's end. Its standard
// input stays open (several real programs stop when it closes); its output goes
// to a file whose end is shown when the test fails.
func Start(t testing.TB, name string, args ...string) *Process {
	t.Helper()
	return StartIn(t, "", nil, name, args...)
}

// StartIn is Start in a directory with additional environment variables.
func StartIn(t testing.TB, dir string, env []string, name string, args ...string) *Process {
	t.Helper()
	log, err := os.CreateTemp(t.TempDir(), filepath.Base(name)+"-*.log")
	if err != nil {
		t.Fatal(err)
	}
	p := &Process{t: t, log: log.Name(), done: make(chan struct{})}
	p.cmd = exec.Command(name, args...)
	p.cmd.Dir, p.cmd.Env = dir, append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	ownGroup(p.cmd)
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdin = stdin
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	log.Close()
	go func() { // ended by the process's end, which Cleanup forces
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("%s %s printed:\n%s", filepath.Base(name), strings.Join(args, " "), tail(p.log, 6000))
		}
	})
	return p
}

// Kill ends the process and its children at once, as kill -9 does, and waits.
func (p *Process) Kill() {
	killGroup(p.cmd)
	<-p.done
}

// Stop asks the process to end, as Ctrl-C or a service manager does, and waits;
// after limit it is killed and the test fails.
func (p *Process) Stop(limit time.Duration) error {
	p.t.Helper()
	p.stdin.Close()
	interrupt(p.cmd)
	select {
	case <-p.done:
	case <-time.After(limit):
		p.Kill()
		p.t.Errorf("%s did not stop within %v", filepath.Base(p.cmd.Path), limit)
	}
	return p.err
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Output returns what the process has printed so far.
func (p *Process) Output() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		p.t.Fatal(err)
	}
	return string(b)
}

// Pid returns the process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Printed waits until the process prints what matches and returns the first group.
func (p *Process) Printed(pattern string) string {
	p.t.Helper()
	re, found := regexp.MustCompile(pattern), ""
	Eventually(p.t, 2*time.Minute, pattern, func() error {
		m := re.FindStringSubmatch(p.Output())
		if m != nil {
			found = m[len(m)-1]
			return nil
		}
		select {
		case <-p.Done():
			// What it printed last may have come between the look and the end.
			if m := re.FindStringSubmatch(p.Output()); m != nil {
				found = m[len(m)-1]
				return nil
			}
			p.t.Fatalf("the program ended: %v\n%s", p.err, p.Output())
		default:
		}
		return errors.New("not printed yet")
	})
	return found
}

// Ends waits until the process ends by itself, and well.
func (p *Process) Ends() {
	p.t.Helper()
	select {
	case <-p.Done():
	case <-time.After(2 * time.Minute):
		p.t.Fatal("the program does not end")
	}
	if p.err != nil {
		p.t.Fatalf("the program failed: %v", p.err)
	}
}

// CloseInput closes the process's standard input, at which some end.
func (p *Process) CloseInput() { p.stdin.Close() }

func tail(path string, n int) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	if len(b) > n {
		b = b[len(b)-n:]
	}
	return string(b)
}

// Eventually polls another process's state until cond returns nil; the last
// error fails the test at the deadline.
func Eventually(t testing.TB, limit time.Duration, what string, cond func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := cond()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v: %v", what, limit, err)
		}
		<-time.After(100 * time.Millisecond)
	}
}

// Together runs the functions at once and waits for all; a test that one of them
// failed ends here.
func Together(t testing.TB, run ...func()) {
	t.Helper()
	var wg sync.WaitGroup
	for _, f := range run {
		wg.Go(f)
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// freeEndpoint is a free loopback port as tahoe.cfg writes it.
func freeEndpoint(t testing.TB) string {
	return fmt.Sprintf("tcp:%d:interface=127.0.0.1", FreePort(t))
}

func isTahoe(program string) bool { return filepath.Base(program) == "tahoe" }

// makeNode runs a program's create-node, create-client or create-introducer. The
// FURL of the introducer is "" for one that has none.
func makeNode(t testing.TB, program, verb, introducerFURL, dir string, extra ...string) {
	t.Helper()
	args := []string{verb}
	switch {
	case introducerFURL == "":
	case isTahoe(program):
		args = append(args, "--introducer="+introducerFURL)
	default:
		args = append(args, "--introducer="+SecretFile(t, introducerFURL))
	}
	if verb != "create-client" {
		port := FreePort(t)
		args = append(args, "--listen=tcp", fmt.Sprintf("--port=tcp:%d:interface=127.0.0.1", port), fmt.Sprintf("--location=tcp:127.0.0.1:%d", port))
	}
	Run(t, time.Minute, program, append(append(args, extra...), dir)...)
}

// runNode starts an existing node directory with "tahoe" or "warren".
func runNode(t testing.TB, program, dir string) *Process {
	t.Helper()
	if isTahoe(program) {
		return Start(t, program, "run", "--allow-stdin-close", dir)
	}
	return Start(t, program, "-d", dir, "run")
}

// Introducer is a running introducer, Tahoe's or ours.
type Introducer struct {
	*Process
	Dir, FURL string
}

func startIntroducer(t testing.TB, program string) *Introducer {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "introducer")
	makeNode(t, program, "create-introducer", "", dir)
	p := runNode(t, program, dir)
	return &Introducer{Process: p, Dir: dir, FURL: waitForFile(t, p, filepath.Join(dir, "private", "introducer.furl"))}
}

// StartIntroducer makes and starts a real Tahoe introducer on loopback.
func StartIntroducer(t testing.TB) *Introducer { t.Helper(); return startIntroducer(t, Tahoe(t)) }

func startStorage(t testing.TB, program, introducerFURL, nickname string, extra ...string) (*Process, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), nickname)
	makeNode(t, program, "create-node", introducerFURL, dir, append([]string{"--nickname=" + nickname, "--webport=none"}, extra...)...)
	p := runNode(t, program, dir)
	waitForFile(t, p, filepath.Join(dir, "private", "storage.furl"))
	return p, dir
}

// StartStorage makes and starts a real Tahoe storage server; extra are further
// options of create-node.
func StartStorage(t testing.TB, introducerFURL, nickname string, extra ...string) (*Process, string) {
	t.Helper()
	return startStorage(t, Tahoe(t), introducerFURL, nickname, extra...)
}

// WebClient is a node, real or ours, as its web API shows it.
type WebClient struct {
	Dir, URL string
	Process  *Process
}

func startClient(t testing.TB, program, introducerFURL string, needed, happy, total, servers int) *WebClient {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "client")
	makeNode(t, program, "create-client", introducerFURL, dir, "--webport="+freeEndpoint(t), fmt.Sprintf("--shares-needed=%d", needed),
		fmt.Sprintf("--shares-happy=%d", happy), fmt.Sprintf("--shares-total=%d", total))
	return RunClient(t, program, dir, servers)
}

// StartClient makes and starts a real Tahoe client and waits for servers servers.
func StartClient(t testing.TB, introducerFURL string, needed, happy, total, servers int) *WebClient {
	t.Helper()
	return startClient(t, Tahoe(t), introducerFURL, needed, happy, total, servers)
}

// RunClient starts an existing client directory with the given program ("tahoe"
// or "warren") and waits until its web API counts enough connected servers.
func RunClient(t testing.TB, program, dir string, servers int) *WebClient {
	t.Helper()
	os.Remove(filepath.Join(dir, "node.url"))
	c := &WebClient{Dir: dir, Process: runNode(t, program, dir)}
	c.URL = strings.TrimSuffix(waitForFile(t, c.Process, filepath.Join(dir, "node.url")), "/")
	c.WaitConnected(t, servers)
	return c
}

// WaitConnected waits until the node is connected to n storage servers.
func (c *WebClient) WaitConnected(t testing.TB, n int) {
	t.Helper()
	Eventually(t, time.Minute, fmt.Sprintf("%s connected to %d servers", c.Dir, n), func() error {
		var welcome struct {
			Servers []struct {
				Status string `json:"connection_status"`
			} `json:"servers"`
		}
		body, code, err := c.Do("GET", "/?t=json", nil)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(body, &welcome); err != nil {
			return fmt.Errorf("status %d: %w", code, err)
		}
		connected := 0
		for _, s := range welcome.Servers {
			if strings.HasPrefix(s.Status, "Connected") || strings.HasPrefix(s.Status, "connected") {
				connected++
			}
		}
		if connected < n {
			return fmt.Errorf("%d connected", connected)
		}
		return nil
	})
}

// Do sends one request to the node's web API.
func (c *WebClient) Do(method, path string, body io.Reader) ([]byte, int, error) {
	req, err := http.NewRequest(method, c.URL+path, body)
	if err != nil {
		return nil, 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return b, resp.StatusCode, err
}

// DoRange is a GET with a Range header.
func (c *WebClient) DoRange(path, header string) ([]byte, int, error) {
	req, err := http.NewRequest("GET", c.URL+path, nil)
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("Range", header)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return b, resp.StatusCode, err
}

// Must is Do that fails the test unless the status is 2xx.
func (c *WebClient) Must(t testing.TB, method, path string, body io.Reader) []byte {
	t.Helper()
	var text []byte
	if body != nil {
		var err error
		if text, err = io.ReadAll(body); err != nil {
			t.Fatal(err)
		}
	}
	for try := 0; ; try++ {
		b, code, err := c.Do(method, path, bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if c.lostServers(t, try, code, b) {
			continue
		}
		if code/100 != 2 {
			t.Fatalf("%s: status %d: %s", method, code, b)
		}
		return b
	}
}

// lostServers says that a request is worth another try: Tahoe's client over GBS takes a
// server for gone whose answer to its ping each second is late, on a busy machine, and
// stores nothing then. It returns when all servers are there again.
func (c *WebClient) lostServers(t testing.TB, try, code int, answer []byte) bool {
	t.Helper()
	if code != http.StatusInternalServerError || try == 3 || !bytes.Contains(answer, []byte("allmydata.interfaces.UploadUnhappinessError")) {
		return false
	}
	var welcome struct {
		Servers []any `json:"servers"`
	}
	body, _, err := c.Do("GET", "/?t=json", nil)
	if err == nil {
		err = json.Unmarshal(body, &welcome)
	}
	if err != nil {
		t.Fatal(err)
	}
	c.WaitConnected(t, len(welcome.Servers))
	return true
}

// StartMailbox starts the real mailbox server and returns its WebSocket URL.
func StartMailbox(t testing.TB) (*Process, string) {
	t.Helper()
	port := FreePort(t)
	p := Start(t, filepath.Join(NeedPeers(t), "twist"), "wormhole-mailbox",
		fmt.Sprintf("--port=tcp:%d:interface=127.0.0.1", port), "--channel-db="+filepath.Join(t.TempDir(), "channel.db"))
	WaitPort(t, p, port)
	return p, fmt.Sprintf("ws://127.0.0.1:%d/v1", port)
}

// WaitPort waits until something accepts connections on a loopback port.
func WaitPort(t testing.TB, p *Process, port int) {
	t.Helper()
	Eventually(t, time.Minute, fmt.Sprintf("port %d open", port), func() error {
		select {
		case <-p.Done():
			t.Fatalf("the process ended: %v\n%s", p.err, p.Output())
		default:
		}
		c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), time.Second)
		if err == nil {
			c.Close()
		}
		return err
	})
}

func waitForFile(t testing.TB, p *Process, path string) string {
	t.Helper()
	var content string
	Eventually(t, time.Minute, filepath.Base(path), func() error {
		select {
		case <-p.Done():
			t.Fatalf("the process ended before it wrote %s: %v\n%s", filepath.Base(path), p.err, p.Output())
		default:
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if content = strings.TrimSpace(string(b)); content == "" {
			return errors.New("still empty")
		}
		return nil
	})
	return content
}
