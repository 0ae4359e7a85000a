package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"warren/invite"
	"warren/invite/message"
	"warren/node/config"
	"warren/node/furl"
	"warren/torutil"
)

const testIntroducer = "pb://aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa@tcp:127.0.0.1:1/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

// start runs a daemon on a new client directory until the test ends.
func start(t *testing.T, settings ...config.Setting) *Daemon {
	t.Helper()
	dir := t.TempDir() + "/node"
	o := config.DefaultOptions(config.Client, false)
	f, err := furl.Parse(testIntroducer)
	if err != nil {
		t.Fatal(err)
	}
	o.Introducers = map[string]furl.FURL{"default": f}
	o.WebPort = "tcp:0:interface=127.0.0.1"
	o.Nickname = "the grid"
	o.Settings = append(settings, config.Setting{Section: "tor", Key: "enabled", Value: "false"})
	if err := config.Create(dir, o); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan *Daemon, 1), make(chan error, 1)
	go func() { done <- Run(ctx, Options{Dir: dir, Version: "test", Ready: func(d *Daemon) { ready <- d }}) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the daemon ended: %v", err)
		}
	})
	select {
	case d := <-ready:
		return d
	case err := <-done:
		done <- nil
		t.Fatalf("the daemon ended: %v", err)
	}
	return nil
}

// call uses the control API as the command line does.
func call(t *testing.T, d *Daemon, token, method, verb, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(method, d.Node.URL()+"private/warren/v1/"+verb, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "tahoe-lafs "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// A node with a mailbox of its own: its invites go there, in this process, live as
// long as they are told to, and bring a newcomer everything.
func TestMailboxAsARole(t *testing.T) {
	port, err := torutil.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	d := start(t, config.Setting{Section: "mailbox", Key: "enabled", Value: "true"},
		config.Setting{Section: "mailbox", Key: "port", Value: fmt.Sprintf("tcp:%d:interface=127.0.0.1", port)})
	token, err := d.cfg.APIToken()
	if err != nil {
		t.Fatal(err)
	}
	code, text := call(t, d, token.Text(), "POST", "invites", `{"name": "bob", "expires_seconds": 86400}`)
	if code != 200 {
		t.Fatalf("status %d: %s", code, text)
	}
	var is Issued
	if err := json.Unmarshal([]byte(text), &is); err != nil {
		t.Fatal(err)
	}
	if !is.Own || is.CodeAlone || strings.Count(is.Code, "-") != 4 {
		t.Errorf("issued: own %v, alone %v, %d dashes", is.Own, is.CodeAlone, strings.Count(is.Code, "-"))
	}
	if made := d.network.Counts().By[torutil.InProcess].Made; made == 0 {
		t.Error("our own mailbox was not reached in this process")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	got, err := invite.Accept(ctx, invite.AcceptOptions{
		CodeOrLink: is.Link, Dial: torutil.NewDirect(&torutil.Ledger{}).DialContext,
		Reply: func(context.Context, message.Settings) (message.Acknowledgement, error) {
			return message.Acknowledgement{Keys: map[string]string{"node": "v0-abc"}}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got.Introducer.Text() != testIntroducer || got.Nickname != "the grid" || got.Ours == nil || got.Ours.Tor != message.TorOptional || got.HideIP {
		t.Errorf("settings %v, ours %v", got, got.Ours)
	}
	// The newcomer has the confirmation before the inviter knows that it was passed on.
	list := d.invites.List()
	for ; len(list) == 1 && list[0].State != invite.Done && ctx.Err() == nil; list = d.invites.List() {
		<-time.After(10 * time.Millisecond)
	}
	if len(list) != 1 || list[0].State != invite.Done || list[0].Keys["node"] != "v0-abc" {
		t.Errorf("invites %+v", list)
	}
}

func TestControlRefuses(t *testing.T) {
	d := start(t)
	token, err := d.cfg.APIToken()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		token, method, verb, body string
		want                      int
	}{
		{"", "GET", "status", "", 401},
		{"wrong", "GET", "status", "", 401},
		{token.Text(), "GET", "status", "", 200},
		{token.Text(), "GET", "nonsense", "", 404},
		{token.Text(), "PUT", "status", "", 405},
		{token.Text(), "POST", "invites", "{", 400},
		{token.Text(), "POST", "invites", `{"name": "bob", "surprise": 1}`, 400},
		{token.Text(), "POST", "invites", `{"name": "bob", "folder": "none", "mailbox": "ws://127.0.0.1:1/v1"}`, 404},
		{token.Text(), "POST", "folders", `{"name": "a/b", "dir": "/tmp/x", "author": "me"}`, 400},
		{token.Text(), "DELETE", "invites/none", "", 404},
		{token.Text(), "DELETE", "folders/none", "", 404},
		{token.Text(), "POST", "folders/none/sync", "", 404},
		{token.Text(), "POST", "folders/none/scan", "", 404},
		{token.Text(), "POST", "folders/none/poll", "", 404},
		{token.Text(), "GET", "folders/none/conflicts", "", 404},
		{token.Text(), "POST", "folders/none/resolve", `{"path": "f", "keep": "mine"}`, 404},
		{token.Text(), "GET", "folders/none/history?path=f", "", 404},
		{token.Text(), "GET", "folders/none/version?path=f&version=1", "", 404},
		{token.Text(), "POST", "folders/none/restore", `{"path": "f", "version": "1"}`, 404},
		{token.Text(), "GET", "folders/none/deleted", "", 404},
		{token.Text(), "POST", "folders/none/undelete", `{"path": "f"}`, 404},
		{"", "GET", "folders/none/history?path=f", "", 401},
		{"", "GET", "folders/none/version?path=f&version=1", "", 401},
	} {
		if got, text := call(t, d, c.token, c.method, c.verb, c.body); got != c.want {
			t.Errorf("%s %s %s: status %d (%s), want %d", c.method, c.verb, c.body, got, strings.TrimSpace(text), c.want)
		}
	}
}

// A second node on the directory is refused while the first one runs.
func TestOneNodeADirectory(t *testing.T) {
	d := start(t)
	err := Run(context.Background(), Options{Dir: d.cfg.Dir, Version: "test"})
	if err == nil || !strings.Contains(err.Error(), "already running") {
		t.Errorf("error %v", err)
	}
}
