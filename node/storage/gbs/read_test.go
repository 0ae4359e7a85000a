package gbs_test

import (
	"bytes"
	"sync/atomic"
	"testing"

	"warren/node/caps"
	"warren/node/storage"
	"warren/node/storage/disk"
	"warren/node/storage/gbs"
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
