package webapi

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"warren/node/storage"
	"warren/node/storage/expire"
)

// Operation is something that the node does, or did, with the grid.
type Operation struct {
	Type   string // upload, download, mapupdate, publish or retrieve
	Number int    // among those of its type
	// Index is the text of the storage index; "": it has none, or none yet.
	Index    string
	Size     int64 // bytes; below zero: not known
	Status   string
	Progress float64   // 0 to 1
	Started  time.Time // never zero
	Finished time.Time // zero: it is under way
}

// Historian is a Grid that keeps an account of what it does.
type Historian interface {
	// Operations are those under way and the latest finished ones, the newest first.
	Operations() []Operation
	// Counters count what was done, under the names of Tahoe's statistics.
	Counters() map[string]uint64
}

// operationNames are the words that /status/WORD-NUMBER has for types.
var operationNames = map[string]string{"upload": "up", "download": "down"}

func (o Operation) path() string {
	return fmt.Sprintf("/status/%s-%d", cmp.Or(operationNames[o.Type], o.Type), o.Number)
}

func (o Operation) facts() []item {
	index, size := cmp.Or(o.Index, "(None)"), "(unknown)"
	if o.Size >= 0 {
		size = strconv.FormatInt(o.Size, 10)
	}
	finished := "not yet"
	if !o.Finished.IsZero() {
		finished = o.Finished.Format(time.DateTime)
	}
	var list []item
	for _, f := range [][2]string{
		{"Started", o.Started.Format(time.DateTime)}, {"Finished", finished}, {"Storage Index", index}, {"Size", size},
		{"Progress", fmt.Sprintf("%.1f%%", 100*o.Progress)}, {"Status", o.Status},
	} {
		list = append(list, item{Text: f[0] + ": " + f[1]})
	}
	return list
}

// json is Tahoe's account of an operation. It tells less of servermaps: they have no
// size.
func (o Operation) json() map[string]any {
	m := map[string]any{"storage-index-string": nil, "total-size": nil, "status": o.Status, "type": o.Type}
	if o.Index != "" {
		m["storage-index-string"] = o.Index
	}
	if o.Size >= 0 {
		m["total-size"] = o.Size
	}
	switch o.Type {
	case "upload":
		// Hashing, encrypting and pushing go hand in hand here.
		for _, step := range []string{"hash", "ciphertext", "encode-push"} {
			m["progress-"+step] = o.Progress
		}
	case "download":
		m["progress"] = o.Progress
	case "mapupdate":
		m["total-size"], m["mode"] = "-NA-", "MODE_READ"
	}
	return m
}

// asked says whether somebody asks for a page in a way that there is: t= is empty,
// html, or one of formats.
func asked(r *http.Request, formats ...string) (t string, err error) {
	switch t = arg(r, "t"); {
	case t == "" || t == "html":
		return "", nil
	case slices.Contains(formats, t):
		return t, nil
	}
	return "", bad("Unknown t value: %s", quote(t))
}

// only lets GET and HEAD through, and answers errors.
func (s *server) only(h func(w http.ResponseWriter, r *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var err error
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			err = h(w, r)
		} else {
			err = notAllowed(w, r, "GET, HEAD")
		}
		if err != nil {
			s.answer(w, r, err)
		}
	}
}

// incident is /report_incident: somebody says that something went wrong.
func (s *server) incident(w http.ResponseWriter, r *http.Request) {
	err := func() error {
		if r.Method != http.MethodPost {
			return bad("/report_incident can only be used with POST")
		}
		r.Body = http.MaxBytesReader(nil, r.Body, 1<<20)
		if err := parseForm(r); err != nil {
			return err
		}
		if r.MultipartForm != nil {
			defer r.MultipartForm.RemoveAll()
		}
		return s.Incident(arg(r, "details"))
	}()
	if err != nil {
		s.answer(w, r, err)
		return
	}
	plain(w, http.StatusOK, "An incident report has been saved to logs/incidents/ in the node directory.")
}

// status is /status: what the node does and did with the grid, and /status/up-0 and
// its like, of one operation.
func (s *server) status(w http.ResponseWriter, r *http.Request) error {
	var all []Operation
	if h, ok := s.Grid.(Historian); ok {
		all = h.Operations()
	}
	if name := strings.Trim(strings.TrimPrefix(r.URL.Path, "/status"), "/"); name != "" {
		word, number, ok := strings.Cut(name, "-")
		if !ok {
			return bad("no '-' in %s", quote(name))
		}
		if _, err := strconv.ParseUint(number, 10, 31); err != nil {
			return bad("no number in %s", quote(name))
		}
		i := slices.IndexFunc(all, func(o Operation) bool { return o.path() == "/status/"+word+"-"+number })
		if i < 0 {
			return &webError{http.StatusNotFound, "No such operation, or it is long over"}
		}
		return s.page(w, http.StatusOK, "list", listPage{"Status of " + name, []part{{all[i].Type, all[i].facts()}}})
	}
	t, err := asked(r, "json")
	if err != nil {
		return err
	}
	active, recent := []any{}, []any{}
	parts := []part{{Title: "Active Operations"}, {Title: "Recent Operations"}}
	for _, o := range all {
		line := item{fmt.Sprintf("%s of %s: %s, %.1f%%", o.Type, cmp.Or(o.Index, "(None)"), o.Status, 100*o.Progress), o.path()}
		if o.Finished.IsZero() {
			active, parts[0].Items = append(active, o.json()), append(parts[0].Items, line)
		} else {
			recent, parts[1].Items = append(recent, o.json()), append(parts[1].Items, line)
		}
	}
	if t == "json" {
		return asJSON(w, "application/json", map[string]any{"active": active, "recent": recent})
	}
	return s.page(w, http.StatusOK, "list", listPage{"Recent and Active Operations", parts})
}

// helperStatus is /helper_status. There is no helper.
func (s *server) helperStatus(w http.ResponseWriter, r *http.Request) error {
	t, err := asked(r, "json")
	if err != nil {
		return err
	}
	if t == "json" {
		return asJSON(w, "text/plain", struct{}{})
	}
	return s.page(w, http.StatusOK, "list", listPage{Title: "No helper is running"})
}

// static serves the operator's own pages. Links that lead out of their directory are
// not followed.
func (s *server) static(w http.ResponseWriter, r *http.Request) error {
	root, err := os.OpenRoot(s.Static)
	if err != nil {
		return &webError{http.StatusNotFound, "There are no pages in the directory that web.static names"}
	}
	defer root.Close()
	http.StripPrefix("/static/", http.FileServerFS(root.FS())).ServeHTTP(w, r)
	return nil
}

// Storage is how the storage stands that this node offers others.
type Storage struct {
	Nickname, NodeID string
	Statistics       storage.Statistics
	Expire           expire.Settings
	Checker          expire.State
}

// storage is /storage: the storage server's page, and its JSON as far as this
// server counts what Tahoe's does.
func (s *server) storage(w http.ResponseWriter, r *http.Request) error {
	t, err := asked(r, "json")
	if err != nil {
		return err
	}
	at, ok := s.Storage()
	if !ok {
		if t == "json" { // Tahoe falls over here
			return &webError{http.StatusNotFound, "No Storage Server Running"}
		}
		return s.page(w, http.StatusOK, "list", listPage{Title: "No Storage Server Running"})
	}
	last, counted := at.Checker.Last()
	if t == "json" {
		return asJSON(w, "text/plain", storageJSON(at))
	}
	var space []item
	for _, name := range slices.Sorted(maps.Keys(at.Statistics.Stats)) {
		short, ok := strings.CutPrefix(name, "storage_server.")
		if v := at.Statistics.Stats[name]; ok && v != nil && !strings.HasPrefix(short, "latencies.") {
			space = append(space, item{Text: short + ": " + strconv.FormatFloat(*v, 'f', -1, 64)})
		}
	}
	buckets := "Not computed yet"
	if counted {
		buckets = strconv.FormatUint(last.Buckets, 10)
	}
	server := []item{{Text: "Server Nickname: " + at.Nickname}, {Text: "Server Nodeid: " + at.NodeID}, {Text: "Total buckets: " + buckets}}
	leases := []item{{Text: "Expiration Disabled: scan-only mode, no leases will be removed"}}
	if at.Expire.Enabled {
		leases[0].Text = "Expiration Enabled: expired leases will be removed"
	}
	for _, round := range []struct {
		name string
		*expire.Results
	}{{"Current round", at.Checker.Current}, {"Last complete round", &last}} {
		if round.Results == nil || round.Started.IsZero() {
			continue
		}
		removed := removedOf(*round.Results)
		leases = append(leases, item{Text: fmt.Sprintf("%s: %d shares in %d buckets seen, %d shares removed", round.name, round.Total().Shares, round.Buckets, removed.Shares)})
	}
	return s.page(w, http.StatusOK, "list", listPage{"Storage Server Status", []part{{"Space", space}, {"Server", server}, {"Lease Expiration Crawler", leases}}})
}

func removedOf(r expire.Results) (sum expire.Tally) {
	for _, t := range r.Removed {
		sum = sum.Plus(t)
	}
	return sum
}

func storageJSON(at Storage) map[string]any {
	counter := map[string]any{"version": 1, "last-complete-bucket-count": nil}
	if last, ok := at.Checker.Last(); ok {
		counter["last-complete-bucket-count"] = last.Buckets
	}
	history := map[string]any{}
	for i, round := range at.Checker.History {
		history[strconv.Itoa(i)] = roundJSON(round)
	}
	checker := map[string]any{"version": 1, "history": history}
	if at.Checker.Current != nil {
		checker["cycle-to-date"] = roundJSON(*at.Checker.Current)
	}
	return map[string]any{
		"stats": at.Statistics.Stats, "bucket-counter": counter, "lease-checker": checker,
		"lease-checker-progress": map[string]any{"cycle-in-progress": at.Checker.Current != nil},
	}
}

// roundJSON is a round of the lease checker as Tahoe tells of its.
func roundJSON(r expire.Results) map[string]any {
	space := map[string]uint64{"examined-buckets": r.Buckets}
	tally := func(name string, t expire.Tally) {
		shares, bytes, kind := name+"-shares", name+"-sharebytes", ""
		if before, after, ok := strings.Cut(name, "/"); ok {
			shares, bytes, kind = before+"-shares", before+"-sharebytes", "-"+after
		}
		space[shares+kind], space[bytes+kind] = t.Shares, t.Bytes
	}
	tally("examined", r.Total())
	tally("configured", r.Going())
	tally("actual", removedOf(r))
	for _, kind := range []storage.ShareKind{"mutable", "immutable"} {
		var seen, going expire.Tally
		for reason, kinds := range r.Shares {
			seen = seen.Plus(kinds[kind])
			if reason.Goes() {
				going = going.Plus(kinds[kind])
			}
		}
		tally("examined/"+string(kind), seen)
		tally("configured/"+string(kind), going)
		tally("actual/"+string(kind), r.Removed[kind])
	}
	corrupt := [][2]any{}
	for _, p := range r.Unreadable {
		corrupt = append(corrupt, [2]any{p.StorageIndex, p.Share})
	}
	m := map[string]any{
		"expiration-enabled": r.Settings.Enabled, "configured-expiration-mode": mode(r.Settings),
		"corrupt-shares": corrupt, "space-recovered": space,
	}
	if !r.Finished.IsZero() {
		m["cycle-start-finish-times"] = [2]float64{float64(r.Started.UnixNano()) / 1e9, float64(r.Finished.UnixNano()) / 1e9}
	}
	return m
}

// mode is how Tahoe says by what leases end: mode, duration, date, kinds of shares.
func mode(s expire.Settings) [4]any {
	kinds := []string{}
	if s.Mutable {
		kinds = append(kinds, "mutable")
	}
	if s.Immutable {
		kinds = append(kinds, "immutable")
	}
	out := [4]any{s.Mode, nil, nil, kinds}
	if s.Override > 0 {
		out[1] = s.Override
	}
	if s.Cutoff > 0 {
		out[2] = s.Cutoff
	}
	return out
}
