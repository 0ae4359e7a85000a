package webapi

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"warren/node/caps"
	"warren/node/dirnode"
)

// stocked is a shelf with a directory that has one entry of each kind.
func stocked(t testing.TB) *shelf {
	parse := func(s string) caps.Cap {
		c, err := caps.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	return &shelf{dirs: map[string][]dirnode.Entry{aDir.Text(): {
		dirnode.NewEntry("<script>alert(1)</script>", caps.LIT{Data: []byte("<script>")}, []byte(`{"tahoe": {"linkcrtime": 1e300, "linkmotime": -1}}`)),
		dirnode.NewEntry("dir", aDir, []byte(`{"tahoe": {"linkcrtime": 1.5, "linkmotime": 2}}`)),
		{Name: "future", Write: parse("x-future:write"), Read: parse("ro.x-future:read")},
		{Name: "gone"},
		dirnode.NewEntry("lit", caps.LIT{Data: []byte("0123456789")}, []byte(`[]`)),
		dirnode.NewEntry("lost", caps.CHK{Needed: 1, Total: 1, Size: 100}, nil),
		dirnode.NewEntry("sdmf", caps.SSKWrite{WriteKey: [16]byte{9}}, nil),
	}}}
}

// strict is a ResponseWriter that fails a test when a handler answers twice or with
// no status that there is.
type strict struct {
	testing.TB
	*httptest.ResponseRecorder
	answered bool
}

func (s *strict) WriteHeader(code int) {
	if s.answered || code < 200 || code > 599 {
		s.Errorf("answered with %d, answered before: %v", code, s.answered)
	}
	s.answered = true
	s.ResponseRecorder.WriteHeader(code)
}

func (s *strict) Write(p []byte) (int, error) {
	s.answered = true
	return s.ResponseRecorder.Write(p)
}

// ask sends one request to a handler; nil if no server would get such a request.
func ask(t testing.TB, h http.Handler, method, target, headers, body string) *http.Response {
	u, err := url.ParseRequestURI(target)
	if err != nil || u.Host != "" || u.Opaque != "" || !strings.HasPrefix(target, "/") || method == "" {
		return nil
	}
	header := http.Header{}
	for line := range strings.Lines(headers) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ": "); ok {
			header.Add(name, value)
		}
	}
	r := (&http.Request{
		Method: method, URL: u, RequestURI: target, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Host: "127.0.0.1:1", Header: header, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
	}).WithContext(t.Context())
	w := &strict{TB: t, ResponseRecorder: httptest.NewRecorder()}
	func() {
		defer func() {
			if v := recover(); v != nil {
				if err, ok := v.(error); !ok || !errors.Is(err, http.ErrAbortHandler) || !w.answered {
					panic(v)
				}
			}
		}()
		h.ServeHTTP(w, r)
	}()
	if !w.answered {
		t.Errorf("%s %s: no answer, which is a 200", method, target)
	}
	return w.Result()
}

const (
	form       = "Content-Type: application/x-www-form-urlencoded\n"
	multi      = "Content-Type: multipart/form-data; boundary=x\n"
	aFile      = "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"n\"\r\n\r\ncontents\r\n--x--\r\n"
	noList     = "the list of children is not the JSON that the webapi takes"
	needsADir  = "this needs a path below a directory"
	readOnly   = "that capability is read-only"
	noUpload   = "upload needs a form with a field \"file\""
	unlinkedOp = "/uri accepts only PUT, PUT?t=mkdir, POST?t=upload, and POST?t=mkdir"
)

// badRequests are requests that get nothing but the error beside them. {D} is a
// directory's writecap, {R} its readcap, {L} a literal file.
var badRequests = []struct {
	method, target, headers, body string
	code                          int
	text                          string // how the answer begins
}{
	{"GET", "/uri", "", "", 400, "GET /uri requires uri="},
	{"GET", "/uri?uri=nonsense", "", "", 400, "Invalid capability"},
	{"GET", "/uri?uri=%00", "", "", 400, "Invalid capability"},
	{"GET", "/uri/URI:CHK:x", "", "", 400, "that is not a valid file- or directory- cap: "},
	{"GET", "/uri/URI:SSK:%FF:%FF", "", "", 400, "that is not a valid file- or directory- cap: "},
	{"GET", "/uri/{D}//lit", "", "", 400, "The webapi does not allow empty pathname components, i.e. a double slash"},
	{"GET", "/uri/{D}/none", "", "", 404, "No such child: none"},
	{"GET", "/uri/{D}/none/deeper", "", "", 404, "No such child: none"},
	{"GET", "/uri/{D}/lit/deeper", "", "", 400, "Files have no children named 'deeper'"},
	{"GET", "/uri/{D}/future/deeper", "", "", 400, "Files have no children named 'deeper'"},
	{"GET", "/uri/{D}/%FF", "", "", 404, "No such child: "},
	{"GET", "/uri/{D}?t=nonsense", "", "", 400, "GET directory: bad t=nonsense"},
	{"GET", "/uri/{L}?t=nonsense", "", "", 400, "GET file: bad t=nonsense"},
	{"GET", "/uri/{D}/future?t=uri", "", "", 400, "GET unknown URI type: can only do t=info and t=json, not t=uri."},
	{"GET", "/uri/{D}/lit?save=perhaps", "", "", 400, "invalid boolean argument: 'perhaps'"},
	{"GET", "/uri/{D}/lit", "Range: bytes=10-12", "", 416, "First beyond end of file"},
	{"GET", "/uri/{D}/lost", "", "", 410, "NoSharesError: "},
	{"GET", "/file", "", "", 404, "/file must be followed by a file-cap and a name"},
	{"PUT", "/file/{L}/n", "", "x", 400, "/file can only be used with GET or HEAD"},
	{"GET", "/file/{D}/n", "", "", 400, "that is not a file-cap"},
	{"PUT", "/uri?t=nonsense", "", "", 400, unlinkedOp},
	{"PUT", "/uri?format=nonsense", "", "", 400, "Unknown format: nonsense, I know CHK, SDMF, MDMF"},
	{"PUT", "/uri?mutable=perhaps", "", "", 400, "invalid boolean argument: 'perhaps'"},
	{"PUT", "/uri?private-key=x", "", "", 400, "private-key= is for mutable files: say format=SDMF or format=MDMF"},
	{"PUT", "/uri?format=SDMF&private-key=x", "", "", 400, "private-key= must be an RSA key of 2048 bits"},
	{"PUT", "/uri?t=mkdir&format=CHK", "", "", 400, "format=CHK not accepted for PUT /uri?t=mkdir"},
	{"POST", "/uri?t=mkdir&format=CHK", "", "", 400, "format=CHK not currently accepted for POST /uri?t=mkdir"},
	{"POST", "/uri?t=mkdir", "", "{}", 400, "t=mkdir does not accept children=, try t=mkdir-with-children instead"},
	{"POST", "/uri?t=mkdir", form, "a=b", 400, "t=mkdir does not accept children=, try t=mkdir-with-children instead"},
	{"POST", "/uri?t=mkdir&redirect_to_result=perhaps", "", "", 400, "invalid boolean argument: 'perhaps'"},
	{"POST", "/uri?t=mkdir-immutable", multi, aFile, 400, noList},
	{"POST", "/uri?t=mkdir-with-children", "", "[", 400, noList},
	{"POST", "/uri?t=upload", "", "x", 400, noUpload},
	{"POST", "/uri?t=upload", multi, "--x--\r\n", 400, noUpload},
	{"POST", "/uri?t=upload", multi, "no form", 400, "the form cannot be read"},
	{"POST", "/uri?t=upload&when_done=//evil.example/", multi, aFile, 400, "when_done= must be a path of this node"},
	{"POST", "/uri?t=upload", form, "%zz", 400, "the form cannot be read"},
	{"POST", "/uri?t=nonsense", "", "", 400, unlinkedOp},
	{"PUT", "/uri/{D}", "", "x", 400, "PUT to a directory"},
	{"PUT", "/uri/{D}?t=uri", "", "{L}", 400, needsADir},
	{"PUT", "/uri/{L}", "", "x", 400, needsADir},
	{"PUT", "/uri/{R}/x", "", "x", 400, readOnly},
	{"PUT", "/uri/{D}/lit?replace=perhaps", "", "x", 400, "invalid replace= argument: 'perhaps'"},
	{"PUT", "/uri/{D}/lit?replace=false", "", "x", 409, "There was already a child by that name, and you asked me to not replace it."},
	{"PUT", "/uri/{D}/lit/x", "", "x", 409, "Cannot create directory 'x', because its parent is a file, not a directory"},
	{"PUT", "/uri/{D}/lit?offset=1", "", "x", 400, "PUT to a file: append operation invoked on an immutable cap"},
	{"PUT", "/uri/{D}/sdmf?offset=-1", "", "x", 400, "PUT to a mutable file: Invalid offset"},
	{"PUT", "/uri/{D}/sdmf?offset=99999999999999999999", "", "x", 400, "offset= must be a number"},
	{"PUT", "/uri/{D}/x?t=uri", "", "URI:CHK:", 400, "the body is not a capability: "},
	{"PUT", "/uri/{D}/x?t=nonsense", "", "", 400, "PUT to a file: bad t=nonsense"},
	{"PUT", "/uri/{D}/x", "Content-Range: bytes 0-1/2", "x", 501, "Content-Range in PUT not yet supported"},
	{"POST", "/uri/{D}", "", "", 400, "POST to a directory with bad t="},
	{"POST", "/uri/{L}?t=unlink&name=x", "", "", 400, "POST to file: bad t=unlink"},
	{"POST", "/uri/{D}?t=uri&name=x", "", "", 400, "set-uri requires a uri"},
	{"POST", "/uri/{D}?t=uri&uri={L}", "", "", 400, "set-uri requires a name"},
	{"POST", "/uri/{D}?t=rename&to_name=x", "", "", 400, "from_name= is required"},
	{"POST", "/uri/{D}?t=rename&from_name=lit", "", "", 400, "to_name= is required for rename"},
	{"POST", "/uri/{D}?t=rename&from_name=lit&to_name=x&to_dir={D}", "", "", 400, "to_dir= is not valid for rename"},
	{"POST", "/uri/{D}?t=relink&from_name=a/b", "", "", 400, "from_name= may not contain a slash"},
	{"POST", "/uri/{D}?t=relink&from_name=lit&to_dir={L}", "", "", 400, "to_dir is not a directory"},
	{"POST", "/uri/{D}?t=relink&from_name=lit&to_dir={D}/lit/x", "", "", 400, "to_dir is not a directory"},
	{"POST", "/uri/{D}?t=relink&from_name=lit&to_dir={D}/none", "", "", 404, "No such child: none"},
	{"POST", "/uri/{D}?t=relink&from_name=lit&to_dir={R}", "", "", 400, readOnly},
	{"POST", "/uri/{R}?t=rename&from_name=lit&to_name=x", "", "", 400, readOnly},
	{"POST", "/uri/{D}?t=set_children", "", "", 400, noList},
	{"POST", "/uri/{D}?t=set_children", "", `{"a": 1}`, 400, noList},
	{"POST", "/uri/{D}?t=set_children", "", `{"a": ["filenode", {"ro_uri": "URI:CHK:x"}]}`, 400, "the cap of child 'a': "},
	{"POST", "/uri/{D}?t=set_children", "", `{"a": ["filenode", {"rw_uri": "x-future"}]}`, 400, "MustNotBeUnknownRWError: "},
	{"POST", "/uri/{R}?t=set_children", "", `{}`, 400, readOnly},
	{"POST", "/uri/{D}?t=upload&name=a/b", multi, aFile, 400, "name= may not contain a slash"},
	{"POST", "/uri/{D}?t=upload&name=+", multi, aFile, 400, "upload requires a name"},
	{"POST", "/uri/{D}?t=upload&name=dir", multi, aFile, 409, "There was already a child by that name"},
	{"POST", "/uri/{D}/lit?t=mkdir", "", "", 400, "POST to file: bad t=mkdir"},
	{"DELETE", "/uri/{D}", "", "", 400, "DELETE needs a path below a directory"},
	{"DELETE", "/uri/{D}/none", "", "", 404, "No such child: none"},
	{"DELETE", "/uri", "", "", 405, "DELETE is not known here"},
	{"PATCH", "/uri/{L}", "", "", 405, "PATCH is not known here"},
	{"POST", "/status", "", "", 405, "POST is not known here"},
	{"GET", "/status/nonsense", "", "", 400, "no '-' in 'nonsense'"},
	{"GET", "/status/up--1", "", "", 400, "no number in 'up--1'"},
	{"GET", "/status/up-99", "", "", 404, "No such operation"},
	{"GET", "/status?t=xml", "", "", 400, "Unknown t value: 'xml'"},
	{"GET", "/?t=xml", "", "", 400, "Unknown t value: 'xml'"},
	{"GET", "/report_incident", "", "", 404, "There is no such page here"},
	{"GET", "/private/x", "", "", 401, "This needs the token"},
	{"GET", "/", "Origin: http://evil.example\n", "", 403, "Requests from other web pages"},
	{"POST", "/uri/{D}?t=rename&from_name=lit&to_name=x", "Origin: null\n", "", 403, "Requests from other web pages"},
	{"GET", "/status?t=json", "Origin: http://evil.example\n", "", 403, "Requests from other web pages"},
	{"GET", "/storage?t=json", "Origin: http://evil.example\n", "", 403, "Requests from other web pages"},
}

var fill = strings.NewReplacer("{D}", aDir.Text(), "{R}", aDir.Read().Text(), "{L}", caps.LIT{Data: []byte("x")}.Text())

// under is the handler that requests are tried on.
func under(t testing.TB, s *shelf) http.Handler {
	return New(Config{
		Grid: s, Token: func() string { return token }, Welcome: func() Welcome { return Welcome{Nickname: "<script>"} },
		Storage: func() (Storage, bool) { return Storage{Nickname: "<script>"}, true },
		Private: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "private") }),
	})
}

func TestBadRequests(t *testing.T) {
	for _, c := range badRequests {
		s := stocked(t)
		resp := ask(t, under(t, s), c.method, fill.Replace(c.target), c.headers, fill.Replace(c.body))
		if resp == nil {
			t.Fatalf("%s %s is no request", c.method, c.target)
		}
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != c.code || !strings.HasPrefix(string(b), c.text) || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") ||
			strings.Contains(string(b), aDir.Text()) {
			t.Errorf("%s %s: %d, %s, %q; want %d %q", c.method, c.target, resp.StatusCode, resp.Header.Get("Content-Type"), b, c.code, c.text)
		}
		if resp.StatusCode == http.StatusMethodNotAllowed && resp.Header.Get("Allow") == "" {
			t.Errorf("%s %s: not allowed, and no word of what is", c.method, c.target)
		}
		if len(s.edits) > 0 {
			t.Errorf("%s %s: changed a directory: %+v", c.method, c.target, s.edits)
		}
	}
}

// Every verb on every kind of capability is answered, and nothing is this node's fault.
func TestEveryKind(t *testing.T) {
	future, err := caps.Parse("x-future:write")
	if err != nil {
		t.Fatal(err)
	}
	mdmf := caps.MDMFWrite{WriteKey: [16]byte{3}}
	dirMDMF := caps.DirMDMFWrite{MDMFWrite: mdmf}
	chk := caps.CHK{Needed: 1, Total: 1, Size: 100}
	ssk := caps.SSKWrite{WriteKey: [16]byte{4}}
	kinds := []caps.Cap{
		caps.LIT{Data: []byte("x")}, chk, chk.Verify(), ssk, ssk.Read(), ssk.Verify(), mdmf, mdmf.Read(), mdmf.Verify(),
		aDir, aDir.Read(), aDir.Verify(), dirMDMF, dirMDMF.Read(), dirMDMF.Verify(), caps.DirCHK{CHK: chk}, caps.DirCHK{CHK: chk}.Verify(), caps.DirLIT{}, future,
	}
	asked := 0
	for _, c := range kinds {
		for _, method := range []string{"GET", "HEAD", "PUT", "POST", "DELETE", "PATCH"} {
			for _, verb := range []string{"", "json", "uri", "readonly-uri", "info", "rename-form", "mkdir", "mkdir-with-children", "mkdir-immutable", "upload", "unlink",
				"rename", "relink", "set_children", "check", "start-manifest", "stream-manifest", "start-deep-check", "stream-deep-check", "start-deep-size", "start-deep-stats", "nonsense"} {
				for _, path := range []string{"", "/", "/lit", "/none", "/none/deeper"} {
					for _, body := range []string{"", aFile} {
						headers := ""
						if body != "" {
							headers = multi
						}
						target := "/uri/" + url.PathEscape(c.Text()) + path + "?t=" + verb + "&name=n&from_name=lit&to_name=n&ophandle=h&uri=URI:LIT:me"
						resp := ask(t, under(t, stocked(t)), method, target, headers, body)
						if resp.StatusCode == http.StatusInternalServerError {
							b, err := io.ReadAll(resp.Body)
							t.Errorf("%s of %s%s, t=%s: %s %s %v", method, c.Kind(), path, verb, resp.Status, b, err)
						}
						asked++
					}
				}
			}
		}
	}
	if asked < 20_000 {
		t.Errorf("only %d requests", asked)
	}
}

// FuzzRequest sends any request: the handler does not panic, answers once and with a
// status that there is, sends nobody to another site, and shows no script of others'
// in a page of its own.
func FuzzRequest(f *testing.F) {
	for _, c := range badRequests {
		f.Add(c.method, fill.Replace(c.target), c.headers, fill.Replace(c.body))
	}
	for _, target := range []string{"/", "/status", "/storage", "/uri/{D}", "/uri/{D}?t=json", "/uri/{D}?t=info", "/uri/{D}/future?t=info", "/uri/{D}?t=rename-form&name=<script>", "/file/{L}/@@named=/x.html", "/uri/{D}/lit?filename=%0d%0a&save=true"} {
		f.Add("GET", strings.ReplaceAll(fill.Replace(target), "<", "%3C"), "Accept: text/html\n", "")
	}
	f.Add("POST", fill.Replace("/uri/{D}?t=relink&from_name=lit&to_dir={D}/dir"), form, "to_name=x&when_done=.")
	f.Add("POST", fill.Replace("/uri/{D}"), multi, aFile)
	f.Fuzz(func(t *testing.T, method, target, headers, body string) {
		resp := ask(t, under(t, stocked(t)), method, target, headers, body)
		if resp == nil {
			return
		}
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if to := resp.Header.Get("Location"); to != "" {
			path, _, _ := strings.Cut(to, "?") // behind it a backslash is one
			if u, err := url.Parse(to); err != nil || u.Host != "" || u.IsAbs() || strings.HasPrefix(to, "//") || strings.Contains(path, `\`) {
				t.Errorf("sent to %q", to)
			}
		}
		own := strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") && !strings.HasPrefix(resp.Header.Get("Content-Security-Policy"), "sandbox")
		if own && strings.Contains(strings.ToLower(string(b)), "<script") {
			t.Errorf("a script in a page of ours: %.200s", b)
		}
		for name, values := range resp.Header {
			if strings.ContainsAny(name+strings.Join(values, ""), "\r\n") {
				t.Errorf("a line break in the header %s: %q", name, values)
			}
		}
	})
}
