package mutable

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// Writers that race, each with a Store of its own, on servers that answer in any
// order: what was acknowledged is there, in every encoding, also where n < 2k-1
// and a clash can leave no version whole.
func TestRace(t *testing.T) {
	for _, c := range []struct{ k, happy, n, servers, writers, each int }{
		{3, 4, 5, 5, 2, 60},
		{3, 3, 3, 3, 2, 30},
		{2, 3, 3, 3, 2, 30},
		{1, 1, 1, 1, 2, 30},
		{3, 4, 10, 4, 4, 15},
	} {
		t.Run(fmt.Sprintf("%d-of-%d on %d, %d writers", c.k, c.n, c.servers, c.writers), func(t *testing.T) {
			g := newTestGrid(t, c.servers)
			for i, srv := range g.servers {
				r := rand.New(rand.NewPCG(uint64(i), 7))
				g.tests[srv.ID].set(func(s *testServer) {
					s.before = func(bool) error { // under the server's lock
						for range r.IntN(20) {
							runtime.Gosched()
						}
						return nil
					}
				})
			}
			opts := Options{Needed: c.k, Happy: c.happy, Total: c.n, Attempts: 200, Pause: func(ctx context.Context, n int) error {
				for range rand.IntN(200 * n) {
					runtime.Gosched()
				}
				return ctx.Err()
			}}
			file := mustCreate(t, g.store(t, opts), nil)
			var mu sync.Mutex // guards acknowledged
			acknowledged := map[string]bool{}
			var wg sync.WaitGroup
			for w := range c.writers {
				wg.Add(1)
				go func() {
					defer wg.Done()
					s := g.store(t, opts)
					for i := range c.each {
						entry := fmt.Sprintf("[%d:%d]", w, i)
						err := s.Modify(ctx, file, appendText(entry))
						switch {
						case err == nil:
							mu.Lock()
							acknowledged[entry] = true
							mu.Unlock()
						case errors.Is(err, ErrUncoordinated), errors.Is(err, ErrNewerVersion):
						case errors.Is(err, ErrNotEnoughShares) && c.n < 2*c.k-1: // amid another's write
						default:
							t.Errorf("%s: %v", entry, err)
						}
					}
				}()
			}
			wg.Wait()
			got := mustRead(t, g.store(t, opts), file)
			lost := 0
			for entry := range acknowledged {
				if !strings.Contains(got, entry) {
					lost++
				}
				if strings.Count(got, entry) > 1 {
					t.Errorf("%s stands twice", entry)
				}
			}
			if lost > 0 {
				t.Errorf("%d of %d acknowledged entries are lost", lost, len(acknowledged))
			}
			want := c.writers * c.each
			if c.n >= 2*c.k-1 && len(acknowledged) < want*9/10 || len(acknowledged) < want/2 {
				t.Errorf("%d of %d were acknowledged", len(acknowledged), want)
			}
		})
	}
}
