package webapi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"warren/node/caps"
	"warren/node/dirnode"
	"warren/node/immutable"
	"warren/node/mutable"
)

// shelf is a Grid in memory. Immutable files are LIT, whatever their size; there
// are no directories but those that a test puts in.
type shelf struct {
	mu    sync.Mutex // guards all below
	dirs  map[string][]dirnode.Entry
	edits []dirnode.Change
	made  int    // files and directories stored
	put   func() // runs before a file is stored
	// broken files fail after so many bytes.
	broken map[string]int64
}

func (s *shelf) store() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.made++
}

func (s *shelf) PutFile(ctx context.Context, r io.Reader, _ int64) (immutable.Result, error) {
	if s.put != nil {
		s.put()
	}
	b, err := io.ReadAll(r)
	if ctx.Err() != nil {
		return immutable.Result{}, ctx.Err()
	}
	s.store()
	return immutable.Result{Cap: caps.LIT{Data: b}, Size: uint64(len(b))}, err
}

func (s *shelf) PutMutable(context.Context, mutable.Kind, []byte) (caps.Cap, error) {
	s.store()
	return caps.SSKWrite{WriteKey: [16]byte{1}}, nil
}
func (s *shelf) Overwrite(context.Context, caps.Cap, []byte) error { return nil }

func (s *shelf) Update(context.Context, caps.Cap, uint64, []byte) error { return nil }

func (s *shelf) Open(_ context.Context, c caps.Cap) (File, error) {
	lit, ok := c.(caps.LIT)
	if !ok {
		return nil, &immutable.NotEnoughSharesError{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	after, broken := s.broken[string(lit.Data)]
	if !broken {
		after = int64(len(lit.Data))
	}
	return shelved{lit.Data, after}, nil
}

type shelved struct {
	data  []byte
	after int64
}

func (f shelved) Size() int64  { return int64(len(f.data)) }
func (f shelved) Close() error { return nil }
func (f shelved) WriteRange(_ context.Context, w io.Writer, offset, size int64) error {
	if _, err := w.Write(f.data[offset:min(offset+size, max(f.after, offset))]); err != nil {
		return err
	}
	if offset+size > f.after {
		return &immutable.NotEnoughSharesError{Found: 1}
	}
	return nil
}

func (s *shelf) List(_ context.Context, dir caps.Cap) ([]dirnode.Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dirs[dir.Text()], nil
}

func (s *shelf) Edit(_ context.Context, dir caps.Cap, changes []dirnode.Change) error {
	if caps.IsReadOnly(dir) {
		return ErrReadOnly
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.edits = append(s.edits, changes...)
	return nil
}

func (s *shelf) MakeDir(context.Context, mutable.Kind, []dirnode.Entry) (caps.Cap, error) {
	s.store()
	return aDir, nil
}
func (s *shelf) MakeImmutableDir(context.Context, []dirnode.Entry) (caps.Cap, error) {
	s.store()
	return caps.DirLIT{}, nil
}

var aDir = caps.DirWrite{SSKWrite: caps.SSKWrite{WriteKey: [16]byte{7}}}

const token = "the-token"

func serve(t *testing.T, s *shelf) *httptest.Server {
	t.Helper()
	available := uint64(10)
	h := httptest.NewServer(New(Config{
		Grid: s, Token: func() string { return token },
		Welcome: func() Welcome {
			return Welcome{Nickname: "<script>n", Introducers: []string{"Connected"}, Servers: []Server{{ID: "v0-x", Nickname: "<b>", Connected: true, Available: &available}}}
		},
		Private: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "private "+r.URL.Path) }),
	}))
	t.Cleanup(h.Close)
	return h
}

// send returns the status, the headers and the body.
func send(t *testing.T, h *httptest.Server, method, path, body string, headers ...string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequest(method, h.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			req.Host = headers[i+1]
		}
		req.Header.Set(headers[i], headers[i+1])
	}
	c := http.Client{Transport: h.Client().Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return resp.StatusCode, resp.Header, string(b) + " " + err.Error()
	}
	return resp.StatusCode, resp.Header, string(b)
}

// Only this machine's own pages and programs drive the node.
func TestForeignPagesAreRefused(t *testing.T) {
	h := serve(t, &shelf{})
	own := strings.TrimPrefix(h.URL, "http://")
	_, port, _ := strings.Cut(own, ":")
	for _, c := range []struct {
		host, origin string
		want         int
	}{
		{own, "", 200}, {"localhost:" + port, "", 200}, {"LOCALHOST", "", 200}, {"[::1]:" + port, "", 200}, {"127.9.9.9", "", 200},
		{"node.example:80", "", 403}, {own, h.URL, 200}, {"localhost:1", "http://localhost:1", 200},
		{"evil.example", "", 403}, {"evil.example:" + port, "", 403}, {"192.168.1.1:" + port, "", 403}, {"localhost.evil.example", "", 403},
		{"127.0.0.1.evil.example", "", 403}, {"0.0.0.0:" + port, "", 403}, {"[::ffff:1.2.3.4]", "", 403},
		{own, "null", 403}, {own, "http://evil.example", 403}, {own, "https://" + own, 403}, {own, "http://127.0.0.1:1", 403},
		{own, "http://" + own + ".evil.example", 403}, {own, "file://", 403}, {own, "http://localhost:" + port, 403},
	} {
		for _, method := range []string{"GET", "PUT", "POST"} {
			path := map[string]string{"GET": "/?t=json", "PUT": "/uri", "POST": "/uri?t=mkdir"}[method]
			headers := []string{"Host", c.host}
			if c.origin != "" {
				headers = append(headers, "Origin", c.origin)
			}
			if got, _, body := send(t, h, method, path, "", headers...); got != c.want {
				t.Errorf("%s, Host %s, Origin %q: %d (%.80s), want %d", method, c.host, c.origin, got, body, c.want)
			}
		}
	}
}

func TestPrivateNeedsTheToken(t *testing.T) {
	h := serve(t, &shelf{})
	for authorization, want := range map[string]int{
		"tahoe-lafs " + token: 200, "Tahoe-LAFS  " + token: 200, "": 401, "tahoe-lafs": 401, "tahoe-lafs ": 401,
		"tahoe-lafs other": 401, "Bearer " + token: 401, "tahoe-lafs " + token + "x": 401, token: 401,
	} {
		got, _, body := send(t, h, "GET", "/private/warren/v1/status", "", "Authorization", authorization)
		if got != want || want == 200 && body != "private /private/warren/v1/status" || want == 401 && strings.Contains(body, "private /") {
			t.Errorf("%q: %d %q, want %d", authorization, got, body, want)
		}
	}
}

// What breaks before the first byte is an error; what breaks later does not end
// like a whole file.
func TestBrokenFiles(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	s := &shelf{broken: map[string]int64{"early": 0, long: 1 << 19}}
	h := serve(t, s)
	if code, header, body := send(t, h, "GET", "/uri/"+caps.LIT{Data: []byte("early")}.Text(), ""); code != http.StatusGone ||
		!strings.HasPrefix(body, "NotEnoughSharesError: ") || header.Get("Content-Type") != "text/plain;charset=utf-8" {
		t.Errorf("%d %q", code, body)
	}
	// A cap of a megabyte is no cap: the file is reached through a directory.
	s.dirs = map[string][]dirnode.Entry{aDir.Text(): {dirnode.NewEntry("long", caps.LIT{Data: []byte(long)}, nil)}}
	code, _, body := send(t, h, "GET", "/uri/"+aDir.Text()+"/long", "")
	if code != http.StatusOK || !strings.Contains(body, "EOF") || len(body) > 1<<20 {
		t.Errorf("%d and %d bytes that end %.30q", code, len(body), body[max(0, len(body)-30):])
	}
	lost := caps.CHK{Needed: 1, Total: 1, Size: 5}.Text()
	if code, _, body := send(t, h, "GET", "/uri/"+lost, ""); code != http.StatusGone || !strings.HasPrefix(body, "NoSharesError: ") || strings.Contains(body, lost) {
		t.Errorf("%d %q", code, body)
	}
}

// A node that stops amid a request does not answer it with 200.
func TestStoppingIsNoSuccess(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	h := httptest.NewUnstartedServer(New(Config{Grid: &shelf{put: stop}}))
	h.Config.BaseContext = func(net.Listener) context.Context { return ctx }
	h.Start()
	t.Cleanup(h.Close)
	if code, _, body := send(t, h, "PUT", "/uri", "contents"); code != http.StatusServiceUnavailable || body == "" {
		t.Errorf("%d %q", code, body)
	}
}

// Verbs on what is not there are refused, whatever they are.
func TestNothingThere(t *testing.T) {
	h := serve(t, &shelf{})
	for _, verb := range []string{"t=uri&name=n&uri=URI:LIT:aa", "t=unlink&name=n", "t=delete&name=n", "t=nonsense", ""} {
		if code, _, body := send(t, h, "POST", "/uri/"+aDir.Text()+"/none?"+verb, ""); code != http.StatusNotFound || body != "No such child: none" {
			t.Errorf("%s: %d %q", verb, code, body)
		}
		if code, _, body := send(t, h, "POST", "/uri/URI:LIT:aa?"+verb, ""); code != http.StatusBadRequest {
			t.Errorf("%s of a file: %d %q", verb, code, body)
		}
	}
}

func TestChildrenRefused(t *testing.T) {
	for _, body := range []string{`{"a": ["filenode", null]}`, `{"a": ["filenode"]}`, `{"a": null}`, `{"a": []}`, `{"a": ["filenode", []]}`, `[]`, `x`,
		`{"a": ["filenode", {"ro_uri": "URI:CHK:x"}]}`, `{"a": ["filenode", {"ro_uri": 5}]}`} {
		var refused *webError
		if list, err := children([]byte(body)); !errors.As(err, &refused) || refused.code != http.StatusBadRequest {
			t.Errorf("%s: %d entries, %v", body, len(list), err)
		}
	}
}

// What cannot be linked is not stored first.
func TestReadOnlyStoresNothing(t *testing.T) {
	s := &shelf{}
	h := serve(t, s)
	dir := "/uri/" + aDir.Read().Text()
	for _, c := range [][2]string{
		{"PUT", dir + "/file"}, {"PUT", dir + "/file?format=SDMF"}, {"PUT", dir + "/a/b/c"}, {"PUT", dir + "/sub?t=mkdir"},
		{"POST", dir + "/sub?t=mkdir"}, {"POST", dir + "?t=mkdir&name=sub"}, {"POST", dir + "?t=mkdir-immutable&name=sub"},
		{"PUT", "/uri/URI:LIT:aa"}, {"PUT", "/uri/" + (caps.DirLIT{}).Text() + "/file"},
	} {
		if code, _, body := send(t, h, c[0], c[1], "contents"); code != http.StatusBadRequest {
			t.Errorf("%s %s: %d %q", c[0], c[1], code, body)
		}
	}
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	if _, err := w.CreateFormFile("file", "name"); err != nil {
		t.Fatal(err)
	}
	w.Close()
	for _, path := range []string{dir + "?t=upload", "/uri/URI:LIT:aa?t=upload"} {
		if code, _, body := send(t, h, "POST", path, b.String(), "Content-Type", w.FormDataContentType()); code != http.StatusBadRequest {
			t.Errorf("%s: %d %q", path, code, body)
		}
	}
	if s.made != 0 {
		t.Errorf("%d things were stored", s.made)
	}
}

// What others stored does not run as a page of this node, and the welcome page
// shows names as text.
func TestStoredPagesDoNotRun(t *testing.T) {
	h := serve(t, &shelf{})
	_, header, _ := send(t, h, "GET", "/uri/"+caps.LIT{Data: []byte("<script>")}.Text()+"?filename=x.html", "")
	if !strings.HasPrefix(header.Get("Content-Type"), "text/html") || !strings.HasPrefix(header.Get("Content-Security-Policy"), "sandbox; ") ||
		header.Get("X-Content-Type-Options") != "nosniff" || header.Get("Referrer-Policy") != "no-referrer" {
		t.Errorf("%v", header)
	}
	if _, _, page := send(t, h, "GET", "/", ""); strings.Contains(page, "<script>") || strings.Contains(page, "<b>") || !strings.Contains(page, "&lt;script&gt;n") {
		t.Errorf("%s", page)
	}
}

// Forms, as browsers send them.
func TestForms(t *testing.T) {
	s := &shelf{}
	h := serve(t, s)
	form := func(path string, fields ...string) (int, http.Header, string) {
		t.Helper()
		var b bytes.Buffer
		w := multipart.NewWriter(&b)
		part, err := w.CreateFormFile("file", "näme.txt")
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(part, "contents")
		for i := 0; i < len(fields); i += 2 {
			w.WriteField(fields[i], fields[i+1])
		}
		w.Close()
		return send(t, h, "POST", path, b.String(), "Content-Type", w.FormDataContentType())
	}
	want := caps.LIT{Data: []byte("contents")}.Text()
	if code, _, body := form("/uri?t=upload"); code != 200 || !strings.Contains(body, "<code>"+want+"</code>") {
		t.Errorf("%d %q", code, body)
	}
	if code, _, body := form("/uri/"+aDir.Text(), "t", "upload"); code != 200 || body != want || len(s.edits) != 1 || s.edits[0].Entry.Name != "näme.txt" {
		t.Errorf("%d %q %+v", code, body, s.edits)
	}
	if code, header, _ := form("/uri/"+aDir.Text(), "t", "upload", "name", "n", "when_done", "/uri/x"); code != 302 || header.Get("Location") != "/uri/x" {
		t.Errorf("%d %q", code, header.Get("Location"))
	}
	if code, header, _ := form("/uri?t=upload", "when_done", "/uri/%(uri)s?t=json"); code != 302 || header.Get("Location") != "/uri/"+want+"?t=json" {
		t.Errorf("%d %q", code, header.Get("Location"))
	}
	for _, to := range []string{"http://evil.example/", "//evil.example/", `/\evil.example`, "javascript:x", `\\evil.example`} {
		if code, header, _ := form("/uri?t=upload", "when_done", to); code != 400 || header.Get("Location") != "" {
			t.Errorf("when_done=%s: %d %q", to, code, header.Get("Location"))
		}
	}
	for _, name := range []string{"a/b", "  "} {
		if code, _, body := form("/uri/"+aDir.Text(), "t", "upload", "name", name); code != 400 {
			t.Errorf("name=%q: %d %q", name, code, body)
		}
	}
	// A form says t= in its body; deleting makes no directories on the way.
	made := s.made
	if code, _, body := form("/uri/"+aDir.Text()+"/none/deeper", "t", "unlink", "name", "x"); code != 404 || s.made != made {
		t.Errorf("%d %q, %d directories made", code, body, s.made-made)
	}
	if code, _, body := send(t, h, "POST", "/uri?t=upload", "no form"); code != 400 {
		t.Errorf("%d %q", code, body)
	}
}

// A refusal never repeats a capability: errors end in logs.
func TestErrorsHoldNoCaps(t *testing.T) {
	h := serve(t, &shelf{})
	const secret = "mfrggzdfmztwq2lknnwg23tpoa"
	for _, path := range []string{"/uri/URI:CHK:" + secret, "/uri/URI:SSK:" + secret + ":x", "/uri/URI:DIR2:" + secret, "/uri?uri=" + secret,
		"/uri/URI:LIT:" + secret + "1", "/file/URI:DIR2:" + secret + "/x", "/uri/x-" + secret} {
		for _, method := range []string{"GET", "PUT", "POST", "DELETE"} {
			if method == "PUT" && strings.HasPrefix(path, "/uri?") {
				continue // stores a file
			}
			if code, _, body := send(t, h, method, path, ""); code < 400 || strings.Contains(body, secret) {
				t.Errorf("%s %s: %d %q", method, path, code, body)
			}
		}
	}
}

func FuzzRange(f *testing.F) {
	for _, s := range []string{"bytes=0-0", "bytes=5-", "bytes=-7", "bytes=-0", "bytes=9-3", "bytes=1-2,5-6", "bytes= 4 - 9 ", "bytes=9223372036854775807-", "bytes=-9223372036854775808", "lines=1-2", "bytes=1-2,x"} {
		f.Add(s, int64(10))
		f.Add(s, int64(0))
	}
	f.Fuzz(func(t *testing.T, header string, size int64) {
		if size < 0 {
			return
		}
		first, last, ok, err := byteRange(header, size)
		var refused *webError
		if err != nil && (!errors.As(err, &refused) || refused.code != http.StatusRequestedRangeNotSatisfiable) {
			t.Fatalf("%q of %d: %v", header, size, err)
		}
		if ok && (err != nil || first < 0 || first > last || last >= size) {
			t.Fatalf("%q of %d: %d to %d", header, size, first, last)
		}
	})
}

func FuzzChildren(f *testing.F) {
	lit := caps.LIT{Data: []byte("x")}.Text()
	for _, s := range []string{"", "{}", `{"a": ["filenode", {"ro_uri": "` + lit + `", "metadata": {"x": 1}}]}`, `{"a": ["dirnode", {"rw_uri": "` + aDir.Text() + `"}]}`,
		`{"a": ["filenode", {"rw_uri": "` + lit + `"}]}`, `{"a": ["unknown", {"rw_uri": "x", "ro_uri": "ro.y"}]}`, `{"a": []}`, `{"a": [1, 2, 3]}`, `{"a": null}`, `{"a": ["x", null]}`, `[]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		entries, err := children(body)
		if err != nil {
			return
		}
		for _, e := range entries {
			if e.Name != dirnode.Normalize(e.Name) {
				t.Fatalf("entry %q is not spelled as it is stored", e.Name)
			}
			if e.Write != nil && caps.IsReadOnly(e.Write) {
				t.Fatalf("entry %q: a readcap to write through", e.Name)
			}
		}
	})
}

func FuzzPath(f *testing.F) {
	for _, s := range []string{aDir.Text(), aDir.Text() + "/a/b", aDir.Text() + "//", url.PathEscape(aDir.Text()) + "/a%2Fb/", "%zz", "URI:CHK:x/y", "x/../y", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		c, names, err := parts(strings.Split(path, "/"))
		if err != nil {
			return
		}
		if c == nil {
			t.Fatal("no cap")
		}
		escaped := []string{url.PathEscape(c.Text())}
		for _, n := range names {
			if n == "" {
				t.Fatal("an empty name")
			}
			escaped = append(escaped, url.PathEscape(n))
		}
		c2, names2, err := parts(escaped)
		if err != nil || c2.Text() != c.Text() || strings.Join(names2, "\x00") != strings.Join(names, "\x00") {
			t.Fatalf("%q: again: %q, %v", names, names2, err)
		}
	})
}
