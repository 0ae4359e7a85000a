package story

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"warren/invite"
	"warren/magicfolder"
	"warren/tests/interop"
)

// untouched wants a refused join to have left nothing behind.
func (h *house) untouched(t testing.TB, name string) {
	t.Helper()
	for _, path := range []string{h.path(name), h.path(name + "-folder"), h.path("Warren")} {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %s is there", name, filepath.Base(path))
		}
	}
	left, err := filepath.Glob(h.path("*.join-tor"))
	if err != nil || len(left) > 0 {
		t.Errorf("%s: %d scratch directories are left, %v", name, len(left), err)
	}
}

// The codes that a newcomer can get wrong, and what each says.
func TestBadCodes(t *testing.T) {
	t.Parallel()
	h := newHouse(t, 1)
	op := h.client(t, "op", 1, 1, 1)
	op.share(t, "docs", map[string]string{"hello": "world"})
	short := op.invite(t, "late", "docs", "--expires=1m")
	try := func(name, code string, more ...string) result {
		_, _, args := h.joinArgs(name, code, more...)
		return h.do(t, args...)
	}
	state := func(id string, want invite.State) invite.Invite { return op.becomes(t, id, want) }

	for _, bad := range []string{"crossover-clamshell", "7", "7-", "seven-crossover-clamshell", "7-crossover clamshell", "7-crossover-clamshel", "7-cross/over-clamshell", "warren:7-crossover-clamshell@http://x/", "-7-crossover-clamshell"} {
		wantError(t, h.do(t, "-d", h.path("x"), "join", "--direct", "--yes", "--", bad), 7, "", "a code is a number and words, as in 7-crossover-clamshell")
	}
	wantError(t, try("unknown", "999999-amusement-aztec"), 7, "nobody waits at this code", "is it typed right?")
	h.untouched(t, "unknown")

	// A wrong word spends the code, and both sides hear of it.
	is := op.invite(t, "wrong", "docs")
	plate, _, _ := strings.Cut(is.Code, "-")
	wantError(t, try("wrong", plate+"-amusement-aztec"), 7, "codes of the two sides differ", "it was mistyped, by you or by somebody else, and is spent by that: ask the inviter for a new code")
	if v := state(is.ID, invite.Failed); !strings.Contains(v.Reason, "wrong words") {
		t.Errorf("the operator hears %q", v.Reason)
	}
	wantError(t, try("wrong", is.Code), 7, "spent by a wrong guess", "ask the inviter for a new code")
	h.untouched(t, "wrong")

	// A used code.
	is = op.invite(t, "bob", "docs")
	bob, _ := h.join(t, "bob", is.Code)
	state(is.ID, invite.Done)
	wantError(t, try("thief", is.Code), 7, "this code has been used", "ask the inviter for a new code")
	h.untouched(t, "thief")
	bob.stop(t)

	// A cancelled one, while somebody waits and afterwards.
	is = op.invite(t, "carol", "docs")
	op.must(t, "invite", "cancel", "carol")
	state(is.ID, invite.Cancelled)
	wantError(t, try("carol", is.Code), 7, "this code has been cancelled", "ask the inviter for a new code")
	h.untouched(t, "carol")
	wantError(t, op.do(t, "invite", "cancel", is.ID), 1, "too late", "")
	wantError(t, op.do(t, "invite", "cancel", "nobody"), 3, "no such invite", "warren invite list")

	// Mailboxes that are not there, or are none.
	is = op.invite(t, "dave", "docs")
	wantError(t, try("dave", is.Code, "--mailbox=ws://127.0.0.1:1/v1"), 1, "mailbox server cannot be reached", "nothing was spent: try again")
	wantError(t, try("dave", is.Code, "--mailbox=http://127.0.0.1/"), 2, "not a mailbox address", "ws://HOST:PORT/v1")
	h.untouched(t, "dave")

	// An existing folder that is not empty: the code is still good afterwards.
	write(t, h.path("dave-folder"), map[string]string{"mine": "mine"})
	wantError(t, try("dave", is.Code), 1, "exists and is not empty", "the code is still good")
	if _, err := os.Stat(h.path("dave")); err == nil {
		t.Error("a node directory was made")
	}
	if got := files(t, h.path("dave-folder")); got["mine"] != "mine" || len(got) != 1 {
		t.Errorf("the folder now holds %d files", len(got))
	}
	if err := os.RemoveAll(h.path("dave-folder")); err != nil {
		t.Fatal(err)
	}
	dave, folder := h.join(t, "dave", is.Code)
	holds(t, folder, map[string]string{"hello": "world"})

	// A node that runs cannot be changed under itself; a stopped one joins a second folder.
	op.share(t, "more", map[string]string{"second": "folder"})
	is = op.invite(t, "dave", "more")
	second := []string{"join", "--direct", "--yes", "--mailbox=" + h.box, is.Code, h.path("dave-more")}
	wantError(t, dave.do(t, second...), 1, "a node is already running on this directory", "stop it first")
	dave.stop(t)
	dave.run = h.spawn(append([]string{"-d", dave.dir}, append(second, "--verbose")...)...)
	dave.answers(t)
	holds(t, h.path("dave-more"), map[string]string{"second": "folder"})
	holds(t, folder, map[string]string{"hello": "world"})
	if n := len(dave.status(t).Folders); n != 2 {
		t.Errorf("%d folders", n)
	}
	dave.stop(t)

	// The one that nobody came for.
	state(short.ID, invite.Expired)
	wantError(t, try("late", short.Code), 7, "this code has expired", "ask the inviter for a new code")
	h.untouched(t, "late")
}

// A grid with too few servers: the newcomer joins, the folder waits and says why,
// reading works.
func TestTooFewServersForANewcomer(t *testing.T) {
	t.Parallel()
	h := newHouse(t, 3)
	op := h.client(t, "op", 2, 3, 3)
	op.share(t, "docs", map[string]string{"hello": strings.Repeat("world", 100)})
	op.settled(t, "docs")
	h.servers[1].run.Kill()
	bob, folder := h.join(t, "bob", op.invite(t, "bob", "docs").Code)
	holds(t, folder, map[string]string{"hello": strings.Repeat("world", 100)})
	write(t, folder, map[string]string{"edit": "bob's"})
	interop.Eventually(t, time.Minute, "the newcomer's folder waiting", func() error {
		if f := bob.folder(t, "docs"); f.State != magicfolder.StateWaiting || f.Reason == "" {
			return fmt.Errorf("%s (%s)", f.State, f.Reason)
		}
		return nil
	})
	wantError(t, op.doIn(t, strings.Repeat("x", 1000), "put", "-"), 5, "too few servers took shares: shares would stand on 2 servers, 3 are wanted", "warren status shows which storage servers are connected")
	h.servers[1].start(t)
	holds(t, h.path("op-docs"), map[string]string{"hello": strings.Repeat("world", 100), "edit": "bob's"})
	op.participants(t, "docs", "op", "bob")
}

// doIn is house.doIn for this node.
func (n *node) doIn(t testing.TB, stdin string, args ...string) result {
	t.Helper()
	return n.h.doIn(t, stdin, append([]string{"-d", n.dir}, args...)...)
}

// What can be wrong with a node directory and a command line.
func TestBadCommands(t *testing.T) {
	t.Parallel()
	h := newHouse(t, 1)
	op := h.client(t, "op", 1, 1, 1)
	nowhere := h.path("nowhere")
	occupied, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer occupied.Close()
	port := occupied.Addr().(*net.TCPAddr).Port
	h.must(t, "create-client", "-d", h.path("stopped"), "--introducer="+h.furlFile)
	h.must(t, "create-client", "-d", h.path("blocked"), "--introducer="+h.furlFile, fmt.Sprintf("--webport=tcp:%d:interface=127.0.0.1", port))
	h.must(t, "create-node", "-d", h.path("portless"), "--introducer="+h.furlFile, "--webport=none",
		fmt.Sprintf("--port=tcp:%d:interface=127.0.0.1", port), fmt.Sprintf("--location=tcp:127.0.0.1:%d", port))
	h.must(t, "create-client", "-d", h.path("corrupt"), "--introducer="+h.furlFile)
	write(t, h.path("corrupt"), map[string]string{"tahoe.cfg": "[client\nshares"})
	h.must(t, "create-client", "-d", h.path("hidden"), "--introducer="+h.furlFile, "--hide-ip", "--tor-socks-port=tcp:127.0.0.1:1", "--shares-needed=1")
	h.must(t, "create-client", "-d", h.path("named"), "--introducer="+h.furlFile, "--webport=none")
	write(t, h.path("named"), map[string]string{"warren.cfg": fmt.Sprintf("[mailbox]\nenabled = true\nport = tcp:%d\n", interop.FreePort(t))})
	write(t, h.path("foreign"), map[string]string{"notes": "no node"})
	write(t, h.dir, map[string]string{"bad.furl": "pb://nonsense", "empty.furl": ""})

	for _, c := range []struct {
		args       string
		code       int
		text, hint string
	}{
		{"frobnicate", 2, `no command "frobnicate"`, "see --help"},
		{"put --frobnicate", 2, "frobnicate", "see --help"},
		{"invite", 2, "usage: warren invite", "see --help"},
		{"invite bob carol", 2, "usage: warren invite", "see --help"},
		{"invite bob --expires=nextweek", 2, "--expires=nextweek", "see --help"},
		{"invite bob --expires=99d", 2, "--expires=99d", "see --help"},
		{"invite bob --expires=1s", 2, "an invite lives between one minute and 31 days", ""},
		{"invite bob --mailbox=http://x/", 2, "not a mailbox address", "ws://HOST:PORT/v1"},
		{"invite bob --folder=none", 3, "folder", ""},
		{"invite ../bob", 2, "that name cannot be given to a newcomer", ""},
		{"get URI:LIT:nbswy3dp " + h.dir, 2, "is a directory: name the file to write", "see --help"},
		{"mailbox --listen=carrier-pigeon " + nowhere, 2, "--listen=carrier-pigeon: write tcp or tor", "see --help"},
		{"status " + h.intro.dir, 2, "the node directory is named twice", "see --help"},
		{"-d " + h.intro.dir + " status", 4, "runs (process ", "[node] web.port"},
		{"-d " + h.path("hidden") + " join 7-crossover-clamshell --direct", 2, "goes through Tor, and so would this", "leave --direct away"},
		{"-d " + h.path("named") + " run", 1, "listens on every address of this machine", "[mailbox] location = ws://HOST:PORT/v1"},
		{"folder add " + nowhere + "/x/y --name=a/b", 2, "name", ""},
		{"folder leave none", 3, "folder", "warren folder list"},
		{"folder status none", 3, `no folder "none"`, "warren folder list"},
		{"folder frobnicate", 2, "frobnicate", "see --help"},
		{"get URI:nonsense", 2, "", ""},
		{"get nonsense", 3, "unknown alias: none is named", "warren create-alias makes a directory"},
		{"get nowhere:file", 3, `unknown alias "nowhere"`, "warren add-alias names one"},
		{"get URI:CHK:aaaaaaaaaaaaaaaaaaaaaaaaaa:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa:1:1:100", 5, "no shares could be found", "warren status shows"},
		{"put /nonexistent", 3, "no such file", ""},
		{"put " + h.dir, 2, "is a directory", "see --help"},
		{"-d " + nowhere + " status", 4, "there is no node in " + nowhere, "warren create-client makes one"},
		{"-d " + nowhere + " run", 4, "", "warren create-client makes one"},
		{"-d " + h.path("foreign") + " run", 4, "", "warren create-client makes one"},
		{"-d " + h.path("stopped") + " status", 4, "is not running", "start it: warren -d " + h.path("stopped") + " run"},
		{"-d " + h.path("stopped") + " put x", 4, "is not running", "start it: warren -d " + h.path("stopped") + " run"},
		{"-d " + op.dir + " run", 1, "a node is already running on this directory: process", "stop it first"},
		{"-d " + h.path("blocked") + " run", 1, "address already in use", "does another program listen there?"},
		{"-d " + h.path("portless") + " run", 1, "address already in use", "does another program listen there?"},
		{"-d " + h.path("corrupt") + " run", 1, "tahoe.cfg", ""},
		{"-d " + op.dir + " create-client", 2, "", "name another directory with -d"},
		{"-d " + h.path("foreign") + " create-client", 2, "", "name another directory with -d"},
		{"-d " + nowhere + " create-client --introducer=@" + h.path("bad.furl"), 2, "", "private/introducer.furl"},
		{"-d " + nowhere + " create-client --introducer=@" + h.path("empty.furl"), 2, "", "private/introducer.furl"},
		{"-d " + nowhere + " create-client --introducer=@" + h.path("no.furl"), 2, "no such file", "private/introducer.furl"},
		{"-d " + nowhere + " create-client --shares-needed=5 --shares-total=3", 2, "", ""},
		{"-d " + nowhere + " create-client --hide-ip --listen=tcp", 2, "", "see --help"},
		{"-d " + nowhere + " create-node --hide-ip --hostname=example.org", 2, "", "use --listen=tor"},
		{"-d " + nowhere + " create-client --mailbox=x", 2, "not a mailbox address", "ws://HOST:PORT/v1"},
		{"-d " + nowhere + " join 7-crossover-clamshell a b", 2, "usage: warren join", "see --help"},
	} {
		args := strings.Fields(c.args)
		if args[0] != "-d" {
			args = append([]string{"-d", op.dir}, args...)
		}
		t.Run(strings.ReplaceAll(strings.ReplaceAll(c.args, h.dir, ""), "/", "_"), func(t *testing.T) {
			wantError(t, h.do(t, args...), c.code, c.text, c.hint)
			if _, err := os.Stat(nowhere); err == nil {
				t.Errorf("%s made a directory", c.args)
				os.RemoveAll(nowhere)
			}
		})
	}
}

// The local web API refuses foreign pages and those without the token.
func TestWebAPIRefuses(t *testing.T) {
	t.Parallel()
	h := newHouse(t, 1)
	op := h.client(t, "op", 1, 1, 1)
	url, err := os.ReadFile(filepath.Join(op.dir, "node.url"))
	if err != nil {
		t.Fatal(err)
	}
	base := strings.TrimRight(strings.TrimSpace(string(url)), "/")
	token, err := os.ReadFile(filepath.Join(op.dir, "private", "api_auth_token"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path, host, origin, auth string
		want                     int
	}{
		{"/?t=json", "", "", "", 200},
		{"/?t=json", "evil.example", "", "", 403},
		{"/?t=json", "", "https://evil.example", "", 403},
		{"/?t=json", "", "null", "", 403},
		{"/?t=json", "", base, "", 200},
		{"/private/warren/v1/status", "", "", "", 401},
		{"/private/warren/v1/status", "", "", "tahoe-lafs wrong", 401},
		{"/private/warren/v1/status", "", "", "Bearer " + strings.TrimSpace(string(token)), 401},
		{"/private/warren/v1/status", "", "", "tahoe-lafs " + strings.TrimSpace(string(token)), 200},
		{"/private/warren/v1/status", "evil.example", "", "tahoe-lafs " + strings.TrimSpace(string(token)), 403},
		{"/private/warren/v1/nonsense", "", "", "tahoe-lafs " + strings.TrimSpace(string(token)), 404},
		{"/private/logs/v1", "", "", "", 401},
	} {
		req, err := http.NewRequest("GET", base+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.host != "" {
			req.Host = c.host
		}
		if c.origin != "" {
			req.Header.Set("Origin", c.origin)
		}
		if c.auth != "" {
			req.Header.Set("Authorization", c.auth)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != c.want {
			t.Errorf("%s host %q origin %q: %d, want %d", c.path, c.host, c.origin, resp.StatusCode, c.want)
		}
	}
}

// Node directories that are odd: what Tahoe wrote wrong is read, what cannot be
// read is said.
func TestOddNodeDirectories(t *testing.T) {
	t.Parallel()
	h := newHouse(t, 1)
	n := &node{h: h, name: "odd", dir: h.path("odd")}
	h.must(t, "create-client", "--introducer="+h.furlFile, "--webport=tcp:0:interface=127.0.0.1", "--shares-needed=1", "--shares-happy=1", "--shares-total=1", n.dir)
	path := filepath.Join(n.dir, "tahoe.cfg")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	odd := strings.Replace(string(b), "shares.needed = 1", "shares.needed = b'1'", 1)
	if odd == string(b) {
		t.Fatal("tahoe.cfg has no shares.needed = 1")
	}
	if err := os.WriteFile(path, []byte(odd), 0o600); err != nil {
		t.Fatal(err)
	}
	n.start(t)
	if !strings.Contains(n.run.Output(), "warning: ") || !strings.Contains(n.run.Output(), "shares.needed") {
		t.Errorf("no warning of what is odd:\n%s", n.run.Output())
	}
	n.connected(t, 1)
	cap := strings.TrimSpace(n.doIn(t, strings.Repeat("x", 100), "put", "-").out)
	if got := n.must(t, "get", cap); got != strings.Repeat("x", 100) {
		t.Errorf("got %q", got)
	}
	n.stop(t)

	if err := os.WriteFile(path, []byte(strings.Replace(odd, "b'1'", "many", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	wantError(t, n.do(t, "run"), 1, "shares.needed", "")
	if err := os.WriteFile(path, []byte(odd), 0o600); err != nil {
		t.Fatal(err)
	}

	// A private directory that is not ours.
	if os.Getuid() == 0 {
		for path, mode := range map[string]os.FileMode{filepath.Dir(h.dir): 0o755, h.dir: 0o755, n.dir: 0o755, path: 0o644} {
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
		}
		h.asNobody = true
		defer func() { h.asNobody = false }()
	} else if err := os.Chmod(filepath.Join(n.dir, "private"), 0); err != nil {
		t.Fatal(err)
	}
	wantError(t, n.do(t, "run"), 1, "permission denied", "is the node directory yours?")
	wantError(t, n.do(t, "status"), 4, "is not running", "start it")
	if err := os.Chmod(filepath.Join(n.dir, "private"), 0o700); err != nil {
		t.Fatal(err)
	}
}

// The newcomer's disk is full: first where the node goes, then where the folder
// goes. Nothing is half made, the errors are true, and what fits arrives.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	h := newHouse(t, 1)
	tiny, small, folder := h.path("tiny"), h.path("small"), h.path("dave-folder")
	mountSmall(t, tiny, "16k")
	mountSmall(t, small, "96k")
	mountSmall(t, folder, "1m")
	op := h.client(t, "op", 1, 1, 1)
	want := map[string]string{"a-small": "fits", "big": strings.Repeat("0123456789abcdef", 1<<17), "z-small": "fits, too"}
	op.share(t, "docs", want)

	is := op.invite(t, "carol", "docs")
	join := func(disk, code string) result {
		return h.do(t, "-d", filepath.Join(disk, "node"), "join", "--direct", "--yes", "--mailbox="+h.box, "--webport=tcp:0:interface=127.0.0.1", code, h.path("carol-folder"))
	}
	wantError(t, join(tiny, is.Code), 1, "no space left on device", "this code is spent: ask the inviter for a new code")
	if _, err := os.Stat(filepath.Join(tiny, "node")); err == nil {
		t.Error("a node directory was left half made")
	}
	if v := op.becomes(t, is.ID, invite.Failed); !strings.Contains(v.Reason, "newcomer") {
		t.Errorf("the operator hears %q", v.Reason)
	}

	// Room enough to become a member, too little to run: it can go on later.
	is = op.invite(t, "carol", "docs")
	r := join(small, is.Code)
	if r.code != 1 || !strings.Contains(r.out, "joined op") || !strings.Contains(r.err, "no space left on device\n  make room on that disk, then: warren -d ") {
		t.Errorf("exit %d: %s%s", r.code, r.out, r.err)
	}
	op.becomes(t, is.ID, invite.Done)
	growSmall(t, small, "16m")
	carol := &node{h: h, name: "carol", dir: filepath.Join(small, "node")}
	carol.start(t)
	holds(t, h.path("carol-folder"), want)
	carol.stop(t)

	dave, _ := h.join(t, "dave", op.invite(t, "dave", "docs").Code)
	interop.Eventually(t, time.Minute, "what fits", func() error {
		have := files(t, folder)
		if have["a-small"] != "fits" || have["z-small"] != "fits, too" {
			return fmt.Errorf("%d files", len(have))
		}
		if _, there := have["big"]; there {
			t.Fatal("a file that does not fit is there")
		}
		f := dave.folder(t, "docs")
		if f.State == magicfolder.StateCurrent || !strings.Contains(fmt.Sprint(f.Reason, f.Errors), "no space left") {
			return fmt.Errorf("%s (%s) %v", f.State, f.Reason, f.Errors)
		}
		return nil
	})
	growSmall(t, folder, "64m")
	holds(t, folder, want)
	holds(t, h.path("op-docs"), want)
}

// A join that leaves the node in the background.
func TestDetach(t *testing.T) {
	t.Parallel()
	h := newHouse(t, 1)
	op := h.client(t, "op", 1, 1, 1)
	op.share(t, "docs", map[string]string{"hello": "world"})
	bob, folder, args := h.joinArgs("bob", op.invite(t, "bob", "docs").Code, "--detach")
	out := h.must(t, args...)
	if !strings.Contains(out, "joined op") || !strings.Contains(out, "the folder is "+folder) {
		t.Errorf("it says %q", out)
	}
	b, err := os.ReadFile(filepath.Join(bob.dir, "running.process"))
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscan(string(b), &pid); err != nil {
		t.Fatal(err)
	}
	p, err := os.FindProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Kill()
	holds(t, folder, map[string]string{"hello": "world"})
	if err := p.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	interop.Eventually(t, time.Minute, "the end of the detached node", func() error {
		if _, err := os.Stat(filepath.Join(bob.dir, "running.process")); err == nil {
			return errors.New("still running")
		}
		return nil
	})
	wantError(t, bob.do(t, "status"), 4, "is not running", "start it: warren -d "+bob.dir+" run")
}
