package gbs_test

import (
	"bytes"
	"crypto/tls"
	"net"
	"net/http"
	"testing"

	"warren/node/caps"
	"warren/node/storage"
	"warren/node/storage/gbs"
	"warren/node/storage/mem"
)

// TestInto: an answer comes into the buffer that is offered if it has room, and is the
// same if not.
func TestInto(t *testing.T) {
	c := dial(t, serve(t, storage.NewServer(mem.New(0), storage.Options{}), gbs.Options{}, certificate(t, false)))
	data := bytes.Repeat([]byte("0123456789"), 1000)
	si, secret := caps.StorageIndex{7}, storage.Secret{1}
	if _, allocated, err := c.CreateImmutable(t.Context(), si, secret, storage.LeaseSecrets{}, []int{0}, uint64(len(data))); err != nil || len(allocated) != 1 {
		t.Fatal(allocated, err)
	}
	if done, err := c.WriteImmutable(t.Context(), si, 0, secret, 0, data); err != nil || !done {
		t.Fatal(done, err)
	}
	for _, q := range []struct{ room, at, size, want int }{
		{4000, 100, 4000, 4000},
		{5000, 100, 4000, 4000},
		{3999, 100, 4000, 4000},
		{4000, 9000, 4000, 1000}, // up to the end
		{900, 9000, 4000, 1000},
		{4000, 10000, 4000, 0},
		{0, 0, 10000, 10000},
	} {
		offer := make([]byte, q.room)
		got, err := c.ReadShare(storage.Into(t.Context(), offer), storage.Immutable, si, 0, uint64(q.at), uint64(q.size))
		if err != nil || !bytes.Equal(got, data[q.at:q.at+q.want]) {
			t.Errorf("%+v: %d bytes, %v", q, len(got), err)
			continue
		}
		if taken := q.room > 0 && len(got) > 0 && &got[0] == &offer[0]; taken != (q.want > 0 && q.want <= q.room) {
			t.Errorf("%+v: into the buffer %t", q, taken)
		}
	}
}

// TestIntoFromChunks: Tahoe's server does not say how long its answer is, only which
// range. That is believed as far as it is true.
func TestIntoFromChunks(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cert := certificate(t, false)
	var contentRange, body string
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Range", contentRange)
		w.WriteHeader(http.StatusPartialContent)
		for i := range body {
			w.Write([]byte{body[i]})
			http.NewResponseController(w).Flush()
		}
	})}
	served := make(chan error, 1)
	go func() { served <- server.Serve(tls.NewListener(l, gbs.TLSConfig(cert))) }()
	defer func() {
		server.Close()
		<-served
	}()
	nurl, err := gbs.NURL(cert, "127.0.0.1", l.Addr().(*net.TCPAddr).Port, false, swissnum)
	if err != nil {
		t.Fatal(err)
	}
	c := dial(t, nurl)
	for _, q := range []struct {
		contentRange, body string
		right              bool
	}{
		{"bytes 5-14/*", "0123456789", true},
		{"bytes 5-14/15", "0123456789", true},
		{"bytes 5-8/9", "0123", true},
		{"bytes 5-14/*", "012345678", false},
		{"bytes 5-14/*", "0123456789x", false},
		{"bytes 5-8/9", "01234", false},
		{"bytes 5-15/*", "0123456789x", false},
		{"bytes 4-13/*", "0123456789", false},
		{"bytes 5-9223372036854775806/*", "0123456789", false},
		{"junk", "0123456789", false},
		{"", "0123456789", false},
	} {
		contentRange, body = q.contentRange, q.body
		for _, room := range []int{0, 10, 20} {
			offer := make([]byte, room)
			got, err := c.ReadShare(storage.Into(t.Context(), offer), storage.Immutable, caps.StorageIndex{}, 0, 5, 10)
			if right := err == nil && string(got) == body; right != q.right {
				t.Errorf("%+v: %q, %v", q, got, err)
			}
			if taken := err == nil && room > 0 && &got[0] == &offer[0]; taken != (q.right && room > 0) {
				t.Errorf("%+v: into a buffer of %d bytes: %t", q, room, taken)
			}
		}
	}
}
