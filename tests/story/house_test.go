package story

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"warren/invite"
	"warren/magicfolder"
	"warren/tests/interop"
)

func TestMain(m *testing.M) {
	code := m.Run()
	interop.RemoveBuilt()
	os.Exit(code)
}

// house is one grid with its mailbox, and all that was started for it.
type house struct {
	t         testing.TB // of the whole grid: its processes end with it
	bin, dir  string
	furlFile  string // "@PATH"
	box       string // the mailbox's URL
	boxPort   int
	intro     *node
	boxProc   *interop.Process
	servers   []*node
	asNobody  bool       // run commands as nobody (tests that run as root)
	mu        sync.Mutex // guards what follows
	processes []*interop.Process
	said      bytes.Buffer // standard error of every command
	secrets   []string     // that the commands' results gave away: codes
}

// node is a node directory and, while it runs, its process.
type node struct {
	h         *house
	name, dir string
	run       *interop.Process
}

// newHouse starts a mailbox, an introducer and servers; needed, happy and total
// are the encoding of all its clients.
func newHouse(t testing.TB, servers int) *house {
	t.Helper()
	h := &house{t: t, bin: interop.Warren(t), dir: t.TempDir()}
	// After every process's own cleanup, which ends it, and before the directory goes.
	t.Cleanup(h.keepsSecrets)
	h.startMailbox()
	h.intro = &node{h: h, name: "introducer", dir: h.path("introducer")}
	h.must(t, append([]string{"create-introducer"}, append(h.ports(), h.intro.dir)...)...)
	h.intro.start(t)
	h.furlFile = "@" + filepath.Join(h.intro.dir, "private", "introducer.furl")
	interop.Eventually(t, time.Minute, "the introducer's FURL", func() error {
		_, err := os.Stat(h.furlFile[1:])
		return err
	})
	for i := range servers {
		s := &node{h: h, name: fmt.Sprintf("server%d", i+1), dir: h.path(fmt.Sprintf("server%d", i+1))}
		args := append([]string{"create-node", "--nickname=" + s.name, "--introducer=" + h.furlFile, "--webport=none",
			"--shares-needed=1", "--shares-happy=1", "--shares-total=1"}, h.ports()...)
		h.must(t, append(args, s.dir)...)
		s.start(t)
		h.servers = append(h.servers, s)
	}
	return h
}

func (h *house) path(name string) string { return filepath.Join(h.dir, name) }

func (h *house) ports() []string {
	port := interop.FreePort(h.t)
	return []string{fmt.Sprintf("--port=tcp:%d:interface=127.0.0.1", port), fmt.Sprintf("--location=tcp:127.0.0.1:%d", port)}
}

// startMailbox starts the mailbox, or starts it again where it was.
func (h *house) startMailbox() {
	h.t.Helper()
	if h.boxPort == 0 {
		h.boxPort = interop.FreePort(h.t)
	}
	h.box = fmt.Sprintf("ws://127.0.0.1:%d/v1", h.boxPort)
	h.boxProc = h.spawn("mailbox", fmt.Sprintf("--port=tcp:%d:interface=127.0.0.1", h.boxPort), h.path("mailbox"))
	interop.WaitPort(h.t, h.boxProc, h.boxPort)
}

// spawn starts a process of the binary that runs until it is stopped or the house falls.
func (h *house) spawn(args ...string) *interop.Process {
	p := interop.StartIn(h.t, h.dir, []string{"HOME=" + h.dir}, h.bin, args...)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.processes = append(h.processes, p)
	return p
}

// result is what a command did.
type result struct {
	out, err string
	code     int
}

// do runs a command to its end.
func (h *house) do(t testing.TB, args ...string) result {
	t.Helper()
	return h.doIn(t, "", args...)
}

// doIn is do with a standard input.
func (h *house) doIn(t testing.TB, stdin string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, h.bin, args...)
	cmd.Dir = h.dir
	cmd.Env = append(os.Environ(), "HOME="+h.dir)
	cmd.WaitDelay = time.Second // a detached node may hold our pipes
	if h.asNobody {
		nobody(t, cmd)
	}
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
		t.Fatalf("warren %s: %v", strings.Join(args, " "), err)
	}
	if ctx.Err() != nil {
		t.Fatalf("warren %s: did not end\n%s", args, errOut.String())
	}
	h.mu.Lock()
	h.said.Write(errOut.Bytes())
	h.mu.Unlock()
	return result{out.String(), errOut.String(), cmd.ProcessState.ExitCode()}
}

// must is do for what has to succeed; it returns standard output.
func (h *house) must(t testing.TB, args ...string) string {
	t.Helper()
	r := h.do(t, args...)
	if r.code != 0 {
		t.Fatalf("warren %s: exit %d\n%s%s", strings.Join(args, " "), r.code, r.out, r.err)
	}
	return strings.TrimSpace(r.out)
}

// client makes a client of the grid, mailbox set, and starts it.
func (h *house) client(t testing.TB, name string, needed, happy, total int) *node {
	t.Helper()
	n := &node{h: h, name: name, dir: h.path(name)}
	h.must(t, "create-client", "--nickname="+name, "--introducer="+h.furlFile, "--webport=tcp:0:interface=127.0.0.1", "--mailbox="+h.box,
		fmt.Sprintf("--shares-needed=%d", needed), fmt.Sprintf("--shares-happy=%d", happy), fmt.Sprintf("--shares-total=%d", total), n.dir)
	n.start(t)
	n.connected(t, len(h.servers))
	return n
}

// start runs the node's process and waits until it answers.
func (n *node) start(t testing.TB) {
	t.Helper()
	os.Remove(filepath.Join(n.dir, "node.url"))
	n.run = n.h.spawn("run", "--verbose", n.dir)
	n.answers(t)
}

// answers waits until the process says that it runs.
func (n *node) answers(t testing.TB) {
	t.Helper()
	run := n.run
	n.h.t.Cleanup(func() {
		select {
		case <-run.Done():
		default:
			if n.h.t.Failed() {
				n.h.t.Logf("%s at the end:\n%s", n.name, n.do(n.h.t, "status").out+n.do(n.h.t, "folder", "status").out)
			}
		}
	})
	interop.Eventually(t, 2*time.Minute, n.name+" running", func() error {
		select {
		case <-n.run.Done():
			t.Fatalf("%s ended:\n%s", n.name, n.run.Output())
		default:
		}
		if !strings.Contains(n.run.Output(), "node running in ") {
			return errors.New("not yet")
		}
		return nil
	})
}

// stop ends the node as its user would.
func (n *node) stop(t testing.TB) {
	t.Helper()
	n.run.Stop(time.Minute)
}

func (n *node) do(t testing.TB, args ...string) result {
	t.Helper()
	return n.h.do(t, append([]string{"-d", n.dir}, args...)...)
}

func (n *node) must(t testing.TB, args ...string) string {
	t.Helper()
	return n.h.must(t, append([]string{"-d", n.dir}, args...)...)
}

// status is what these stories read of `warren status --json`.
type status struct {
	Servers []struct {
		Nickname  string `json:"nickname"`
		Connected bool   `json:"connected"`
	} `json:"servers"`
	Folders []magicfolder.Status `json:"folders"`
	Invites []invite.Invite      `json:"invites"`
}

func (n *node) status(t testing.TB) status {
	t.Helper()
	var s status
	n.json(t, &s, "status")
	return s
}

// json runs a command with --json and decodes its result.
func (n *node) json(t testing.TB, into any, args ...string) {
	t.Helper()
	out := n.must(t, append(args, "--json")...)
	if err := json.Unmarshal([]byte(out), into); err != nil {
		t.Fatalf("warren %s --json: %v\n%s", args, err, out)
	}
}

// connected waits until the node is connected to that many servers.
func (n *node) connected(t testing.TB, servers int) {
	t.Helper()
	interop.Eventually(t, time.Minute, fmt.Sprintf("%s connected to %d servers", n.name, servers), func() error {
		have := 0
		for _, s := range n.status(t).Servers {
			if s.Connected {
				have++
			}
		}
		if have < servers {
			return fmt.Errorf("%d connected", have)
		}
		return nil
	})
}

// share makes a folder of a new directory with these files and returns its directory.
func (n *node) share(t testing.TB, name string, files map[string]string) string {
	t.Helper()
	dir := n.h.path(n.name + "-" + name)
	write(t, dir, files)
	n.must(t, "folder", "add", dir, "--name="+name, "--author="+n.name)
	return dir
}

// folder is the status of one folder.
func (n *node) folder(t testing.TB, name string) magicfolder.Status {
	t.Helper()
	for _, f := range n.status(t).Folders {
		if f.Name == name {
			return f
		}
	}
	t.Fatalf("%s has no folder %s", n.name, name)
	return magicfolder.Status{}
}

// settled waits until a folder has nothing left to do.
func (n *node) settled(t testing.TB, name string) {
	t.Helper()
	interop.Eventually(t, time.Minute, n.name+"'s folder up to date", func() error {
		var list []magicfolder.Status
		r := n.do(t, "folder", "status", "--scan", "--json", name)
		if r.code != 0 {
			return errors.New(r.err)
		}
		if err := json.Unmarshal([]byte(r.out), &list); err != nil {
			return err
		}
		if f := list[0]; f.State != magicfolder.StateCurrent {
			return fmt.Errorf("%s (%s) %+v", f.State, f.Reason, f.Errors)
		}
		return nil
	})
}

// issued is what `warren invite --json` prints.
type issued struct {
	ID   string `json:"id"`
	Code string `json:"code"`
	Link string `json:"link"`
	Own  bool   `json:"own_mailbox"`
}

// invite makes an invite; its code may stand in no log from then on.
func (n *node) invite(t testing.TB, name, folder string, more ...string) issued {
	t.Helper()
	var is issued
	n.json(t, &is, append([]string{"invite", name, "--folder=" + folder}, more...)...)
	n.h.secret(is.Code)
	return is
}

func (h *house) secret(s string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.secrets = append(h.secrets, s)
}

// invited is the ledger's word on an invite.
func (n *node) invited(t testing.TB, id string) invite.Invite {
	t.Helper()
	for _, v := range n.status(t).Invites {
		if v.ID == id {
			return v
		}
	}
	t.Fatalf("%s knows no invite %s", n.name, id)
	return invite.Invite{}
}

// becomes waits until the ledger calls an invite that. A newcomer may run before the
// operator knows that the last word has arrived.
func (n *node) becomes(t testing.TB, id string, want invite.State) invite.Invite {
	t.Helper()
	var v invite.Invite
	interop.Eventually(t, 2*time.Minute, "the invite being "+string(want), func() error {
		if v = n.invited(t, id); v.State != want {
			return fmt.Errorf("%s (%s)", v.State, v.Reason)
		}
		return nil
	})
	return v
}

// joinArgs are a newcomer's command: its node directory and folder are NAME and
// NAME-folder.
func (h *house) joinArgs(name, code string, more ...string) (*node, string, []string) {
	n, folder := &node{h: h, name: name, dir: h.path(name)}, h.path(name+"-folder")
	return n, folder, append([]string{"-d", n.dir, "join", "--direct", "--yes", "--verbose", "--mailbox=" + h.box, code, folder}, more...)
}

// join joins in the foreground and waits until the node runs.
func (h *house) join(t testing.TB, name, code string, more ...string) (*node, string) {
	t.Helper()
	n, folder, args := h.joinArgs(name, code, more...)
	n.run = h.spawn(args...)
	n.answers(t)
	return n, folder
}

// write writes files below dir.
func write(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// files reads all regular files below dir, temporary and conflict files too.
func files(t testing.TB, dir string) map[string]string {
	t.Helper()
	have := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // deleted while we walk
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		rel, relErr := filepath.Rel(dir, path)
		have[filepath.ToSlash(rel)] = string(b)
		return errors.Join(err, relErr)
	})
	if err != nil {
		t.Fatal(err)
	}
	return have
}

// holds waits until dir holds exactly these files.
func holds(t testing.TB, dir string, want map[string]string) {
	t.Helper()
	interop.Eventually(t, 90*time.Second, "the files in "+filepath.Base(dir), func() error {
		have := files(t, dir)
		for name, text := range want {
			switch got, ok := have[name]; {
			case !ok:
				return fmt.Errorf("%s is missing (%d of %d files)", name, len(have), len(want))
			case got != text:
				return fmt.Errorf("%s differs", name)
			}
		}
		for name := range have {
			if _, ok := want[name]; !ok {
				return fmt.Errorf("%s is too many", name)
			}
		}
		return nil
	})
}

var secretForms = []*regexp.Regexp{
	regexp.MustCompile(`URI:[A-Z0-9-]+:[a-z2-7]{16}`),
	regexp.MustCompile(`pb://[^ ]*/[a-z2-7A-Za-z0-9_-]{16}`),
	regexp.MustCompile(`URI%3A`),
}

// keepsSecrets reads what all processes and commands said, and looks for secrets.
func (h *house) keepsSecrets() {
	texts := map[string]string{"the commands": h.said.String()}
	for i, p := range h.processes {
		texts[fmt.Sprintf("process %d", i)] = p.Output()
	}
	secrets := h.secrets
	furls, err := filepath.Glob(filepath.Join(h.dir, "*", "private", "*"))
	if err != nil {
		h.t.Error(err)
	}
	logs, err := filepath.Glob(filepath.Join(h.dir, "*", "logs", "*"))
	if err != nil {
		h.t.Error(err)
	}
	for _, path := range logs {
		b, err := os.ReadFile(path)
		if err != nil {
			h.t.Error(err)
		}
		texts[path] = string(b)
	}
	swissnum := regexp.MustCompile(`pb://[^ /]*/([a-z2-7]{20,})`)
	for _, path := range furls {
		b, err := os.ReadFile(path)
		if err != nil || len(b) > 1<<20 {
			continue
		}
		switch filepath.Base(path) {
		case "api_auth_token", "convergence", "secret", "node.privkey":
			secrets = append(secrets, strings.TrimSpace(string(b)))
		}
		for _, m := range swissnum.FindAllStringSubmatch(string(b), -1) {
			secrets = append(secrets, m[1])
		}
	}
	if len(secrets) < 2 {
		h.t.Errorf("only %d secrets to look for: this check would prove nothing", len(secrets))
	}
	for where, text := range texts {
		for _, line := range strings.Split(text, "\n") {
			for _, form := range secretForms {
				if form.MatchString(line) {
					h.t.Errorf("%s: a secret in %q", where, line)
				}
			}
			for _, s := range secrets {
				if s != "" && strings.Contains(line, s) {
					h.t.Errorf("%s: a secret in %q", where, line)
				}
			}
		}
	}
}
