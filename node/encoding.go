package node

import (
	"context"
	"errors"
	"time"

	"warren/node/config"
)

// Encoding is the encoding that fits a grid of n storage servers: k-of-n with k up
// to 3, on more than half of what could be lost. For ten servers and more it is
// Tahoe's 3-of-10, happy 7.
func Encoding(servers int) (needed, happy, total int) {
	total = max(1, min(servers, 10))
	needed = min(3, (total+1)/2)
	return needed, needed + (total-needed+1)/2, total
}

// Survey asks a node directory's introducers which storage servers there are, and
// returns how many. It waits until an introducer has answered and no further
// announcement has come for a moment; ctx bounds the whole.
func Survey(ctx context.Context, cfg *config.Node, opts Options) (int, error) {
	n, err := Open(cfg, opts)
	if err != nil {
		return 0, err
	}
	defer n.Close()
	if n.Grid == nil {
		return 0, errors.New("an introducer uses no storage")
	}
	n.surveying = true
	if err := n.startIntroducers(nil); err != nil {
		return 0, err
	}
	const quiet, look = 500 * time.Millisecond, 50 * time.Millisecond
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	last, since, answered := 0, time.Duration(0), false
	for {
		select {
		case <-ctx.Done():
			if answered || last > 0 {
				return last, nil
			}
			return 0, errors.New("it did not answer in time")
		case <-ticker.C:
		}
		for _, c := range n.clients {
			answered = answered || c.Status().Subscribed
		}
		now := 0
		for _, s := range n.Grid.Servers() {
			if !s.Local {
				now++
			}
		}
		if now != last || !answered {
			last, since = now, 0
			continue
		}
		if since += look; since >= quiet {
			return last, nil
		}
	}
}
