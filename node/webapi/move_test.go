package webapi_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// Moving within and between directories takes what the entry gives and its metadata
// along, and one that many move at once ends in exactly one place.
func TestMoves(t *testing.T) {
	n := newNode(t)
	file := n.do(200, "PUT", "/uri?format=SDMF", "mutable")
	dir := n.do(200, "POST", "/uri?t=mkdir-with-children", fmt.Sprintf(`{"a": ["filenode", {"rw_uri": %q, "metadata": {"mine": [1]}}],
		"b": ["filenode", {"ro_uri": "URI:LIT:mi"}], "future": ["unknown", {"rw_uri": "x-future:w", "ro_uri": "ro.x-future:r"}]}`, file))
	other := n.do(200, "POST", "/uri?t=mkdir", "")
	post := func(want int, from string, args ...string) string {
		t.Helper()
		q := url.Values{}
		for i := 0; i < len(args); i += 2 {
			q.Set(args[i], args[i+1])
		}
		return n.do(want, "POST", uri(from)+"?"+q.Encode(), "")
	}
	if got := post(200, dir, "t", "rename", "from_name", "a", "to_name", "e\u0301"); got != "thing moved" {
		t.Errorf("%q", got)
	}
	kind, e := n.json(uri(dir, "é"))
	if kind != "filenode" || e.RW != file || fmt.Sprint(e.Metadata["mine"]) != "[1]" {
		t.Errorf("%s %+v", kind, e)
	}
	post(404, dir, "t", "rename", "from_name", "a", "to_name", "c")
	post(409, dir, "t", "rename", "from_name", "é", "to_name", "b", "replace", "false")
	post(200, dir, "t", "relink", "from_name", "é", "to_dir", other, "to_name", "x")
	post(200, dir, "t", "relink", "from_name", "future", "to_dir", other)
	post(409, other, "t", "relink", "from_name", "x", "to_dir", other, "to_name", "future", "replace", "false")
	if _, e := n.json(uri(other, "x")); e.RW != file || fmt.Sprint(e.Metadata["mine"]) != "[1]" {
		t.Errorf("%+v", e)
	}
	if kind, e := n.json(uri(other, "future")); kind != "unknown" || e.RW != "x-future:w" || e.RO != "ro.x-future:r" {
		t.Errorf("%s %+v", kind, e)
	}
	if _, e := n.json(uri(dir)); len(e.Children) != 1 {
		t.Errorf("%d entries stayed", len(e.Children))
	}
	// A directory is not replaced by a file that was to go into it.
	n.do(200, "POST", uri(dir)+"?t=mkdir&name=sub", "")
	if resp, _ := n.form(uri(dir)+"?t=upload&name=sub", "contents"); resp.StatusCode != 409 {
		t.Error(resp.Status)
	}
	if kind, _ := n.json(uri(dir, "sub")); kind != "dirnode" {
		t.Errorf("the directory became a %s", kind)
	}

	// What somebody else puts in an entry's place while it moves stays there.
	for i := range 10 {
		name := fmt.Sprint("moving ", i)
		n.do(201, "PUT", uri(dir, name), "ours")
		var meanwhile sync.WaitGroup
		meanwhile.Go(func() {
			req, err := http.NewRequestWithContext(t.Context(), "PUT", n.url+uri(dir, name), strings.NewReader("theirs"))
			if err != nil {
				t.Error(err)
				return
			}
			resp, err := n.http.Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
			if resp.StatusCode/100 != 2 {
				t.Error(resp.Status)
			}
		})
		post(200, dir, "t", "relink", "from_name", name, "to_dir", other)
		meanwhile.Wait()
		found := map[string]bool{}
		for _, d := range []string{dir, other} {
			if resp, text := n.ask("GET", uri(d, name), nil); resp.StatusCode == 200 {
				found[text] = true
			}
		}
		if !found["theirs"] {
			t.Errorf("what was stored meanwhile is lost: %v", found)
		}
	}

	const movers = 4
	n.do(201, "PUT", uri(dir, "prize"), "prize")
	var wg sync.WaitGroup
	codes := make([]int, movers)
	for i := range movers {
		wg.Go(func() {
			resp, err := n.http.Post(n.url+uri(dir)+fmt.Sprintf("?t=rename&from_name=prize&to_name=won-%d", i), "", nil)
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
			codes[i] = resp.StatusCode
		})
	}
	wg.Wait()
	n.do(404, "GET", uri(dir, "prize"), "")
	_, e = n.json(uri(dir))
	won := 0
	for name := range e.Children {
		if strings.HasPrefix(name, "won-") {
			won++
		}
	}
	if won != 1 {
		t.Errorf("%d movers won: %v", won, codes)
	}
}

// form sends a form with a file.
func (n *node) form(path, contents string, fields ...string) (*http.Response, string) {
	n.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	part, err := w.CreateFormFile("file", "name.txt")
	if err != nil {
		n.Fatal(err)
	}
	io.WriteString(part, contents)
	for i := 0; i < len(fields); i += 2 {
		w.WriteField(fields[i], fields[i+1])
	}
	w.Close()
	return n.ask("POST", path, &b, "Content-Type", w.FormDataContentType())
}

// set_children stores all or none, and keeps the metadata that it does not give.
func TestSetChildren(t *testing.T) {
	n := newNode(t)
	dir := n.do(200, "POST", "/uri?t=mkdir", "")
	at := uri(dir) + "?t=set_children"
	n.do(200, "POST", at, `{"a": ["filenode", {"ro_uri": "URI:LIT:me", "metadata": {"k": "v"}}], "b": ["filenode", {"ro_uri": "URI:LIT:mi"}]}`)
	n.do(200, "POST", at, `{"a": ["filenode", {"ro_uri": "URI:LIT:mi"}]}`)
	if _, e := n.json(uri(dir, "a")); e.RO != "URI:LIT:mi" || e.Metadata["k"] != "v" {
		t.Errorf("%+v", e)
	}
	n.do(409, "POST", at+"&replace=false", `{"0": ["filenode", {"ro_uri": "URI:LIT:me"}], "b": ["filenode", {"ro_uri": "URI:LIT:me"}]}`)
	if _, e := n.json(uri(dir)); len(e.Children) != 2 {
		t.Errorf("%d children after a refusal", len(e.Children))
	}
	list := map[string]any{}
	for i := range 500 {
		list[fmt.Sprintf("name-%d", i)] = []any{"filenode", map[string]any{"ro_uri": "URI:LIT:me"}}
	}
	b, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	n.do(200, "POST", at, string(b))
	if _, e := n.json(uri(dir)); len(e.Children) != 502 {
		t.Errorf("%d children", len(e.Children))
	}
}

// The pages show names as text, lead to what they name, and run nothing.
func TestPages(t *testing.T) {
	n := newNode(t)
	file := n.do(200, "PUT", "/uri", strings.Repeat("x", 100))
	name := `<script>alert("&")</script>'/..`
	dir := n.do(200, "POST", "/uri?t=mkdir", "")
	n.do(201, "PUT", uri(dir, name), "a literal")
	n.do(200, "PUT", uri(dir, "chk")+"?t=uri", file)
	n.do(200, "POST", uri(dir, "sub")+"?t=mkdir", "")
	_, props := n.json(uri(dir))
	for path, want := range map[string][]string{
		uri(dir):                  {"DIR", "FILE", `href="/file/` + url.PathEscape(file) + `/@@named=/chk"`, "<td>100<td>", "&lt;script&gt;", "value=unlink", "/uri/" + url.PathEscape(props.RO) + "/"},
		uri(props.RO):             {"(read-only)", "&lt;script&gt;"},
		uri(dir) + "?t=info":      {props.RW, props.RO, props.Verify},
		uri(file) + "?t=info":     {"immutable file", file, "100", "Storage Index"},
		uri(dir, "sub"):           {"Directory SI="},
		"/":                       {"test", "/status"},
		"/status":                 {"Finished", "publish of "},
		uri(dir, "none"):          {"No such child: none"},
		uri(dir) + "?t=nonsense":  {"GET directory: bad t=nonsense"},
		uri(dir, "chk", "deeper"): {"Files have no children"},
		uri(dir) + "?t=rename-form&name=" + url.QueryEscape(name): {"&lt;script&gt;", "value=rename"},
	} {
		resp, page := n.ask("GET", path, nil, "Accept", "text/html,*/*")
		h := resp.Header
		if !strings.HasPrefix(h.Get("Content-Type"), "text/html") || !strings.HasPrefix(h.Get("Content-Security-Policy"), "default-src 'none';") ||
			h.Get("Referrer-Policy") != "same-origin" || strings.Contains(page, "<script") {
			t.Errorf("%.60s: %s %v", path, resp.Status, h)
		}
		for _, w := range want {
			if !strings.Contains(page, w) {
				t.Errorf("%.60s: no %q in\n%s", path, w, page)
			}
		}
	}
	// What the page's links and forms ask for works.
	if got := n.do(200, "GET", "/file/"+url.PathEscape(file)+"/@@named=/"+url.PathEscape(name), ""); got != strings.Repeat("x", 100) {
		t.Errorf("%q", got)
	}
	n.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if resp, text := n.form(uri(dir)+"/", "contents", "t", "upload", "when_done", "."); resp.StatusCode != 302 || resp.Header.Get("Location") != "." {
		t.Errorf("%s %q %s", resp.Status, resp.Header.Get("Location"), text)
	}
	if got := n.do(200, "GET", uri(dir, "name.txt"), ""); got != "contents" {
		t.Errorf("%q", got)
	}
}

// What never changes is not sent again to who has it, in any shape.
func TestTags(t *testing.T) {
	n := newNode(t)
	file := n.do(200, "PUT", "/uri", strings.Repeat("x", 100))
	dir := n.do(200, "POST", "/uri?t=mkdir-immutable", fmt.Sprintf(`{"f": ["filenode", {"ro_uri": %q}], "g": ["filenode", {"ro_uri": %q}]}`, file, file))
	seen := map[string]string{}
	for _, path := range []string{uri(file), uri(file) + "?t=json", uri(file) + "?t=uri", uri(dir), uri(dir) + "?t=json", uri(dir) + "?t=readonly-uri", uri(dir, "f") + "?t=json"} {
		resp, _ := n.ask("GET", path, nil)
		tag := resp.Header.Get("ETag")
		if before, again := seen[tag]; tag == "" || again && !strings.Contains(path, "/f?") {
			t.Errorf("%.60s: ETag %q, as %s", path, tag, before)
		}
		seen[tag] = path
		for sent, code := range map[string]int{tag: 304, `"x"`: 200} {
			if resp, body := n.ask("GET", path, nil, "If-None-Match", sent); resp.StatusCode != code || code == 304 && body != "" {
				t.Errorf("%.60s: %s", path, resp.Status)
			}
		}
	}
	for _, s := range n.grid.Servers {
		s.Stop(t)
	}
	lost := dir[:len("URI:DIR2-CHK:")] + strings.Repeat("a", 26) + dir[len("URI:DIR2-CHK:")+26:]
	for _, path := range []string{uri(lost), uri(lost) + "?t=json"} {
		if resp, text := n.ask("GET", path, nil); resp.StatusCode != 410 || resp.Header.Get("ETag") != "" {
			t.Errorf("%s, ETag %q: %s", resp.Status, resp.Header.Get("ETag"), text)
		}
	}
}

// /status tells of what was done, and of what is under way.
func TestStatusTellsOfOperations(t *testing.T) {
	n := newNode(t)
	file := n.do(200, "PUT", "/uri", strings.Repeat("x", 200))
	n.do(200, "GET", uri(file), "")
	dir := n.do(200, "POST", "/uri?t=mkdir", "")
	n.do(201, "PUT", uri(dir, "a"), "literal")
	mutable := n.do(200, "PUT", "/uri?format=SDMF", "mutable")
	n.do(200, "GET", uri(mutable), "")
	type operation struct {
		Type, Status string
		Index        *string `json:"storage-index-string"`
		Size         any     `json:"total-size"`
		Progress     *float64
		Push         *float64 `json:"progress-encode-push"`
		Mode         string
	}
	status := func() (active, recent []operation) {
		t.Helper()
		var s struct{ Active, Recent []operation }
		if err := json.Unmarshal([]byte(n.do(200, "GET", "/status?t=json", "")), &s); err != nil {
			t.Fatal(err)
		}
		return s.Active, s.Recent
	}
	active, recent := status()
	count := map[string]int{}
	for _, o := range recent {
		count[o.Type]++
		if o.Status != "Finished" || o.Type == "upload" && (o.Push == nil || *o.Push != 1) || o.Type == "download" && (o.Size != 200.0 || *o.Progress != 1) || o.Type == "mapupdate" && o.Mode == "" {
			t.Errorf("%+v", o)
		}
	}
	if len(active) != 0 || count["upload"] != 2 || count["download"] != 1 || count["publish"] != 3 || count["mapupdate"] != 1 || count["retrieve"] < 2 {
		t.Errorf("%d active, %v", len(active), count)
	}
	if recent[0].Type != "retrieve" || recent[0].Index == nil {
		t.Errorf("the last was %+v", recent[0])
	}
	// One whose body is still on its way is active; one that fails says so.
	r, w := io.Pipe()
	done := make(chan int)
	go func() {
		req, err := http.NewRequest("PUT", n.url+"/uri", r)
		if err != nil {
			t.Error(err)
		}
		resp, err := n.http.Do(req)
		if err == nil {
			resp.Body.Close()
		}
		done <- 1
	}()
	if _, err := w.Write(make([]byte, 10<<20)); err != nil {
		t.Fatal(err)
	}
	if active, _ = status(); len(active) != 1 || active[0].Type != "upload" || active[0].Status != "Started" {
		t.Errorf("%+v", active)
	}
	w.CloseWithError(io.ErrUnexpectedEOF)
	<-done
	for range 50 { // more than are kept
		n.do(200, "PUT", "/uri", "x")
	}
	if active, recent = status(); len(recent) > 100 {
		t.Errorf("%d active, %d kept", len(active), len(recent))
	}
}
