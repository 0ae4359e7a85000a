package disk

import (
	"bytes"
	"fmt"
	"path/filepath"
	"testing"

	"warren/node/caps"
	"warren/node/storage"
	"warren/node/storage/container"
)

// counting counts the syncs of files.
type counting struct {
	filesystem
	rounds [][]string
}

func (c *counting) sync(files []handle, dirs ...string) error {
	var names []string
	for _, f := range files {
		names = append(names, filepath.Base(f.Name()))
	}
	if len(names) > 0 {
		c.rounds = append(c.rounds, names)
	}
	return c.filesystem.sync(files, dirs...)
}

// TestLeasesOfManyShares: a lease on ten shares is two syncs, and not twenty; each
// file's count follows its record. Renewing it is one.
func TestLeasesOfManyShares(t *testing.T) {
	dir := t.TempDir()
	real, err := newSystem(dir)
	if err != nil {
		t.Fatal(err)
	}
	fs := &counting{filesystem: real}
	b, err := open(dir, fs)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	si := caps.StorageIndex{1}
	drafts := map[int]storage.Draft{}
	for n := range 10 {
		d, err := b.Draft(si, n, false)
		if err != nil {
			t.Fatal(err)
		}
		layout, err := container.NewImmutable(4, container.Lease{Renew: container.Secret{1}, Expires: 5})
		if err != nil {
			t.Fatal(err)
		}
		if err := container.Apply(d, layout); err != nil {
			t.Fatal(err)
		}
		drafts[n] = d
	}
	if err := b.Publish(si, drafts, nil); err != nil {
		t.Fatal(err)
	}
	for _, renew := range []byte{2, 1} {
		fs.rounds = nil
		server := storage.NewServer(b, storage.Options{})
		if err := storage.Local(server).AddLease(t.Context(), si, storage.LeaseSecrets{Renew: container.Secret{renew}}); err != nil {
			t.Fatal(err)
		}
		want := map[byte]int{2: 2, 1: 1}[renew]
		if len(fs.rounds) != want || len(fs.rounds[0]) != 10 {
			t.Errorf("lease %d: %d rounds of syncs: %v", renew, len(fs.rounds), fs.rounds)
		}
	}
	for n := range 10 {
		f, err := b.Open(si, n)
		if err != nil {
			t.Fatal(err)
		}
		size, _ := f.Size()
		data := make([]byte, size)
		f.ReadAt(data, 0)
		f.Close()
		im, err := container.OpenImmutable(bytes.NewReader(data), size)
		if err != nil {
			t.Fatal(err)
		}
		leases, err := im.Leases()
		if err != nil || len(leases) != 2 || im.Length() != 4 || leases[0].Expires == 5 {
			t.Errorf("share %d: %d leases, %v", n, len(leases), err)
		}
	}
	// One file has fewer patches than the other.
	fs.rounds = nil
	err = b.AmendAll(si, map[int][]container.Patch{3: {{Offset: 0, Data: []byte("a")}}, 4: {{Offset: 0, Data: []byte("b")}, {Offset: 1, Data: []byte("c")}}})
	if err != nil || fmt.Sprint(fs.rounds) != "[[3 4] [4]]" {
		t.Errorf("%v, %v", fs.rounds, err)
	}
}
