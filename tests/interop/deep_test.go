package interop

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"sort"
	"strings"
	"testing"
	"time"

	"warren/node/caps"
)

// TestDeep: our node and Tahoe's say the same of the same trees: manifests, figures,
// checks and repairs, behind handles and as streams, to the line.
func TestDeep(t *testing.T) {
	NeedPeers(t)
	t.Parallel()
	furl := StartOurIntroducer(t).FURL
	stores := make([]string, 3)
	var run []func()
	for i := range stores {
		run = append(run, func() { _, stores[i] = StartOurStorage(t, furl, fmt.Sprintf("storage%d", i)) })
	}
	Together(t, run...)
	ours, theirs := startClients(t, furl, 2, 3, 3, 3)
	d := &deep{ours: ours, theirs: theirs, stores: stores}
	d.plant(t)
	t.Run("operations", d.operations)
	t.Run("streams", d.streams)
	t.Run("requests", d.requests)
	t.Run("commands", d.commands)
	t.Run("harm", d.harm)
}

// deep is two clients, and a tree that both see.
type deep struct {
	ours, theirs *WebClient
	stores       []string
	caps         map[string]string
}

// plant makes the tree: directories of each kind, files of each kind, what is of no
// kind, a circle, and things that are there twice.
func (d *deep) plant(t *testing.T) {
	t.Helper()
	put := func(c *WebClient, path, body string) string {
		t.Helper()
		method := "PUT"
		if strings.Contains(path, "t=mkdir") {
			method = "POST"
		}
		return string(c.Must(t, method, path, strings.NewReader(body)))
	}
	link := func(dir, name, c string) {
		put(d.ours, "/uri/"+url.PathEscape(dir)+"/"+url.PathEscape(name)+"?t=uri", c)
	}
	m := map[string]string{
		"CHK":  put(d.ours, "/uri", strings.Repeat("0123456789", 100)),
		"CHK2": put(d.theirs, "/uri", strings.Repeat("abc", 10_000)),
		"LIT":  put(d.ours, "/uri", "a literal"),
		"SDMF": put(d.ours, "/uri?format=SDMF", strings.Repeat("s", 5000)),
		"MDMF": put(d.theirs, "/uri?format=MDMF", strings.Repeat("m", 5000)),
		"SUB":  put(d.theirs, "/uri?t=mkdir&format=MDMF", ""),
		"ROOT": put(d.ours, "/uri?t=mkdir", ""),
		"ONLY": put(d.ours, "/uri?t=mkdir", ""),
		"HALF": put(d.theirs, "/uri?t=mkdir", ""),
	}
	file := func(c string) []any { return []any{"filenode", map[string]any{"ro_uri": c}} }
	m["IMM"] = put(d.ours, "/uri?t=mkdir-immutable", string(mustJSON(t, map[string]any{"x": file(m["CHK"]), "y": file(m["CHK2"]), "z": file(m["LIT"])})))
	m["LITDIR"] = put(d.ours, "/uri?t=mkdir-immutable", string(mustJSON(t, map[string]any{"l": file("URI:LIT:")})))
	m["UNKNOWN"] = put(d.ours, "/uri?t=mkdir-with-children", string(mustJSON(t, map[string]any{
		"future": []any{"unknown", map[string]any{"ro_uri": futureRO, "rw_uri": futureRW}}, "readable": []any{"unknown", map[string]any{"ro_uri": futureRO}},
	})))
	for name, c := range map[string]string{"SDMFRO": "SDMF", "ONLYRO": "ONLY", "ROOTRO": "ROOT"} {
		m[name] = string(d.ours.Must(t, "GET", "/uri/"+url.PathEscape(m[c])+"?t=readonly-uri", nil))
	}
	for name, c := range map[string]string{"up": "ROOT", "again": "CHK", "<b>\"ü\"": "LIT", "m": "MDMF"} {
		link(m["SUB"], name, m[c])
	}
	link(m["ONLY"], "ro", m["SDMFRO"])
	for name, c := range map[string]string{"a file": "CHK", "small": "LIT", "small too": "LIT", "sdmf": "SDMF", "sub": "SUB", "imm": "IMM", "lits": "LITDIR", "lits too": "LITDIR", "odd": "UNKNOWN"} {
		link(m["ROOT"], name, m[c])
	}
	// A tree of which not all can be written to.
	for name, c := range map[string]string{"only": "ONLYRO", "sub": "SUB", "root": "ROOTRO", "sdmf": "SDMF"} {
		link(m["HALF"], name, m[c])
	}
	d.caps = m
}

// inOrder sorts what has no order.
func inOrder(v any) {
	switch v := v.(type) {
	case map[string]any:
		for name, part := range v {
			if list, ok := part.([]any); ok && (name == "servers-responding" || name == "verifycaps" || name == "storage-index" || name == "list-corrupt-shares") {
				sort.Slice(list, func(i, j int) bool { return fmt.Sprint(list[i]) < fmt.Sprint(list[j]) })
			}
			inOrder(part)
		}
	case []any:
		for _, part := range v {
			inOrder(part)
		}
	}
}

// roots are what is walked, and whether all below it may be written to. Through a
// readcap Tahoe's check before a repair takes shares of mutable files for bad at
// random: it looks for the private key in them, which it cannot read.
var roots = map[string]bool{"ROOT": true, "ROOTRO": false, "HALF": false, "IMM": true, "LITDIR": true, "UNKNOWN": true}

// told is JSON, or text when it is none.
func told(b []byte) any {
	var v any
	if json.Unmarshal(b, &v) != nil {
		return string(b)
	}
	inOrder(v)
	return v
}

// operate starts an operation and returns its results in a form, once it is finished.
func (d *deep) operate(t *testing.T, c *WebClient, dir, verb, form string) (any, string) {
	t.Helper()
	handle := fmt.Sprintf("h %d", time.Now().UnixNano())
	req, err := http.NewRequest("POST", c.URL+"/uri/"+url.PathEscape(dir)+"?t="+verb+"&ophandle="+url.QueryEscape(handle)+"&output="+form, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req) // goes where it is sent
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got := resp.Request.URL; resp.StatusCode != 200 || got.Path != "/operations/"+handle || got.RawQuery != "output="+form {
		t.Fatalf("%s: %s at %s", verb, resp.Status, got)
	}
	var b []byte
	var kind string
	Eventually(t, time.Minute, verb, func() error {
		resp, err := http.Get(c.URL + "/operations/" + url.PathEscape(handle) + "?output=" + form)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		var body bytes.Buffer
		if _, err := body.ReadFrom(resp.Body); err != nil {
			return err
		}
		b, kind = body.Bytes(), resp.Header.Get("Content-Type")
		kind, _, _ = strings.Cut(kind, ";")
		if resp.StatusCode != 200 {
			return fmt.Errorf("%s: %s", resp.Status, b)
		}
		if text := body.String(); !strings.Contains(text, `"finished": true`) && !strings.Contains(text, "finished: yes") {
			return errors.New("not finished")
		}
		return nil
	})
	return told(b), kind
}

func (d *deep) operations(t *testing.T) {
	for root, repairable := range roots {
		for _, verb := range []string{"start-manifest", "start-deep-size", "start-deep-stats", "start-deep-check", "start-deep-check&verify=true&add-lease=true", "start-deep-check&repair=true"} {
			if !repairable && strings.Contains(verb, "repair") {
				continue
			}
			for _, form := range []string{"json", "TEXT"} {
				if form == "TEXT" && (verb != "start-manifest" && verb != "start-deep-size" || root == "UNKNOWN") {
					continue
				}
				x, kind := d.operate(t, d.ours, d.caps[root], verb, form)
				y, theirKind := d.operate(t, d.theirs, d.caps[root], verb, form)
				if !reflect.DeepEqual(x, y) {
					t.Errorf("%s of %s:\nours    %s\nTahoe's %s", verb, root, compact(x), compact(y))
				}
				if form == "json" && verb != "start-deep-size" && kind != theirKind {
					t.Errorf("%s: %q, Tahoe's %q", verb, kind, theirKind)
				}
				if root == "ROOT" && verb == "start-manifest" && form == "json" {
					if list := x.(map[string]any)["manifest"].([]any); len(list) != 18 {
						t.Errorf("%d lines: %s", len(list), compact(list))
					}
				}
			}
		}
	}
}

// lines are a stream's.
func (d *deep) lines(t *testing.T, c *WebClient, dir, verb string) (lines []any) {
	t.Helper()
	b := c.Must(t, "POST", "/uri/"+url.PathEscape(dir)+"?t="+verb, nil)
	for _, l := range strings.Split(strings.TrimSuffix(string(b), "\n"), "\n") {
		lines = append(lines, told([]byte(l)))
	}
	return lines
}

func (d *deep) streams(t *testing.T) {
	for root, repairable := range roots {
		for _, verb := range []string{"stream-manifest", "stream-deep-check", "stream-deep-check&verify=1", "stream-deep-check&repair=on", "stream-deep-check&add-lease=true&repair=true&verify=true"} {
			if !repairable && strings.Contains(verb, "repair") {
				continue
			}
			x, y := d.lines(t, d.ours, d.caps[root], verb), d.lines(t, d.theirs, d.caps[root], verb)
			if !reflect.DeepEqual(x, y) {
				t.Errorf("%s of %s: %d lines, Tahoe's %d", verb, root, len(x), len(y))
				for i := range min(len(x), len(y)) {
					if !reflect.DeepEqual(x[i], y[i]) {
						t.Errorf("line %d:\nours    %s\nTahoe's %s", i, compact(x[i]), compact(y[i]))
					}
				}
			}
			if root == "ROOT" && len(x) != 19 {
				t.Errorf("%s: %d lines", verb, len(x))
			}
		}
	}
}

// requests that are refused, or are about handles.
func (d *deep) requests(t *testing.T) {
	operation := "/operations/h"
	for i, r := range []request{
		{method: "POST", path: "/uri/{ROOT}?t=start-manifest", compare: sameText},
		{method: "POST", path: "/uri/{ROOT}?t=start-deep-size&ophandle=", compare: sameText},
		{method: "POST", path: "/uri/{ROOT}?t=start-deep-stats", compare: sameText},
		{method: "POST", path: "/uri/{ROOT}?t=start-deep-check", compare: sameText},
		{method: "POST", path: "/uri/{ROOT}?t=start-deep-check&ophandle=h&verify=perhaps"},
		{method: "POST", path: "/uri/{ROOT}?t=stream-deep-check&repair=perhaps"},
		{method: "POST", path: "/uri/{ROOT}/nothing?t=stream-manifest"},
		{method: "POST", path: "/uri/{CHK}?t=stream-manifest", compare: sameText},
		{method: "POST", path: "/uri/{CHK}?t=start-manifest&ophandle=h", compare: sameText},
		{method: "GET", path: "/uri/{ROOT}?t=stream-manifest", compare: sameText},
		{method: "GET", path: "/uri/{ROOT}?t=start-deep-check&ophandle=h", compare: sameText},
		{method: "GET", path: operation},
		{method: "POST", path: operation + "?t=cancel"},
		{method: "GET", path: "/operations/"},
		// An operation that is there, its forms, and its end.
		{method: "POST", path: "/uri/{LITDIR}?t=start-manifest&ophandle=h&output=JSON"},
		{method: "GET", path: operation + "?output=JSON", compare: sameJSON},
		{method: "GET", path: operation + "?output=TEXT&t=status&retain-for=1000", compare: sameText},
		{method: "GET", path: operation},
		{method: "GET", path: operation + "?output=XML"},
		{method: "GET", path: operation + "?output=json&release-after-complete=perhaps", compare: statusOnly},
		{method: "GET", path: operation + "?t=cancel&output=JSON", compare: sameJSON},
		{method: "GET", path: operation + "?output=JSON&release-after-complete=true", compare: sameJSON},
		{method: "GET", path: operation},
		{method: "POST", path: "/uri/{IMM}?t=start-deep-check&ophandle=h&when_done=/elsewhere", otherwise: 302, why: "Tahoe has begun it, and then fails"},
		{method: "GET", path: operation + "/aaaaaaaaaaaaaaaaaaaaaaaaaa?output=JSON"},
		{method: "POST", path: operation + "?t=cancel&output=JSON", compare: statusOnly},
		{method: "GET", path: operation},
		{method: "GET", path: operation + "?output=JSON", compare: statusOnly},
	} {
		a, b := ask(t, d.ours, d.caps, r), ask(t, d.theirs, d.caps, r)
		name := fmt.Sprintf("%d %s %s", i, r.method, r.path)
		switch {
		case r.otherwise != 0:
			if a.status != r.otherwise || b.status == r.otherwise {
				t.Errorf("%s: %d, Tahoe's %d; want %d here alone: %s", name, a.status, b.status, r.otherwise, r.why)
			}
		case a.status != b.status:
			t.Errorf("%s: %d, Tahoe's %d\n%.200s\n%.200s", name, a.status, b.status, a.body, b.body)
		case r.compare == sameText && a.body != b.body, r.compare == sameJSON && !reflect.DeepEqual(told([]byte(a.body)), told([]byte(b.body))):
			t.Errorf("%s: %q, Tahoe's %q", name, a.body, b.body)
		}
	}
}

// commands: Tahoe's own say the same of both nodes.
func (d *deep) commands(t *testing.T) {
	root := d.caps["HALF"]
	for _, args := range [][]string{
		{"manifest", root}, {"stats", root}, {"deep-check", "--verbose", "--add-lease", "--repair", d.caps["ROOT"]},
	} {
		var out [2]string
		var err [2]error
		var run []func()
		for i, c := range []*WebClient{d.ours, d.theirs} {
			run = append(run, func() {
				out[i], err[i] = TryRun(t, time.Minute, Tahoe(t), append([]string{"-d", c.Dir}, args...)...)
			})
		}
		Together(t, run...)
		if err := errors.Join(err[:]...); err != nil || out[0] != out[1] || len(out[0]) < 100 {
			t.Errorf("tahoe %s: %v\nours    %s\nTahoe's %s", args[0], err, out[0], out[1])
		}
	}
}

// shares are the share files of what a cap names.
func (d *deep) shares(t *testing.T, name string) (paths []string) {
	t.Helper()
	c, err := caps.Parse(d.caps[name])
	if err != nil {
		t.Fatal(err)
	}
	index, _ := caps.Index(c)
	for _, store := range d.stores {
		for path := range filesIn(t, filepath.Join(store, "storage", "shares", index.Text()[:2], index.Text())) {
			paths = append(paths, path)
		}
	}
	return paths
}

// harm: shares go, or are damaged; both say the same of it, what one repairs is healthy
// to both, and a directory that cannot be read ends a walk.
func (d *deep) harm(t *testing.T) {
	for i, by := range []*WebClient{d.ours, d.theirs} {
		for _, name := range []string{"CHK", "MDMF", "SUB"} {
			if err := os.Remove(d.shares(t, name)[i]); err != nil {
				t.Fatal(err)
			}
		}
		alter(t, d.shares(t, "SDMF")[i], func(b []byte) []byte { b[len(b)-2004] ^= 1; return b }) // in the block
		for _, verb := range []string{"stream-deep-check", "stream-deep-check&verify=true"} {
			x, y := d.lines(t, d.ours, d.caps["ROOT"], verb), d.lines(t, d.theirs, d.caps["ROOT"], verb)
			if !reflect.DeepEqual(x, y) {
				t.Errorf("%s: ours\n%s\nTahoe's\n%s", verb, compact(x), compact(y))
			}
		}
		for _, verb := range []string{"start-deep-check", "start-deep-check&verify=true"} {
			x, _ := d.operate(t, d.ours, d.caps["ROOT"], verb, "json")
			y, _ := d.operate(t, d.theirs, d.caps["ROOT"], verb, "json")
			if !reflect.DeepEqual(x, y) || x.(map[string]any)["count-objects-unhealthy"].(float64) < 3 {
				t.Errorf("%s:\nours    %s\nTahoe's %s", verb, compact(x), compact(y))
			}
		}
		x, _ := d.operate(t, by, d.caps["ROOT"], "start-deep-check&repair=true&verify=true", "json")
		got := map[string]any{}
		for name, value := range x.(map[string]any) {
			if n, ok := value.(float64); ok && name != "count-corrupt-shares-post-repair" { // where Tahoe says that before
				got[name] = n
			}
		}
		if want := (map[string]any{
			"count-objects-checked": 8.0, "count-objects-healthy-pre-repair": 4.0, "count-objects-unhealthy-pre-repair": 4.0,
			"count-objects-healthy-post-repair": 8.0, "count-objects-unhealthy-post-repair": 0.0, "count-repairs-attempted": 4.0,
			"count-repairs-successful": 4.0, "count-repairs-unsuccessful": 0.0, "count-corrupt-shares-pre-repair": 1.0,
		}); !reflect.DeepEqual(got, want) {
			t.Errorf("repair by %s: %v", by.Dir, compact(x))
		}
		for _, c := range []*WebClient{d.ours, d.theirs} {
			if x, _ := d.operate(t, c, d.caps["ROOT"], "start-deep-check&verify=true", "json"); x.(map[string]any)["count-objects-unhealthy"] != 0.0 {
				t.Errorf("after the repair by %s: %s", by.Dir, compact(x))
			}
		}
	}
	for _, path := range d.shares(t, "ONLY") {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	for _, verb := range []string{"stream-manifest", "stream-deep-check"} {
		x, y := d.lines(t, d.ours, d.caps["HALF"], verb), d.lines(t, d.theirs, d.caps["HALF"], verb)
		const begin = "ERROR: UnrecoverableFileError("
		n := 0
		for n < min(len(x), len(y)) && reflect.DeepEqual(x[n], y[n]) {
			n++
		}
		if n == 0 || n != len(x)-1 || !strings.HasPrefix(fmt.Sprint(x[n]), begin) || !strings.HasPrefix(fmt.Sprint(y[n]), begin) {
			t.Errorf("%s: %d lines alike; ours\n%s\nTahoe's\n%s", verb, n, compact(x), compact(y))
		}
	}
	for _, verb := range []string{"start-manifest", "start-deep-check"} {
		for _, c := range []*WebClient{d.ours, d.theirs} {
			if _, _, err := c.Do("POST", "/uri/"+url.PathEscape(d.caps["HALF"])+"?t="+verb+"&ophandle=lost", nil); err != nil {
				t.Fatal(err)
			}
			Eventually(t, time.Minute, verb, func() error {
				_, code, err := c.Do("GET", "/operations/lost?output=JSON", nil)
				if err == nil && code != http.StatusGone {
					err = fmt.Errorf("status %d", code)
				}
				return err
			})
		}
	}
}
