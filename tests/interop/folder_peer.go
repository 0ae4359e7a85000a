package interop

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"warren/invite"
	"warren/invite/message"
	"warren/invite/wormhole"
	"warren/magicfolder"
	"warren/magicfolder/snapshot"
	"warren/node/caps"
	"warren/node/furl"
)

// magicFolderApp is the application id of magic-folder's own invites.
const magicFolderApp = "private.storage/magic-folder/invites"

// MagicFolder and FolderNode are for other packages of tests.
type (
	MagicFolder = realMember
	FolderNode  = ourMember
)

// StartMagicFolder starts magic-folder 24.3 on the web API of a node.
func StartMagicFolder(t testing.TB, node *WebClient, mailbox string) *MagicFolder {
	t.Helper()
	return startRealMember(t, node, mailbox)
}

// Share makes a folder, polled and scanned each second, and gives its Collective's
// writecap.
func (m *realMember) Share(t testing.TB, folder, author, dir string) (collective string) {
	t.Helper()
	m.add(t, folder, author, dir)
	collective, _ = m.dircaps(t, folder)
	return collective
}

// Invite has another magic-folder join a folder, by magic-folder's own invite.
func (m *realMember) Invite(t testing.TB, other *realMember, folder, name, dir string) {
	t.Helper()
	var inv struct {
		Code string `json:"wormhole-code"`
	}
	m.api(t, "POST", "/experimental/magic-folder/"+url.PathEscape(folder)+"/invite", map[string]any{"participant-name": name, "mode": "read-write"}, &inv)
	if err := <-other.join(within(t, 2*time.Minute), folder, inv.Code, name, dir); err != nil {
		t.Fatal(err)
	}
}

// Idle waits until magic-folder has nothing to do in the folder; see idle.
func (m *realMember) Idle(t testing.TB, folder string) { t.Helper(); m.idle(t, folder) }

// Process is the daemon.
func (m *realMember) Process() *Process { return m.run }

// Process is the node.
func (m *ourMember) Process() *Process { return m.run }

// realMember is a running magic-folder 24.3 on some node's web API.
type realMember struct {
	config string
	port   int
	node   *WebClient
	run    *Process
	log    string // Eliot's
}

func startRealMember(t testing.TB, node *WebClient, mailbox string) *realMember {
	t.Helper()
	m := &realMember{config: filepath.Join(t.TempDir(), "mf"), port: FreePort(t), node: node}
	m.command(t, "init", "-l", fmt.Sprintf("tcp:%d:interface=127.0.0.1", m.port), "-c", fmt.Sprintf("tcp:127.0.0.1:%d", m.port), "-n", node.Dir, "-m", mailbox)
	m.start(t)
	m.command(t, "set-config", "--enable", "invites")
	return m
}

// command runs `magic-folder` to its end.
func (m *realMember) command(t testing.TB, args ...string) string {
	t.Helper()
	return Run(t, time.Minute, filepath.Join(NeedPeers(t), "magic-folder"), append([]string{"--config", m.config}, args...)...)
}

func (m *realMember) start(t testing.TB) {
	t.Helper()
	// Its own log, of the states of each file, goes to a place apart: what it prints
	// otherwise says nothing of why a folder stands still.
	m.log = filepath.Join(t.TempDir(), "eliot.log")
	m.run = Start(t, "sh", "-c", `exec "$0" --config "$1" --eliot-fd 3 run 3>"$2"`, filepath.Join(NeedPeers(t), "magic-folder"), m.config, m.log)
	WaitPort(t, m.run, m.port)
	// It refuses to write before it has counted the servers once.
	Eventually(t, 2*time.Minute, "magic-folder sees its node's servers", func() error {
		for _, e := range m.events(t) {
			if happy, _ := e["happy"].(bool); happy {
				return nil
			}
		}
		return errors.New("not happy yet")
	})
}

// startUntil starts it and waits until something is done. At its start it uploads and
// polls at once, and when its poll meets a file in the instant in which the upload of that
// file ends (_checking_for_remote_work has no transition for a remote update), it polls
// that folder no more until it is started again: then it is, as its user would.
func (m *realMember) startUntil(t testing.TB, done func() error) {
	t.Helper()
	for range 3 {
		m.start(t)
		halted := false
		Eventually(t, 2*time.Minute, "magic-folder is back", func() error {
			err := done()
			if err == nil {
				return nil
			}
			log, logErr := os.ReadFile(m.log)
			if logErr != nil {
				return logErr
			}
			if halted = bytes.Contains(log, []byte("MagicFile._checking_for_remote_work")); halted {
				return nil
			}
			return err
		})
		if !halted {
			return
		}
		t.Log("magic-folder's poll met the end of its own upload: it is started again")
		m.stop(t)
	}
	t.Fatal("magic-folder's polls met the ends of its uploads three times")
}

// failures are the last entries of a log of Eliot's that tell of one. (The
// exception by which a generator of Twisted's returns a value is none.)
func failures(log string) string {
	b, err := os.ReadFile(log)
	if err != nil {
		return err.Error()
	}
	var found []string
	for line := range strings.Lines(string(b)) {
		if (strings.Contains(line, `"traceback"`) || strings.Contains(line, `"failed"`)) && !strings.Contains(line, "_DefGen_Return") {
			found = append(found, line)
		}
	}
	return strings.Join(found[max(0, len(found)-10):], "")
}

// stop ends it as its user would; what it printed on its way out is of no interest.
func (m *realMember) stop(t testing.TB) {
	t.Helper()
	m.run.Stop(time.Minute)
}

func (m *realMember) request(ctx context.Context, method, path string, body any) ([]byte, error) {
	token, err := os.ReadFile(filepath.Join(m.config, "api_token"))
	if err != nil {
		return nil, err
	}
	var in io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		in = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, fmt.Sprintf("http://127.0.0.1:%d%s", m.port, path), in)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("magic-folder answers %d: %s", resp.StatusCode, b)
	}
	return b, err
}

func (m *realMember) api(t testing.TB, method, path string, body, into any) {
	t.Helper()
	b, err := m.request(within(t, time.Minute), method, path, body)
	if err == nil && into != nil {
		err = json.Unmarshal(b, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// events is the state that its status API sends to whoever connects.
func (m *realMember) events(t testing.TB) []map[string]any {
	t.Helper()
	token, err := os.ReadFile(filepath.Join(m.config, "api_token"))
	if err != nil {
		t.Fatal(err)
	}
	ctx := within(t, time.Minute)
	conn, _, err := websocket.Dial(ctx, fmt.Sprintf("ws://127.0.0.1:%d/v1/status", m.port), &websocket.DialOptions{
		HTTPHeader: http.Header{"Authorization": {"Bearer " + strings.TrimSpace(string(token))}}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	conn.SetReadLimit(1 << 20)
	_, raw, err := conn.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var s struct{ Events []map[string]any }
	if err := json.Unmarshal(raw, &s); err != nil {
		t.Fatal(err)
	}
	return s.Events
}

// idle waits until magic-folder has nothing to send or to fetch in the folder: one
// scan and one poll of it began after the call, have ended, and left nothing to do
// (a poll ends with the work on what it found). It
// forgets an edit that it notices in the very moment in which it ends its work on
// the same file (its states _checking_for_remote_work and _downloading queue what
// nobody takes from the queue; the latter comes back for each participant who tells
// of the same version), and stops the whole folder at that file's next version.
// Whoever edits with a hand is not so quick; a test that watches the file is.
func (m *realMember) idle(t testing.TB, folder string) {
	t.Helper()
	rounds, last := map[any]int{}, map[any]any{}
	Eventually(t, 2*time.Minute, "magic-folder is idle", func() error {
		var busy error
		for _, e := range m.events(t) {
			if e["folder"] != folder {
				continue
			}
			switch kind := e["kind"]; kind {
			case "upload-queued", "upload-started", "download-queued", "download-started":
				busy = fmt.Errorf("%v: %v", kind, e["relpath"])
			case "scan-completed", "poll-completed":
				if at := e["timestamp"]; last[kind] != at {
					last[kind] = at
					rounds[kind]++
				}
			}
		}
		// The first is of before, and the second may have begun before.
		if busy == nil && min(rounds["scan-completed"], rounds["poll-completed"]) < 3 {
			busy = fmt.Errorf("scans and polls seen: %v", rounds)
		}
		return busy
	})
}

// becameDirectory is what magic-folder says at each scan, for ever, of a file that
// it has deleted and whose name a directory has now. Nothing else is wrong then.
const becameDirectory = " was a file, and now is a directory."

// noErrors fails the test when the status API tells of an error in the folder.
func (m *realMember) noErrors(t testing.TB, folder string) {
	t.Helper()
	polled, errs := false, map[any]bool{}
	for _, e := range m.events(t) {
		if e["folder"] != folder {
			continue
		}
		if e["kind"] == "error-occurred" && !strings.HasSuffix(fmt.Sprint(e["summary"]), becameDirectory) {
			errs[e["summary"]] = true
		}
		polled = polled || e["kind"] == "poll-completed"
	}
	if len(errs) > 0 {
		t.Errorf("magic-folder has errors in %s: %v", folder, errs)
	}
	if !polled {
		t.Errorf("magic-folder has completed no poll of %s", folder)
	}
}

// add makes a folder, polled and scanned each second.
func (m *realMember) add(t testing.TB, folder, author, dir string) {
	t.Helper()
	m.api(t, "POST", "/v1/magic-folder", map[string]any{"name": folder, "author_name": author, "local_path": dir, "poll_interval": 1, "scan_interval": 1}, nil)
}

// dircaps are the folder's Collective and the member's own Personal directory.
func (m *realMember) dircaps(t testing.TB, folder string) (collective, personal string) {
	t.Helper()
	var all map[string]struct {
		Collective string `json:"collective_dircap"`
		Personal   string `json:"upload_dircap"`
	}
	m.api(t, "GET", "/v1/magic-folder?include_secret_information=1", nil, &all)
	return all[folder].Collective, all[folder].Personal
}

// linked waits until its Personal directory names all the paths. A file is on its
// disk long before: it writes that directory anew for each file, one by one, and
// before it has come to a file again it tells nobody of an edit of it.
func (m *realMember) linked(t testing.TB, folder string, paths []string) {
	t.Helper()
	_, personal := m.dircaps(t, folder)
	Eventually(t, 5*time.Minute, "magic-folder links what it has", func() error {
		var top [2]json.RawMessage
		var dir struct{ Children map[string]json.RawMessage }
		err := json.Unmarshal(m.node.Must(t, "GET", "/uri/"+url.PathEscape(personal)+"?t=json", nil), &top)
		if err == nil {
			err = json.Unmarshal(top[1], &dir)
		}
		if err != nil {
			return err
		}
		for _, p := range paths {
			if _, ok := dir.Children[snapshot.Mangle(p)]; !ok {
				return fmt.Errorf("%s is not there yet", p)
			}
		}
		return nil
	})
}

// conflicts are the files in conflict, each with the names of the others.
func (m *realMember) conflicts(t testing.TB, folder string) map[string][]string {
	t.Helper()
	var c map[string][]string
	m.api(t, "GET", "/v1/magic-folder/"+url.PathEscape(folder)+"/conflicts", nil, &c)
	return c
}

// join accepts an invite of magic-folder's own kind. The channel gives its outcome.
func (m *realMember) join(ctx context.Context, folder, code, author, dir string) <-chan error {
	out := make(chan error, 1)
	go func() { // ends with the request, whose context is the test's
		_, err := m.request(ctx, "POST", "/experimental/magic-folder/"+url.PathEscape(folder)+"/join", map[string]any{
			"invite-code": code, "local-directory": dir, "author": author, "poll-interval": 1, "scan-interval": 1})
		out <- err
	}()
	return out
}

// ourMember is a node of ours that takes part in folders.
type ourMember struct {
	dir string
	run *Process
}

func (m *ourMember) do(t testing.TB, args ...string) string {
	t.Helper()
	return Run(t, time.Minute, Warren(t), append([]string{"-d", m.dir}, args...)...)
}

// start runs the node again.
func (m *ourMember) start(t testing.TB) {
	t.Helper()
	os.Remove(filepath.Join(m.dir, "node.url"))
	m.run = Start(t, Warren(t), "run", "--verbose", m.dir)
	m.web(t)
}

// Web is its web API.
func (m *ourMember) Web(t testing.TB) *WebClient { t.Helper(); return m.web(t) }

// web is its web API.
func (m *ourMember) web(t testing.TB) *WebClient {
	t.Helper()
	u := waitForFile(t, m.run, filepath.Join(m.dir, "node.url"))
	return &WebClient{Dir: m.dir, URL: strings.TrimSuffix(u, "/"), Process: m.run}
}

func (m *ourMember) status(t testing.TB, folder string) (magicfolder.Status, error) {
	out, err := TryRun(t, time.Minute, Warren(t), "-d", m.dir, "folder", "status", "--json", folder)
	if err != nil {
		return magicfolder.Status{}, err
	}
	var list []magicfolder.Status
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		return magicfolder.Status{}, err
	}
	if len(list) != 1 {
		return magicfolder.Status{}, fmt.Errorf("%d folders", len(list))
	}
	return list[0], nil
}

// current waits until the folder is up to date, and fails the test when it then
// tells of alarms or errors.
func (m *ourMember) current(t testing.TB, folder string) magicfolder.Status {
	t.Helper()
	var st magicfolder.Status
	Eventually(t, 3*time.Minute, "our folder "+folder+" up to date", func() (err error) {
		if st, err = m.status(t, folder); err == nil && st.State != magicfolder.StateCurrent {
			err = fmt.Errorf("%s %s", st.State, st.Reason)
		}
		return err
	})
	if len(st.Alarms) > 0 || len(st.Errors) > 0 {
		t.Errorf("our folder %s: alarms %q, errors %+v", folder, st.Alarms, st.Errors)
	}
	return st
}

// joinOurs has a new node of ours join a folder by its Collective's writecap, the
// way that a newcomer does: with `warren join` and an invite. The inviter is the
// test, since a participant on magic-folder has none that hands out the writecap.
func joinOurs(t testing.TB, introducer, mailbox, collective, folder, name, dir string) *ourMember {
	t.Helper()
	return JoinFolder(t, introducer, mailbox, collective, message.Encoding{Needed: 1, Happy: 2, Total: 2}, folder, name, dir)
}

// JoinFolder is joinOurs with the grid's encoding; it waits for as many servers as
// that has shares.
func JoinFolder(t testing.TB, introducer, mailbox, collective string, encoding message.Encoding, folder, name, dir string) *FolderNode {
	t.Helper()
	writecap, err := caps.Parse(collective)
	if err != nil {
		t.Fatal(err)
	}
	i, err := invite.New(invite.Config{
		Ledger: filepath.Join(t.TempDir(), "invites.db"), Dial: loopback,
		Settings: func(_ context.Context, inv invite.Invite) (message.Settings, error) {
			f, err := furl.Parse(introducer)
			return message.Settings{Nickname: "mixed", Introducer: f, Encoding: encoding,
				Ours: &message.Ours{Grid: "mixed", Folder: inv.Folder, Participant: inv.Name, Tor: message.TorOptional, Mailbox: mailbox, Writecap: writecap}}, err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := i.Start(); err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	issued, err := i.Offer(within(t, time.Minute), invite.Options{Name: name, Folder: folder, Mailbox: mailbox})
	if err != nil {
		t.Fatal(err)
	}
	m := &ourMember{dir: filepath.Join(t.TempDir(), "node")}
	m.run = Start(t, Warren(t), "-d", m.dir, "join", "--direct", "--yes", "--verbose", issued.Link.Text(), dir)
	finished(t, i, issued.ID, true)
	m.web(t).WaitConnected(t, encoding.Total)
	return m
}

// joinReal has magic-folder 24.3 join a folder of ours. Its join takes nothing but
// an invite of its own kind, which carries the Collective's readcap, and leaves it
// to the inviter to enter the newcomer. Ours sends the writecap to newcomers that
// enter themselves. So the test stands between: it accepts our `warren invite` as
// NAME, and plays magic-folder's inviter.
func joinReal(t testing.TB, ours *ourMember, real *realMember, mailbox, folder, name, dir string) (collectiveWritecap string) {
	t.Helper()
	var inv struct{ Link string }
	if err := json.Unmarshal([]byte(ours.do(t, "invite", "--json", "--folder", folder, name)), &inv); err != nil {
		t.Fatal(err)
	}
	settings, err := join(t, "", inv.Link)
	if err != nil {
		t.Fatal(err)
	}
	if settings.Ours == nil || settings.Ours.Writecap == nil || settings.Ours.Participant != name {
		t.Fatalf("our invite brings %v", settings)
	}
	real.Invited(t, ours.web(t), mailbox, settings.Ours.Writecap.Text(), folder, name, dir)
	return settings.Ours.Writecap.Text()
}

// Invited has magic-folder join a folder whose Collective's writecap the test has,
// which plays magic-folder's inviter and enters magic-folder's Personal directory
// in the Collective through the web API of a node.
func (m *realMember) Invited(t testing.TB, through *WebClient, mailbox, collective, folder, name, dir string) {
	t.Helper()
	writecap, err := caps.Parse(collective)
	if err != nil {
		t.Fatal(err)
	}
	state, err := wormhole.NewState(magicFolderApp, mailbox, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	session := wormhole.New(wormhole.Config{Dial: loopback, MakeCode: func(n string) (string, error) { return n + "-crossover-clockwork", nil },
		Versions: json.RawMessage(`{"magic-folder": {"supported-messages": ["invite-v1"]}}`)}, state)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	done := make(chan struct{})
	go func() { session.Run(ctx); close(done) }()
	defer func() { cancel(); <-done }()
	code, err := session.Code(ctx)
	if err != nil {
		t.Fatal(err)
	}
	joined := m.join(ctx, folder, code, name, dir)
	send := func(n int, v map[string]any) {
		v["protocol"] = "invite-v1"
		if err := session.Send(n, mustJSON(t, v)); err != nil {
			t.Fatal(err)
		}
	}
	send(0, map[string]any{"kind": "join-folder", "folder-name": folder, "collective": caps.ReadOnly(writecap).Text(), "participant-name": name, "mode": "read-write"})
	raw, err := session.Message(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	var reply struct{ Kind, Personal string }
	if err := json.Unmarshal(raw, &reply); err != nil || reply.Kind != "join-folder-accept" {
		t.Fatalf("magic-folder replies %s (%v)", raw, err)
	}
	through.Must(t, "PUT", "/uri/"+url.PathEscape(collective)+"/"+url.PathEscape(name)+"?t=uri&replace=false", strings.NewReader(reply.Personal))
	send(1, map[string]any{"kind": "join-folder-ack", "participant-name": name, "success": true})
	if err := session.Close(ctx, wormhole.MoodHappy, ""); err != nil {
		t.Fatal(err)
	}
	if err := <-joined; err != nil {
		t.Fatal(err)
	}
}

// listed is a directory as the real `tahoe ls --json` shows it.
type listed map[string][2]json.RawMessage

func tahoeList(t testing.TB, client *WebClient, dircap string) listed {
	t.Helper()
	var top [2]json.RawMessage
	var dir struct{ Children listed }
	err := json.Unmarshal([]byte(Run(t, time.Minute, Tahoe(t), "-d", client.Dir, "ls", "--json", dircap)), &top)
	if err == nil {
		err = json.Unmarshal(top[1], &dir)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir.Children
}

// child is an entry's kind and its readcap.
func (l listed) child(t testing.TB, name string) (kind, readcap string) {
	t.Helper()
	var n struct {
		Read  string `json:"ro_uri"`
		Write string `json:"rw_uri"`
	}
	if e, ok := l[name]; !ok {
		t.Fatalf("%q has no entry", name)
	} else if err := errors.Join(json.Unmarshal(e[0], &kind), json.Unmarshal(e[1], &n)); err != nil {
		t.Fatal(err)
	}
	if n.Write != "" {
		t.Errorf("the entry %q gives a writecap away", name)
	}
	return kind, n.Read
}
