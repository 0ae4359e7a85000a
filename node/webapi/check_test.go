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
		if text := n.do(501, "POST", uri("x-future:cap")+"?t=check&output=JSON"+repair, ""); strings.Contains(text, "future") || !strings.Contains(text, "is not supported by this version") {
			t.Error(text)
		}
		n.do(404, "POST", uri(dir, "nothing")+"?t=check"+repair, "")
		n.do(400, "POST", uri("URI:LIT:nbswy3dp")+"?t=check&verify=maybe"+repair, "")
		n.do(400, "POST", uri("URI:LIT:nbswy3dp")+"?t=check&output=XML"+repair, "")
	}
	if resp, _ := n.ask("POST", uri("URI:LIT:nbswy3dp")+"?t=check&when_done=/elsewhere", nil); resp.StatusCode != 404 {
		t.Error(resp.Status) // it went there
	}
}

// Mutable files and directories of both formats, by each of their capabilities, with
// a share that is stale and one that is gone.
func TestCheckMutable(t *testing.T) {
	n := newNode(t)
	for name, c := range map[string]string{
		"SDMF": n.do(200, "PUT", "/uri?format=SDMF", strings.Repeat("x", 1000)), "MDMF": n.do(200, "PUT", "/uri?format=MDMF", strings.Repeat("x", 1000)),
		"SDMF directory": n.do(200, "POST", "/uri?t=mkdir", ""), "MDMF directory": n.do(200, "POST", "/uri?t=mkdir&format=MDMF", ""),
	} {
		t.Run(name, func(t *testing.T) {
			n := &node{t, n.url, n.http, n.grid}
			check := func(c, args string) map[string]any {
				t.Helper()
				var m map[string]any
				if err := json.Unmarshal([]byte(n.do(200, "POST", uri(c)+"?t=check&output=JSON"+args, "")), &m); err != nil {
					t.Fatal(err)
				}
				return m
			}
			parsed, err := caps.Parse(c)
			if err != nil {
				t.Fatal(err)
			}
			index, _ := caps.Index(parsed)
			readonly, verify := caps.ReadOnly(parsed).Text(), caps.Verifier(parsed).Text()
			healthy := check(c, "")
			for _, same := range []map[string]any{check(c, "&verify=true&add-lease=true"), check(readonly, ""), check(verify, "&verify=1")} {
				if !reflect.DeepEqual(same, healthy) {
					t.Errorf("%v, want %v", same, healthy)
				}
			}
			results := healthy["results"].(map[string]any)
			for share, servers := range results["sharemap"].(map[string]any) {
				if !strings.HasPrefix(share, "seq1-") || len(servers.([]any)) != 1 {
					t.Errorf("%s: %v", share, servers)
				}
			}
			if len(results["sharemap"].(map[string]any)) != 5 || len(results["servers-responding"].([]any)) != 5 {
				t.Errorf("%v", results)
			}
			delete(results, "sharemap")
			delete(results, "servers-responding")
			if want := (map[string]any{"storage-index": index.Text(), "summary": "Healthy", "results": map[string]any{
				"count-happiness": 5.0, "count-shares-good": 5.0, "count-shares-needed": 3.0, "count-shares-expected": 5.0, "count-good-share-hosts": 5.0,
				"count-corrupt-shares": 0.0, "list-corrupt-shares": []any{}, "count-wrong-shares": 0.0, "count-recoverable-versions": 1.0,
				"count-unrecoverable-versions": 0.0, "healthy": true, "recoverable": true,
			}}); !reflect.DeepEqual(healthy, want) {
				t.Errorf("%v\nwant %v", healthy, want)
			}
			// While a server is away, the file changes: its share is old when it is back.
			n.grid.Servers[1].Stop(t)
			if strings.Contains(name, "directory") {
				n.do(200, "PUT", uri(c, "new")+"?t=uri", "URI:LIT:nbswy3dp")
			} else {
				n.do(200, "PUT", uri(c), strings.Repeat("y", 1000))
			}
			n.grid.Servers[1].Start(t)
			sick := check(verify, "")
			results = sick["results"].(map[string]any)
			if sick["summary"] != "Unhealthy: some versions are unrecoverable" || results["healthy"] != false || results["recoverable"] != true || results["count-wrong-shares"] != 1.0 ||
				results["count-unrecoverable-versions"] != 1.0 {
				t.Errorf("%v", sick)
			}
			// Who may not write cannot repair.
			if r := check(readonly, "&repair=true"); r["repair-attempted"] != false || r["repair-successful"] != false || !reflect.DeepEqual(r["post-repair-results"], sick) {
				t.Errorf("%v", r)
			}
			if page := n.do(200, "POST", uri(readonly)+"?t=check&repair=true", ""); !strings.Contains(page, "No repair attempted") || !strings.Contains(page, "Not Healthy! : Unhealthy: some") ||
				!strings.Contains(page, "Wrong Shares: 1\n") {
				t.Error(page)
			}
			r := check(c, "&repair=true&verify=true")
			after := r["post-repair-results"].(map[string]any)
			if r["storage-index"] != index.Text() || r["repair-attempted"] != true || r["repair-successful"] != true || r["repair-failure"] != nil ||
				!reflect.DeepEqual(r["pre-repair-results"], sick) || after["summary"] != "Healthy" {
				t.Errorf("%v", r)
			}
			if r := check(c, "&repair=true"); r["repair-attempted"] != false || !reflect.DeepEqual(r["pre-repair-results"], after) {
				t.Errorf("%v", r)
			}
			page := n.do(200, "POST", uri(c)+"?t=check", "")
			if !strings.Contains(page, "SI="+index.Text()) || !strings.Contains(page, "Good share: sh#seq") {
				t.Error(page)
			}
		})
	}
}
