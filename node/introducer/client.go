package introducer

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"warren/node/foolscap"
	"warren/node/foolscap/banana"
	"warren/node/furl"
	"warren/node/taghash"
)

// Names of the protocol (allmydata/introducer/interfaces.py).
const (
	v2                  = "http://allmydata.org/tahoe/protocols/introducer/v2"
	serverInterface     = "RIIntroducerPublisherAndSubscriberService_v2.tahoe.allmydata.com"
	subscriberInterface = "RIIntroducerSubscriberClient_v2.tahoe.allmydata.com"
)

const (
	// maxKnown is how many announcements are kept, for each introducer.
	maxKnown = 4096
	// callTimeout is how long a call to the introducer may take before it is called
	// late and repeated.
	callTimeout = 2 * time.Minute
	// saveInterval is the least time between two writes of the cache.
	saveInterval = time.Second
	// staleAfter is how long we are connected before what only the cache knew is
	// dropped from it: Tahoe's servers are back within an hour of the introducer's
	// return.
	staleAfter = 2 * time.Hour
)

// ErrVersion means that the introducer does not speak the signed protocol (it is
// older than Tahoe 1.10).
var ErrVersion = errors.New("introducer: the introducer speaks no protocol that we know")

// ClientOptions is what a Client tells of itself and keeps.
type ClientOptions struct {
	// Nickname and Version describe this node to the introducer and, in
	// announcements, to everybody.
	Nickname, Version string
	// Key signs announcements; Sequence returns the next of their numbers, which is
	// used for nothing else, also after a restart (Tahoe's announcement-seqnum file).
	// A client that publishes nothing needs neither.
	Key      ed25519.PrivateKey
	Sequence func() (int64, error)
	// CachePath is private/introducer_PETNAME_cache.yaml; "" keeps no cache.
	CachePath string
	// Log hears of refused announcements; nil: nobody.
	Log *slog.Logger
}

// oldestSupported is what Tahoe 1.20 announces as the oldest version that it works
// with.
const oldestSupported = "1.0.0"

// Client is the connection to one introducer. Safe for concurrent use.
type Client struct {
	options   ClientOptions
	log       *slog.Logger
	self      *foolscap.Object // the subscriber that the introducer calls
	canary    *foolscap.Object // lets the introducer see when we are gone
	reconnect *foolscap.Reconnector
	work      sync.WaitGroup
	ctx       context.Context
	cancel    context.CancelFunc
	timeout   time.Duration // of each call
	changed   chan struct{} // something is to be published or subscribed to
	dirty     chan struct{} // the cache is to be written

	// delivering is held while subscribers are called, so that each hears of one
	// announcement after the other, and of none twice. It is taken before mu.
	delivering sync.Mutex

	mu          sync.Mutex // guards everything below
	outbound    map[string]map[string]any
	published   map[string]Signed // by service, numbered and signed
	subscribers map[string][]func(Announcement)
	known       map[index]Announcement
	lastError   error
	ready       time.Time // when the present connection's introducer was found good
	subscribed  bool      // it has taken every subscription
	received    time.Time // when it last announced something
}

// index is what there is one announcement for.
type index struct{ service, key string }

// NewClient connects to an introducer and stays connected until Close or the
// tub's. What the cache holds is known at once; an error means that there is a
// cache that cannot be read, and the client runs without it.
func NewClient(tub *foolscap.Tub, f furl.FURL, o ClientOptions) (*Client, error) {
	return newClient(tub, f, o, callTimeout)
}

func newClient(tub *foolscap.Tub, f furl.FURL, o ClientOptions, timeout time.Duration) (*Client, error) {
	c := &Client{
		options: o, log: o.Log, timeout: timeout, canary: &foolscap.Object{},
		changed: make(chan struct{}, 1), dirty: make(chan struct{}, 1),
		outbound: map[string]map[string]any{}, published: map[string]Signed{},
		subscribers: map[string][]func(Announcement){}, known: map[index]Announcement{},
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.self = &foolscap.Object{Interface: subscriberInterface, Handler: foolscap.HandlerFunc(c.handle)}
	var err error
	if o.CachePath != "" {
		var cached []Announcement
		cached, err = loadCache(o.CachePath)
		now := time.Now()
		for _, a := range cached[:min(len(cached), maxKnown)] {
			a.When = now
			c.known[index{a.ServiceName, a.KeyID}] = a
		}
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.work.Go(c.saveWhenDirty)
	c.reconnect = tub.Keep(f, c.serve)
	return c, err
}

// Close disconnects, and returns when the cache is written and no subscriber is
// called any more.
func (c *Client) Close() {
	c.reconnect.Stop()
	c.delivering.Lock() // a delivery may be under way
	c.cancel()
	c.delivering.Unlock()
	c.work.Wait()
}

// Publish announces a service, now and at every connection, in place of what was
// announced for it before. nickname, versions, number and nonce are filled in.
// The introducer passes the announcement on to everybody who asks.
func (c *Client) Publish(service string, values map[string]any) error {
	if c.options.Key == nil || c.options.Sequence == nil {
		return errors.New("introducer: this client has no key to sign announcements with")
	}
	n, err := c.options.Sequence()
	if err != nil {
		return err
	}
	ann := map[string]any{
		"version": 0, "nickname": c.options.Nickname, "app-versions": []any{},
		"my-version": c.options.Version, "oldest-supported": oldestSupported, "service-name": service,
	}
	maps.Copy(ann, values)
	var secret [32]byte
	rand.Read(secret[:]) // never fails
	nonce := taghash.EncodeBase32(secret[:])

	c.mu.Lock()
	defer c.mu.Unlock()
	// All of this node's announcements carry the newest number, as Tahoe has it.
	signed := map[string]Signed{}
	sign := func(service string, ann map[string]any) error {
		ann["seqnum"], ann["nonce"] = n, nonce
		s, err := Sign(ann, c.options.Key)
		signed[service] = s
		return err
	}
	if err := sign(service, ann); err != nil {
		return err
	}
	for other, ann := range c.outbound {
		if other != service {
			if err := sign(other, ann); err != nil {
				return err
			}
		}
	}
	c.outbound[service] = ann
	c.published = signed
	poke(c.changed)
	return nil
}

// Subscribe asks for a service's announcements. deliver is called for those that
// are known, before Subscribe returns, and then for each new or changed one, one
// at a time. It must not call back into the Client.
func (c *Client) Subscribe(service string, deliver func(Announcement)) {
	c.delivering.Lock()
	defer c.delivering.Unlock()
	c.mu.Lock()
	c.subscribers[service] = append(c.subscribers[service], deliver)
	var known []Announcement
	for i, a := range c.known {
		if i.service == service {
			known = append(known, a)
		}
	}
	c.mu.Unlock()
	slices.SortFunc(known, byKey)
	for _, a := range known {
		deliver(a)
	}
	poke(c.changed)
}

func byKey(a, b Announcement) int {
	return cmp.Or(cmp.Compare(a.ServiceName, b.ServiceName), cmp.Compare(a.KeyID, b.KeyID))
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Announcements returns what is known of a service, ordered by key.
func (c *Client) Announcements(service string) []Announcement {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []Announcement
	for i, a := range c.known {
		if i.service == service {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, byKey)
	return out
}

// ClientStatus says how the connection to the introducer stands.
type ClientStatus struct {
	// Status is the connection's. Connected there does not yet mean that the
	// introducer is one: see Ready.
	foolscap.Status
	// Ready says that the introducer speaks our protocol and hears us.
	Ready bool
	// Subscribed says that it has taken our subscriptions; what it knows follows at
	// once, if it is not here already.
	Subscribed bool
	// LastReceived is when it last announced something.
	LastReceived time.Time
	// LastError is the last failure, of connecting or of a call; nil while all is
	// well.
	LastError error
}

// Status says how the connection to the introducer stands.
func (c *Client) Status() ClientStatus {
	s := ClientStatus{Status: c.reconnect.Status()}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.Ready = s.Connected && !c.ready.IsZero()
	s.Subscribed = s.Ready && c.subscribed
	s.LastReceived = c.received
	if s.LastError = c.lastError; !s.Connected && s.Status.LastError != nil {
		s.LastError = s.Status.LastError
	}
	return s
}

// Retry makes a waiting attempt to connect begin at once.
func (c *Client) Retry() { c.reconnect.Retry() }

// serve is one connection's life.
func (c *Client) serve(ctx context.Context, introducer *foolscap.Remote) {
	defer func() {
		c.mu.Lock()
		c.ready, c.subscribed = time.Time{}, false
		c.mu.Unlock()
	}()
	if !c.greet(ctx, introducer) {
		return
	}
	s := &session{introducer: introducer, published: map[string]string{}, subscribed: map[string]bool{}, failed: map[string]error{}}
	stale := time.NewTimer(staleAfter)
	defer stale.Stop()
	for {
		c.synchronise(ctx, s)
		select {
		case <-ctx.Done():
			return
		case <-c.changed:
		case <-stale.C:
			c.dropStale()
		}
	}
}

// greet finds out whether the introducer is one; false when the connection is lost.
func (c *Client) greet(ctx context.Context, introducer *foolscap.Remote) bool {
	for {
		err := c.checkVersion(ctx, introducer)
		if ctx.Err() != nil {
			return false
		}
		c.mu.Lock()
		c.lastError = err
		if err == nil {
			c.ready = time.Now()
		}
		c.mu.Unlock()
		switch {
		case err == nil:
			return true
		case !late(err):
			<-ctx.Done() // Connecting again would not change it.
			return false
		}
	}
}

func (c *Client) call(ctx context.Context, r *foolscap.Remote, method string, args foolscap.Args) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	return r.Call(ctx, method, args)
}

// late says whether a call of call was given up because it took too long. It may
// have been done, or be done yet; all of ours can be repeated.
func late(err error) bool { return errors.Is(err, context.DeadlineExceeded) }

func (c *Client) checkVersion(ctx context.Context, introducer *foolscap.Remote) error {
	answer, err := c.call(ctx, introducer, "get_version", foolscap.Args{})
	if err != nil {
		return fmt.Errorf("introducer: get_version: %w", err)
	}
	d, _ := answer.(banana.Dict)
	if _, ok := d.Get(v2); !ok {
		return ErrVersion
	}
	return nil
}

// session is what the introducer at the other end of one connection has heard.
type session struct {
	introducer *foolscap.Remote
	published  map[string]string // by service: the signature
	subscribed map[string]bool   // by service
	failed     map[string]error  // by call and service, until it succeeds
}

// synchronise publishes and subscribes to what this connection has not heard of.
// What was refused is not repeated.
func (c *Client) synchronise(ctx context.Context, s *session) {
	c.mu.Lock()
	published := maps.Clone(c.published)
	services := slices.Sorted(maps.Keys(c.subscribers))
	c.mu.Unlock()
	for _, service := range slices.Sorted(maps.Keys(published)) {
		signed := published[service]
		if s.published[service] == string(signed.Signature) {
			continue
		}
		if c.tell(ctx, s, "publish_v2", service, foolscap.With(signed.tuple(), c.canary)) {
			s.published[service] = string(signed.Signature)
		}
	}
	for _, service := range services {
		if s.subscribed[service] {
			continue
		}
		if c.tell(ctx, s, "subscribe_v2", service, foolscap.With(c.self, []byte(service), c.subscriberInfo())) {
			s.subscribed[service] = true
		}
		c.mu.Lock()
		c.subscribed = !slices.ContainsFunc(services, func(other string) bool {
			return !s.subscribed[other] || s.failed["subscribe_v2 "+other] != nil
		})
		c.mu.Unlock()
	}
}

// tell makes one of synchronise's calls, keeps its failure for the status, and says
// whether the introducer answered. If not, synchronise is called again.
func (c *Client) tell(ctx context.Context, s *session, method, service string, args foolscap.Args) bool {
	_, err := c.call(ctx, s.introducer, method, args)
	if ctx.Err() != nil {
		return false
	}
	what := method + " " + service
	delete(s.failed, what)
	if err != nil {
		c.log.Warn("introducer: "+what, "error", err)
		s.failed[what] = fmt.Errorf("introducer: %s: %w", what, err)
	}
	c.mu.Lock()
	c.lastError = nil
	for _, what := range slices.Sorted(maps.Keys(s.failed)) {
		c.lastError = cmp.Or(c.lastError, s.failed[what])
	}
	c.mu.Unlock()
	if late(err) {
		poke(c.changed)
		return false
	}
	return true
}

// subscriberInfo is what the introducer's status page shows of us.
func (c *Client) subscriberInfo() banana.Dict {
	return banana.Dict{
		{Key: []byte("app-versions"), Value: []any{}},
		{Key: []byte("my-version"), Value: c.options.Version},
		{Key: []byte("nickname"), Value: c.options.Nickname},
		{Key: []byte("oldest-supported"), Value: oldestSupported},
		{Key: []byte("version"), Value: 0},
	}
}

// handle answers the introducer.
func (c *Client) handle(_ context.Context, in foolscap.Call) (any, error) {
	defer in.Args.Release()
	if in.Method != "announce_v2" {
		return nil, foolscap.NoMethod()
	}
	args, err := in.Args.Bind("announcements")
	if err != nil {
		return nil, err
	}
	var items []any
	switch v := args[0].(type) {
	case banana.Set:
		items = v
	case banana.FrozenSet:
		items = v
	case []any:
		items = v
	default:
		return nil, foolscap.Violation("announcements are not a set")
	}
	c.announced(items)
	return nil, nil
}

// announced takes in what the introducer passes on. One bad announcement keeps
// none of the others back.
func (c *Client) announced(items []any) {
	c.delivering.Lock()
	defer c.delivering.Unlock()
	if c.ctx.Err() != nil {
		return // closed; the tub's connection lives on
	}
	now, news := time.Now(), false
	for _, item := range items {
		s, err := parseTuple(item)
		var a Announcement
		if err == nil {
			a, err = s.Verify()
		}
		if err != nil {
			c.log.Warn("introducer: ignored an announcement", "error", err)
			continue
		}
		a.When = now
		deliver, changed := c.take(a)
		news = news || changed
		for _, f := range deliver {
			f(a)
		}
	}
	if news {
		poke(c.dirty)
	}
}

// take keeps an announcement and says whom to tell of it; changed says whether
// the cache is to be written.
func (c *Client) take(a Announcement) (deliver []func(Announcement), changed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.received = a.When
	subscribers := c.subscribers[a.ServiceName]
	if len(subscribers) == 0 {
		return nil, false // nobody asked
	}
	i := index{a.ServiceName, a.KeyID}
	old, known := c.known[i]
	switch {
	case known && reflect.DeepEqual(old.Values, a.Values):
		// Heard again. That a cached one is alive is worth keeping; nobody needs to
		// hear of it twice.
		changed = old.Cached
		old.Cached, old.When = false, a.When
		c.known[i] = old
		return nil, changed
	case known && !a.supersedes(old):
		c.log.Warn("introducer: ignored an old announcement", "key", a.KeyID)
		return nil, false
	case !known && len(c.known) >= maxKnown:
		c.log.Warn("introducer: too many announcements")
		return nil, false
	}
	c.known[i] = a
	return slices.Clone(subscribers), true
}

// dropStale forgets what only the cache knew.
func (c *Client) dropStale() {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.known, func(_ index, a Announcement) bool { return a.Cached })
	poke(c.dirty)
}

// saveWhenDirty writes the cache, not more often than saveInterval.
func (c *Client) saveWhenDirty() {
	for done := false; !done; {
		select {
		case <-c.dirty:
		case <-c.ctx.Done():
			done = true
			select {
			case <-c.dirty:
			default:
				return
			}
		}
		if err := c.save(); err != nil {
			c.log.Warn("introducer: cache", "error", err)
		}
		select {
		case <-time.After(saveInterval):
		case <-c.ctx.Done():
		}
	}
}

func (c *Client) save() error {
	if c.options.CachePath == "" {
		return nil
	}
	c.mu.Lock()
	list := slices.SortedFunc(maps.Values(c.known), byKey)
	c.mu.Unlock()
	return saveCache(c.options.CachePath, list)
}
