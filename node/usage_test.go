package node

import (
	"testing"
	"time"

	"warren/node/storage"
)

// An average is told once there are samples for it, over the latest ones.
func TestUsage(t *testing.T) {
	u := newUsage()
	figures := func() map[string]float64 {
		s := storage.Statistics{Stats: map[string]*float64{}}
		u.addTo(s)
		out := map[string]float64{}
		for name, v := range s.Stats {
			out[name] = *v
		}
		return out
	}
	for until := time.Now().Add(time.Minute); figures()["cpu_monitor.total"] == 0; { // it uses some meanwhile
		if time.Now().After(until) {
			t.Fatal("no processor time is counted")
		}
	}
	at, used := time.Now(), time.Duration(0)
	for minute, want := range map[int]int{0: 2, 1: 3, 4: 3, 5: 4, 14: 4, 15: 5, 40: 5} {
		u.samples = nil
		at, used = time.Now(), 0
		for m := range minute + 1 {
			u.sample(sample{at, used})
			at = at.Add(time.Minute)
			used += time.Duration(m) * time.Second
		}
		if got := figures(); len(got) != want {
			t.Errorf("after %d minutes: %v", minute, got)
		}
	}
	u.samples = nil
	for m := range 41 {
		u.sample(sample{at, used})
		at = at.Add(time.Minute)
		used += time.Duration(m) * time.Second
	}
	got := figures()
	for name, want := range map[string]float64{"cpu_monitor.1min_avg": 39. / 60, "cpu_monitor.5min_avg": 37. / 60, "cpu_monitor.15min_avg": 32. / 60} {
		if d := got[name] - want; d > 1e-9 || d < -1e-9 {
			t.Errorf("%s: %v, want %v", name, got[name], want)
		}
	}
	if len(u.samples) != 16 {
		t.Errorf("%d samples", len(u.samples))
	}
}
