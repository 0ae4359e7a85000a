package story

import (
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"warren/node/caps"
)

// TestRolledBack: a server's disk is restored from an old backup. What is left can be
// read, status says what happened, also of a node that was started since, nothing is
// built on it, and everything goes on once that is accepted.
func TestRolledBack(t *testing.T) {
	t.Parallel()
	h := newHouse(t, 1)
	c := h.client(t, "client", 1, 1, 1)
	web := func(method, path, body string) (string, int) {
		t.Helper()
		base, err := os.ReadFile(filepath.Join(c.dir, "node.url"))
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequest(method, strings.TrimSpace(string(base))+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
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
		return string(b), resp.StatusCode
	}
	text, code := web("POST", "uri?t=mkdir", "")
	if code != 200 {
		t.Fatal(code, text)
	}
	h.secret(text)
	dir, err := caps.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	index, _ := caps.Index(dir)
	at := "uri/" + url.PathEscape(text) + "/"
	add := func(name string) (string, int) { t.Helper(); return web("PUT", at+name, name) }

	shares := filepath.Join(h.servers[0].dir, "storage", "shares", index.Text()[:2], index.Text(), "0")
	if said, code := add("first"); code/100 != 2 {
		t.Fatal(code, said)
	}
	backup, err := os.ReadFile(shares)
	if err != nil {
		t.Fatal(err)
	}
	if said, code := add("second"); code/100 != 2 {
		t.Fatal(code, said)
	}
	c.stop(t) // it knows afterwards what it saw before
	h.servers[0].stop(t)
	if err := os.WriteFile(shares, backup, 0o600); err != nil {
		t.Fatal(err)
	}
	h.servers[0].start(t)
	c.start(t)
	c.connected(t, 1)

	if said, code := web("GET", at+"first", ""); code != 200 || said != "first" {
		t.Errorf("what is left cannot be read: %d %s", code, said)
	}
	for range 2 {
		if said, code := add("third"); code != 500 || !strings.Contains(said, "older version") || !strings.Contains(said, "warren accept-rollback") {
			t.Errorf("changed: %d %s", code, said)
		}
	}
	if out := c.must(t, "status"); !strings.Contains(out, "older than before: "+index.Text()+", version 2 and not 3") || !strings.Contains(out, "warren accept-rollback") {
		t.Errorf("status says:\n%s", out)
	}
	if n := strings.Count(c.run.Output(), "older version of a mutable file or directory"); n != 1 {
		t.Errorf("the log says it %d times", n)
	}
	if r := c.do(t, "accept-rollback"); r.code != 2 {
		t.Errorf("nothing named: %+v", r)
	}
	if r := c.do(t, "accept-rollback", "rubbish"); r.code != 2 {
		t.Errorf("rubbish named: %+v", r)
	}
	var accepted struct{ Accepted int }
	c.json(t, &accepted, "accept-rollback", "--all")
	if accepted.Accepted != 1 {
		t.Errorf("%d accepted", accepted.Accepted)
	}
	if out := c.must(t, "accept-rollback", index.Text()); !strings.Contains(out, "accepted: 0 of 1") {
		t.Errorf("again: %s", out)
	}
	if said, code := add("third"); code/100 != 2 {
		t.Errorf("after it was accepted: %d %s", code, said)
	}
	if out := c.must(t, "status"); strings.Contains(out, "older than before") {
		t.Errorf("status says:\n%s", out)
	}
	for name, want := range map[string]int{"first": 200, "second": 404, "third": 200} {
		if said, code := web("GET", at+name, ""); code != want {
			t.Errorf("%s: %d %s", name, code, said)
		}
	}
}
