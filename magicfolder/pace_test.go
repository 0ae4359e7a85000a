package magicfolder

import (
	"context"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"warren/magicfolder/fsys"
	"warren/magicfolder/gridtest"
)

func TestPollInterval(t *testing.T) {
	w := newWorld(t)
	f := w.add("alice", true).f
	for _, c := range []struct {
		name    string
		quiet   time.Duration
		watched bool
		fails   int
		asking  time.Duration
		want    time.Duration
	}{
		{"after activity", time.Second, false, 0, 0, time.Second},
		{"quiet", time.Minute, false, 0, 0, 5 * time.Second},
		{"long quiet", time.Hour, false, 0, 0, 15 * time.Second},
		{"told, after activity", time.Second, true, 0, 0, 5 * time.Second},
		{"told", time.Minute, true, 0, 0, 20 * time.Second},
		{"told, long quiet", time.Hour, true, 0, 0, 20 * time.Second},
		{"failed once", time.Hour, false, 1, 0, time.Second},
		{"failed twice", time.Hour, false, 2, 0, 2 * time.Second},
		{"failed often", time.Second, false, 1000, 0, 30 * time.Second},
		{"over Tor, after activity", time.Second, false, 0, 800 * time.Millisecond, 8 * time.Second},
		{"over Tor, told", time.Minute, true, 0, 800 * time.Millisecond, 20 * time.Second},
		{"very slow", time.Second, false, 0, time.Minute, time.Minute},
	} {
		least, most := time.Hour, time.Duration(0)
		for range 300 {
			f.mu.Lock()
			f.stat.active, f.stat.asking = f.now().Add(-c.quiet), c.asking
			f.mu.Unlock()
			d := f.pollInterval(c.watched, c.fails)
			least, most = min(least, d), max(most, d)
		}
		if least < c.want*8/10 || least > c.want*9/10 || most > c.want*12/10 || most < c.want*11/10 {
			t.Errorf("%s: between %v and %v, want %v and a fifth more or less", c.name, least, most, c.want)
		}
	}
}

// TestPolls: how often a folder in which nothing goes on asks, and that it finds what is
// new: as soon as somebody tells, or with the next poll.
func TestPolls(t *testing.T) {
	for _, c := range []struct {
		name        string
		watch       error
		least, most int // polls in an hour
		within      time.Duration
	}{
		{"told", nil, 140, 240, time.Second},
		{"asking", ErrUnwatched, 230, 460, 20 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				grid := gridtest.New()
				ctx, cancel := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				var away atomic.Bool // bob's grid is
				var all [2]*Folder
				var client [2]*gridtest.Client
				var disk [2]*fsys.Memory
				for i, name := range []string{"alice", "bob"} {
					client[i], disk[i] = grid.Client(name), fsys.NewMemory()
					client[i].Fail = func(op string) error {
						switch {
						case away.Load() && name == "bob":
							return ErrUnavailable
						case op == "Watch":
							return c.watch
						}
						return nil
					}
					m, err := NewManager(Options{Grid: client[i], StatePath: filepath.Join(t.TempDir(), "f.db"), Linger: -1, Settle: -1,
						OpenFS: func(string) (fsys.FS, error) { return disk[i], nil }})
					if err != nil {
						t.Fatal(err)
					}
					defer m.Close()
					if i == 0 {
						all[i], err = m.Create(ctx, "docs", t.TempDir(), name)
					} else {
						all[i], err = m.Join(ctx, "docs", t.TempDir(), name, all[0].Collective())
					}
					if err != nil {
						t.Fatal(err)
					}
					wg.Go(func() { m.Run(ctx) })
				}
				defer wg.Wait()
				defer cancel()
				time.Sleep(time.Hour) // all is settled, and long ago
				for i, f := range all {
					if st := f.Status(); st.State != StateCurrent || len(st.Participants) != 2 {
						t.Fatalf("%d: %+v", i, st)
					}
				}
				before := client[1].Calls("Version")
				time.Sleep(time.Hour)
				// Each asks for the Collective, alice's directory and bob's.
				if n := (client[1].Calls("Version") - before) / 3; n < c.least || n > c.most {
					t.Errorf("%d polls in an hour, want %d to %d", n, c.least, c.most)
				}
				for range 3 {
					text := time.Now().String()
					disk[0].Write("f", []byte(text))
					if err := all[0].ScanNow(ctx); err != nil {
						t.Fatal(err)
					}
					began := time.Now()
					for {
						if b, _ := disk[1].Read("f"); string(b) == text {
							break
						}
						time.Sleep(10 * time.Millisecond)
					}
					if took := time.Since(began); took > c.within {
						t.Errorf("it took %v", took)
					}
					time.Sleep(20 * time.Minute)
				}
				// Whose grid is away does not say that all is well.
				away.Store(true)
				time.Sleep(time.Minute)
				if st := all[1].Status(); st.State != StateOffline {
					t.Errorf("%s without a grid", st.State)
				}
			})
		})
	}
}
