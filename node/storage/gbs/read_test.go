package gbs_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"reflect"
	"sync/atomic"
	"testing"

	"warren/node/caps"
	"warren/node/storage"
	"warren/node/storage/disk"
	"warren/node/storage/gbs"
	"warren/node/storage/mem"
	"warren/node/storage/storagetest"
)

// opened counts how often shares are opened.
type opened struct {
	*disk.Backend
	times atomic.Int64
}

func (o *opened) Open(si caps.StorageIndex, share int) (storage.File, error) {
	o.times.Add(1)
	return o.Backend.Open(si, share)
}

// TestReadsOpenOnce: a GET of an immutable share opens it once, however long it is,
// and ends well although the share is removed meanwhile.
func TestReadsOpenOnce(t *testing.T) {
	b, err := disk.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	o := &opened{Backend: b}
	server := storage.NewServer(o, storage.Options{})
	defer server.Close()
	s := gbs.NewServer(server.As(storage.Account{}), swissnum, gbs.Options{})
	si, data := caps.StorageIndex{1}, bytes.Repeat([]byte("0123456789abcdef"), 5<<16)
	client := storage.Local(server)
	if _, _, err := client.CreateImmutable(t.Context(), si, storagetest.Secret('u'), storage.LeaseSecrets{}, []int{0}, uint64(len(data))); err != nil {
		t.Fatal(err)
	}
	if done, err := client.WriteImmutable(t.Context(), si, 0, storagetest.Secret('u'), 0, data); err != nil || !done {
		t.Fatal(done, err)
	}
	o.times.Store(0)
	w := exchange(s, "GET", "immutable/"+si.Text()+"/0", nil, nil, nil)
	if w.Code != 200 || !bytes.Equal(w.Body.Bytes(), data) {
		t.Errorf("%d, %d bytes", w.Code, w.Body.Len())
	}
	if n := o.times.Load(); n != 1 {
		t.Errorf("opened %d times", n)
	}
	r, err := server.As(storage.Account{}).OpenShare(t.Context(), storage.Immutable, si, 0)
	if err != nil || r.Length() != uint64(len(data)) {
		t.Fatal(r, err)
	}
	defer r.Close()
	if removed, err := server.Remove(si, func(storage.Held) bool { return true }); err != nil || len(removed) != 1 {
		t.Fatal(removed, err)
	}
	p := make([]byte, 100)
	if n, err := r.Read(t.Context(), p, uint64(len(data)-20)); err != nil || !bytes.Equal(p[:n], data[len(data)-20:]) {
		t.Errorf("after it was removed: %d, %v", n, err)
	}
	if w := exchange(s, "GET", "immutable/"+si.Text()+"/0", nil, nil, nil); w.Code != 404 {
		t.Errorf("after it was removed: %d", w.Code)
	}
}

// TestExpectedShares: what is expected of a slot changes nothing of the answer, and
// costs no request when it is right.
func TestExpectedShares(t *testing.T) {
	server := storage.NewServer(mem.New(0), storage.Options{})
	handler := gbs.NewServer(server.As(storage.Account{}), swissnum, gbs.Options{})
	cert := certificate(t, false)
	var requests atomic.Int64
	counting := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		handler.ServeHTTP(w, r)
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- counting.Serve(tls.NewListener(l, gbs.TLSConfig(cert))) }()
	defer func() {
		counting.Close()
		<-served
	}()
	nurl, err := gbs.NURL(cert, "127.0.0.1", l.Addr().(*net.TCPAddr).Port, false, swissnum)
	if err != nil {
		t.Fatal(err)
	}
	c, si := dial(t, nurl), caps.StorageIndex{1}
	write := map[int]storage.TestWrite{}
	for _, n := range []int{2, 5} {
		write[n] = storage.TestWrite{Write: []storage.WriteVector{{Data: fmt.Append(nil, "share ", n)}}}
	}
	if wrote, _, err := c.ReadTestWrite(t.Context(), si, storage.SlotSecrets{WriteEnabler: storagetest.Secret('w')}, write, nil); err != nil || !wrote {
		t.Fatal(wrote, err)
	}
	want := map[int][][]byte{2: {[]byte("share"), []byte("2")}, 5: {[]byte("share"), []byte("5")}}
	for _, e := range []struct {
		expected []int
		requests int64
	}{{nil, 5}, {[]int{2, 5}, 5}, {[]int{5}, 5}, {[]int{2, 5, 7}, 7}, {[]int{0}, 7}} {
		requests.Store(0)
		got, err := c.ReadSlot(storage.Expecting(t.Context(), e.expected), si, nil, []storage.ReadVector{{Size: 5}, {Offset: 6, Size: 9}})
		if err != nil || !reflect.DeepEqual(got, want) || requests.Load() != e.requests {
			t.Errorf("expecting %v: %x, %v, after %d requests", e.expected, got, err, requests.Load())
		}
	}
	if got, err := c.ReadSlot(storage.Expecting(t.Context(), []int{1}), caps.StorageIndex{2}, nil, []storage.ReadVector{{Size: 5}}); err != nil || len(got) != 0 {
		t.Errorf("a slot that is not there: %x, %v", got, err)
	}
}
