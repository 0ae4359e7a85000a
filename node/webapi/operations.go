package webapi

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"warren/node/caps"
	"warren/node/dirnode"
)

// How long a finished operation is kept whose results nobody, or somebody, asked
// for, unless retain-for= says otherwise: Tahoe's times.
const (
	uncollectedLifetime = 4 * 24 * time.Hour
	collectedLifetime   = 24 * time.Hour
)

const (
	// maxHandles bounds the handles, maxRunning the operations under way: a handle that
	// expires does not end its check.
	maxHandles = 200
	maxRunning = 30
	// maxKept bounds the memory that all results take, in bytes, by a coarse measure.
	maxKept = 512 << 20
	// maxHandle bounds a handle's name.
	maxHandle = 1000
)

// operations are the walks behind /operations.
type operations struct {
	// background runs what outlives its request.
	background func(func(context.Context))

	mu      sync.Mutex // guards all below
	handles map[string]*handle
	running int
	kept    int
}

// handle is one entry of the table. Its fields are guarded by operations.mu.
type handle struct {
	*operation
	name  string
	added time.Time
	timer *time.Timer // nil: none was set
}

func newOperations(background func(func(context.Context))) *operations {
	if background == nil {
		background = func(run func(context.Context)) { go run(context.Background()) }
	}
	return &operations{background: background, handles: map[string]*handle{}}
}

// operation is one walk and what it found.
type operation struct {
	origin string // storage index of the root
	form   findings
	cancel context.CancelFunc

	mu       sync.Mutex // guards all below
	released bool       // nobody will ask for the results
	finished bool
	failed   error
	kept     int
	stats    dirnode.Stats
	list     []found // what form keeps; no element is ever changed
}

// findings is how an operation's results are kept and told.
type findings interface {
	// cost is what keeping f takes in bytes, about; 0: it is not kept.
	cost(f found) int
	// answer tells them; rest is the path below the handle.
	answer(s *server, w http.ResponseWriter, r *http.Request, v view, rest string) error
}

// view is an operation's results at one moment.
type view struct {
	origin   string
	finished bool
	stats    dirnode.Stats
	list     []found
}

func (o *operation) view() (view, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return view{o.origin, o.finished, o.stats, o.list[:len(o.list):len(o.list)]}, o.failed
}

// start begins an operation under the handle ophandle= and goes to its page.
func (s *server) start(w http.ResponseWriter, r *http.Request, root caps.Cap, form findings, walk func(context.Context, func(found) error) error) error {
	name := arg(r, "ophandle")
	if name == "" {
		return bad("slow operation requires ophandle=")
	}
	if len(name) > maxHandle {
		return bad("ophandle= is too long")
	}
	retain, given, err := retainFor(r)
	if err != nil {
		return err
	}
	op := &operation{origin: indexOf(root), form: form, stats: dirnode.NewStats()}
	if err := s.operations.add(name, op, walk); err != nil {
		return err
	}
	if given {
		s.operations.retain(name, op, retain)
	}
	if arg(r, "when_done") != "" {
		return s.done(w, r, "")
	}
	to := "/operations/" + url.PathEscape(name)
	if out := arg(r, "output"); out != "" {
		to += "?output=" + url.QueryEscape(out)
	}
	http.Redirect(w, r, to, http.StatusFound)
	return nil
}

// retainFor reads retain-for=, in seconds.
func retainFor(r *http.Request) (d time.Duration, given bool, err error) {
	text := arg(r, "retain-for")
	if text == "" {
		return 0, false, nil
	}
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return 0, false, bad("retain-for= must be a number of seconds")
	}
	return time.Duration(n) * time.Second, true, nil
}

// add begins an operation. Another one of the same handle goes on without it.
func (t *operations) add(name string, op *operation, walk func(context.Context, func(found) error) error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running >= maxRunning {
		return &webError{http.StatusServiceUnavailable, "Too many operations are running: wait for one, or cancel it"}
	}
	if old := t.handles[name]; old != nil {
		t.release(old)
	}
	if len(t.handles) >= maxHandles {
		// Not all of them can be running.
		var oldest *handle
		for _, h := range t.handles {
			if (oldest == nil || h.added.Before(oldest.added)) && h.done() {
				oldest = h
			}
		}
		t.release(oldest)
	}
	ctx, cancel := context.WithCancel(context.Background())
	op.cancel = cancel
	h := &handle{operation: op, name: name, added: time.Now()}
	t.handles[name] = h
	t.running++
	t.background(func(node context.Context) {
		defer context.AfterFunc(node, cancel)()
		defer cancel()
		err := walk(ctx, func(f found) error { return t.keep(op, f) })
		t.complete(h, err)
	})
	return nil
}

func (o *operation) done() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.finished
}

var errKept = errors.New("the results of all operations take too much memory: release some, or use t=stream-manifest and t=stream-deep-check, which keep none")

// keep adds what was found to the results.
func (t *operations) keep(op *operation, f found) error {
	cost := op.form.cost(f)
	t.mu.Lock()
	defer t.mu.Unlock()
	op.mu.Lock()
	defer op.mu.Unlock()
	if op.released {
		return nil
	}
	if t.kept+cost > maxKept {
		return errKept
	}
	op.stats.Add(f.Step)
	if cost > 0 {
		t.kept += cost
		op.kept += cost
		op.list = append(op.list, f)
	}
	return nil
}

// complete ends an operation.
func (t *operations) complete(h *handle, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.running--
	h.mu.Lock()
	h.finished, h.failed = true, err
	h.mu.Unlock()
	if t.handles[h.name] == h && h.timer == nil {
		t.expire(h, max(uncollectedLifetime, time.Since(h.added)))
	}
}

// retain has a handle expire after a time.
func (t *operations) retain(name string, op *operation, d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if h := t.handles[name]; h != nil && h.operation == op {
		t.expire(h, d)
	}
}

// expire is retain with the lock held.
func (t *operations) expire(h *handle, d time.Duration) {
	if h.timer != nil {
		h.timer.Stop()
	}
	h.timer = time.AfterFunc(d, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.release(h)
	})
}

// release forgets a handle, with the lock held. It may be done twice.
func (t *operations) release(h *handle) {
	if h.timer != nil {
		h.timer.Stop()
	}
	if t.handles[h.name] == h {
		delete(t.handles, h.name)
	}
	if _, checks := h.form.(deepCheck); !checks {
		h.cancel() // a check goes on: it may renew leases, and repair
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	t.kept -= h.kept
	h.released, h.kept, h.list = true, 0, nil
}

// operation handles /operations/HANDLE and what is below it.
func (s *server) operation(w http.ResponseWriter, r *http.Request, rest string) error {
	escaped, rest, _ := strings.Cut(rest, "/")
	name, err := url.PathUnescape(escaped)
	if err != nil {
		return bad("the path is not well escaped")
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost:
	default:
		return &webError{http.StatusMethodNotAllowed, r.Method + " is not known here"}
	}
	if r.Method == http.MethodPost {
		if err := parseForm(r); err != nil {
			return err
		}
		if r.MultipartForm != nil {
			defer r.MultipartForm.RemoveAll()
		}
	}
	retain, given, err := retainFor(r)
	if err != nil {
		return err
	}
	release, err := boolean(arg(r, "release-after-complete"), false)
	if err != nil {
		return err
	}
	t := s.operations
	t.mu.Lock()
	h := t.handles[name]
	t.mu.Unlock()
	if h == nil {
		return &webError{http.StatusNotFound, fmt.Sprintf("unknown/expired handle '%s'", name)}
	}
	v, failed := h.view()
	switch {
	case arg(r, "t") == "cancel" && r.Method == http.MethodPost:
		h.cancel()
		release = true
	default:
		if given {
			t.retain(name, h.operation, retain)
		}
		if release = release && v.finished; v.finished && !given {
			t.retain(name, h.operation, collectedLifetime)
		}
	}
	if release {
		t.mu.Lock()
		t.release(h)
		t.mu.Unlock()
	}
	if failed != nil {
		return failed
	}
	return h.form.answer(s, w, r, v, strings.TrimSuffix(rest, "/"))
}

// operationLayout is the page of an operation.
const operationLayout = `
{{define "operation"}}{{template "head" .Title}}
{{with .Running}}<p>Operation still running: <a href="{{.}}?output=html">Reload</a></p><form action="{{.}}?t=cancel" method=post enctype="multipart/form-data"><input type=submit value=Cancel></form>{{end}}
{{with .Text}}<pre>{{.}}</pre>{{end}}
{{if .Rows}}<table><tr><th>Path<th>cap{{range .Rows}}
<tr><td>{{.Path}}<td>{{with .Link}}<a rel=noreferrer href="{{.}}">{{end}}{{.Cap}}{{if .Link}}</a>{{end}}{{end}}</table>{{end}}
{{template "foot"}}{{end}}
`

// operationPage is what it shows.
type operationPage struct {
	Title, Running, Text string
	Rows                 iter.Seq[manifestRow]
}

type manifestRow struct{ Path, Cap, Link string }

// send answers with the page, which is loaded again while the operation is running.
func (p operationPage) send(s *server, w http.ResponseWriter, r *http.Request, v view) error {
	if !v.finished {
		p.Running = strings.TrimSuffix(r.URL.EscapedPath(), "/")
		w.Header().Set("Refresh", "60")
	}
	return s.page(w, http.StatusOK, "operation", p)
}

// nothingBelow refuses a path below a handle that has nothing there.
func nothingBelow(rest string) error {
	if rest != "" {
		return &webError{http.StatusNotFound, "No such resource: an operation's results have nothing below them but what was checked"}
	}
	return nil
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// manifest lists everything (Tahoe's ManifestResults).
type manifest struct{}

func (manifest) cost(f found) int {
	return 300 + 16*len(f.Path) + len(f.Entry.Name) // the names above it are shared
}

func (manifest) answer(s *server, w http.ResponseWriter, r *http.Request, v view, rest string) error {
	form, err := output(r, "HTML", "TEXT", "JSON")
	if err == nil {
		err = nothingBelow(rest)
	}
	if err != nil {
		return err
	}
	if form == "JSON" {
		return manifestJSON(w, v)
	}
	rows := func(yield func(manifestRow) bool) {
		for _, f := range v.list {
			row, c := manifestRow{Path: strings.Join(f.Path, "/")}, f.Entry.Cap()
			if text := textOf(c); text != nil {
				row.Cap = *text
			}
			switch f.Class {
			case dirnode.FileClass:
				row.Link = raw(c, f.Entry.Name)
			case dirnode.DirectoryClass:
				row.Link = here(c) + "/"
			}
			if !yield(row) {
				return
			}
		}
	}
	if form == "HTML" {
		return operationPage{Title: "Manifest of SI=" + abbreviated(v.origin), Rows: rows}.send(s, w, r, v)
	}
	w.Header().Set("Content-Type", "text/plain")
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, "finished: %s\n", yes(v.finished))
	for row := range rows {
		fmt.Fprintf(b, "%s %s\n", row.Path, row.Cap)
	}
	return b.Flush()
}

// abbreviated is a storage index as Tahoe's pages show it.
func abbreviated(index string) string {
	if index == "" {
		return "<LIT>"
	}
	return index[:6]
}

// manifestJSON writes the lists piece by piece: they can be long.
func manifestJSON(w http.ResponseWriter, v view) error {
	if !v.finished {
		return asJSON(w, "text/plain", map[string]any{"stats": v.stats, "finished": false, "origin": v.origin})
	}
	w.Header().Set("Content-Type", "text/plain")
	b := bufio.NewWriter(w)
	stats, err := json.Marshal(v.stats)
	if err != nil {
		return err
	}
	fmt.Fprintf(b, "{\n \"stats\": %s,\n \"finished\": true,\n \"origin\": %q", stats, v.origin)
	writeList := func(name string, items iter.Seq[any]) {
		fmt.Fprintf(b, ",\n %q: [", name)
		separator := "\n  "
		for item := range items {
			if text, fail := json.Marshal(item); fail == nil {
				b.WriteString(separator)
				b.Write(text)
			} else {
				err = fail
			}
			separator = ",\n  "
		}
		b.WriteString("\n ]")
	}
	writeList("manifest", func(yield func(any) bool) {
		for _, f := range v.list {
			if !yield([]any{f.Path, textOf(f.Entry.Cap())}) {
				return
			}
		}
	})
	writeList("verifycaps", func(yield func(any) bool) {
		for _, f := range v.list {
			if c := caps.Verifier(f.Entry.Cap()); c != nil && !yield(c.Text()) {
				return
			}
		}
	})
	writeList("storage-index", func(yield func(any) bool) {
		seen := map[string]bool{} // a file may be met as a directory, too
		for _, f := range v.list {
			if index := indexOf(f.Entry.Cap()); index != "" && !seen[index] {
				seen[index] = true
				if !yield(index) {
					return
				}
			}
		}
	})
	b.WriteString("\n}")
	return errors.Join(err, b.Flush())
}

// deepSize tells one number (Tahoe's DeepSizeResults).
type deepSize struct{}

func (deepSize) cost(found) int { return 0 }

func (deepSize) answer(_ *server, w http.ResponseWriter, r *http.Request, v view, rest string) error {
	form, err := output(r, "HTML", "TEXT", "JSON")
	if err == nil {
		err = nothingBelow(rest)
	}
	if err != nil {
		return err
	}
	if form == "JSON" {
		return asJSON(w, "text/plain", map[string]any{"finished": v.finished, "size": v.stats})
	}
	text := "finished: " + yes(v.finished) + "\n"
	if v.finished {
		text += fmt.Sprintf("size: %d\n", v.stats.Size())
	}
	plain(w, http.StatusOK, text)
	return nil
}

// deepStats tells the figures, as JSON whatever output= says (Tahoe's DeepStatsResults).
type deepStats struct{}

func (deepStats) cost(found) int { return 0 }

func (deepStats) answer(_ *server, w http.ResponseWriter, _ *http.Request, v view, rest string) error {
	if err := nothingBelow(rest); err != nil {
		return err
	}
	return asJSON(w, "text/plain", struct {
		dirnode.Stats
		Finished bool `json:"finished"`
	}{v.stats, v.finished})
}

// deepCheck tells of the checks (Tahoe's DeepCheckResults and
// DeepCheckAndRepairResults).
type deepCheck struct{ repair bool }

func (deepCheck) cost(f found) int {
	n := 0
	if f.health != nil {
		n += f.health.cost()
	}
	if r := f.repaired; r != nil {
		if n += r.Before.cost(); r.After != r.Before {
			n += r.After.cost()
		}
	}
	if n == 0 {
		return 0
	}
	return n + 300 + 16*len(f.Path) + len(f.Entry.Name)
}

// cost is how many bytes it takes, about.
func (h *Health) cost() int {
	n := 500 + 100*(len(h.Corrupt)+len(h.Incompatible)+len(h.Responding))
	for share, servers := range h.Sharemap {
		n += 100 + len(share) + 30*len(servers)
	}
	for _, text := range slices.Concat(h.Troubles, h.NoLease) {
		n += 16 + len(text)
	}
	return n
}

// counts are the figures of a deep check, before and after repairs.
type counts struct {
	objects, attempted, successful int
	before, after                  sums
}

type sums struct {
	healthy, unhealthy, unrecoverable int
	corrupt                           [][3]any
}

func (s *sums) add(h *Health) {
	if h.Healthy {
		s.healthy++
	} else {
		s.unhealthy++
	}
	if !h.Recoverable {
		s.unrecoverable++
	}
	s.corrupt = append(s.corrupt, located(h.Index, h.Corrupt)...)
}

// before is how f was before a repair.
func (f *found) before() *Health {
	if f.repaired != nil {
		return f.repaired.Before
	}
	return f.health
}

func count(list []found) (c counts) {
	c.before.corrupt, c.after.corrupt = [][3]any{}, [][3]any{}
	for _, f := range list {
		c.objects++
		c.before.add(f.before())
		if r := f.repaired; r != nil {
			c.after.add(r.After)
			if r.Attempted {
				c.attempted++
			}
			if r.Successful {
				c.successful++
			}
		}
	}
	return c
}

func (d deepCheck) answer(s *server, w http.ResponseWriter, r *http.Request, v view, rest string) error {
	form, err := output(r, "HTML", "JSON")
	if err != nil {
		return err
	}
	if rest != "" {
		// The last one counts: by Tahoe's table, too.
		for _, f := range slices.Backward(v.list) {
			if f.before().Index.Text() == rest {
				return s.answerCheck(w, form, f.health, f.repaired)
			}
		}
		return &webError{http.StatusNotFound, "No detailed results for SI " + rest}
	}
	if form == "JSON" {
		return asJSON(w, "text/plain", d.json(v))
	}
	return operationPage{Title: "Deep-Check Results", Text: d.page(v)}.send(s, w, r, v)
}

func (d deepCheck) json(v view) map[string]any {
	c := count(v.list)
	sick := [][2]any{}
	for _, f := range v.list {
		if h := f.before(); !h.Healthy {
			sick = append(sick, [2]any{f.Path, healthJSON(h)})
		}
	}
	m := map[string]any{
		"finished":              v.finished,
		"root-storage-index":    rootIndex(v.origin),
		"count-objects-checked": c.objects,
		"list-corrupt-shares":   c.before.corrupt,
		"list-unhealthy-files":  sick,
		"stats":                 v.stats,
	}
	if !d.repair {
		m["count-objects-healthy"], m["count-objects-unhealthy"] = c.before.healthy, c.before.unhealthy
		m["count-corrupt-shares"] = len(c.before.corrupt)
		return m
	}
	for when, s := range map[string]sums{"pre": c.before, "post": c.after} {
		m["count-objects-healthy-"+when+"-repair"] = s.healthy
		m["count-objects-unhealthy-"+when+"-repair"] = s.unhealthy
		// Tahoe says for "post" what it says for "pre".
		m["count-corrupt-shares-"+when+"-repair"] = len(s.corrupt)
	}
	m["count-repairs-attempted"], m["count-repairs-successful"] = c.attempted, c.successful
	m["count-repairs-unsuccessful"] = c.attempted - c.successful
	m["list-remaining-corrupt-shares"] = c.after.corrupt
	return m
}

func rootIndex(origin string) string {
	if origin == "" {
		return "<none>"
	}
	return origin
}

func (d deepCheck) page(v view) string {
	c := count(v.list)
	var b strings.Builder
	fmt.Fprintf(&b, "Deep-Check Results for root SI=%s\n\nObjects Checked: %d\n", rootIndex(v.origin), c.objects)
	tell := func(when string, s sums) {
		fmt.Fprintf(&b, "Objects Healthy%s: %d\nObjects Unhealthy%s: %d\nObjects Unrecoverable%s: %d\nCorrupt Shares%s: %d\n",
			when, s.healthy, when, s.unhealthy, when, s.unrecoverable, when, len(s.corrupt))
	}
	if d.repair {
		tell(" (before repair)", c.before)
		fmt.Fprintf(&b, "Repairs Attempted: %d\nRepairs Successful: %d\nRepairs Unsuccessful: %d\n", c.attempted, c.successful, c.attempted-c.successful)
		tell(" (after repair)", c.after)
	} else {
		tell("", c.before)
	}
	for _, at := range c.before.corrupt {
		fmt.Fprintf(&b, "Corrupt share: sh#%v of SI %v on %v\n", at[2], at[1], at[0])
	}
	b.WriteString("\n")
	for _, f := range v.list {
		path := strings.Join(f.Path, "/")
		if path == "" {
			path = "<root>"
		}
		h := f.before()
		fmt.Fprintf(&b, "%s: %s : %s [SI: %s]\n", path, h.word(), h.Summary, h.Index.Text())
		if r := f.repaired; r != nil && r.Attempted {
			if r.Failure != nil {
				fmt.Fprintf(&b, "  Repair unsuccessful: %v\n", r.Failure)
			} else {
				fmt.Fprintf(&b, "  Repair successful: %s\n", r.After.Summary)
			}
		}
	}
	return b.String()
}
