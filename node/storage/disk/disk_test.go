package disk_test

import (
	"os"
	"path/filepath"
	"testing"

	"warren/node/caps"
	"warren/node/storage"
	"warren/node/storage/disk"
	"warren/node/storage/storagetest"
)

func open(t *testing.T, dir string) *disk.Backend {
	t.Helper()
	b, err := disk.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBackend(t *testing.T) {
	storagetest.Backends(t, func(t *testing.T) (storage.Backend, func() storage.Backend) {
		dir := t.TempDir()
		return open(t, dir), func() storage.Backend { return open(t, dir) }
	})
}

func TestClients(t *testing.T) {
	storagetest.Clients(t, func(t *testing.T) storage.Client {
		return storage.Local(storage.NewServer(open(t, t.TempDir()), storage.Options{}))
	})
}

func TestLayout(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "storage")
	b := open(t, dir)
	si := caps.StorageIndex{0xff, 0x10, 3}
	text := si.Text()
	d, err := b.Draft(si, 7, false)
	if err != nil {
		t.Fatal(err)
	}
	if drafts, _ := os.ReadDir(filepath.Join(dir, "shares", "incoming")); len(drafts) != 1 {
		t.Errorf("the draft is not where Tahoe cleans up: %v", drafts)
	}
	if err := b.Publish(si, map[int]storage.Draft{7: d}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "shares", text[:2], text, "7")); err != nil {
		t.Errorf("the share is not where Tahoe has it: %v", err)
	}
	if left, _ := os.ReadDir(filepath.Join(dir, "shares", "incoming")); len(left) != 0 {
		t.Errorf("left in incoming: %v", left)
	}
	// Names that are no share number are nobody's.
	for _, name := range []string{"007", "-1", "+1", "256", "99999999999999999999", "7.tmp", "x", " 1"} {
		if err := os.WriteFile(filepath.Join(dir, "shares", text[:2], text, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := b.Shares(si); err != nil || len(got) != 1 {
		t.Errorf("shares %v, %v", got, err)
	}
}

// TestOpenDropsDrafts: what an earlier process left incomplete goes, what is
// complete stays.
func TestOpenDropsDrafts(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	if _, err := b.Draft(caps.StorageIndex{1}, 1, false); err != nil {
		t.Fatal(err)
	}
	d, err := b.Draft(caps.StorageIndex{2}, 1, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Publish(caps.StorageIndex{2}, map[int]storage.Draft{1: d}, nil); err != nil {
		t.Fatal(err)
	}
	b = open(t, dir)
	if left, _ := os.ReadDir(filepath.Join(dir, "shares", "incoming")); len(left) != 0 {
		t.Errorf("left in incoming: %v", left)
	}
	if got, _ := b.Shares(caps.StorageIndex{2}); len(got) != 1 {
		t.Errorf("shares %v", got)
	}
}

func TestDeletedSlotLeavesNoDirectory(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	si := caps.StorageIndex{2}
	d, err := b.Draft(si, 1, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Publish(si, map[int]storage.Draft{1: d}, nil); err != nil {
		t.Fatal(err)
	}
	if err := b.Publish(si, nil, []int{1}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "shares", si.Text()[:2], si.Text())); !os.IsNotExist(err) {
		t.Errorf("the bucket's directory is still there: %v", err)
	}
}
