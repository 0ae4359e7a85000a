package storage_test

import (
	"testing"

	"warren/node/storage"
	"warren/node/storage/mem"
	"warren/node/storage/storagetest"
)

func TestWatch(t *testing.T) {
	storagetest.Watchers(t, func(t *testing.T) (storage.Client, *storage.Server) {
		s := storage.NewServer(mem.New(0), storage.Options{})
		t.Cleanup(func() { s.Close() })
		return storage.Local(s), s
	})
}
