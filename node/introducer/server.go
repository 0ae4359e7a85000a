package introducer

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"warren/node/foolscap"
	"warren/node/foolscap/banana"
	"warren/node/furl"
)

// Bounds of what a Server keeps.
const (
	// maxKept is how many announcements there are, maxKeptBytes how large all are
	// together.
	maxKept      = maxKnown
	maxKeptBytes = 8 << 20
	// maxPerPeer is how many announcements one tub may have and maxSubscriptions how
	// many subscriptions. A Tahoe node has one of each.
	maxPerPeer       = 32
	maxSubscriptions = 8
	// batch is how many bytes of announcements go into one message.
	batch = 256 << 10
)

// Server is an introducer. Safe for concurrent use.
type Server struct {
	version string
	log     *slog.Logger
	object  *foolscap.Object
	ctx     context.Context
	cancel  context.CancelFunc
	work    sync.WaitGroup

	mu            sync.Mutex // guards everything below
	closed        bool
	announcements map[index]*kept
	bytes         int // of all announcements' messages
	subscribers   map[*subscriber]bool
}

// kept is an announcement and whose it is.
type kept struct {
	Announcement
	signed Signed
	peer   string
	canary *foolscap.Remote // its Done says that the announcer is gone
}

// subscriber is one subscription.
type subscriber struct {
	service string
	remote  *foolscap.Remote
	info    SubscriberInfo
	news    map[index]Signed // not sent yet; guarded by Server.mu
	wake    chan struct{}
}

// SubscriberInfo describes one subscriber, for a status page. Nickname and
// Version are foreign text: clean them before a terminal.
type SubscriberInfo struct {
	ServiceName       string
	TubID             string
	Nickname, Version string
	Since             time.Time
}

// NewServer returns an introducer that calls itself version ("warren/0.1.0"). log
// may be nil.
func NewServer(version string, log *slog.Logger) *Server {
	s := &Server{version: version, log: log, announcements: map[index]*kept{}, subscribers: map[*subscriber]bool{}}
	if log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.object = &foolscap.Object{Interface: serverInterface, Handler: foolscap.HandlerFunc(s.handle)}
	return s
}

// Register makes the introducer reachable and returns its FURL, which the caller
// keeps (private/introducer.furl): with the same swissnum and tub it is the same
// again after a restart.
func (s *Server) Register(tub *foolscap.Tub, swissnum string) furl.FURL {
	return tub.Register(s.object, swissnum)
}

// Close ends it and waits until it calls nobody any more. The tub is the caller's.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.work.Wait()
}

// Announcements returns all announcements, ordered by service and key.
func (s *Server) Announcements() []Announcement {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Announcement
	for _, k := range s.announcements {
		out = append(out, k.Announcement)
	}
	slices.SortFunc(out, byKey)
	return out
}

// Subscribers returns who listens.
func (s *Server) Subscribers() []SubscriberInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []SubscriberInfo
	for sub := range s.subscribers {
		out = append(out, sub.info)
	}
	slices.SortFunc(out, func(a, b SubscriberInfo) int { return a.Since.Compare(b.Since) })
	return out
}

func (s *Server) handle(_ context.Context, c foolscap.Call) (any, error) {
	switch c.Method {
	case "get_version":
		c.Args.Release()
		return banana.Dict{
			{Key: []byte("application-version"), Value: []byte(s.version)},
			{Key: []byte(v2), Value: banana.Dict{}},
		}, nil
	case "publish_v2":
		args, err := c.Args.Bind("announcement", "canary")
		if err == nil {
			err = s.publish(c.Peer, args)
		}
		if err != nil {
			c.Args.Release()
			s.log.Warn("introducer: refused an announcement", "tub", c.Peer, "error", err)
		}
		return nil, err
	case "subscribe_v2":
		args, err := c.Args.Bind("subscriber", "service_name", "subscriber_info")
		if err == nil {
			err = s.subscribe(args)
		}
		if err != nil {
			c.Args.Release()
			s.log.Warn("introducer: refused a subscription", "tub", c.Peer, "error", err)
		}
		return nil, err
	}
	c.Args.Release()
	return nil, foolscap.NoMethod()
}

// publish takes an announcement in; without an error the canary is kept or
// released.
func (s *Server) publish(peer string, args []any) error {
	signed, err := parseTuple(args[0])
	if err != nil {
		return foolscap.Violation("%v", err)
	}
	canary, ok := args[1].(*foolscap.Remote)
	if !ok {
		return foolscap.Violation("the canary is no reference")
	}
	a, err := signed.Verify()
	if err != nil {
		return foolscap.Violation("%v", err)
	}
	a.When = time.Now()
	k := &kept{Announcement: a, signed: signed, peer: peer, canary: canary}
	i := index{a.ServiceName, a.KeyID}

	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.announcements[i]
	if old != nil && (reflect.DeepEqual(old.Values, a.Values) || !a.supersedes(old.Announcement)) {
		if reflect.DeepEqual(old.Values, a.Values) && gone(old) { // published again over a new connection
			old.peer, old.canary, canary = peer, canary, old.canary
		}
		canary.Release()
		return nil // Tahoe, too, says nothing to a replay.
	}
	if err := s.room(k, old); err != nil {
		return err
	}
	if old != nil {
		s.remove(i, old)
	}
	s.announcements[i] = k
	s.bytes += len(signed.Message)
	for sub := range s.subscribers {
		if sub.service == a.ServiceName {
			sub.news[i] = signed
			poke(sub.wake)
		}
	}
	return nil
}

// room makes room for k in place of old. s.mu is held.
func (s *Server) room(k, old *kept) error {
	mine := 0
	for _, other := range s.announcements {
		if other != old && other.peer == k.peer {
			mine++
		}
	}
	if mine >= maxPerPeer {
		return foolscap.Violation("too many announcements by one tub")
	}
	size := len(k.signed.Message)
	count := len(s.announcements)
	if old != nil {
		size -= len(old.signed.Message)
		count--
	}
	for count >= maxKept || s.bytes+size > maxKeptBytes {
		// Those whose announcer is gone make room, the oldest first.
		var oldest *kept
		for _, other := range s.announcements {
			if other != old && gone(other) && (oldest == nil || other.When.Before(oldest.When)) {
				oldest = other
			}
		}
		if oldest == nil {
			return foolscap.Violation("too many announcements")
		}
		s.remove(index{oldest.ServiceName, oldest.KeyID}, oldest)
		count--
	}
	return nil
}

func gone(k *kept) bool {
	select {
	case <-k.canary.Done():
		return true
	default:
		return false
	}
}

// remove forgets an announcement. s.mu is held.
func (s *Server) remove(i index, k *kept) {
	delete(s.announcements, i)
	s.bytes -= len(k.signed.Message)
	k.canary.Release()
}

// subscribe takes a subscriber in; without an error its reference is kept or
// released.
func (s *Server) subscribe(args []any) error {
	remote, ok := args[0].(*foolscap.Remote)
	if !ok {
		return foolscap.Violation("the subscriber is no reference")
	}
	service := text(args[1], maxName)
	if !validService(service) {
		return foolscap.Violation("malformed service name")
	}
	info, ok := args[2].(banana.Dict)
	if !ok {
		return foolscap.Violation("the subscriber's description is no dict")
	}
	sub := &subscriber{service: service, remote: remote, news: map[index]Signed{}, wake: make(chan struct{}, 1)}
	sub.info = SubscriberInfo{ServiceName: service, TubID: remote.Peer(), Since: time.Now()}
	nickname, _ := info.Get("nickname")
	version, _ := info.Get("my-version")
	sub.info.Nickname, sub.info.Version = text(nickname, maxText), text(version, maxText)

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return foolscap.Violation("shutting down")
	}
	mine := 0
	for other := range s.subscribers {
		if other.service == service && other.remote.Same(remote) {
			remote.Release()
			return nil
		}
		if other.remote.Peer() == remote.Peer() {
			mine++
		}
	}
	if mine >= maxSubscriptions {
		return foolscap.Violation("too many subscriptions by one tub")
	}
	for i, k := range s.announcements {
		if i.service == service {
			sub.news[i] = k.signed
		}
	}
	s.subscribers[sub] = true
	poke(sub.wake)
	s.work.Go(func() { s.inform(sub) })
	return nil
}

// text reads a string that was sent as bytes or as unicode; "" when it is not
// one, or too long, or not UTF-8.
func text(v any, limit int) string {
	var t string
	switch v := v.(type) {
	case string:
		t = v
	case []byte:
		t = string(v)
	}
	if len(t) > limit || !utf8.ValidString(t) {
		return ""
	}
	return strings.Clone(t)
}

// inform tells a subscriber the news, one message after the other has been
// answered, until it or the server is gone. It waits for the answer as long as the
// connection lasts: one message is all that waits in a slow one, and nothing is lost
// to it.
func (s *Server) inform(sub *subscriber) {
	defer func() {
		s.mu.Lock()
		delete(s.subscribers, sub)
		s.mu.Unlock()
		sub.remote.Release()
	}()
	for {
		select {
		case <-sub.remote.Done():
			return
		case <-s.ctx.Done():
			return
		case <-sub.wake:
		}
		for message := s.next(sub); len(message) > 0; message = s.next(sub) {
			if _, err := sub.remote.Call(s.ctx, "announce_v2", foolscap.With(message)); err != nil {
				// A subscriber that cannot take it will not take it again.
				s.log.Debug("introducer: subscriber", "tub", sub.info.TubID, "error", fmt.Errorf("announce: %w", err))
			}
			if s.ctx.Err() != nil {
				return
			}
		}
	}
}

// next takes a message's worth of a subscriber's news.
func (s *Server) next(sub *subscriber) banana.Set {
	s.mu.Lock()
	defer s.mu.Unlock()
	var message banana.Set
	size := 0
	for _, i := range slices.SortedFunc(maps.Keys(sub.news), func(a, b index) int {
		return strings.Compare(a.key, b.key)
	}) {
		signed := sub.news[i]
		if size += len(signed.Message); size > batch && len(message) > 0 {
			break
		}
		message = append(message, signed.tuple())
		delete(sub.news, i)
	}
	return message
}
