package webapi_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"warren/node/caps"
	"warren/node/dirnode"
)

// operate starts an operation and returns its results once it is finished.
func (n *node) operate(dir, verb, handle string) map[string]any {
	n.Helper()
	resp, text := n.ask("POST", uri(dir)+"?t="+verb+"&output=JSON&ophandle="+handle, nil)
	for deadline := time.Now().Add(time.Minute); ; {
		var m map[string]any
		if err := json.Unmarshal([]byte(text), &m); err != nil || resp.StatusCode != 200 {
			n.Fatalf("%s: %s %s", verb, resp.Status, text)
		}
		if m["finished"] == true {
			return m
		}
		if time.Now().After(deadline) {
			n.Fatalf("%s is not finished: %s", verb, text)
		}
		time.Sleep(time.Millisecond)
		resp, text = n.ask("GET", "/operations/"+handle+"?output=json", nil)
	}
}

// A tree is checked and repaired: what is sick, what cannot be repaired, and the
// details of each thing.
func TestDeepCheckAndRepair(t *testing.T) {
	n := newNode(t)
	file := n.do(200, "PUT", "/uri", strings.Repeat("content ", 500))
	lost := caps.CHK{Key: [16]byte{1}, Needed: 3, Total: 5, Size: 1000}.Text()
	dir := n.do(200, "POST", "/uri?t=mkdir", "")
	mutable := n.do(200, "PUT", "/uri?format=MDMF", "some bytes")
	for name, c := range map[string]string{"file": file, "<b>lost": lost, "mutable": mutable, "lit": "URI:LIT:nbswy3dp", "up": dir} {
		n.do(200, "PUT", uri(dir, name)+"?t=uri", c)
	}
	index := func(c string) string {
		p, err := caps.Parse(c)
		if err != nil {
			t.Fatal(err)
		}
		si, _ := caps.Index(p)
		return si.Text()
	}
	n.grid.Servers[0].Stop(t)
	m := n.operate(dir, "start-deep-check&verify=true", "one")
	sick, _ := m["list-unhealthy-files"].([]any)
	if m["root-storage-index"] != index(dir) || m["count-objects-checked"] != 4.0 || m["count-objects-healthy"] != 0.0 || m["count-objects-unhealthy"] != 4.0 || len(sick) != 4 {
		t.Errorf("%v", m)
	}
	var paths []string
	for _, s := range sick {
		paths = append(paths, fmt.Sprint(s.([]any)[0]))
	}
	if got := strings.Join(paths, " "); got != "[] [<b>lost] [file] [mutable]" {
		t.Error(got)
	}
	for _, c := range []string{dir, file, lost, mutable} {
		var detail, single any
		for path, into := range map[string]*any{"GET /operations/one/" + index(c) + "?output=JSON": &detail, "POST " + uri(c) + "?t=check&output=JSON&verify=1": &single} {
			method, path, _ := strings.Cut(path, " ")
			if err := json.Unmarshal([]byte(n.do(200, method, path, "")), into); err != nil {
				t.Fatal(err)
			}
		}
		if !reflect.DeepEqual(detail, single) {
			t.Errorf("%v\nwant %v", detail, single)
		}
	}
	n.do(404, "GET", "/operations/one/aaaaaaaaaaaaaaaaaaaaaaaaaa", "")
	resp, page := n.ask("GET", "/operations/one", nil)
	for _, want := range []string{"Deep-Check Results for root SI=" + index(dir), "Objects Checked: 4\n", "Objects Unrecoverable: 1\n", "&lt;b&gt;lost: Not Recoverable! : Not Healthy: 0 shares", "&lt;root&gt;: Not Healthy! : Unhealthy: 4 shares"} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in %s", want, page)
		}
	}
	if strings.Contains(page, "<b>") || resp.Header.Get("Refresh") != "" || strings.Contains(page, "still running") {
		t.Errorf("%v %s", resp.Header, page)
	}

	// One that cannot be repaired does not keep the others from it.
	m = n.operate(dir, "start-deep-check&repair=true", "two")
	for name, want := range map[string]float64{
		"count-objects-checked": 4, "count-objects-healthy-pre-repair": 0, "count-objects-unhealthy-pre-repair": 4, "count-objects-healthy-post-repair": 3,
		"count-objects-unhealthy-post-repair": 1, "count-repairs-attempted": 4, "count-repairs-successful": 3, "count-repairs-unsuccessful": 1,
		"count-corrupt-shares-pre-repair": 0, "count-corrupt-shares-post-repair": 0,
	} {
		if m[name] != want {
			t.Errorf("%s: %v, want %v", name, m[name], want)
		}
	}
	if text := n.do(200, "GET", "/operations/two/"+index(lost)+"?output=JSON", ""); !strings.Contains(text, `"repair-failure"`) || !strings.Contains(text, `"repair-attempted": true`) {
		t.Error(text)
	}
	if page := n.do(200, "GET", "/operations/two/"+index(file), ""); !strings.Contains(page, "Repair successful") {
		t.Error(page)
	}
	page = n.do(200, "GET", "/operations/two", "")
	for _, want := range []string{"Repairs Attempted: 4\nRepairs Successful: 3\nRepairs Unsuccessful: 1\n", "Objects Healthy (after repair): 3\n", "  Repair unsuccessful: ", "file: Not Healthy! : Not Healthy: 4 shares (enc 3-of-5)", "  Repair successful: healthy\n"} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in %s", want, page)
		}
	}

	// A directory that cannot be read ends a walk.
	for _, s := range n.grid.Servers[1:4] {
		s.Stop(t)
	}
	for verb, lines := range map[string]int{"stream-manifest": 2, "stream-deep-check": 2, "stream-deep-check&repair=true": 2} {
		text := n.do(200, "POST", uri(dir)+"?t="+verb, "")
		if list := strings.Split(strings.TrimSuffix(text, "\n"), "\n"); len(list) != lines || !strings.HasPrefix(list[1], "ERROR: UnrecoverableFileError(") {
			t.Errorf("%s: %s", verb, text)
		}
	}
	if resp, _ := n.ask("POST", uri(dir)+"?t=start-manifest&ophandle=three&when_done=/statistics", nil); resp.Request.URL.Path != "/statistics" {
		t.Error(resp.Request.URL) // it went there
	}
}

// The forms of a manifest and of the sizes.
func TestManifest(t *testing.T) {
	n := newNode(t)
	file, err := caps.Parse(n.do(200, "PUT", "/uri", strings.Repeat("content ", 500)))
	if err != nil {
		t.Fatal(err)
	}
	packed, err := dirnode.Immutable().Pack([]dirnode.Entry{dirnode.NewEntry("<i>", file, nil), dirnode.NewEntry("small", caps.LIT{Data: []byte("hello")}, nil), {Name: "nothing"}})
	if err != nil {
		t.Fatal(err)
	}
	dir := caps.DirLIT{LIT: caps.LIT{Data: packed}}.Text()
	index, _ := caps.Index(file)
	m := n.operate(dir, "start-manifest", "m")
	want := map[string]any{
		"finished": true, "origin": "", "verifycaps": []any{caps.Verifier(file).Text()}, "storage-index": []any{index.Text()},
		"manifest": []any{[]any{[]any{}, dir}, []any{[]any{"nothing"}, nil}, []any{[]any{"<i>"}, file.Text()}, []any{[]any{"small"}, "URI:LIT:nbswy3dp"}},
		"stats":    m["stats"],
	}
	if !reflect.DeepEqual(m, want) {
		t.Errorf("%v\nwant %v", m, want)
	}
	stats := m["stats"].(map[string]any)
	if stats["count-files"] != 2.0 || stats["count-unknown"] != 1.0 || stats["size-directories"] != float64(len(packed)) || stats["largest-directory-children"] != 3.0 {
		t.Errorf("%v", stats)
	}
	if got, want := n.do(200, "GET", "/operations/m?output=text", ""), fmt.Sprintf("finished: yes\n %s\nnothing \n<i> %s\nsmall URI:LIT:nbswy3dp\n", dir, file.Text()); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	page := n.do(200, "GET", "/operations/m", "")
	if !strings.Contains(page, "Manifest of SI=&lt;LIT&gt;") || !strings.Contains(page, "<td>&lt;i&gt;<td><a rel=noreferrer href=\"/file/"+url.PathEscape(file.Text())+"/") || strings.Contains(page, "<i>") {
		t.Error(page)
	}
	n.do(404, "GET", "/operations/m/"+index.Text(), "")
	n.do(400, "GET", "/operations/m?output=XML", "")
	size := n.operate(dir, "start-deep-size", "s")
	if figures := size["size"]; !reflect.DeepEqual(figures, any(stats)) {
		t.Errorf("%v", size)
	}
	if got, want := n.do(200, "GET", "/operations/s", ""), fmt.Sprintf("finished: yes\nsize: %d\n", 4000+len(packed)); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	n.do(400, "GET", "/operations/s?output=XML", "")
	all := n.operate(dir, "start-deep-stats", "all")
	delete(all, "finished")
	if !reflect.DeepEqual(all, stats) {
		t.Errorf("%v, want %v", all, stats)
	}
	n.do(501, "POST", uri(caps.DirVerify{}.Text())+"?t=stream-manifest", "")
	n.do(501, "POST", uri(caps.DirCHKVerify{CHKVerify: caps.CHKVerify{Needed: 1, Total: 1}}.Text())+"?t=start-manifest&ophandle=v", "")
	text := n.do(200, "POST", uri(dir)+"?t=stream-manifest", "")
	lines := strings.Split(text, "\n")
	if len(lines) != 6 || lines[1] != `{"path":["nothing"],"cap":null,"type":"unknown","verifycap":"","repaircap":"","storage-index":""}` || !strings.HasPrefix(lines[4], `{"stats":{"api-version":1,`) {
		t.Error(text)
	}
}
