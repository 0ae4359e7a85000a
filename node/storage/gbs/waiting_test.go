package gbs_test

import (
	"testing"
	"testing/synctest"
	"time"

	"warren/node/storage/gbs"
)

// TestSlowClientsMakeRoom: clients that are as slow as can be, three of each kind,
// hold all the streams, and all the memory, that there are; whoever else comes is
// served before its patience ends, each time.
func TestSlowClientsMakeRoom(t *testing.T) {
	cert := certificate(t, false)
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{T: t, pipes: make(pipes)}
		var all []func(b *bubble, n byte)
		for _, h := range hostiles {
			all = append(all, h.run)
		}
		waited := b.among(cert, gbs.Options{MaxRequests: 1, MaxStreams: 4}, 3, all...)
		if waited > 50*time.Second {
			t.Errorf("the others waited for %v", waited)
		}
		if waited == 0 {
			t.Error("nobody waited: this test would prove nothing")
		}
	})
}
