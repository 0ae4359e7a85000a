package daemon

import (
	"testing"
	"time"
)

// A directory waits for servers that are known, while enough for it are there, and
// not for ever.
func TestGather(t *testing.T) {
	for what, c := range map[string]struct {
		connected []int // at each look
		late      bool  // the time is up at the last look
	}{
		"all are there":        {[]int{5}, false},
		"too few for anything": {[]int{1}, false},
		"they come":            {[]int{2, 3, 5}, false},
		"one never comes":      {[]int{2, 3, 4}, true},
		"they go":              {[]int{3, 1}, false},
	} {
		late, looks := make(chan time.Time, 1), 0
		gather(t.Context(), late, 2, func() (int, int, <-chan struct{}) {
			changed := make(chan struct{})
			if looks++; looks < len(c.connected) {
				close(changed)
			} else if c.late {
				late <- time.Time{}
			}
			return c.connected[min(looks, len(c.connected))-1], 5, changed
		})
		if looks != len(c.connected) {
			t.Errorf("%s: looked %d times, want %d", what, looks, len(c.connected))
		}
	}
}
