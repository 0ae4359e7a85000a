package mailbox

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	bolt "go.etcd.io/bbolt"

	"warren/node/durable"
)

// Limits bound what strangers can make the server hold and do. The zero value
// of a field is its default.
type Limits struct {
	Connections  int           // at once; default 512
	Nameplates   int           // default 10,000
	Mailboxes    int           // default 20,000
	Messages     int           // in one mailbox; default 64
	MailboxBytes int           // bodies in one mailbox, as hex; default 2 MiB
	Disk         int64         // bytes in use in the database; default 512 MiB
	Frame        int           // bytes of one frame; default 1 MiB
	ClaimBurst   int           // claims, allocations and new mailboxes at once; default 200
	ClaimEvery   time.Duration // and then one each; default 1 s
	LongBurst    int           // lives of more than an hour granted at once; default 100
	LongEvery    time.Duration // and then one each; default 10 min
	Lifetime     time.Duration // longest life granted; default 31 days
}

func (l Limits) withDefaults() Limits {
	set := func(field *int, value int) {
		if *field <= 0 {
			*field = value
		}
	}
	set(&l.Connections, 512)
	set(&l.Nameplates, 10_000)
	set(&l.Mailboxes, 20_000)
	set(&l.Messages, 64)
	set(&l.MailboxBytes, 2<<20)
	set(&l.Frame, 1<<20)
	set(&l.ClaimBurst, 200)
	set(&l.LongBurst, 100)
	if l.Disk <= 0 {
		l.Disk = 512 << 20
	}
	lasts := func(field *time.Duration, value time.Duration) {
		if *field <= 0 {
			*field = value
		}
	}
	lasts(&l.ClaimEvery, time.Second)
	lasts(&l.LongEvery, 10*time.Minute)
	lasts(&l.Lifetime, 31*24*time.Hour)
	return l
}

// longLife is the life above which a grant is taken from a budget of its own.
const longLife = time.Hour

// Config says where the server keeps its state.
type Config struct {
	Path   string // the bbolt database, made if it does not exist
	Limits Limits
	MOTD   string           // told to every client, if not empty
	Now    func() time.Time // the clock; time.Now if nil
}

// Server is a mailbox server: an http.Handler that answers WebSockets at /v1.
type Server struct {
	config Config
	limits Limits
	db     *bolt.DB
	ctx    context.Context // ends every connection
	cancel context.CancelFunc
	work   sync.WaitGroup // the pruner and every connection
	slots  chan struct{}  // one for each connection

	// mu guards what follows, and orders every change of the database with
	// the messages sent about it: who opens a mailbox gets the old messages,
	// then the new, none twice and none missing.
	mu        sync.Mutex
	closed    bool
	listeners map[string]map[*client]bool // app 0 mailbox -> who listens
	claims    bucket
	long      bucket // lives of more than an hour
}

// Open opens the database and starts the pruner.
func Open(config Config) (*Server, error) {
	if config.Now == nil {
		config.Now = time.Now
	}
	db, err := durable.OpenBolt(config.Path, &bolt.Options{Timeout: 5 * time.Second})
	if err != nil {
		return nil, fmt.Errorf("opening the mailbox database: %w", err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range []string{bucketNameplates, bucketMailboxes, bucketMessages, bucketGone} {
			if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		db.Close()
		return nil, fmt.Errorf("preparing the mailbox database: %w", err)
	}
	s := &Server{
		config:    config,
		limits:    config.Limits.withDefaults(),
		db:        db,
		listeners: map[string]map[*client]bool{},
	}
	s.claims = bucket{size: float64(s.limits.ClaimBurst), every: s.limits.ClaimEvery}
	s.long = bucket{size: float64(s.limits.LongBurst), every: s.limits.LongEvery}
	s.slots = make(chan struct{}, s.limits.Connections)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.work.Go(s.prune)
	return s, nil
}

// Close ends every connection, waits for them and closes the database.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.work.Wait()
	return s.db.Close()
}

// ServeHTTP answers WebSockets at /v1 and says what it is at /.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/v1", "/v1/":
	case "/":
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintln(w, "Wormhole mailbox server")
		return
	default:
		http.NotFound(w, r)
		return
	}
	if !s.enter() {
		http.Error(w, "closing", http.StatusServiceUnavailable)
		return
	}
	defer s.work.Done()
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		http.Error(w, "too many connections", http.StatusServiceUnavailable)
		return
	}
	// Another site's page may not burn codes with its visitor's connection:
	// Accept refuses a foreign Origin.
	ws, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // Accept has answered
	}
	ws.SetReadLimit(int64(s.limits.Frame))
	c := &client{server: s, ws: ws, out: make(chan []byte, outgoing), gone: make(chan struct{})}
	c.run(s.ctx)
}

// enter counts a connection in, unless the server is closing.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.work.Add(1)
	return true
}

// prune removes the dead once a minute.
func (s *Server) prune() {
	ticker := time.NewTicker(time.Minute)
	defer ticker.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-ticker.C:
			// A failure here (a full disk) is tried again next minute;
			// claims check lifetimes themselves.
			_ = s.Prune()
		}
	}
}

// Prune removes what has died: mailboxes whose granted life ended or to which
// nobody listened for eleven minutes, their nameplates, and old tombstones. The
// server calls it once a minute.
func (s *Server) Prune() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pruneAt(s.config.Now())
}

// pruneAt is Prune for who holds mu.
func (s *Server) pruneAt(now time.Time) error {
	var ended []string
	err := s.db.Update(func(tx *bolt.Tx) error {
		ended = ended[:0]
		type entry struct{ app, name string }
		var boxes, stones []entry
		collect := func(name string, into *[]entry) error {
			return tx.Bucket([]byte(name)).ForEach(func(k, _ []byte) error {
				app, id, _ := strings.Cut(string(k), "\x00")
				*into = append(*into, entry{app, id})
				return nil
			})
		}
		if err := errors.Join(collect(bucketMailboxes, &boxes), collect(bucketGone, &stones)); err != nil {
			return err
		}
		for _, e := range boxes {
			st := store{tx: tx, app: e.app, now: now, limit: s.limits}
			b, ok, err := load[box](st, bucketMailboxes, e.name)
			if err != nil || !ok {
				return err
			}
			key := string(st.key(e.name))
			listened := len(s.listeners[key]) > 0
			if reason, dead := b.dead(now, listened); dead {
				if err := st.remove(e.name, b, reason); err != nil {
					return err
				}
				ended = append(ended, key)
			} else if listened && now.Sub(time.Unix(b.Updated, 0)) >= idleLife/4 {
				// As the reference does: whoever listens keeps it alive.
				b.Updated = now.Unix()
				if err := st.put(bucketMailboxes, e.name, b); err != nil {
					return err
				}
			}
		}
		for _, e := range stones {
			st := store{tx: tx, app: e.app, now: now, limit: s.limits}
			t, ok, err := load[tombstone](st, bucketGone, e.name)
			if err != nil || !ok {
				return err
			}
			if now.Unix() >= t.Until {
				if err := st.drop(bucketGone, e.name); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("pruning mailboxes: %w", err)
	}
	for _, key := range ended {
		for c := range s.listeners[key] {
			c.fail("mailbox expired", nil)
			c.listening = ""
		}
		delete(s.listeners, key)
	}
	return nil
}

// bucket is a token bucket.
type bucket struct {
	size  float64
	every time.Duration
	used  float64
	last  time.Time
}

// take takes a token, if there is one.
func (b *bucket) take(now time.Time) bool {
	if b.last.IsZero() || now.Before(b.last) {
		b.last = now
	}
	b.used = max(0, b.used-float64(now.Sub(b.last))/float64(b.every))
	b.last = now
	if b.used+1 > b.size {
		return false
	}
	b.used++
	return true
}
