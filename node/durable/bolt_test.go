package durable

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

func TestOpenBolt(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "db")
	options := &bolt.Options{Timeout: 10 * time.Millisecond}
	put := func() {
		t.Helper()
		db, err := OpenBolt(path, options)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if _, err := OpenBolt(path, options); !errors.Is(err, bolterrors.ErrTimeout) {
			t.Errorf("open twice: %v", err)
		}
		if err := db.Update(func(tx *bolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("b"))
			if err != nil {
				return err
			}
			if n := b.Stats().KeyN; n > 1 {
				t.Errorf("%d keys", n)
			}
			return b.Put([]byte("k"), []byte("v"))
		}); err != nil {
			t.Fatal(err)
		}
	}
	put()
	put() // it stays what it is
	whole, err := os.ReadFile(path)
	if err != nil || !bytes.Contains(whole, []byte("kv")) {
		t.Fatalf("%d bytes, %v", len(whole), err)
	}
	// Every piece that a making of before may have left: to map one is to die.
	for size := 0; size < leastBolt; size += 1024 {
		if err := os.WriteFile(path, whole[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		put()
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if _, err := OpenBolt(filepath.Join(dir, "missing", "db"), options); err == nil {
		t.Error("made in a directory that is not there")
	}
}

// Of several who make it at once all open the same one.
func TestOpenBoltAtOnce(t *testing.T) {
	for range 20 {
		path := filepath.Join(t.TempDir(), "db")
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				db, err := OpenBolt(path, &bolt.Options{Timeout: time.Minute})
				if err != nil {
					t.Error(err)
					return
				}
				defer db.Close()
				if err := db.Update(func(tx *bolt.Tx) error {
					_, err := tx.CreateBucketIfNotExists([]byte{byte('a' + i)})
					return err
				}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		db, err := OpenBolt(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		db.View(func(tx *bolt.Tx) error {
			return tx.ForEach(func([]byte, *bolt.Bucket) error { n++; return nil })
		})
		if db.Close(); n != 4 {
			t.Fatalf("%d of 4 buckets", n)
		}
	}
}
