package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"warren/node/caps"
	"warren/tests/interop"
)

// changing is what a comparison of mutable files and directories does.
type changing struct {
	plan           // Size is of the MDMF file
	Dirs     int   `json:"dirs"`     // directories that are made
	Links    int   `json:"links"`    // into one of them
	Small    int   `json:"small"`    // entries of a directory that is listed
	Large    int   `json:"large"`    // of another, which is linked into, too
	BigLinks int   `json:"bigLinks"` // that often
	Patch    int64 `json:"patch"`    // bytes written amid the MDMF file
}

// The cases.
const (
	caseMkdir   = "mkdir"
	caseLink    = "link"
	caseList    = "list"
	caseListBig = "list-big"
	caseLinkBig = "link-big"
	caseUp      = "MDMF-up"
	caseDown    = "MDMF-down"
	casePatch   = "MDMF-modify"
)

// cases are they with how often each does what it measures.
func (p changing) cases() []struct {
	name, text string
	times      int
} {
	return []struct {
		name, text string
		times      int
	}{
		{caseMkdir, "mkdir", p.Dirs}, {caseLink, "link into a small directory", p.Links},
		{caseList, fmt.Sprintf("list of %d", p.Small), 1}, {caseListBig, fmt.Sprintf("list of %d", p.Large), 1},
		{caseLinkBig, fmt.Sprintf("link into one of %d", p.Large), p.BigLinks},
		{caseUp, fmt.Sprintf("MDMF of %.3g MiB up", float64(p.Size)/mebibyte), 1}, {caseDown, "down", 1},
		{casePatch, fmt.Sprintf("%.3g MiB amid it", float64(p.Patch)/mebibyte), 1},
	}
}

// BenchmarkMutableBesideTahoe is directories and MDMF files through the web API, 3-of-10
// to ten servers on this machine: ours, and the real Tahoe's over each of its two
// protocols, in turn in every round; on the disk below TMPDIR and on tmpfs, as
// BenchmarkBesideTahoe.
//
// WARREN_BENCH_MDMF is another size of the MDMF file, in MiB. The table goes to standard
// output, everything measured to mutable-beside-tahoe.json (WARREN_BENCH_MUTABLE_JSON).
func BenchmarkMutableBesideTahoe(b *testing.B) {
	p := changing{
		plan: plan{Needed: 3, Happy: 7, Total: 10, Servers: 10, Size: 100 * mebibyte, Together: 8},
		Dirs: 20, Links: 20, Small: 1_000, Large: 10_000, BigLinks: 3, Patch: mebibyte,
	}
	if s := os.Getenv("WARREN_BENCH_MDMF"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 2 {
			b.Fatalf("WARREN_BENCH_MDMF is a number of MiB from 2, not %q", s)
		}
		p.Size = int64(n) * mebibyte
	}
	file := os.Getenv("WARREN_BENCH_MUTABLE_JSON")
	if file == "" {
		file = filepath.Join(interop.Root(b), "tests", "bench", "mutable-beside-tahoe.json")
	}
	compare(b, &figures[changing]{Plan: p}, p.plan, file, func(c *comparison) { c.change(b, p) }, func(b *testing.B, m medium) {
		fmt.Print("\n", m.tableOf(p))
		for _, k := range p.cases() {
			b.ReportMetric(m.of(k.name, ours, seconds).median/float64(k.times), k.name+"-s")
			b.ReportMetric(m.ratio(k.name, foolscap).median, k.name+"-x-Foolscap")
			b.ReportMetric(m.ratio(k.name, gbs).median, k.name+"-x-GBS")
		}
		b.ReportMetric(0, "ns/op")
	})
}

// smallest is the smallest such comparison, of systems that run.
func (c *comparison) smallest(t *testing.T) {
	t.Helper()
	p := changing{plan: c.plan, Dirs: 2, Links: 2, Small: 10, Large: 30, BigLinks: 1, Patch: 1000}
	p.Size = 500_000
	c.rounds = nil
	c.change(t, p)
	for _, k := range p.cases() {
		for _, system := range []string{ours, foolscap, gbs} {
			if s, ok := c.rounds[0].Samples[k.name][system]; !ok || s.Seconds <= 0 || s.ClientRSS < mebibyte || s.ServerRSS < mebibyte {
				t.Errorf("%s of %s cannot be: %+v", k.name, system, s)
			}
		}
	}
	table := medium{Name: "disk", Filesystem: filesystemOf(t, t.TempDir()), Rounds: c.rounds}.tableOf(p)
	if n := strings.Count(table, foolscap); n != len(p.cases()) {
		t.Errorf("the table names %s %d times:\n%s", foolscap, n, table)
	}
	t.Logf("\n%s", table)
}

// change measures every case of every system once, and the machine.
func (c *comparison) change(t testing.TB, p changing) {
	t.Helper()
	r := round{Yardsticks: measureMachine(t), Samples: map[string]map[string]sample{}}
	for _, k := range p.cases() {
		r.Samples[k.name] = map[string]sample{}
	}
	for i := range c.systems {
		s := c.systems[(i+len(c.rounds))%len(c.systems)]
		s.signal(t, syscall.SIGCONT)
		s.client.WaitConnected(t, p.Servers)
		var dir string
		interop.Eventually(t, 2*time.Minute, s.name+": a first directory", func() (err error) {
			dir, err = c.ask(s, "POST", "/uri?t=mkdir", nil, 0)
			return err
		})
		run := func(name string, do func() error) {
			got := c.attempt(t, s, do)
			r.Samples[name][s.name] = got
			if c.tell != nil {
				c.tell(name, s.name, got)
			}
		}
		run(caseMkdir, func() error {
			for range p.Dirs {
				if _, err := c.ask(s, "POST", "/uri?t=mkdir", nil, 0); err != nil {
					return err
				}
			}
			return nil
		})
		link := func(dir string, times int) func() error {
			return func() error {
				for range times {
					c.bodies++
					if _, err := c.ask(s, "PUT", fmt.Sprintf("/uri/%s/link%d?t=uri", url.PathEscape(dir), c.bodies), strings.NewReader(child(int(c.bodies))), -1); err != nil {
						return err
					}
				}
				return nil
			}
		}
		run(caseLink, link(dir, p.Links))
		list := func(dir string, most int) func() error {
			return func() error {
				text, err := c.ask(s, "GET", "/uri/"+url.PathEscape(dir)+"?t=json", nil, 0)
				if err != nil {
					return err
				}
				var node []json.RawMessage
				var is struct{ Children map[string]json.RawMessage }
				if err := json.Unmarshal([]byte(text), &node); err != nil {
					return err
				}
				if err := json.Unmarshal(node[1], &is); err != nil || len(is.Children) < most {
					return fmt.Errorf("%d entries of %d: %v", len(is.Children), most, err)
				}
				return nil
			}
		}
		small, large := c.filled(t, s, p.Small), c.filled(t, s, p.Large)
		run(caseList, list(small, p.Small))
		run(caseListBig, list(large, p.Large))
		run(caseLinkBig, link(large, p.BigLinks))

		var file string
		body := c.body(p.Size)
		run(caseUp, func() (err error) {
			file, err = c.ask(s, "PUT", "/uri?format=MDMF", body.reader(), body.size)
			return err
		})
		run(caseDown, func() error { return c.get(s, url.PathEscape(file), body) })
		patch, at := bytes.Repeat([]byte("patch"), int(p.Patch)/5+1)[:p.Patch], p.Size/2
		run(casePatch, func() error {
			_, err := c.ask(s, "PUT", fmt.Sprintf("/uri/%s?offset=%d", url.PathEscape(file), at), bytes.NewReader(patch), p.Patch)
			return err
		})
		if err := c.holds(s, file, at, patch); err != nil {
			t.Fatalf("%s: what was changed in place: %v", s.name, err)
		}
		s.clear(t)
		s.signal(t, syscall.SIGSTOP)
	}
	c.rounds = append(c.rounds, r)
}

// child is a capability of a file that nobody has stored.
func child(i int) string {
	return caps.CHK{Key: [16]byte{byte(i), byte(i >> 8), byte(i >> 16)}, UEBHash: [32]byte{1}, Needed: 3, Total: 10, Size: uint64(100_000 + i)}.Text()
}

// filled makes a directory with so many entries, which is not measured.
func (c *comparison) filled(t testing.TB, s *system, entries int) (dir string) {
	t.Helper()
	children := map[string]any{}
	for i := range entries {
		children[fmt.Sprintf("a file with a name %d", i)] = []any{"filenode", map[string]any{"ro_uri": child(i)}}
	}
	text, err := json.Marshal(children)
	if err != nil {
		t.Fatal(err)
	}
	interop.Eventually(t, 5*time.Minute, fmt.Sprintf("%s: a directory of %d entries", s.name, entries), func() (err error) {
		dir, err = c.ask(s, "POST", "/uri?t=mkdir-with-children", bytes.NewReader(text), int64(len(text)))
		return err
	})
	return dir
}

// holds reads a part of a file.
func (c *comparison) holds(s *system, file string, at int64, want []byte) error {
	req, err := http.NewRequest("GET", s.client.URL+"/uri/"+url.PathEscape(file), nil)
	if err != nil {
		return err
	}
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", at, at+int64(len(want))-1))
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil || !bytes.Equal(got, want) {
		return fmt.Errorf("status %d, %d bytes, others than were written: %v", resp.StatusCode, len(got), err)
	}
	return nil
}

// ask sends a request and returns what a success says.
func (c *comparison) ask(s *system, method, path string, body io.Reader, size int64) (string, error) {
	req, err := http.NewRequest(method, s.client.URL+path, body)
	if err != nil {
		return "", err
	}
	if size >= 0 {
		req.ContentLength = size
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	if resp.StatusCode/100 != 2 {
		page := string(text)
		return "", fmt.Errorf("%s: status %d: %.300s", method, resp.StatusCode, page[max(0, strings.Index(page, "<span>")):])
	}
	return string(text), nil
}

// tableOf is for people.
func (m medium) tableOf(p changing) string {
	var b strings.Builder
	load := m.over(func(r round) float64 { return r.Yardsticks.Load })
	fmt.Fprintf(&b, "%d-of-%d, %d servers, on %s (%s), %d rounds, load average %.3g (%.3g to %.3g)\n",
		p.Needed, p.Total, p.Servers, m.Name, m.Filesystem, len(m.Rounds), load.median, load.least, load.most)
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\t\tmedian s each\trange\tours is x times as fast\tCPU s client + servers\tothers' CPU\tpeak MiB client, server")
	for _, k := range p.cases() {
		for _, system := range []string{ours, foolscap, gbs} {
			s, n := m.of(k.name, system, seconds), float64(k.times)
			faster, failed := "", 0
			if system != ours {
				r := m.ratio(k.name, system)
				faster = fmt.Sprintf("%.2f (%.2f to %.2f)", r.median, r.least, r.most)
			}
			for _, r := range m.Rounds {
				failed += r.Samples[k.name][system].Failed
			}
			if failed > 0 {
				faster += fmt.Sprintf(", failed %d times before", failed)
			}
			mib := func(n int64) float64 { return float64(n) / mebibyte }
			fmt.Fprintf(w, "%s\t%s\t%.3f\t%.3f to %.3f\t%s\t%.2f + %.2f\t%.2f\t%.0f, %.0f\n", k.text, system, s.median/n, s.least/n, s.most/n, faster,
				m.of(k.name, system, func(s sample) float64 { return s.ClientCPU }).median,
				m.of(k.name, system, func(s sample) float64 { return s.ServerCPU }).median,
				m.of(k.name, system, func(s sample) float64 { return s.OthersCPU }).median,
				m.of(k.name, system, func(s sample) float64 { return mib(s.ClientRSS) }).most,
				m.of(k.name, system, func(s sample) float64 { return mib(s.ServerRSS) }).most)
		}
	}
	w.Flush()
	return b.String()
}
