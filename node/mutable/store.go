package mutable

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"warren/node/caps"
	"warren/node/grid"
)

var (
	// ErrNotFound: every server answered and none holds a share.
	ErrNotFound = errors.New("mutable: no such file on the grid")
	// ErrNotEnoughShares: shares may exist, but too few can be read now. Trying
	// again when servers return is safe.
	ErrNotEnoughShares = errors.New("mutable: not enough shares can be read")
	// ErrUncoordinated: other writers kept getting in between. What became of the
	// change is not known: it may stand, wholly or not at all. Trying again is safe.
	ErrUncoordinated = errors.New("mutable: other writers are changing the file")
	// ErrNewerVersion: shares of a newer version were found which cannot be read,
	// and which may be whole on servers that are away. Nothing was written.
	ErrNewerVersion = errors.New("mutable: a newer version exists that cannot be read now")
	// ErrUnhappy: too few servers take shares. Errors that match it are an
	// *UnhappyError.
	ErrUnhappy = errors.New("mutable: too few storage servers")
	// ErrRange: bytes beyond the end of the file.
	ErrRange = errors.New("mutable: beyond the end of the file")
	// ErrTooLarge: more than MaxSize bytes.
	ErrTooLarge = errors.New("mutable: file too large")
)

// UnhappyError says how many servers a write reached.
type UnhappyError struct {
	// Placed is the number of distinct servers that hold (or could hold) distinct
	// shares of the new version, Wanted how many it takes.
	Placed, Wanted int
	// Written says that some servers took the new version all the same: it may be
	// the newest that readers see. The next write replaces it.
	Written bool
	// Err is one of the failures behind it, or nil.
	Err error
}

func (e *UnhappyError) Error() string {
	msg := fmt.Sprintf("%v: %d of %d wanted", ErrUnhappy, e.Placed, e.Wanted)
	if e.Err != nil {
		msg += ": " + e.Err.Error()
	}
	return msg
}

// Is matches ErrUnhappy.
func (e *UnhappyError) Is(target error) bool { return target == ErrUnhappy }

func (e *UnhappyError) Unwrap() error { return e.Err }

// Version identifies the contents of a file: equal versions, equal contents.
type Version struct {
	Seqnum   uint64
	RootHash [32]byte
}

// String is short, for people and for comparing.
func (v Version) String() string {
	if v == (Version{}) {
		return ""
	}
	return fmt.Sprintf("%d-%s", v.Seqnum, hex.EncodeToString(v.RootHash[:]))
}

// ParseVersion reads what String wrote.
func ParseVersion(text string) (Version, error) {
	if text == "" {
		return Version{}, nil
	}
	number, hash, _ := strings.Cut(text, "-")
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return Version{}, fmt.Errorf("mutable: not a version: %w", err)
	}
	b, err := hex.DecodeString(hash)
	if err != nil || len(b) != 32 {
		return Version{}, errors.New("mutable: not a version: its root hash is not 32 bytes in hex")
	}
	return Version{n, [32]byte(b)}, nil
}

func (h Header) version() Version { return Version{h.Seqnum, h.RootHash} }

// Servers hands out the connected storage servers in Tahoe's permuted order.
type Servers interface {
	Permuted(si caps.StorageIndex) []grid.Server
}

// Options configure a Store. Servers, LeaseSecret, Needed, Happy and Total must
// be set; the other fields have defaults.
type Options struct {
	Servers     Servers
	LeaseSecret []byte // the node's private/secret, decoded
	// Needed (k) and Total (n) encode new files; existing ones keep theirs. Happy
	// is the number of distinct servers that a write must reach; for files with
	// fewer shares than that, their number of shares.
	Needed, Happy, Total int

	// Rand makes IVs and signatures; crypto/rand.
	Rand io.Reader
	// Patience is how long slow servers are waited for once the result stands
	// without them; 5 s.
	Patience time.Duration
	// CallTimeout bounds one call to a server; 2 min.
	CallTimeout time.Duration
	// Attempts is how often a write that met other writers is tried; 24.
	Attempts int
	// Pause waits before attempt number n (from 1): a random time that grows from
	// a fifth of a second to some ten seconds.
	Pause func(ctx context.Context, n int) error
	// Seen remembers versions; nil: for as long as the Store lasts. Its owner closes it,
	// after the Store.
	Seen *Seen
	// RolledBack is called when the newest version that can be read of a file is older
	// than one that was read or stored before, as far as Seen remembers, and all servers
	// were asked: those who kept the newer one lost it, hide it or are away. It is called
	// once for each that is found, maybe from several goroutines at once.
	RolledBack func(si caps.StorageIndex, seen, found uint64)
	// KeyAhead keeps a few key pairs made in advance, so that Create need not wait
	// for them.
	KeyAhead bool
}

// Store reads and writes mutable files. It is safe for concurrent use: writes of
// one file through one Store wait for each other. Close it.
type Store struct {
	opts       Options
	ctx        context.Context // ends with Close
	stop       context.CancelFunc
	wg         sync.WaitGroup
	ahead      *ahead // nil without KeyAhead
	lines      *lines
	pictureAge time.Duration
	asking     atomic.Uint64 // counts the calls of Versions

	mu       sync.Mutex // guards what follows
	pictures map[caps.StorageIndex]*picture
	busy     map[caps.StorageIndex]*turn
	back     map[caps.StorageIndex]Rollback // files that went back
	known    map[[16]byte]*Key              // private keys by writekey
}

// rememberKeys is how many files' keys are remembered. Beyond that some are
// forgotten, which costs a question more.
const rememberKeys = 256

// New checks the options and returns a Store.
func New(opts Options) (*Store, error) {
	if opts.Servers == nil || len(opts.LeaseSecret) == 0 {
		return nil, errors.New("mutable: no servers or no lease secret given")
	}
	if opts.Needed < 1 || opts.Total < opts.Needed || opts.Total > 255 || opts.Happy < 1 || opts.Happy > opts.Total {
		return nil, fmt.Errorf("mutable: unusable encoding: %d needed, %d happy, %d total", opts.Needed, opts.Happy, opts.Total)
	}
	if opts.Rand == nil {
		opts.Rand = rand.Reader
	}
	if opts.Patience == 0 {
		opts.Patience = 5 * time.Second
	}
	if opts.CallTimeout == 0 {
		opts.CallTimeout = 2 * time.Minute
	}
	if opts.Attempts == 0 {
		opts.Attempts = 24
	}
	if opts.Pause == nil {
		opts.Pause = pause
	}
	if opts.Seen == nil {
		opts.Seen = NewSeen()
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &Store{
		opts: opts, ctx: ctx, stop: stop, lines: newLines(), pictureAge: pictureAge, pictures: map[caps.StorageIndex]*picture{},
		busy: map[caps.StorageIndex]*turn{}, back: map[caps.StorageIndex]Rollback{}, known: map[[16]byte]*Key{},
	}
	if opts.KeyAhead {
		s.ahead = newAhead(opts.Rand)
		s.wg.Go(func() { s.ahead.run(ctx, aheadDelay) })
	}
	return s, nil
}

// Close ends the Store's goroutines and waits for them.
func (s *Store) Close() {
	s.lines.mu.Lock() // who holds it and finds the Store open may start another
	s.stop()
	s.lines.mu.Unlock()
	s.wg.Wait()
}

// pause grows by half each time; the jitter keeps two writers from meeting again
// and again.
func pause(ctx context.Context, n int) error {
	d := 200 * time.Millisecond
	for range min(n-1, 10) {
		d += d / 2
	}
	timer := time.NewTimer(d/2 + mrand.N(d))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// newKey takes a key made ahead, or makes one.
func (s *Store) newKey(ctx context.Context) (*Key, error) {
	if s.ahead != nil {
		return s.ahead.take(ctx)
	}
	return GenerateKey(s.opts.Rand)
}

// Kind says how a new file is made. The zero Kind is SDMF with a fresh key.
type Kind struct {
	Format Format
	// Key determines the file; nil: a fresh one.
	Key *Key
}

// Create makes a new file, whose contents may depend on its writecap, as a
// directory's do. The capability is good only when the error is nil. No share of a
// file that exists already is replaced: the error is ErrUncoordinated then.
func (s *Store) Create(ctx context.Context, kind Kind, contents func(caps.MutableWrite) ([]byte, error)) (caps.MutableWrite, error) {
	key := kind.Key
	if key == nil {
		var err error
		if key, err = s.newKey(ctx); err != nil {
			return nil, err
		}
	}
	c := key.cap(kind.Format)
	b, err := contents(c)
	if err != nil {
		return nil, err
	}
	release, err := s.turn(ctx, c.StorageIndex())
	if err != nil {
		return nil, err
	}
	defer release()
	if err := s.create(ctx, kind.Format, key, b); err != nil {
		return nil, err
	}
	return c, nil
}

// maxLooks is how often a reader looks at all servers while writers keep
// replacing what it is about to read.
const maxLooks = 5

// Read returns the newest contents that can be read, and their version. Of files
// larger than MaxSize it is ErrTooLarge: Open those.
func (s *Store) Read(ctx context.Context, c caps.MutableRead) ([]byte, Version, error) {
	var contents []byte
	var header Header
	err := s.look(ctx, readable(c), func(v *survey, best *version) (err error) {
		header = best.header
		contents, _, err = v.contents(ctx, best, false)
		return err
	})
	if err != nil {
		return nil, Version{}, err
	}
	return contents, header.version(), nil
}

// look calls use with the newest version that can be read, and again, with another
// or after looking further, while the error is ErrNotEnoughShares.
func (s *Store) look(ctx context.Context, id identity, use func(*survey, *version) error) error {
	v := s.survey(id)
	if err := v.askForReading(ctx, headSize); err != nil {
		return err
	}
	for look := 0; ; look++ {
		tried := false
		for best := v.best(); best != nil; best = v.best() {
			tried = true
			err := use(v, best)
			if err == nil {
				v.alarm(best)
				s.opts.Seen.gave(id.index, best.header.Seqnum)
				v.note(best)
			}
			if !errors.Is(err, ErrNotEnoughShares) {
				return err
			}
			if look == 0 {
				break // there may be more shares of it than we asked for
			}
		}
		// The first look ends when a version seems whole and may have missed servers;
		// and what was seen may have been replaced before it was read. Damage stays as
		// it is: one more look shows that.
		if look == 0 && !tried || look == maxLooks || look > 0 && !v.moved {
			return v.missing()
		}
		if len(v.dropped) > 0 {
			v.forget()
		}
		if err := v.askAll(ctx, headSize); err != nil {
			return err
		}
	}
}

// Version asks for the newest version that can be read without reading it. Its
// signature is checked, and enough shares claim to be there.
func (s *Store) Version(ctx context.Context, c caps.MutableRead) (Version, error) {
	id := readable(c)
	v := s.survey(id)
	if err := v.askForReading(ctx, id.versionSize()); err != nil {
		return Version{}, err
	}
	best := v.best()
	if best == nil {
		return Version{}, v.missing()
	}
	v.alarm(best)
	s.opts.Seen.gave(id.index, best.header.Seqnum)
	v.note(best)
	return best.header.version(), nil
}

// turn makes writers of one file wait for each other.
type turn struct {
	token   chan struct{} // holds one value while nobody has the turn
	waiting int           // guarded by Store.mu
}

// turn returns when nobody else writes the file, with the function that hands
// the turn on.
func (s *Store) turn(ctx context.Context, si caps.StorageIndex) (release func(), err error) {
	s.mu.Lock()
	t := s.busy[si]
	if t == nil {
		t = &turn{token: make(chan struct{}, 1)}
		t.token <- struct{}{}
		s.busy[si] = t
	}
	t.waiting++
	s.mu.Unlock()
	leave := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if t.waiting--; t.waiting == 0 {
			delete(s.busy, si)
		}
	}
	select {
	case <-t.token:
		return func() {
			t.token <- struct{}{}
			leave()
		}, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}

func (s *Store) rememberKey(key *Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	forgetSome(s.known, rememberKeys)
	s.known[key.Cap().WriteKey] = key
}

func (s *Store) knownKey(writeKey [16]byte) *Key {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known[writeKey]
}

// forgetSome makes room for one entry.
func forgetSome[K comparable, V any](m map[K]V, limit int) {
	for k := range m {
		if len(m) < limit {
			return
		}
		delete(m, k)
	}
}
