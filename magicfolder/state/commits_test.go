package state

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	bolt "go.etcd.io/bbolt"
)

var errMine = errors.New("mine")

// TestCommits: writers that come together all get what they asked for, and an
// error is told to its own writer alone.
func TestCommits(t *testing.T) {
	db, err := bolt.Open(filepath.Join(t.TempDir(), "db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	c := &commits{bolt: db}
	if err := c.update(func(tx *bolt.Tx) error { _, err := tx.CreateBucket([]byte("b")); return err }); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	const writers = 100
	for i := range writers {
		wg.Go(func() {
			err := c.update(func(tx *bolt.Tx) error {
				if err := tx.Bucket([]byte("b")).Put(fmt.Append(nil, i), []byte("x")); err != nil {
					return err
				}
				if i%10 == 3 {
					return errMine
				}
				return nil
			})
			if errors.Is(err, errMine) != (i%10 == 3) {
				t.Errorf("writer %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if err := db.View(func(tx *bolt.Tx) error {
		for i := range writers {
			if stands := tx.Bucket([]byte("b")).Get(fmt.Append(nil, i)) != nil; stands != (i%10 != 3) {
				t.Errorf("writer %d: stands: %v", i, stands)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if c.running || c.next != nil {
		t.Error("not at rest")
	}

	// One that panics takes nobody else along.
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was lost")
			}
		}()
		c.update(func(*bolt.Tx) error { panic("a bug") })
	}()
	if err := c.update(func(*bolt.Tx) error { return nil }); err != nil {
		t.Errorf("after a panic: %v", err)
	}
	db.Close()
	if err := c.update(func(*bolt.Tx) error { return nil }); err == nil {
		t.Error("stored in a closed database")
	}
}
