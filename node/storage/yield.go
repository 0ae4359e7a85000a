package storage

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// What an upload holds, its promised space above all, is its own for as long as
// nobody else needs it, or UploadTimeout at most. On a full server it must get on:
// else whoever asks for all the space there is, and then sends nothing, or a byte
// now and then, keeps everybody out.
const (
	// lull is how long an upload may go without a write, and how long it has to begin:
	// a client over Tor looks for servers for minutes before it sends.
	lull = 5 * time.Minute
	// slowest is how long all of an upload may take, at the pace that it has.
	slowest = 24 * time.Hour
)

// dawdles says whether an upload does not get on; u.mu is held.
func (u *upload) dawdles(now time.Time) bool {
	if now.Sub(u.last) > lull {
		return true
	}
	return u.written.sum() < due(u.size, now.Sub(u.begun))
}

// due is how much of an upload must have arrived after so long.
func due(size uint64, after time.Duration) uint64 {
	if after <= lull {
		return 0
	}
	return uint64(float64(size) * min(float64(after-lull)/float64(slowest), 1))
}

// underWay lists the uploads.
func (s *Server) underWay() []*upload {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.uploads))
}

// dawdlers visits those of the uploads that do not get on, each while nobody writes
// to it.
func (s *Server) dawdlers(all []*upload, visit func(*upload)) {
	now := s.opt.Now()
	for _, u := range all {
		if !u.mu.TryLock() {
			continue // it is being written to
		}
		if !u.over && u.dawdles(now) {
			visit(u)
		}
		u.mu.Unlock()
	}
}

// yield drops uploads that do not get on, the largest first, until there is room
// for so many more, and for so many bytes. If all of them would not make enough
// room, it drops none.
func (s *Server) yield(places int, bytes uint64) bool {
	if s.opt.ReadOnly {
		return false // it has no room, whoever leaves
	}
	free, err := s.backend.Available()
	if err != nil || bytes > 1<<62 {
		return false
	}
	now := s.opt.Now()
	s.mu.Lock()
	if since := now.Sub(s.barren); since >= 0 && since < time.Second {
		s.mu.Unlock()
		return false // many ask, and nobody has had the time to dawdle
	}
	places -= max(0, maxUploads-len(s.uploads))
	missing := int64(bytes) - int64(min(s.unpromised(free), 1<<62))
	s.mu.Unlock()
	if places <= 0 && missing <= 0 {
		return false // it is not for want of room
	}
	var offered []*upload
	room := int64(0)
	s.dawdlers(s.underWay(), func(u *upload) {
		offered = append(offered, u)
		room += int64(min(u.size, 1<<40)) // a sum that cannot wrap
	})
	if len(offered) == 0 {
		s.mu.Lock()
		s.barren = now
		s.mu.Unlock()
	}
	if len(offered) < places || room < missing {
		return false
	}
	slices.SortFunc(offered, func(a, b *upload) int { return cmp.Compare(b.size, a.size) })
	s.dawdlers(offered, func(u *upload) {
		if places <= 0 && missing <= 0 {
			return
		}
		places--
		missing -= int64(min(u.size, 1<<40))
		s.opt.Log.Warn("an upload that does not get on is dropped: others need its room", "storage-index", u.si.Text(), "share", u.share)
		if err := s.discard(u); err != nil {
			s.opt.Log.Warn("dropping an upload", "storage-index", u.si.Text(), "share", u.share, "error", err)
		}
	})
	return places <= 0 && missing <= 0
}
