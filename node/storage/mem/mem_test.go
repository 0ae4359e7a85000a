package mem_test

import (
	"testing"

	"warren/node/storage"
	"warren/node/storage/mem"
	"warren/node/storage/storagetest"
)

func TestBackend(t *testing.T) {
	storagetest.Backends(t, func(t *testing.T) (storage.Backend, func() storage.Backend) {
		b := mem.New(0)
		return b, func() storage.Backend { return b }
	})
}
