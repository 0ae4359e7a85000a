package tor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"warren/magicfolder"
	"warren/tests/interop"
	"warren/tests/tornet"
	"warren/torutil"
)

func TestMain(m *testing.M) {
	// The stories wait for Tor more than they work.
	flag.Parse()
	if err := flag.Set("test.parallel", "4"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	interop.RemoveBuilt()
	os.Exit(code)
}

// The encoding of every client: any one of the three servers may be away.
const (
	servers    = 3
	folderName = "project"
)

// house is a Tor network, one grid on it, and the operator's node.
type house struct {
	t        testing.TB // of the whole house
	bin, dir string
	net      *tornet.Network
	tor      *tornet.Client // whom the services and the operator attach to
	box      string         // the mailbox's URL
	furl     string         // "@PATH" of the introducer's
	op       *node
}

// node is a node directory, its folder, and its process while it runs.
type node struct {
	h                 *house
	name, dir, folder string
	ns                *tornet.Namespace // nil: none
	run               *program
}

func newHouse(t *testing.T) *house {
	if err := tornet.Available(); err != nil {
		interop.Skip(t, "nothing of warren over Tor was tested: %v", err)
	}
	if testing.Short() {
		t.Skip("SKIP: -short: nothing of warren over Tor was tested")
	}
	h := &house{t: t, dir: t.TempDir()}
	var built sync.WaitGroup
	built.Go(func() { h.bin = interop.Warren(t) })
	short, err := os.MkdirTemp("", "tornet-") // unix sockets want a short path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(short) })
	h.net, err = tornet.Start(t.Context(), short, os.Stderr)
	built.Wait()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.net.Close() })
	h.tor = h.client("services")

	box := h.path("mailbox")
	h.start(t, nil, "mailbox", "--listen=tor", h.control(), box)
	intro := h.path("introducer")
	h.must(t, nil, "create-introducer", "--listen=tor", "--hide-ip", h.control(), intro)
	h.start(t, nil, "run", intro)
	h.furl = "@" + filepath.Join(intro, "private", "introducer.furl")
	interop.Eventually(t, 2*time.Minute, "mailbox and introducer", func() error {
		_, err := os.Stat(h.furl[1:])
		if err != nil {
			return err
		}
		url, err := os.ReadFile(filepath.Join(box, "mailbox.url"))
		h.box = strings.TrimSpace(string(url))
		return err
	})
	var made sync.WaitGroup
	for i := range servers {
		made.Go(func() {
			dir := h.path(fmt.Sprintf("server%d", i))
			h.must(t, nil, append([]string{"create-node", "--listen=tor", "--hide-ip", h.control(), "--nickname=server", "--introducer=" + h.furl, "--webport=none"}, append(encoding(), dir)...)...)
			h.start(t, nil, "run", dir)
		})
	}
	h.op = h.node("alice")
	h.must(t, nil, append([]string{"create-client", "--hide-ip", h.control(), "--nickname=alice", "--introducer=" + h.furl, "--mailbox=" + h.box, "--webport=tcp:0:interface=127.0.0.1"}, append(encoding(), h.op.dir)...)...)
	made.Wait()
	h.op.run = h.start(t, nil, "run", h.op.dir)
	h.op.connected(t, servers)
	return h
}

func encoding() []string {
	return []string{"--shares-needed=2", "--shares-happy=2", "--shares-total=3"}
}

func (h *house) path(name string) string { return filepath.Join(h.dir, name) }

func (h *house) control() string { return "--tor-control-port=tcp:" + h.tor.Control }

// client is a tor of the network.
func (h *house) client(name string) *tornet.Client {
	h.t.Helper()
	c, err := h.net.Client(h.t.Context(), name)
	if err != nil {
		h.t.Fatal(err)
	}
	return c
}

func (h *house) node(name string) *node {
	return &node{h: h, name: name, dir: h.path(name), folder: h.path(name + "-project")}
}

// program is a running warren.
type program struct {
	name string
	cmd  *exec.Cmd
	log  string
	done chan struct{}
	err  error // set before done is closed

	killed bool // by kill
}

func (h *house) command(args []string) *exec.Cmd {
	cmd := exec.Command(h.bin, append([]string{"--json"}, args...)...)
	cmd.Dir = h.dir
	cmd.Env = append(os.Environ(), "HOME="+h.dir)
	tether(cmd)
	return cmd
}

// start runs a command until t ends, in a namespace if ns is one. When it ends
// otherwise than by kill, it must say that it made no direct connection.
func (h *house) start(t testing.TB, ns *tornet.Namespace, args ...string) *program {
	t.Helper()
	log, err := os.CreateTemp(h.dir, args[0]+"-*.log")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p := &program{name: strings.Join(args, " "), cmd: h.command(args), log: log.Name(), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	begin := p.cmd.Start
	if ns != nil {
		begin = func() error { return ns.Start(p.cmd) }
	}
	if err := begin(); err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the process, which the cleanup ends
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() { p.stop(t) })
	return p
}

// stop has the program end, and reads which connections it made.
func (p *program) stop(t testing.TB) {
	t.Helper()
	select {
	case <-p.done:
	default:
		terminate(p.cmd.Process)
		select {
		case <-p.done:
		case <-time.After(time.Minute):
			p.kill()
			t.Errorf("%s did not end when asked\n%s", p.name, p.output())
			return
		}
	}
	if p.killed {
		return // it could say nothing
	}
	if p.err != nil {
		t.Errorf("%s: %v\n%s", p.name, p.err, p.output())
		return
	}
	for line := range strings.Lines(p.output()) {
		var ended struct {
			Connections *torutil.Counts `json:"connections"`
		}
		if json.Unmarshal([]byte(line), &ended) == nil && ended.Connections != nil {
			if n := ended.Connections.Tried(torutil.ViaDirect); n != 0 {
				t.Errorf("%s tried %d direct connections", p.name, n)
			}
			return
		}
	}
	t.Errorf("%s did not say which connections it made\n%s", p.name, p.output())
}

func (p *program) kill() {
	p.killed = true
	p.cmd.Process.Kill()
	<-p.done
}

func (p *program) output() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-4000):])
}

// try runs a command to its end and gives its standard output.
func (h *house) try(ns *tornet.Namespace, args ...string) ([]byte, error) {
	cmd := h.command(args)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	begin := cmd.Start
	if ns != nil {
		begin = func() error { return ns.Start(cmd) }
	}
	if err := begin(); err != nil {
		return nil, err
	}
	// Some ask through Tor, where a stuck circuit takes two minutes.
	stop := time.AfterFunc(5*time.Minute, func() { cmd.Process.Kill() })
	defer stop.Stop()
	if err := cmd.Wait(); err != nil {
		return nil, fmt.Errorf("warren %s: %w\n%s", args[0], err, errOut.String())
	}
	return out.Bytes(), nil
}

func (h *house) must(t testing.TB, ns *tornet.Namespace, args ...string) []byte {
	t.Helper()
	out, err := h.try(ns, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// status is what `warren status --json` prints, as far as it matters here.
type status struct {
	Tor     string `json:"tor"`
	Network string `json:"network"`
	Servers []struct {
		Nickname  string `json:"nickname"`
		Connected bool   `json:"connected"`
		Status    string `json:"status"`
	} `json:"servers"`
	Folders []struct {
		Name   string `json:"name"`
		State  string `json:"state"`
		Reason string `json:"reason"`
	} `json:"folders"`
	Connections torutil.Counts `json:"connections"`
}

func (s status) connected() (n int) {
	for _, sv := range s.Servers {
		if sv.Connected {
			n++
		}
	}
	return n
}

func (n *node) status() (s status, err error) {
	out, err := n.h.try(n.ns, "status", "-d", n.dir)
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(out, &s)
}

// becomes waits until the node's status is as wanted, or its process ends.
func (n *node) becomes(t testing.TB, what string, limit time.Duration, want func(status) error) {
	t.Helper()
	n.until(t, n.name+": "+what, limit, func() error {
		s, err := n.status()
		if err != nil {
			return err
		}
		return want(s)
	})
}

// until polls; a process that ends meanwhile ends it too.
func (n *node) until(t testing.TB, what string, limit time.Duration, cond func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	for {
		err := cond()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: %v\n%s\n%s", what, err, n.run.output(), n.report())
		case <-n.run.done:
			t.Fatalf("%s: the node ended: %v\n%s", what, n.run.err, n.run.output())
		case <-n.h.op.run.done:
			t.Fatalf("%s: the operator's node ended: %v\n%s", what, n.h.op.run.err, n.h.op.run.output())
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// report is how the node says that it stands, for the message of a failed test.
func (n *node) report() string {
	out, err := n.h.command([]string{"-d", n.dir, "status"}).CombinedOutput()
	return fmt.Sprintf("%s's status (%v):\n%s", n.name, err, out)
}

// patience is how long what crosses Tor is waited for. A circuit that hangs while a
// stream is opened costs twenty seconds (another is tried), one that hangs later a
// minute for each question that was on its way, and the next try comes after a pause.
const patience = 5 * time.Minute

func (n *node) connected(t testing.TB, want int) {
	t.Helper()
	n.becomes(t, fmt.Sprintf("%d servers", want), patience, func(s status) error {
		if s.connected() < want {
			return fmt.Errorf("%+v", s.Servers)
		}
		return nil
	})
}

// current waits until the folder says that all is stored and seen.
func (n *node) current(t testing.TB, limit time.Duration) {
	t.Helper()
	n.becomes(t, "folder up to date", limit, func(s status) error {
		if len(s.Folders) == 1 && s.Folders[0].State == magicfolder.StateCurrent {
			return nil
		}
		return fmt.Errorf("folders: %+v", s.Folders)
	})
}

// invite asks the operator's node for a code.
func (h *house) invite(t testing.TB, name string) string {
	t.Helper()
	var issued struct {
		Code string `json:"code"`
	}
	if err := json.Unmarshal(h.must(t, nil, "invite", "-d", h.op.dir, "--folder="+folderName, name), &issued); err != nil || issued.Code == "" {
		t.Fatalf("no code: %v", err)
	}
	return issued.Code
}

// write puts a file into the node's folder.
func (n *node) write(t testing.TB, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(n.folder, name), data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// has waits until the node's folder holds the file with these bytes.
func (n *node) has(t testing.TB, name string, data []byte, limit time.Duration) {
	t.Helper()
	n.until(t, name+" at "+n.name, limit, func() error {
		got, err := os.ReadFile(filepath.Join(n.folder, name))
		if err == nil && !bytes.Equal(got, data) {
			err = errors.New("other bytes")
		}
		return err
	})
}
