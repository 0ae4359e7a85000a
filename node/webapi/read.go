package webapi

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"warren/node/caps"
	"warren/node/dirnode"
	"warren/node/immutable"
	"warren/node/mutable"
)

// plain answers with text.
func plain(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain;charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(code)
	fmt.Fprint(w, text)
}

func asJSON(w http.ResponseWriter, contentType string, v any) error {
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(b)+1))
	w.Write(append(b, '\n'))
	return nil
}

// quote shows a name in an error.
func quote(name string) string {
	if !utf8.ValidString(name) {
		return strconv.QuoteToASCII(name)
	}
	return "'" + name + "'"
}

var errExists = &webError{http.StatusConflict, "There was already a child by that name, and you asked me to not replace it."}

// fail answers an error with Tahoe's status and words. It answers always, also
// when the request was given up: an empty answer is a 200, and whoever still
// listens, as this node stops, would take it for success.
func fail(w http.ResponseWriter, err error) {
	code, text := explain(err)
	clearFile(w)
	plain(w, code, text)
}

// clearFile takes back what was said of a file that cannot be sent.
func clearFile(w http.ResponseWriter) {
	for _, name := range []string{"ETag", "Content-Length", "Content-Encoding", "Accept-Ranges", "Content-Disposition"} {
		w.Header().Del(name)
	}
}

// explain gives an error Tahoe's status and words.
func explain(err error) (code int, text string) {
	var we *webError
	var short *immutable.NotEnoughSharesError
	var entry *dirnode.EntryError
	var prohibited *ProhibitedError
	code, text = http.StatusInternalServerError, err.Error()
	switch {
	case errors.As(err, &we):
		code, text = we.code, we.text
	case errors.Is(err, context.Canceled):
		code, text = http.StatusServiceUnavailable, "The node is stopping; what was asked for was given up: "+text
	case errors.As(err, &prohibited):
		code, text = http.StatusForbidden, prohibited.Error()
	case errors.Is(err, dirnode.ErrExists):
		code, text = errExists.code, errExists.text
	case errors.Is(err, dirnode.ErrNoEntry):
		code, text = http.StatusNotFound, "No such child"
	case errors.As(err, &entry) && errors.Is(err, dirnode.ErrNotImmutable):
		code = http.StatusBadRequest
		text = fmt.Sprintf("MustBeDeepImmutableError: a cap passed to this operation for the child named %s, needed to be immutable but was not. Either the cap is being added to an immutable directory, or it was originally retrieved from an immutable directory as an unknown cap.", quote(entry.Name))
	case errors.As(err, &entry) && errors.Is(err, dirnode.ErrUnknownWrite):
		code, text = http.StatusBadRequest, unknownWrite(entry.Name)
	case errors.As(err, &short) && short.Found == 0:
		code = http.StatusGone
		text = "NoSharesError: no shares could be found. Zero shares usually indicates a corrupt URI, or that no servers were connected, but it might also indicate severe corruption. You should perform a filecheck on this object to learn more.\n\nThe full error message is:\n" + err.Error()
	case errors.As(err, &short):
		code = http.StatusGone
		text = "NotEnoughSharesError: This indicates that some servers were unavailable, or that shares have been lost to server departure, hard drive failure, or disk corruption. You should perform a filecheck on this object to learn more.\n\nThe full error message is:\n" + err.Error()
	case errors.Is(err, mutable.ErrNotFound), errors.Is(err, mutable.ErrNotEnoughShares):
		code = http.StatusGone
		text = "UnrecoverableFileError: the directory (or mutable file) could not be retrieved, because there were insufficient good shares. This might indicate that no servers were connected, insufficient servers were connected, the URI was corrupt, or that shares have been lost due to server departure, hard drive failure, or disk corruption. You should perform a filecheck on this object to learn more."
		if !errors.Is(err, mutable.ErrNotFound) {
			text += "\n\nThe full error message is:\n" + err.Error()
		}
	case errors.Is(err, mutable.ErrRange), errors.Is(err, ErrReadOnly), errors.Is(err, dirnode.ErrName), errors.Is(err, dirnode.ErrMetadata), errors.Is(err, dirnode.ErrCap):
		code = http.StatusBadRequest
	case errors.Is(err, ErrUnsupported), errors.Is(err, dirnode.ErrUnsupported), errors.Is(err, errors.ErrUnsupported):
		code = http.StatusNotImplemented
	case errors.Is(err, mutable.ErrTooLarge):
		code, text = http.StatusRequestEntityTooLarge, "FileTooLargeError: "+text
	case errors.Is(err, immutable.ErrUnhappy), errors.Is(err, mutable.ErrUnhappy):
		// Tahoe answers 500 to both; so do we: frontends look at the text.
		text = "UploadUnhappinessError: " + text
	}
	return code, text
}

func unknownWrite(name string) string {
	return fmt.Sprintf("MustNotBeUnknownRWError: an operation to add a child named %s to a directory was given an unknown cap in a write slot.\nUsing a webapi server that supports a later version of Tahoe may help.", quote(name))
}

// welcome is the front page.
func (s *server) welcome(w http.ResponseWriter, r *http.Request) error {
	t, err := asked(r, "json")
	if err != nil {
		return err
	}
	page := s.Welcome()
	if t != "json" {
		parts := []part{{Title: "Introducers"}, {Title: "Servers"}, {"More", []item{
			{"Recent and active operations", "/status"}, {"Statistics", "/statistics"}, {"Storage", "/storage"}, {"Helper", "/helper_status"},
		}}}
		for _, i := range page.Introducers {
			parts[0].Items = append(parts[0].Items, item{Text: i})
		}
		for _, services := range []struct {
			title string
			count map[string]int
		}{{"Announcements here", page.Announcements}, {"Subscriptions here", page.Subscriptions}} {
			p := part{Title: services.title}
			for _, name := range slices.Sorted(maps.Keys(services.count)) {
				p.Items = append(p.Items, item{Text: fmt.Sprintf("%s: %d", name, services.count[name])})
			}
			if services.count != nil {
				parts = append(parts, p)
			}
		}
		for _, sv := range page.Servers {
			parts[1].Items = append(parts[1].Items, item{Text: sv.Nickname + ": " + sv.Summary})
		}
		return s.page(w, http.StatusOK, "list", listPage{cmp.Or(page.Nickname, "warren"), parts})
	}
	type serverJSON struct {
		ID        string   `json:"nodeid"`
		Status    string   `json:"connection_status"`
		Available *uint64  `json:"available_space"`
		Nickname  string   `json:"nickname"`
		Version   *string  `json:"version"`
		Last      *float64 `json:"last_received_data"`
	}
	servers := make([]serverJSON, 0, len(page.Servers))
	for _, sv := range page.Servers {
		j := serverJSON{ID: sv.ID, Status: sv.Summary, Available: sv.Available, Nickname: sv.Nickname}
		if sv.Connected {
			// Exactly Tahoe's word: its frontends compare it.
			j.Status = "connected"
		}
		if sv.Version != "" {
			j.Version = &sv.Version
		}
		if !sv.LastReceived.IsZero() {
			at := float64(sv.LastReceived.UnixNano()) / 1e9
			j.Last = &at
		}
		servers = append(servers, j)
	}
	intro := page.Introducers
	if intro == nil {
		intro = []string{}
	}
	all := map[string]any{"introducers": map[string]any{"statuses": intro}, "servers": servers}
	if page.Announcements != nil { // what Tahoe's introducer says, and all that it does
		all["announcement_summary"], all["subscription_summary"] = page.Announcements, page.Subscriptions
	}
	return asJSON(w, "application/json; charset=utf-8", all)
}

// get reads what a path names.
func (s *server) get(w http.ResponseWriter, r *http.Request, at place, t string) error {
	if at.cap == nil {
		return noChild(at.name)
	}
	if notModified(w, r, at.cap, t) {
		return nil
	}
	_, unknown := at.cap.(caps.Unknown)
	dir := caps.IsDir(at.cap)
	switch {
	case t == "uri" && !unknown:
		return respondCap(w, at.cap, nil, http.StatusOK)
	case t == "readonly-uri" && !unknown:
		return respondCap(w, caps.ReadOnly(at.cap), nil, http.StatusOK)
	case t == "info":
		return s.infoPage(w, r, at)
	case t == "json" && dir:
		return s.dirJSON(w, r, at.cap)
	case t == "json" && unknown:
		return asJSON(w, "text/plain", []any{"unknown", describeUnknown(at)})
	case t == "json":
		return s.fileJSON(w, r, at)
	case unknown:
		return bad("GET unknown URI type: can only do t=info and t=json, not t=%s.\nUsing a webapi server that supports a later version of Tahoe may help.", t)
	case dir && t == "":
		return s.dirPage(w, r, at.cap)
	case dir && t == "rename-form":
		return s.renamePage(w, r, at.cap)
	case dir:
		return bad("GET directory: bad t=%s", t)
	case t != "":
		return bad("GET file: bad t=%s", t)
	}
	return s.serve(w, r, at.cap, at.name)
}

// download handles /file/CAP/NAME: the name is for the browser only.
func (s *server) download(w http.ResponseWriter, r *http.Request, escaped []string) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return bad("/file can only be used with GET or HEAD")
	}
	c, names, err := parts(escaped)
	if err != nil {
		return err
	}
	if _, unknown := c.(caps.Unknown); unknown || caps.IsDir(c) {
		return bad("that is not a file-cap")
	}
	name := ""
	if len(names) > 0 {
		name = names[len(names)-1]
	}
	return s.get(w, r, place{cap: c, name: name}, verb(r))
}

// serve sends a file, or the range of it that was asked for.
func (s *server) serve(w http.ResponseWriter, r *http.Request, c caps.Cap, name string) error {
	if q := arg(r, "filename"); q != "" {
		name = q
	}
	save, err := boolean(arg(r, "save"), false)
	if err != nil {
		return err
	}
	h := w.Header()
	f, err := s.Grid.Open(r.Context(), c)
	if err != nil {
		return err
	}
	defer f.Close()
	size := f.Size()
	first, last, partial := int64(0), size-1, false
	if header := r.Header.Get("Range"); header != "" {
		a, b, ok, err := byteRange(header, size)
		if err != nil {
			h.Set("Content-Range", fmt.Sprintf("bytes */%d", size))
			return err
		}
		if ok {
			first, last, partial = a, b, true
		}
	}
	h.Set("Content-Type", contentType(name))
	// What is stored here was written by others: it must not run as a page of this node.
	h.Set("Content-Security-Policy", "sandbox; default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'")
	h.Set("Accept-Ranges", "bytes")
	h.Set("Content-Length", strconv.FormatInt(last-first+1, 10))
	if save {
		h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": name}))
	}
	if partial {
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, size))
	}
	out := &lateStart{w: w, code: http.StatusOK}
	if partial {
		out.code = http.StatusPartialContent
	}
	if r.Method == http.MethodHead || size == 0 {
		out.start()
		return nil
	}
	if err := f.WriteRange(r.Context(), out, first, last-first+1); err != nil {
		if !out.started {
			h.Del("Content-Range")
			return err
		}
		// The status is sent. Cutting the connection short of Content-Length is
		// the one way left to say that this is not the file.
		panic(http.ErrAbortHandler)
	}
	out.start()
	return nil
}

// notModified marks the answer to a question of what never changes with its storage
// index, and says that whoever asks has that answer already.
func notModified(w http.ResponseWriter, r *http.Request, c caps.Cap, t string) bool {
	si, ok := caps.Index(c)
	if !ok || caps.IsMutable(c) {
		return false
	}
	switch t {
	case "", "json", "uri", "readonly-uri":
	default:
		return false // pages that differ each time
	}
	etag := `"` + si.Text() + "-" + t + `"`
	if caps.IsDir(c) {
		etag = `"DIR:` + etag[1:]
	}
	w.Header().Set("ETag", etag)
	if !matches(r.Header.Get("If-None-Match"), etag) {
		return false
	}
	w.WriteHeader(http.StatusNotModified)
	return true
}

// matches says whether an If-None-Match header names the tag.
func matches(header, etag string) bool {
	for tag := range strings.SplitSeq(header, ",") {
		if tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/"); tag == etag || tag == "*" {
			return true
		}
	}
	return false
}

// lateStart sends the status with the first verified byte, so that a file that
// cannot be read is still answered with an error.
type lateStart struct {
	w       http.ResponseWriter
	code    int
	started bool
}

func (l *lateStart) start() {
	if !l.started {
		l.started = true
		l.w.WriteHeader(l.code)
	}
}

func (l *lateStart) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	l.start()
	return l.w.Write(p)
}

func contentType(name string) string {
	if t := mime.TypeByExtension(strings.ToLower(path.Ext(name))); t != "" {
		return t
	}
	return "text/plain"
}

// describe is an entry's PROPDICT: kind-dependent facts, caps and metadata.
func describe(e dirnode.Entry, metadata bool) map[string]any {
	m := map[string]any{}
	c := e.Cap()
	if e.Write != nil {
		m["rw_uri"] = e.Write.Text()
	}
	if e.Read != nil {
		m["ro_uri"] = e.Read.Text()
	}
	if metadata {
		m["metadata"] = e.Metadata
		if len(e.Metadata) == 0 {
			m["metadata"] = map[string]any{}
		}
	}
	if _, unknown := c.(caps.Unknown); unknown || c == nil {
		return m
	}
	if v := caps.Verifier(c); v != nil {
		m["verify_uri"] = v.Text()
	}
	m["mutable"] = caps.IsMutable(c)
	if caps.IsDir(c) {
		return m
	}
	switch v := c.(type) {
	case caps.LIT:
		m["format"], m["size"] = "CHK", len(v.Data)
	case caps.CHK:
		m["format"], m["size"] = "CHK", v.Size
	case caps.CHKVerify:
		m["format"], m["size"] = "CHK", v.Size
	case caps.MDMFWrite, caps.MDMFRead, caps.MDMFVerify:
		m["format"] = "MDMF"
	default:
		m["format"] = "SDMF"
	}
	return m
}

// describeUnknown is the PROPDICT of something of a kind that we do not know, when
// it was asked for itself. One without a directory and without a prefix that says
// what it gives is no more than its text.
func describeUnknown(at place) map[string]any {
	if at.parent == nil {
		m := map[string]any{}
		u, _ := at.cap.(caps.Unknown)
		if u.AllegedReadOnly() {
			m["ro_uri"] = u.Text()
		}
		if u.AllegedImmutable() {
			m["mutable"] = false
		}
		return m
	}
	m := describe(at.entry, true)
	u, _ := at.entry.Read.(caps.Unknown)
	if at.entry.Write != nil {
		m["mutable"] = true
	} else if !caps.IsMutable(at.parent) || u.AllegedImmutable() {
		m["mutable"] = false
	}
	return m
}

// kind is the word that stands before a PROPDICT.
func kind(c caps.Cap) string {
	if _, unknown := c.(caps.Unknown); unknown || c == nil {
		return "unknown"
	}
	if caps.IsDir(c) {
		return "dirnode"
	}
	return "filenode"
}

func (s *server) fileJSON(w http.ResponseWriter, r *http.Request, at place) error {
	m := describe(dirnode.NewEntry("", at.cap, at.entry.Metadata), at.parent != nil)
	if caps.IsMutable(at.cap) {
		f, err := s.Grid.Open(r.Context(), at.cap)
		if err != nil {
			return err
		}
		defer f.Close()
		m["size"] = f.Size()
	}
	return asJSON(w, "text/plain", []any{"filenode", m})
}

// failJSON answers an error as JSON, which Tahoe does for directories alone.
func failJSON(w http.ResponseWriter, err error) error {
	code, text := explain(err)
	clearFile(w)
	b, err := json.Marshal(map[string]string{"error": text})
	if err != nil {
		return err
	}
	plain(w, code, string(b))
	return nil
}

func (s *server) dirJSON(w http.ResponseWriter, r *http.Request, c caps.Cap) error {
	entries, err := s.Grid.List(r.Context(), c)
	if err != nil {
		return failJSON(w, err)
	}
	kids := make(map[string]any, len(entries))
	for _, e := range entries {
		kids[e.Name] = []any{kind(e.Cap()), describe(e, true)}
	}
	m := describe(dirnode.NewEntry("", c, nil), false)
	m["children"] = kids
	return asJSON(w, "text/plain", []any{"dirnode", m})
}

// children reads the list of children of mkdir-with-children and mkdir-immutable.
func children(body []byte) ([]dirnode.Entry, error) {
	if len(body) == 0 {
		return nil, nil
	}
	var list map[string][2]json.RawMessage
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, errNoChildren
	}
	entries := make([]dirnode.Entry, 0, len(list))
	// In the order of names: where two spell the same, the same one wins each time.
	for _, name := range slices.Sorted(maps.Keys(list)) {
		var props *struct {
			RW       *string         `json:"rw_uri"`
			RO       *string         `json:"ro_uri"`
			Metadata json.RawMessage `json:"metadata"`
		}
		if err := json.Unmarshal(list[name][1], &props); err != nil || props == nil {
			return nil, bad("the properties of child %s are not an object", quote(name))
		}
		e := dirnode.Entry{Name: dirnode.Normalize(name), Metadata: props.Metadata}
		if err := parseInto(&e.Write, props.RW, name); err != nil {
			return nil, err
		}
		if err := parseInto(&e.Read, props.RO, name); err != nil {
			return nil, err
		}
		switch {
		case e.Write != nil && caps.IsReadOnly(e.Write):
			e.Read, e.Write = e.Write, nil // Tahoe takes a readcap in either slot
		case e.Write != nil:
			if _, unknown := e.Write.(caps.Unknown); unknown && e.Read == nil {
				return nil, bad("%s", unknownWrite(name))
			} else if !unknown {
				e.Read = caps.ReadOnly(e.Write)
			}
		}
		entries = append(entries, e)
	}
	return entries, nil
}

func parseInto(c *caps.Cap, text *string, name string) error {
	if text == nil || *text == "" {
		return nil
	}
	p, err := caps.Parse(*text)
	if err != nil {
		return bad("the cap of child %s: %v", quote(name), err)
	}
	*c = p
	return nil
}
