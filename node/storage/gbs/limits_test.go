package gbs_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"warren/node/caps"
	"warren/node/storage"
	"warren/node/storage/gbs"
	"warren/node/storage/mem"
	"warren/node/storage/storagetest"
)

// exchange sends one request straight to the handler.
func exchange(s *gbs.Server, method, path string, secrets []string, header map[string]string, body io.Reader) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "/storage/v1/"+path, body)
	r.Header.Set("Authorization", gbs.Authorization(swissnum))
	for _, s := range secrets {
		name, value, _ := strings.Cut(s, " ")
		r.Header.Add("X-Tahoe-Authorization", name+" "+base64.StdEncoding.EncodeToString([]byte(value)))
	}
	for k, v := range header {
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

// chunked hides a body's length.
type chunked struct{ io.Reader }

func TestServerLimits(t *testing.T) {
	server := storage.NewServer(mem.New(1<<30), storage.Options{})
	s := gbs.NewServer(server.As(storage.Account{}), swissnum, gbs.Options{MaxMutableWrite: 1 << 16})
	si := caps.StorageIndex{1}
	lease := []string{"lease-renew-secret " + strings.Repeat("r", 32), "lease-cancel-secret " + strings.Repeat("c", 32)}
	up := []string{"upload-secret short"}
	client := storage.Local(server)
	create := func() {
		t.Helper()
		body := "\xa2\x6dshare-numbers\xd9\x01\x02\x81\x00\x6eallocated-size\x0a"
		if w := exchange(s, "POST", "immutable/"+si.Text(), append(lease, up...), nil, strings.NewReader(body)); w.Code != 200 {
			t.Fatalf("create: %d %s", w.Code, w.Body)
		}
	}
	create()
	for _, c := range []struct {
		name, method, path string
		secrets            []string
		header             map[string]string
		body               io.Reader
		want               int
	}{
		{"create, 9 kB", "POST", "immutable/" + si.Text(), append(lease, up...), nil, bytes.NewReader(make([]byte, 9000)), 413},
		{"create, 9 kB in chunks", "POST", "immutable/" + si.Text(), append(lease, up...), nil, chunked{bytes.NewReader(make([]byte, 9000))}, 413},
		{"slot write, too large", "POST", "mutable/" + si.Text() + "/read-test-write", append(lease, "write-enabler "+strings.Repeat("w", 32)), nil, bytes.NewReader(make([]byte, 1<<17)), 413},
		{"slot write, too large in chunks", "POST", "mutable/" + si.Text() + "/read-test-write", append(lease, "write-enabler "+strings.Repeat("w", 32)), nil, chunked{bytes.NewReader(make([]byte, 1<<17))}, 413},
		{"slot write, short enabler", "POST", "mutable/" + si.Text() + "/read-test-write", append(lease, "write-enabler w"), nil, nil, 400},
		{"write, short body", "PATCH", "immutable/" + si.Text() + "/0", up, map[string]string{"Content-Range": "bytes 0-9/*"}, strings.NewReader("short"), 400},
		{"write, short body in chunks", "PATCH", "immutable/" + si.Text() + "/0", up, map[string]string{"Content-Range": "bytes 0-9/*"}, chunked{strings.NewReader("short")}, 400},
		{"write, long body", "PATCH", "immutable/" + si.Text() + "/0", up, map[string]string{"Content-Range": "bytes 0-9/*"}, strings.NewReader("much too long"), 400},
		{"write, long body in chunks", "PATCH", "immutable/" + si.Text() + "/0", up, map[string]string{"Content-Range": "bytes 0-9/*"}, chunked{strings.NewReader("much too long")}, 400},
		{"write, past the end", "PATCH", "immutable/" + si.Text() + "/0", up, map[string]string{"Content-Range": "bytes 5-14/*"}, strings.NewReader("0123456789"), 416},
		{"write, far out", "PATCH", "immutable/" + si.Text() + "/0", up, map[string]string{"Content-Range": "bytes 9223372036854775797-9223372036854775806/*"}, strings.NewReader("0123456789"), 416},
		{"share number beyond 255", "GET", "immutable/" + si.Text() + "/256", nil, nil, nil, 404},
		{"encoded slash", "GET", "immutable%2f" + si.Text() + "/0", nil, nil, nil, 404},
		{"dots", "GET", "immutable/../" + si.Text() + "/0", nil, nil, nil, 404},
		{"head", "HEAD", "version", nil, nil, nil, 405},
		{"write in chunks", "PATCH", "immutable/" + si.Text() + "/0", up, map[string]string{"Content-Range": "bytes 0-9/10"}, chunked{strings.NewReader("0123456789")}, 201},
		{"a lease by POST", "POST", "lease/" + si.Text(), nil, nil, nil, 405},
	} {
		if held, err := client.ListShares(t.Context(), storage.Immutable, si); err != nil || len(held) != 0 {
			if c.want != 405 {
				t.Fatalf("before %s: %v, %v", c.name, held, err)
			}
		}
		w := exchange(s, c.method, c.path, c.secrets, c.header, c.body)
		if w.Code != c.want {
			t.Errorf("%s: %d %s; want %d", c.name, w.Code, w.Body, c.want)
		}
		if text := w.Body.String(); strings.Contains(text, "rrr") || strings.Contains(text, "short secret") || strings.Contains(text, swissnum) {
			t.Errorf("%s: the answer tells a secret: %s", c.name, text)
		}
	}
	full := gbs.NewServer(storage.NewServer(mem.New(10), storage.Options{}).As(storage.Account{}), swissnum, gbs.Options{})
	body := "\xa2\x72test-write-vectors\xa1\x00\xa3\x64test\x80\x65write\x80\x6anew-length\xf6\x6bread-vector\x80"
	w := exchange(full, "POST", "mutable/"+si.Text()+"/read-test-write", append(lease, "write-enabler "+strings.Repeat("w", 32)), nil, strings.NewReader(body))
	if w.Code != 507 {
		t.Errorf("a slot without room: %d %s", w.Code, w.Body)
	}
}

// TestSlowClients: one that sends its share slowly keeps nobody from the storage.
func TestSlowClients(t *testing.T) {
	server := storage.NewServer(mem.New(0), storage.Options{})
	s := gbs.NewServer(server.As(storage.Account{}), swissnum, gbs.Options{MaxRequests: 1})
	si := caps.StorageIndex{1}
	lease := []string{"lease-renew-secret " + strings.Repeat("r", 32), "lease-cancel-secret " + strings.Repeat("c", 32)}
	up := []string{"upload-secret short"}
	body := "\xa2\x6dshare-numbers\xd9\x01\x02\x81\x00\x6eallocated-size\x0a"
	if w := exchange(s, "POST", "immutable/"+si.Text(), append(lease, up...), nil, strings.NewReader(body)); w.Code != 200 {
		t.Fatalf("create: %d %s", w.Code, w.Body)
	}
	out, in := io.Pipe()
	slow := make(chan int, 1)
	go func() {
		slow <- exchange(s, "PATCH", "immutable/"+si.Text()+"/0", up, map[string]string{"Content-Range": "bytes 0-9/*"}, out).Code
	}()
	if _, err := in.Write([]byte("01234")); err != nil { // taken: the request is served
		t.Fatal(err)
	}
	if w := exchange(s, "GET", "version", nil, nil, nil); w.Code != 200 {
		t.Errorf("version: %d %s", w.Code, w.Body)
	}
	if _, err := in.Write([]byte("56789")); err != nil {
		t.Fatal(err)
	}
	in.Close()
	if code := <-slow; code != 201 {
		t.Errorf("the slow one: %d", code)
	}
}

// hostile serves a handler with a node's certificate.
func hostile(t *testing.T, h http.HandlerFunc) *gbs.Client {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cert := certificate(t, false)
	server := &http.Server{Handler: h}
	done := make(chan error, 1)
	go func() { done <- server.Serve(tls.NewListener(l, gbs.TLSConfig(cert))) }()
	t.Cleanup(func() { server.Close(); <-done })
	nurl, err := gbs.NURL(cert, "127.0.0.1", l.Addr().(*net.TCPAddr).Port, false, swissnum)
	if err != nil {
		t.Fatal(err)
	}
	return dial(t, nurl)
}

func TestHostileServers(t *testing.T) {
	read := func(c *gbs.Client) error {
		_, err := c.ReadShare(context.Background(), storage.Immutable, caps.StorageIndex{}, 0, 100, 10)
		return err
	}
	version := func(c *gbs.Client) error { _, err := c.Version(context.Background()); return err }
	write := func(c *gbs.Client) error {
		_, _, err := c.ReadTestWrite(context.Background(), caps.StorageIndex{}, storage.SlotSecrets{}, nil, []storage.ReadVector{{Size: 2}})
		return err
	}
	answer := func(code int, body string, header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(code)
			io.WriteString(w, body)
		}
	}
	octets := []string{"Content-Type", "application/octet-stream", "Content-Range"}
	for _, c := range []struct {
		name    string
		handler http.HandlerFunc
		call    func(*gbs.Client) error
	}{
		{"another range", answer(206, "0123456789", append(octets, "bytes 0-9/*")...), read},
		{"more than asked for", answer(206, "01234567890", append(octets, "bytes 100-110/*")...), read},
		{"more than it says", answer(206, "0123456789", append(octets, "bytes 100-108/*")...), read},
		{"less than it says", answer(206, "01234567", append(octets, "bytes 100-109/*")...), read},
		{"no range", answer(206, "0123456789", octets[:2]...), read},
		{"the whole share", answer(200, "0123456789", octets[:2]...), read},
		{"a page", answer(206, "<p>0123456", "Content-Type", "text/html", "Content-Range", "bytes 100-109/*"), read},
		{"a page for CBOR", answer(200, "<p>", "Content-Type", "text/html"), version},
		{"not CBOR", answer(200, "<p>", "Content-Type", "application/cbor"), version},
		{"no end", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/cbor")
			for range 1 << 10 {
				if _, err := w.Write(make([]byte, 1<<10)); err != nil {
					return
				}
			}
		}, version},
		{"failure", answer(500, "<p>Traceback"), version},
		{"unavailable", answer(503, ""), read},
		{"too much of a slot", answer(200, "\xa2\x67success\xf5\x64data\xa1\x00\x81\x43abc", "Content-Type", "application/cbor"), write},
		{"too few vectors", answer(200, "\xa2\x67success\xf5\x64data\xa1\x00\x80", "Content-Type", "application/cbor"), write},
	} {
		if err := c.call(hostile(t, c.handler)); err == nil {
			t.Errorf("%s: no error", c.name)
		} else if strings.Contains(err.Error(), "Traceback") {
			t.Errorf("%s: the server speaks through the error: %v", c.name, err)
		}
	}
	// No redirect is followed: the secrets would go with it.
	elsewhere := 0
	c := hostile(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/elsewhere" {
			elsewhere++
		}
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	})
	var status *gbs.StatusError
	if err := version(c); !errors.As(err, &status) || status.Code != 307 || elsewhere != 0 {
		t.Errorf("a redirect: %v, followed %d times", err, elsewhere)
	}
}

// TestClosedConnections: a server that closes its idle connections costs no error.
func TestClosedConnections(t *testing.T) {
	cert := certificate(t, false)
	server := storage.NewServer(mem.New(0), storage.Options{})
	c := dial(t, serve(t, server, gbs.Options{Idle: 1}, cert))
	for range 20 {
		if _, err := c.Version(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.CreateImmutable(t.Context(), caps.StorageIndex{}, storagetest.Secret('u'), storage.LeaseSecrets{}, []int{0}, 9); err != nil {
			t.Fatal(err)
		}
	}
}

func BenchmarkWrite(b *testing.B) {
	c := dial(b, serve(b, storage.NewServer(mem.New(0), storage.Options{}), gbs.Options{}, certificate(b, false)))
	data := make([]byte, 1<<20)
	b.SetBytes(int64(len(data)))
	i := 0
	for b.Loop() {
		i++
		si := caps.StorageIndex{byte(i), byte(i >> 8), byte(i >> 16)}
		if _, _, err := c.CreateImmutable(b.Context(), si, storagetest.Secret('u'), storage.LeaseSecrets{}, []int{0}, uint64(len(data))); err != nil {
			b.Fatal(err)
		}
		if done, err := c.WriteImmutable(b.Context(), si, 0, storagetest.Secret('u'), 0, data); err != nil || !done {
			b.Fatal(done, err)
		}
	}
}

func BenchmarkRead(b *testing.B) {
	c := dial(b, serve(b, storage.NewServer(mem.New(0), storage.Options{}), gbs.Options{}, certificate(b, false)))
	data := make([]byte, 1<<20)
	b.SetBytes(int64(len(data)))
	if _, _, err := c.CreateImmutable(b.Context(), caps.StorageIndex{}, storagetest.Secret('u'), storage.LeaseSecrets{}, []int{0}, uint64(len(data))); err != nil {
		b.Fatal(err)
	}
	if _, err := c.WriteImmutable(b.Context(), caps.StorageIndex{}, 0, storagetest.Secret('u'), 0, data); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if got, err := c.ReadShare(b.Context(), storage.Immutable, caps.StorageIndex{}, 0, 0, uint64(len(data))); err != nil || len(got) != len(data) {
			b.Fatal(len(got), err)
		}
	}
}
