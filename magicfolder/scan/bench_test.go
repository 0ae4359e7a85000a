package scan

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"warren/magicfolder/fsys"
	"warren/magicfolder/remote"
	"warren/magicfolder/state"
)

// populate makes n files in directories of a hundred, and the records of them.
func populate(t testing.TB, n int) (dir string, disk fsys.FS, store *state.Store) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "folder")
	if err := fsys.Make(dir); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		sub := filepath.Join(dir, fmt.Sprintf("branch %d", i/10000), fmt.Sprintf("twig %d", i/100%100))
		if i%100 == 0 {
			if err := os.MkdirAll(sub, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(sub, fmt.Sprintf("leaf %d.txt", i)), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	disk, err := fsys.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { disk.Close() })
	db, err := state.Open(filepath.Join(t.TempDir(), "db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if store, err = db.Add(state.Folder{ID: "x", Name: "x"}); err != nil {
		t.Fatal(err)
	}
	res, err := Scan(disk, store, &Ignore{})
	if err != nil || len(res.Changes) != n {
		t.Fatalf("%d changes, %v", len(res.Changes), err)
	}
	// As they are in life: caps and sums make a record some 700 bytes long.
	c := "URI:CHK:aaaaaaaaaaaaaaaaaaaaaaaaaa:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb:3:5:10000"
	err = store.Update(func(tx *state.Tx) error {
		for _, ch := range res.Changes {
			it, err := disk.Lstat(ch.Path)
			if err != nil {
				return err
			}
			rec := state.File{Relpath: ch.Path, Disk: &it.State, Sum: make([]byte, 32)}
			rec.Head, rec.Linked, rec.Content = "URI:DIR2-CHK:aaaaaaaaaaaaaaaaaaaaaaaaaa:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb:3:5:1500",
				"URI:DIR2-CHK:aaaaaaaaaaaaaaaaaaaaaaaaaa:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb:3:5:1500", remote.Cap(c)
			if err := tx.PutFile(ch.Key, rec); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir, disk, store
}

// bare is the least that any scan does: a look at each file.
func bare(dir string) (n int, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		_, err = d.Info()
		n++
		return err
	})
	return n, err
}

// BenchmarkRescan scans 100,000 files that did not change, and beside it walks the
// same tree with nothing but lstat: "ratio" is the one by the other.
func BenchmarkRescan(b *testing.B) {
	const n = 100_000
	dir, disk, store := populate(b, n)
	var walks, scans time.Duration
	for b.Loop() {
		start := time.Now()
		if got, err := bare(dir); err != nil || got < n {
			b.Fatal(got, err)
		}
		walks += time.Since(start)
		start = time.Now()
		res, err := Scan(disk, store, &Ignore{})
		if err != nil || len(res.Changes) > 0 || res.Files != n {
			b.Fatal(len(res.Changes), res.Files, err)
		}
		scans += time.Since(start)
	}
	b.ReportMetric(float64(scans)/float64(walks), "ratio")
	b.ReportMetric(float64(walks.Milliseconds())/float64(b.N), "ms/walk")
	b.ReportMetric(float64(scans.Milliseconds())/float64(b.N), "ms/scan")
	b.ReportMetric(0, "ns/op")
}
