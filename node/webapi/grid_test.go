package webapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"warren/node/caps"
	"warren/node/webapi"
	"warren/tests/gridtest"
)

// node is the web API over storage servers in memory.
type node struct {
	*testing.T
	url  string
	http *http.Client
	grid *gridtest.Grid
}

func newNode(t *testing.T) *node {
	t.Helper()
	g := gridtest.New(t, gridtest.Options{})
	h := httptest.NewServer(webapi.New(webapi.Config{
		Grid: g.Web, Token: func() string { return "token" }, Welcome: func() webapi.Welcome { return webapi.Welcome{Nickname: "test"} },
	}))
	t.Cleanup(h.Close)
	return &node{t, h.URL, h.Client(), g}
}

func (n *node) ask(method, path string, body io.Reader, headers ...string) (*http.Response, string) {
	n.Helper()
	req, err := http.NewRequestWithContext(n.Context(), method, n.url+path, body)
	if err != nil {
		n.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := n.http.Do(req)
	if err != nil {
		n.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		n.Fatalf("%s %.40s: %v", method, path, err)
	}
	return resp, string(b)
}

// do is ask, for one status.
func (n *node) do(want int, method, path, body string) string {
	n.Helper()
	resp, got := n.ask(method, path, strings.NewReader(body))
	if resp.StatusCode != want {
		n.Fatalf("%s %.60s: %s, %s", method, path, resp.Status, got)
	}
	return got
}

type props struct {
	RW       string                     `json:"rw_uri"`
	RO       string                     `json:"ro_uri"`
	Verify   string                     `json:"verify_uri"`
	Size     *int64                     `json:"size"`
	Mutable  *bool                      `json:"mutable"`
	Format   string                     `json:"format"`
	Children map[string]json.RawMessage `json:"children"`
	Metadata map[string]any             `json:"metadata"`
}

func (n *node) json(path string) (kind string, p props) {
	n.Helper()
	var pair []json.RawMessage
	if err := json.Unmarshal([]byte(n.do(200, "GET", path+"?t=json", "")), &pair); err != nil || len(pair) != 2 {
		n.Fatal("not a pair: ", err)
	}
	if err := json.Unmarshal(pair[0], &kind); err != nil {
		n.Fatal(err)
	}
	if err := json.Unmarshal(pair[1], &p); err != nil {
		n.Fatal(err)
	}
	return kind, p
}

func uri(parts ...string) string {
	path := "/uri"
	for _, p := range parts {
		path += "/" + url.PathEscape(p)
	}
	return path
}

// TestMagicFolderRequests sends what magic-folder 24.3's tahoe_client.py does, in
// its order: a Collective, a Personal directory, a snapshot, an update, a delete,
// and a participant that leaves.
func TestMagicFolderRequests(t *testing.T) {
	n := newNode(t)
	collective := n.do(200, "POST", "/uri?t=mkdir", "")
	personal := n.do(200, "POST", "/uri?t=mkdir", "")
	_, p := n.json(uri(personal))
	if n.do(200, "GET", uri(personal)+"?t=readonly-uri", "") != p.RO || p.RW != personal {
		t.Error("the readcap is not the readcap")
	}
	version := n.do(200, "PUT", "/uri", `{"version": 1}`)
	n.do(200, "PUT", uri(collective, "@metadata")+"?t=uri&replace=false", version)
	n.do(200, "PUT", uri(collective, "alice")+"?t=uri&replace=false", p.RO)
	n.do(409, "PUT", uri(collective, "alice")+"?t=uri&replace=false", p.RO)

	content := n.do(200, "PUT", "/uri", strings.Repeat("content ", 5000))
	meta := n.do(200, "PUT", "/uri", `{"snapshot_version": 1, "relpath": "x", "author": {}, "modification_time": 1, "parents": []}`)
	children := func(content string) string {
		return fmt.Sprintf(`{"content": ["filenode", {"ro_uri": %q, "metadata": {"mtime": 1, "ctime": 2}}],
			"metadata": ["filenode", {"ro_uri": %q, "metadata": {"magic_folder": {"author_signature": "eA=="}}}]}`, content, meta)
	}
	first := n.do(200, "POST", "/uri?t=mkdir-immutable", children(content))
	if !strings.HasPrefix(first, "URI:DIR2-CHK:") {
		t.Fatal("a snapshot is an immutable directory")
	}
	n.do(200, "PUT", uri(personal, "x")+"?t=uri&replace=true", first)
	gone := n.do(200, "POST", "/uri?t=mkdir-immutable", children(""))
	n.do(200, "PUT", uri(personal, "x")+"?t=uri&replace=true", gone)

	// Another client follows.
	_, p = n.json(uri(collective))
	if len(p.Children) != 2 {
		t.Fatalf("%d entries in the Collective", len(p.Children))
	}
	kind, snapshot := n.json(uri(first))
	if kind != "dirnode" || len(snapshot.Children) != 2 || snapshot.RW != "" || *snapshot.Mutable {
		t.Errorf("%s %+v", kind, snapshot)
	}
	kind, entry := n.json(uri(first, "content"))
	if kind != "filenode" || *entry.Size != 40000 || entry.Format != "CHK" || entry.Metadata["mtime"] != 1.0 || entry.RO != content {
		t.Errorf("%s %+v", kind, entry)
	}
	if n.do(200, "GET", uri(content), "") != strings.Repeat("content ", 5000) {
		t.Error("the content came back changed")
	}
	kind, entry = n.json(uri(gone, "content"))
	if kind != "unknown" || entry.RO != "" || entry.RW != "" {
		t.Errorf("the content of a delete: %s %+v", kind, entry)
	}
	n.do(200, "DELETE", uri(collective, "alice"), "")
	n.do(404, "DELETE", uri(collective, "alice"), "")
}

func TestRangesAndHeaders(t *testing.T) {
	n := newNode(t)
	body := make([]byte, 3<<20)
	for i := range body {
		body[i] = byte(i * 7)
	}
	files := map[string]string{
		"CHK": n.do(200, "PUT", "/uri", string(body)), "SDMF": n.do(200, "PUT", "/uri?format=SDMF", string(body[:1000])), "LIT": n.do(200, "PUT", "/uri", string(body[:50])),
	}
	sizes := map[string]int{"CHK": len(body), "SDMF": 1000, "LIT": 50}
	for kind, c := range files {
		size := sizes[kind]
		for _, r := range []struct {
			header      string
			code        int
			first, last int
		}{
			{"", 200, 0, size - 1}, {"bytes=0-0", 206, 0, 0}, {"bytes=10-", 206, 10, size - 1}, {"bytes=-10", 206, size - 10, size - 1},
			{fmt.Sprintf("bytes=7-%d", size+5), 206, 7, size - 1}, {fmt.Sprintf("bytes=%d-", size-1), 206, size - 1, size - 1},
			{"bytes=5-2", 200, 0, size - 1}, {"lines=1-2", 200, 0, size - 1}, {"bytes=x-y", 200, 0, size - 1},
			{fmt.Sprintf("bytes=%d-", size), 200, 0, size - 1}, // Tahoe takes it for no range
			{fmt.Sprintf("bytes=%d-%d", size, size+9), 416, 0, 0},
		} {
			for _, method := range []string{"GET", "HEAD"} {
				resp, got := n.ask(method, uri(c), nil, "Range", r.header)
				if resp.StatusCode != r.code {
					t.Errorf("%s %s %q: %s", method, kind, r.header, resp.Status)
					continue
				}
				if r.code == 416 {
					continue
				}
				want := body[r.first : r.last+1]
				if resp.ContentLength != int64(len(want)) || method == "GET" && got != string(want) || method == "HEAD" && got != "" {
					t.Errorf("%s %s %q: %d bytes, Content-Length %d", method, kind, r.header, len(got), resp.ContentLength)
				}
				if cr := resp.Header.Get("Content-Range"); r.code == 206 && cr != fmt.Sprintf("bytes %d-%d/%d", r.first, r.last, size) || r.code == 200 && cr != "" {
					t.Errorf("%s %s %q: Content-Range %q", method, kind, r.header, cr)
				}
			}
		}
	}
	resp, _ := n.ask("GET", uri(files["CHK"])+"?filename=ein+B%C3%A4r.txt&save=true", nil)
	etag := resp.Header.Get("ETag")
	if d := resp.Header.Get("Content-Disposition"); !strings.HasPrefix(d, "attachment; filename") || !strings.Contains(d, "B%C3%A4r.txt") ||
		!strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") || etag == "" {
		t.Errorf("%v", resp.Header)
	}
	for header, code := range map[string]int{etag: 304, `"other", W/` + etag: 304, "*": 304, `"other"`: 200, "": 200} {
		if resp, got := n.ask("GET", uri(files["CHK"]), nil, "If-None-Match", header); resp.StatusCode != code || code == 304 && got != "" {
			t.Errorf("If-None-Match %s: %s", header, resp.Status)
		}
	}
	if resp, _ := n.ask("GET", uri(files["SDMF"]), nil); resp.Header.Get("ETag") != "" {
		t.Error("a mutable file has an ETag")
	}
	if resp, got := n.ask("GET", uri(files["CHK"])+"?save=perhaps", nil); resp.StatusCode != 400 || resp.Header.Get("ETag") != "" {
		t.Errorf("%s %s", resp.Status, got)
	}
}

func TestNames(t *testing.T) {
	n := newNode(t)
	dir := n.do(200, "POST", "/uri?t=mkdir", "")
	odd := []string{"plain", "with space", "per%cent", "plus+", "ques?tion", "hash#", "semi;colon", "sla/sh", "back\\slash", "日本語", "e\u0301", "..", "."}
	for _, name := range odd {
		n.do(201, "PUT", uri(dir, name), name)
	}
	for _, name := range odd {
		if got := n.do(200, "GET", uri(dir, name), ""); got != name {
			t.Errorf("%q holds %q", name, got)
		}
	}
	if got := n.do(200, "GET", uri(dir, "é"), ""); got != "e\u0301" {
		t.Errorf("another spelling of é holds %q", got)
	}
	n.do(200, "PUT", uri(dir, "é"), "one entry")
	if _, p := n.json(uri(dir)); len(p.Children) != len(odd) {
		t.Errorf("%d entries, want %d", len(p.Children), len(odd))
	}
	n.do(400, "GET", uri(dir)+"//plain", "")
	n.do(400, "PUT", uri(dir)+"//plain", "x")
	n.do(404, "GET", uri(dir, "none"), "")
	n.do(400, "GET", uri(dir, "plain", "below a file"), "")
	n.do(409, "PUT", uri(dir, "plain", "below a file"), "x")
	n.do(201, "PUT", uri(dir, "new", "dirs", "leaf"), "x")
	n.do(409, "PUT", uri(dir, "new")+"?t=uri&replace=only-files", n.do(200, "PUT", "/uri", "y"))
}

// Requests that make the same directories at once all end in the same ones.
func TestDirectoriesMadeAtOnce(t *testing.T) {
	n := newNode(t)
	dir := n.do(200, "POST", "/uri?t=mkdir", "")
	const writers = 4
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			req, err := http.NewRequestWithContext(t.Context(), "PUT", n.url+uri(dir, "a", "b", fmt.Sprint(i)), strings.NewReader("x"))
			if err != nil {
				t.Error(err)
				return
			}
			resp, err := n.http.Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if resp.StatusCode != http.StatusCreated {
				b, _ := io.ReadAll(resp.Body)
				t.Errorf("%d: %s %s", i, resp.Status, b)
			}
		})
	}
	wg.Wait()
	if _, p := n.json(uri(dir, "a", "b")); len(p.Children) != writers {
		t.Errorf("%d files of %d", len(p.Children), writers)
	}
}

func TestMutableFiles(t *testing.T) {
	n := newNode(t)
	c := n.do(200, "PUT", "/uri?mutable=true", "one")
	ro := n.do(200, "GET", uri(c)+"?t=readonly-uri", "")
	if got := n.do(200, "PUT", uri(c), "two"); got != c {
		t.Error("an overwritten file got another capability")
	}
	if got := n.do(200, "GET", uri(ro), ""); got != "two" {
		t.Errorf("%q", got)
	}
	n.do(400, "PUT", uri(ro), "three")
	kind, p := n.json(uri(c))
	if kind != "filenode" || !*p.Mutable || p.Format != "SDMF" || *p.Size != 3 || p.RW != c || p.RO != ro {
		t.Errorf("%s %+v", kind, p)
	}
	dir := n.do(200, "POST", "/uri?t=mkdir-with-children", fmt.Sprintf(`{"m": ["filenode", {"rw_uri": %q}]}`, c))
	if got := n.do(200, "PUT", uri(dir, "m"), "through the directory"); got != c {
		t.Error("a mutable file was replaced, not overwritten")
	}
	if got := n.do(200, "GET", uri(c), ""); got != "through the directory" {
		t.Errorf("%q", got)
	}
}

// What this version cannot use is said to be that, and is no failure of the node.
func TestUnsupportedKinds(t *testing.T) {
	n := newNode(t)
	for _, c := range []caps.Cap{caps.MDMFVerify{}, caps.SSKVerify{}, caps.CHKVerify{Needed: 1, Total: 1}, caps.DirMDMFVerify{}, caps.DirVerify{}} {
		if text := n.do(501, "GET", uri(c.Text()), ""); !strings.Contains(text, c.Kind()) {
			t.Errorf("%s: %q", c.Kind(), text)
		}
	}
}

// endless is a body that never ends, and counts what was taken of it. The HTTP
// client goes on reading it after it has returned an early answer.
type endless struct{ taken atomic.Int64 }

func (e *endless) Read(p []byte) (int, error) {
	e.taken.Add(int64(len(p)))
	return len(p), nil
}

func TestBodiesAreBounded(t *testing.T) {
	n := newNode(t)
	h := httptest.NewServer(webapi.New(webapi.Config{Grid: n.grid.Web, MaxMutable: 1 << 20}))
	t.Cleanup(h.Close)
	n.url, n.http = h.URL, h.Client()
	dir := n.do(200, "POST", "/uri?t=mkdir", "")
	for _, path := range []string{"/uri?format=SDMF", "/uri?t=mkdir-immutable", uri(dir, "x") + "?t=uri", uri(dir, "x") + "?format=MDMF"} {
		method := "PUT"
		if strings.Contains(path, "mkdir") {
			method = "POST"
		}
		body := &endless{}
		req, err := http.NewRequestWithContext(t.Context(), method, n.url+path, body)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := n.http.Do(req)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode != http.StatusRequestEntityTooLarge {
				t.Errorf("%s: %s", method, resp.Status)
			}
		}
		// The server may close before all is sent; what matters is that it ends.
		if taken := body.taken.Load(); taken > 80<<20 {
			t.Errorf("%d bytes of an endless body were taken", taken)
		}
	}
}

// TestDownloadIsCut: servers that die in the midst of a download leave no answer
// that looks whole, and a file that cannot be read at all is 410.
func TestDownloadIsCut(t *testing.T) {
	n := newNode(t)
	body := bytes.Repeat([]byte("0123456789abcdef"), 40<<20/16)
	c := n.do(200, "PUT", "/uri", string(body))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", n.url+uri(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := n.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadFull(resp.Body, make([]byte, 1000)); err != nil || resp.StatusCode != 200 {
		t.Fatal(resp.Status, err)
	}
	for _, s := range n.grid.Servers {
		s.Vanish()
	}
	got, err := io.Copy(io.Discard, resp.Body)
	if err == nil {
		t.Errorf("%d bytes of %d, and no error", got+1000, len(body))
	}
	for _, s := range n.grid.Servers {
		s.Stop(t)
	}
	resp2, text := n.ask("GET", uri(c), nil)
	if resp2.StatusCode != http.StatusGone || !strings.HasPrefix(text, "NoSharesError: ") || resp2.Header.Get("ETag") != "" {
		t.Errorf("%s %q", resp2.Status, text)
	}
	if text := n.do(500, "PUT", "/uri", strings.Repeat("x", 100)); !strings.HasPrefix(text, "UploadUnhappinessError: ") {
		t.Errorf("%q", text)
	}
}
