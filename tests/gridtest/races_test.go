package gridtest_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"warren/node/caps"
	"warren/node/dirnode"
	"warren/node/mutable"
	"warren/tests/gridtest"
)

// TestRacesOnOneDirectory: 200 times (60 in MDMF) two clients add an entry to one directory at
// the same moment, and one removes some of its own: what was reported as done stands.
func TestRacesOnOneDirectory(t *testing.T) {
	for format, each := range map[mutable.Format]int{mutable.SDMF: 200, mutable.MDMF: 60} {
		t.Run(format.String(), func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			var met atomic.Int64
			g := gridtest.New(t, gridtest.Options{Pause: func(ctx context.Context, n int) error {
				met.Add(1)
				for range rand.IntN(50 * n) {
					runtime.Gosched()
				}
				return ctx.Err()
			}})
			dir, err := g.Dirs.MakeIn(ctx, mutable.Kind{Format: format}, nil)
			if err != nil {
				t.Fatal(err)
			}
			entry := func(name string) dirnode.Entry {
				return dirnode.NewEntry(name, caps.LIT{Data: []byte(name)}, nil)
			}
			var mu sync.Mutex // guards what follows
			stands, gone := map[string]bool{}, map[string]bool{}
			began := time.Now()
			clients := map[string]*gridtest.Client{"alice": g.Client, "bob": g.Join(t)}
			for i := range each {
				start := make(chan struct{})
				var wg sync.WaitGroup
				for who, c := range clients {
					wg.Go(func() {
						name := fmt.Sprintf("%s %d", who, i)
						// A repeated attempt must know its own entry.
						changes := []dirnode.Change{{Entry: entry(name), Overwrite: dirnode.Never}}
						removed := ""
						if who == "bob" && i%10 == 9 {
							removed = fmt.Sprintf("%s %d", who, i-5)
							changes = append(changes, dirnode.Change{Delete: true, MustExist: true, Entry: dirnode.Entry{Name: removed}})
						}
						<-start
						if err := c.Dirs.Edit(ctx, dir, changes); err != nil {
							t.Errorf("%s: %v", name, err)
							return
						}
						mu.Lock()
						defer mu.Unlock()
						stands[name] = true
						if removed != "" {
							delete(stands, removed)
							gone[removed] = true
						}
					})
				}
				close(start)
				wg.Wait()
			}
			t.Logf("%d races in %v; %d times one had to begin again", each, time.Since(began), met.Load())
			if met.Load() < int64(each/2) {
				t.Errorf("%d times one had to begin again: that is no race", met.Load())
			}
			entries, version, err := g.Join(t).Dirs.List(ctx, dir)
			if err != nil {
				t.Fatal(err)
			}
			listed := map[string]bool{}
			for _, e := range entries {
				listed[e.Name] = true
				if lit, ok := e.Cap().(caps.LIT); !ok || !bytes.Equal(lit.Data, []byte(e.Name)) {
					t.Errorf("%s is another's entry", e.Name)
				}
				if gone[e.Name] {
					t.Errorf("%s is back", e.Name)
				}
			}
			lost := 0
			for name := range stands {
				if !listed[name] {
					lost++
				}
			}
			if lost > 0 || len(listed) != len(stands) || len(stands) != 2*each-len(gone) {
				t.Errorf("%d stored, %d listed, %d lost", len(stands), len(listed), lost)
			}
			if version.Seqnum <= uint64(2*each) {
				t.Errorf("version %d after %d edits", version.Seqnum, 2*each)
			}
			if len(g.Slots.Rollbacks()) > 0 {
				t.Errorf("false alarms: %v", g.Slots.Rollbacks())
			}
		})
	}
}
