package webapi_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"warren/node/caps"
)

// The whole account of a check and of a repair, in Tahoe's fields.
func TestCheckAccounts(t *testing.T) {
	n := newNode(t)
	cp := n.do(200, "PUT", "/uri", strings.Repeat("content ", 5000))
	dir := n.do(200, "POST", "/uri?t=mkdir", "")
	n.do(200, "PUT", uri(dir, "a file")+"?t=uri", cp)
	get := func(path string, want int) map[string]any {
		t.Helper()
		var m map[string]any
		if err := json.Unmarshal([]byte(n.do(want, "POST", path, "")), &m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	parsed, err := caps.Parse(cp)
	if err != nil {
		t.Fatal(err)
	}
	verify := caps.Verifier(parsed).Text()
	index, _ := caps.Index(parsed)
	healthy := get(uri(cp)+"?t=check&output=JSON", 200)
	for _, path := range []string{uri(cp) + "?t=check&output=json&verify=true&add-lease=true", uri(verify) + "?t=check&output=JSON", uri(dir, "a file") + "?t=check&output=JSON&repair=false"} {
		if got := get(path, 200); !reflect.DeepEqual(got, healthy) {
			t.Errorf("%.30s: %v, want %v", path, got, healthy)
		}
	}
	results := healthy["results"].(map[string]any)
	sharemap, corrupt, responding := results["sharemap"], results["list-corrupt-shares"], results["servers-responding"]
	delete(results, "sharemap")
	delete(results, "servers-responding")
	want := map[string]any{"storage-index": index.Text(), "summary": "Healthy", "results": map[string]any{
		"count-happiness": 5.0, "count-shares-good": 5.0, "count-shares-needed": 3.0, "count-shares-expected": 5.0, "count-good-share-hosts": 5.0,
		"count-corrupt-shares": 0.0, "list-corrupt-shares": []any{}, "count-wrong-shares": 0.0, "count-recoverable-versions": 1.0,
		"count-unrecoverable-versions": 0.0, "healthy": true, "recoverable": true,
	}}
	if !reflect.DeepEqual(healthy, want) || len(sharemap.(map[string]any)) != 5 || len(responding.([]any)) != 5 || len(corrupt.([]any)) != 0 {
		t.Errorf("%v\nwant %v", healthy, want)
	}

	// A server that is away, and one that comes back without its share.
	lost := n.grid.Servers[2]
	lost.Stop(t)
	away := get(uri(cp)+"?t=check&output=JSON", 200)
	if away["summary"] != "Not Healthy: 4 shares (enc 3-of-5)" || away["results"].(map[string]any)["healthy"] != false {
		t.Errorf("%v", away)
	}
	r := get(uri(verify)+"?t=check&output=JSON&repair=true&verify=true", 200)
	before, after := r["pre-repair-results"].(map[string]any), r["post-repair-results"].(map[string]any)
	if r["repair-attempted"] != true || r["repair-successful"] != true || !reflect.DeepEqual(before, away) || r["storage-index"] != index.Text() || r["repair-failure"] != nil ||
		after["summary"] != "healthy" || after["results"].(map[string]any)["count-good-share-hosts"] != 4.0 || after["results"].(map[string]any)["count-happiness"] != 4.0 {
		t.Errorf("%v", r)
	}
	if r = get(uri(cp)+"?t=check&output=JSON&repair=true", 200); r["repair-attempted"] != false || r["repair-successful"] != false ||
		!reflect.DeepEqual(r["pre-repair-results"], r["post-repair-results"]) {
		t.Errorf("%v", r)
	}
	page := n.do(200, "POST", uri(cp)+"?t=check", "")
	for _, line := range []string{"SI=" + index.Text(), "Healthy : Healthy", "Share Counts: need 3-of-5, have 5", "Happiness Level: 4", "Good share: sh#4 on v0-"} {
		if !strings.Contains(page, line) {
			t.Errorf("no %q in %s", line, page)
		}
	}
	for _, s := range n.grid.Servers[:4] {
		s.Stop(t)
	}
	for _, repair := range []string{"", "&repair=true"} {
		if text := n.do(map[bool]int{true: 200, false: 410}[repair == ""], "POST", uri(cp)+"?t=check"+repair, ""); repair == "" && !strings.Contains(text, "Not Recoverable! : Not Healthy: ") ||
			repair != "" && !strings.HasPrefix(text, "NotEnoughSharesError") {
			t.Error(text)
		}
	}
}

func TestCheckOfOthers(t *testing.T) {
	n := newNode(t)
	for _, repair := range []string{"", "&repair=true"} {
		var m any
		if err := json.Unmarshal([]byte(n.do(200, "POST", uri("URI:LIT:nbswy3dp")+"?t=check&output=JSON"+repair, "")), &m); err != nil {
			t.Fatal(err)
		}
		if want := (map[string]any{"storage-index": "", "results": map[string]any{"healthy": true}}); !reflect.DeepEqual(m, want) {
			t.Errorf("%v", m)
		}
		if page := n.do(200, "POST", uri("URI:DIR2-LIT:")+"?t=check"+repair, ""); !strings.Contains(page, "Literal files are always healthy") {
			t.Error(page)
		}
		dir := n.do(200, "POST", "/uri?t=mkdir", "")
		for _, c := range []string{dir, n.do(200, "PUT", "/uri?format=SDMF", "x"), "URI:MDMF:aaaaaaaaaaaaaaaaaaaaaaaaaa:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "x-future:cap"} {
			if text := n.do(501, "POST", uri(c)+"?t=check&output=JSON"+repair, ""); strings.Contains(text, c) || !strings.Contains(text, "is not supported by this version") {
				t.Error(text)
			}
		}
		n.do(404, "POST", uri(dir, "nothing")+"?t=check"+repair, "")
		n.do(400, "POST", uri("URI:LIT:nbswy3dp")+"?t=check&verify=maybe"+repair, "")
		n.do(400, "POST", uri("URI:LIT:nbswy3dp")+"?t=check&output=XML"+repair, "")
	}
	if resp, _ := n.ask("POST", uri("URI:LIT:nbswy3dp")+"?t=check&when_done=/elsewhere", nil); resp.StatusCode != 404 {
		t.Error(resp.Status) // it went there
	}
}
