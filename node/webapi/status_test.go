package webapi

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"warren/node/storage"
	"warren/node/storage/expire"
)

func get(t *testing.T, h http.Handler, target, headers string) (*http.Response, string) {
	t.Helper()
	resp := ask(t, h, "GET", target, headers, "")
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

// The storage server's page says what its JSON does, which has Tahoe's names.
func TestStoragePage(t *testing.T) {
	start := time.Unix(1000, 0)
	round := expire.Results{
		Settings: expire.Settings{Enabled: true, Mode: expire.CutoffDate, Cutoff: 77, Mutable: true},
		Started:  start, Finished: start.Add(time.Minute), Buckets: 5,
		Shares: map[expire.Reason]map[storage.ShareKind]expire.Tally{
			expire.BeforeDate: {storage.Mutable: {Shares: 2, Bytes: 20}},
			expire.Unreadable: {"unknown": {Shares: 1, Bytes: 3}},
			expire.Leased:     {storage.Immutable: {Shares: 4, Bytes: 400}},
		},
		Removed:    map[storage.ShareKind]expire.Tally{storage.Mutable: {Shares: 1, Bytes: 10}},
		Unreadable: []expire.Place{{StorageIndex: "aaaa", Share: 3}},
	}
	stats := storage.Statistics{Stats: map[string]*float64{"storage_server.latencies.read.mean": nil}}
	stats.Set("storage_server.disk_avail", 123456)
	at := Storage{Nickname: "<b>server", NodeID: "v0-x", Statistics: stats, Expire: round.Settings, Checker: expire.State{History: []expire.Results{round}}}
	offered := true
	h := New(Config{Grid: &shelf{}, Storage: func() (Storage, bool) { return at, offered }})

	resp, text := get(t, h, "/storage?t=json", "")
	var got map[string]any
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"stats":          map[string]any{"storage_server.disk_avail": 123456., "storage_server.latencies.read.mean": nil},
		"bucket-counter": map[string]any{"version": 1., "last-complete-bucket-count": 5.},
		"lease-checker": map[string]any{"version": 1., "history": map[string]any{"0": map[string]any{
			"cycle-start-finish-times": []any{1000., 1060.}, "expiration-enabled": true,
			"configured-expiration-mode": []any{"cutoff-date", nil, 77., []any{"mutable"}}, "corrupt-shares": []any{[]any{"aaaa", 3.}},
			"space-recovered": map[string]any{
				"examined-buckets": 5., "examined-shares": 7., "examined-sharebytes": 423.,
				"examined-shares-mutable": 2., "examined-sharebytes-mutable": 20., "examined-shares-immutable": 4., "examined-sharebytes-immutable": 400.,
				"configured-shares": 2., "configured-sharebytes": 20., "configured-shares-mutable": 2., "configured-sharebytes-mutable": 20.,
				"configured-shares-immutable": 0., "configured-sharebytes-immutable": 0.,
				"actual-shares": 1., "actual-sharebytes": 10., "actual-shares-mutable": 1., "actual-sharebytes-mutable": 10.,
				"actual-shares-immutable": 0., "actual-sharebytes-immutable": 0.,
			},
		}}},
		"lease-checker-progress": map[string]any{"cycle-in-progress": false},
	}
	if !reflect.DeepEqual(got, want) || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
		t.Errorf("%s\n%v\nwant\n%v", resp.Header, got, want)
	}
	_, page := get(t, h, "/storage", "")
	for _, w := range []string{"disk_avail: 123456", "&lt;b&gt;server", "Total buckets: 5", "Expiration Enabled", "7 shares in 5 buckets seen, 1 shares removed"} {
		if !strings.Contains(page, w) || strings.Contains(page, "latencies") {
			t.Errorf("no %q in %s", w, page)
		}
	}
	at.Checker.Current = &expire.Results{Started: start}
	if _, text := get(t, h, "/storage?t=json", ""); !strings.Contains(text, `"cycle-in-progress": true`) || !strings.Contains(text, "cycle-to-date") {
		t.Errorf("%s", text)
	}
	offered = false
	if resp, page := get(t, h, "/storage", ""); resp.StatusCode != 200 || !strings.Contains(page, "No Storage Server Running") {
		t.Errorf("%s %s", resp.Status, page)
	}
	if resp, text := get(t, h, "/storage?t=json", ""); resp.StatusCode != 404 {
		t.Errorf("%s %s", resp.Status, text)
	}
}

// The operator's own pages are served, and nothing beside them.
func TestStaticPages(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"secret": "secret", "www/page.html": "<p>own", "www/sub/x.txt": "below"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(dir, "secret"), filepath.Join(dir, "www", "link")); err != nil && runtime.GOOS != "windows" {
		t.Fatal(err)
	}
	h := New(Config{Grid: &shelf{}, Static: filepath.Join(dir, "www")})
	for target, want := range map[string]string{"/static/page.html": "<p>own", "/static/sub/x.txt": "below"} {
		if resp, text := get(t, h, target, ""); resp.StatusCode != 200 || text != want {
			t.Errorf("%s: %s %q", target, resp.Status, text)
		}
	}
	for _, target := range []string{"/static/../secret", "/static/%2e%2e/secret", "/static/..%2fsecret", "/static/link", "/static/none", "/static//" + dir + "/secret"} {
		if resp, text := get(t, h, target, ""); resp.StatusCode == 200 || text == "secret" {
			t.Errorf("%s: %s %q", target, resp.Status, text)
		}
	}
	if resp := ask(t, h, "PUT", "/static/page.html", "", "x"); resp.StatusCode != 405 {
		t.Error(resp.Status)
	}
	if resp, _ := get(t, New(Config{Grid: &shelf{}, Static: filepath.Join(dir, "none")}), "/static/page.html", ""); resp.StatusCode != 404 {
		t.Error(resp.Status)
	}
	if resp, _ := get(t, h, "/static/page.html", "Origin: http://evil.example"); resp.StatusCode != 403 {
		t.Error(resp.Status)
	}
}

// An introducer says on its front page what Tahoe's does.
func TestIntroducersWelcome(t *testing.T) {
	w := Welcome{Announcements: map[string]int{"storage": 3}, Subscriptions: map[string]int{"storage": 4}}
	h := New(Config{Grid: &shelf{}, Welcome: func() Welcome { return w }})
	var got map[string]any
	_, text := get(t, h, "/?t=json", "")
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got["announcement_summary"], map[string]any{"storage": 3.}) || !reflect.DeepEqual(got["subscription_summary"], map[string]any{"storage": 4.}) {
		t.Errorf("%s", text)
	}
	if _, page := get(t, h, "/", ""); !strings.Contains(page, "Announcements here</h2><ul><li>storage: 3") {
		t.Errorf("%s", page)
	}
	w = Welcome{}
	if _, text := get(t, h, "/?t=json", ""); strings.Contains(text, "summary") {
		t.Errorf("%s", text)
	}
}

// Errors are text, but for browsers.
func TestErrorsForBrowsers(t *testing.T) {
	h := under(t, stocked(t))
	target := "/uri/" + aDir.Text() + "/%3Cscript%3E"
	for accept, page := range map[string]bool{"": false, "*/*": false, "text/plain, application/octet-stream": false, "text/html,*/*;q=0.8": true} {
		headers := ""
		if accept != "" {
			headers = "Accept: " + accept
		}
		resp, text := get(t, h, target, headers)
		if resp.StatusCode != 404 || strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") != page || page == strings.Contains(text, "<script>") {
			t.Errorf("%q: %s %s %s", accept, resp.Status, resp.Header.Get("Content-Type"), text)
		}
	}
}
