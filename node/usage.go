package node

import (
	"context"
	"sync"
	"time"

	"warren/node/storage"
)

// usage is what the process has used of the machine, under the names of Tahoe's
// statistics (allmydata/stats.py): node.uptime in seconds, cpu_monitor.total in seconds
// of a processor, and cpu_monitor.Nmin_avg, the share of one processor in the last N
// minutes, once there are so many.
type usage struct {
	began time.Time
	cpu   time.Duration // used before

	mu      sync.Mutex
	samples []sample // one for each minute, the oldest first
}

type sample struct {
	at  time.Time
	cpu time.Duration
}

// averaged are the spans of averages in minutes; the last is the longest.
var averaged = []struct {
	minutes int
	name    string
}{{1, "cpu_monitor.1min_avg"}, {5, "cpu_monitor.5min_avg"}, {15, "cpu_monitor.15min_avg"}}

func newUsage() *usage { return &usage{began: time.Now(), cpu: cpuTime()} }

// watch takes samples until ctx ends.
func (u *usage) watch(ctx context.Context) {
	minute := time.NewTicker(time.Minute)
	defer minute.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-minute.C:
			u.sample(sample{now, cpuTime()})
		}
	}
}

func (u *usage) sample(s sample) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.samples) > averaged[len(averaged)-1].minutes {
		u.samples = u.samples[1:]
	}
	u.samples = append(u.samples, s)
}

func (u *usage) addTo(s storage.Statistics) {
	s.Set("node.uptime", time.Since(u.began).Seconds())
	s.Set("cpu_monitor.total", (cpuTime() - u.cpu).Seconds())
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, a := range averaged {
		if n := len(u.samples); n > a.minutes {
			from, to := u.samples[n-1-a.minutes], u.samples[n-1]
			s.Set(a.name, float64(to.cpu-from.cpu)/float64(to.at.Sub(from.at)))
		}
	}
}
