// Package storagetest holds the suites that every storage backend (Backends) and
// every storage client (Clients) passes, a backend that fails on command (Faulty),
// and a server in memory for the tests of other rooms (NewLocal).
package storagetest

import (
	"testing"

	"warren/node/storage"
	"warren/node/storage/mem"
)

// NewLocal is a client of a fresh server in memory, without limits.
func NewLocal(t testing.TB) storage.Client {
	client, _ := NewLocalMem(t)
	return client
}

// NewLocalMem is NewLocal, and the backend in which its shares are: to look at
// them or to damage them.
func NewLocalMem(t testing.TB) (storage.Client, *mem.Backend) {
	backend := mem.New(0)
	server := storage.NewServer(backend, storage.Options{NodeID: [20]byte{19: 1}})
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Errorf("closing the storage server: %v", err)
		}
	})
	return storage.Local(server), backend
}
