package gbs_test

import (
	"bytes"
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
