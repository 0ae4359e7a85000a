// Package expire ends the storage of shares whose leases have ended: the settings
// expire.* of Tahoe's [storage] section (docs/garbage-collection.rst), which are off
// by default.
//
//	verdict := settings.Judge(held, now)          // pure: keep or drop, and why
//	results, err := expire.Examine(shelf, ...)     // a whole directory at once, removing nothing
//	expire.New(server, options).Run(ctx)           // the crawler of a running server
//
// A share goes when it has leases and every one of them has ended. What has no lease
// at all stays, as with Tahoe's crawler, and so does what cannot be read. Leases
// that have ended stay in their share as long as one holds: they are in nobody's
// way, and their owner may renew them.
//
// A lease records when it ends; it was granted or renewed 31 days before that. It
// has ended in mode
//
//	age          when now is past its end, or, with expire.override_lease_duration,
//	             past its grant by more than that
//	cutoff-date  when it was granted before the midnight, UTC, that begins the date
//
// This is what Tahoe's document says. The crawler of Tahoe 1.20 differs in one case:
// in mode age without a duration it compares a lease's age with its date of end, and
// so never removes anything.
//
// The crawler walks the shares by prefix, a tenth of the time at work, as Tahoe's
// does: it begins six minutes after the server, and a new round twelve hours after
// the last. Its place, and what it has found, are in a file of ours and survive a
// restart; Tahoe's own files are left alone. With expiry off it only counts.
package expire

import (
	"time"

	"warren/node/storage"
	"warren/node/storage/container"
)

// Mode says what a lease's age is measured by.
type Mode string

// The modes, spelled as in tahoe.cfg.
const (
	Age        Mode = "age"
	CutoffDate Mode = "cutoff-date"
)

// Settings say which leases have ended, and of which shares. They are comparable.
type Settings struct {
	// Enabled: shares are removed. Otherwise they are only counted.
	Enabled bool `json:"enabled"`
	Mode    Mode `json:"mode"`
	// Override is how many seconds a lease lasts, in mode age; 0 for as long as it was
	// granted for.
	Override int64 `json:"override_lease_duration,omitempty"`
	// Cutoff, in seconds since 1970: what was granted before has ended, in mode
	// cutoff-date.
	Cutoff int64 `json:"cutoff_date,omitempty"`
	// Immutable and Mutable are the kinds of shares that may go.
	Immutable bool `json:"immutable"`
	Mutable   bool `json:"mutable"`
}

// Reason is why a share stays or goes.
type Reason string

// The reasons.
const (
	Leased     Reason = "leased"     // stays: a lease holds
	Unleased   Reason = "no lease"   // stays: it has none, so none has ended
	Exempt     Reason = "exempt"     // stays: its kind does not go
	Unreadable Reason = "unreadable" // stays: it cannot be read, or is no share
	Ended      Reason = "ended"      // goes: all leases are past their end
	Outlived   Reason = "outlived"   // goes: all leases are older than the duration in the settings
	BeforeDate Reason = "before the cutoff date"
)

// Reasons lists all reasons; those why a share goes come last.
func Reasons() []Reason {
	return []Reason{Leased, Unleased, Exempt, Unreadable, Ended, Outlived, BeforeDate}
}

// Goes says whether a share with that verdict goes, where expiry is enabled.
func (r Reason) Goes() bool { return r == Ended || r == Outlived || r == BeforeDate }

// granted is how many seconds before its end a lease was granted or renewed.
const granted = int64(container.LeaseDuration / time.Second)

// Judge says whether a share stays or goes, as if expiry were enabled, and why.
func (s Settings) Judge(h storage.Held, now time.Time) Reason {
	if h.Err != nil {
		return Unreadable
	}
	if len(h.Leases) == 0 {
		return Unleased
	}
	end := s.reason()
	for _, l := range h.Leases {
		if !s.ended(int64(l.Expires), now.Unix()) {
			return Leased
		}
	}
	if h.Kind == storage.Mutable && !s.Mutable || h.Kind == storage.Immutable && !s.Immutable {
		return Exempt
	}
	return end
}

func (s Settings) reason() Reason {
	switch {
	case s.Mode == CutoffDate:
		return BeforeDate
	case s.Override > 0:
		return Outlived
	}
	return Ended
}

// ended says whether a lease that ends at expires has ended.
func (s Settings) ended(expires, now int64) bool {
	switch s.reason() {
	case BeforeDate:
		return expires-granted < s.Cutoff
	case Outlived:
		return now-(expires-granted) > s.Override
	}
	return now > expires
}
