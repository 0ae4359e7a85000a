package expire_test

import (
	"errors"
	"testing"
	"time"

	"warren/node/storage"
	"warren/node/storage/container"
	"warren/node/storage/expire"
)

const day = 24 * 3600

// now is midday of 2026-11-23, UTC.
var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// granted is a lease that was granted or renewed so many seconds before now.
func granted(ago int64) container.Stored {
	return container.Stored{Lease: container.Lease{Owner: 1, Expires: uint32(now.Unix() - ago + 31*day)}}
}

func TestJudge(t *testing.T) {
	age := expire.Settings{Mode: expire.Age, Immutable: true, Mutable: true}
	sixty := age
	sixty.Override = 60 * day
	week := age
	week.Override = 7 * day
	cutoff := expire.Settings{Mode: expire.CutoffDate, Cutoff: now.Unix() - 12*3600, Immutable: true, Mutable: true}
	files, slots := age, age
	files.Mutable, slots.Immutable = false, false
	leases := func(ago ...int64) (all []container.Stored) {
		for _, a := range ago {
			all = append(all, granted(a))
		}
		return all
	}
	broken := errors.New("input/output error")
	for _, c := range []struct {
		name     string
		settings expire.Settings
		held     storage.Held
		want     expire.Reason
	}{
		{"fresh", age, storage.Held{Leases: leases(0)}, expire.Leased},
		{"from a clock ahead of ours", age, storage.Held{Leases: leases(-400 * day)}, expire.Leased},
		{"in its last second", age, storage.Held{Leases: leases(31 * day)}, expire.Leased},
		{"a second past its end", age, storage.Held{Leases: leases(31*day + 1)}, expire.Ended},
		{"long past its end", age, storage.Held{Leases: leases(3000 * day)}, expire.Ended},
		{"one of three holds", age, storage.Held{Leases: leases(99*day, 1*day, 98*day)}, expire.Leased},
		{"none of three holds", age, storage.Held{Leases: leases(99*day, 33*day, 98*day)}, expire.Ended},
		{"no lease", age, storage.Held{}, expire.Unleased},
		{"unreadable", age, storage.Held{Err: broken}, expire.Unreadable},
		{"unreadable, and what was read has ended", age, storage.Held{Leases: leases(99 * day), Err: broken}, expire.Unreadable},
		{"a lease that ends in 1970", age, storage.Held{Leases: []container.Stored{{}}}, expire.Ended},
		{"a lease that never ends", age, storage.Held{Leases: []container.Stored{{Lease: container.Lease{Expires: 1<<32 - 1}}}}, expire.Leased},
		{"longer: past its end, not its duration", sixty, storage.Held{Leases: leases(60 * day)}, expire.Leased},
		{"longer: past its duration", sixty, storage.Held{Leases: leases(60*day + 1)}, expire.Outlived},
		{"shorter: before its end, past its duration", week, storage.Held{Leases: leases(7*day + 1)}, expire.Outlived},
		{"shorter: within its duration", week, storage.Held{Leases: leases(7 * day)}, expire.Leased},
		{"shorter: a lease that ends in 1970", week, storage.Held{Leases: []container.Stored{{}}}, expire.Outlived},
		{"at the cutoff", cutoff, storage.Held{Leases: leases(12 * 3600)}, expire.Leased},
		{"before the cutoff", cutoff, storage.Held{Leases: leases(12*3600 + 1)}, expire.BeforeDate},
		{"past its end, but after the cutoff", expire.Settings{Mode: expire.CutoffDate, Cutoff: 5, Immutable: true, Mutable: true}, storage.Held{Leases: leases(99 * day)}, expire.Leased},
		{"a duration counts for nothing beside a date", expire.Settings{Mode: expire.CutoffDate, Cutoff: 5, Override: 1, Immutable: true, Mutable: true}, storage.Held{Leases: leases(99 * day)}, expire.Leased},
		{"files only: a slot", files, storage.Held{Kind: storage.Mutable, Leases: leases(99 * day)}, expire.Exempt},
		{"files only: a file", files, storage.Held{Kind: storage.Immutable, Leases: leases(99 * day)}, expire.Ended},
		{"files only: a leased slot", files, storage.Held{Kind: storage.Mutable, Leases: leases(9 * day)}, expire.Leased},
		{"slots only: a file", slots, storage.Held{Kind: storage.Immutable, Leases: leases(99 * day)}, expire.Exempt},
		{"slots only: a slot", slots, storage.Held{Kind: storage.Mutable, Leases: leases(99 * day)}, expire.Ended},
	} {
		if c.held.Kind == "" && c.held.Err == nil {
			c.held.Kind = storage.Immutable
		}
		for _, enabled := range []bool{false, true} {
			c.settings.Enabled = enabled
			if got := c.settings.Judge(c.held, now); got != c.want {
				t.Errorf("%s: %s, want %s", c.name, got, c.want)
			}
		}
	}
	going := 0
	for _, r := range expire.Reasons() {
		if r.Goes() {
			going++
		}
	}
	if going != 3 || len(expire.Reasons()) != 7 {
		t.Errorf("%d of %d reasons make a share go", going, len(expire.Reasons()))
	}
}
