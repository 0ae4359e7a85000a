package webapi_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"mime/multipart"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"warren/node/mutable"
	"warren/node/webapi"
)

// TestMDMF: files of many segments are made, read whole and in part, overwritten
// and changed in place, also through a directory and a form.
func TestMDMF(t *testing.T) {
	n := newNode(t)
	want := bytes.Repeat([]byte("0123456789abcdefg"), 30_000) // four segments
	c := n.do(200, "PUT", "/uri?format=mdmf", string(want))
	if !strings.HasPrefix(c, "URI:MDMF:") {
		t.Fatal("another kind of file")
	}
	ro := n.do(200, "GET", uri(c)+"?t=readonly-uri", "")
	if n.do(200, "GET", uri(c), "") != string(want) || n.do(200, "GET", uri(ro), "") != string(want) {
		t.Error("other bytes came back")
	}
	kind, p := n.json(uri(c))
	if kind != "filenode" || !*p.Mutable || p.Format != "MDMF" || *p.Size != int64(len(want)) || p.RW != c || p.RO != ro || !strings.HasPrefix(p.Verify, "URI:MDMF-Verifier:") {
		t.Errorf("%s %+v", kind, p)
	}
	resp, got := n.ask("GET", uri(ro), nil, "Range", "bytes=131070-300000")
	if resp.StatusCode != 206 || got != string(want[131070:300001]) {
		t.Errorf("%s, %d bytes", resp.Status, len(got))
	}
	splice := func(at int, data string) {
		t.Helper()
		if got := n.do(200, "PUT", uri(c)+fmt.Sprintf("?offset=%d", at), data); got != c {
			t.Error("a changed file got another capability")
		}
		want = append(want[:at:at], append([]byte(data), want[min(len(want), at+len(data)):]...)...)
		if n.do(200, "GET", uri(c), "") != string(want) {
			t.Errorf("a splice at %d went wrong", at)
		}
	}
	splice(0, "X")
	splice(131070, strings.Repeat("y", 100_000))
	splice(len(want), strings.Repeat("appended", 50_000))
	n.do(200, "PUT", uri(c)+"?offset=", "short")
	if got := n.do(200, "GET", uri(c), ""); got != "short" {
		t.Errorf("%.20q", got)
	}
	for _, bad := range []string{"-1", "x", "6", "9223372036854775808"} {
		n.do(400, "PUT", uri(c)+"?offset="+bad, "y")
	}
	n.do(400, "PUT", uri(ro)+"?offset=0", "y")
	n.do(400, "PUT", uri(n.do(200, "PUT", "/uri", strings.Repeat("x", 100)))+"?offset=0", "y")
	s := n.do(200, "PUT", "/uri?format=SDMF", "in SDMF")
	n.do(200, "PUT", uri(s)+"?offset=3", "sd")
	if got := n.do(200, "GET", uri(s), ""); got != "in sdMF" {
		t.Errorf("%q", got)
	}
	// With the extension that old caps have.
	if got := n.do(200, "GET", uri(c+":3:131073"), ""); got != "short" {
		t.Errorf("%q", got)
	}

	dir := n.do(200, "POST", "/uri?t=mkdir&format=MDMF", "")
	if !strings.HasPrefix(dir, "URI:DIR2-MDMF:") {
		t.Fatal("another kind of directory")
	}
	n.do(201, "PUT", uri(dir, "file")+"?format=MDMF", "in a directory")
	n.do(200, "PUT", uri(dir, "file")+"?offset=3", "THE")
	sub := n.do(200, "POST", uri(dir)+"?t=mkdir&name=sub&format=mdmf", "")
	n.do(200, "PUT", uri(dir, "made", "on the way")+"?t=mkdir&format=MDMF", "")
	n.do(201, "PUT", uri(sub, "deep"), "deep")
	_, p = n.json(uri(dir))
	if len(p.Children) != 3 || p.RW != dir || !strings.HasPrefix(p.RO, "URI:DIR2-MDMF-RO:") || !strings.HasPrefix(p.Verify, "URI:DIR2-MDMF-Verifier:") {
		t.Errorf("%+v", p)
	}
	if got := n.do(200, "GET", uri(dir, "file"), ""); got != "in THEirectory" {
		t.Errorf("%q", got)
	}
	if got := n.do(200, "GET", uri(p.RO, "sub", "deep"), ""); got != "deep" {
		t.Errorf("%q", got)
	}
	n.do(400, "PUT", uri(p.RO, "other"), "x")
	n.do(200, "DELETE", uri(dir, "made"), "")

	var form bytes.Buffer
	m := multipart.NewWriter(&form)
	w, err := m.CreateFormFile("file", "name")
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, "from a form")
	m.Close()
	resp, c = n.ask("POST", "/uri?t=upload&format=MDMF", bytes.NewReader(form.Bytes()), "Content-Type", m.FormDataContentType())
	if resp.StatusCode != 200 || !strings.HasPrefix(c, "URI:MDMF:") || n.do(200, "GET", uri(c), "") != "from a form" {
		t.Errorf("%s", resp.Status)
	}
}

// TestPrivateKey: a key that is brought along determines the capabilities, and is
// for one file.
func TestPrivateKey(t *testing.T) {
	n := newNode(t)
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	key, err := mutable.ImportKey(der)
	if err != nil {
		t.Fatal(err)
	}
	arg := "private-key=" + url.QueryEscape(base64.URLEncoding.EncodeToString(der))
	for format, want := range map[string]string{"SDMF": key.Cap().Text(), "MDMF": key.MDMFCap().Text()} {
		n := newNode(t)
		if c := n.do(200, "PUT", "/uri?format="+format+"&"+arg, "text"); c != want || n.do(200, "GET", uri(c), "") != "text" {
			t.Errorf("%s: another file", format)
		}
		n.do(500, "PUT", "/uri?format="+format+"&"+arg, "again")
		if n.do(200, "GET", uri(want), "") != "text" {
			t.Errorf("%s: replaced", format)
		}
	}
	if c := n.do(200, "POST", "/uri?t=mkdir&format=MDMF&"+arg, ""); c != "URI:DIR2-MDMF:"+strings.TrimPrefix(key.MDMFCap().Text(), "URI:MDMF:") {
		t.Error("another directory")
	}
	text := n.do(400, "PUT", "/uri?format=SDMF&private-key=c2VjcmV0", "x")
	if strings.Contains(text, "c2VjcmV0") || !strings.Contains(text, "2048") {
		t.Error(text)
	}
	n.do(400, "PUT", "/uri?"+arg, "x")
}

// TestDirFormat: directories are kept as the node's owner has it, where nothing else
// is asked for.
func TestDirFormat(t *testing.T) {
	n := newNode(t)
	h := httptest.NewServer(webapi.New(webapi.Config{Grid: n.grid.Web, DirFormat: mutable.MDMF}))
	t.Cleanup(h.Close)
	n.url, n.http = h.URL, h.Client()
	dir := n.do(200, "POST", "/uri?t=mkdir", "")
	n.do(201, "PUT", uri(dir, "on", "the way"), "x")
	_, p := n.json(uri(dir, "on"))
	if !strings.HasPrefix(dir, "URI:DIR2-MDMF:") || !strings.HasPrefix(p.RW, "URI:DIR2-MDMF:") {
		t.Error("kept in SDMF")
	}
	if c := n.do(200, "PUT", "/uri?t=mkdir&format=SDMF", ""); !strings.HasPrefix(c, "URI:DIR2:") {
		t.Error("kept in MDMF")
	}
	if c := n.do(200, "PUT", "/uri?mutable=true", ""); !strings.HasPrefix(c, "URI:SSK:") {
		t.Error("mutable=true is SDMF")
	}
}
