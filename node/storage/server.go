package storage

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"

	"warren/node/caps"
	"warren/node/storage/container"
)

// Options are a server's settings. The zero value is a server that takes
// everything that its backend has room for.
type Options struct {
	// NodeID is the server's tub id; mutable shares record it.
	NodeID container.NodeID
	// ReservedSpace is kept free on the medium, whatever is asked; but for the while
	// in which the new version of a slot's share stands beside the old one: a server
	// that is full must still take a change that takes no more room.
	ReservedSpace uint64
	// ReadOnly servers take no new shares and let none grow.
	ReadOnly bool
	// Application is how the server names itself; "warren" if empty.
	Application string
	// UploadTimeout drops an upload that nobody has written to for so long; 30
	// minutes if zero, as in Tahoe.
	UploadTimeout time.Duration
	// Now is the clock; time.Now if nil.
	Now func() time.Time
	// Log receives what an operator should look at: damaged shares, advisories.
	// It is never given a secret. Nil discards.
	Log *slog.Logger
}

// Server is a storage server over a backend. All methods are safe for concurrent use.
type Server struct {
	backend Backend
	opt     Options
	locks   keyedLocks
	tallies tallies
	// watchers wait for slots to change: whoever changes one tells them, when it is done.
	watchers watchers

	mu sync.Mutex
	// mu guards what follows; it is held for no I/O.
	uploads map[bucket]*upload
	// promised is the sum of the sizes of the uploads, and of writes under way: it
	// counts as used, so that what is accepted also fits.
	promised uint64
	// barren is when no upload was found that did not get on.
	barren time.Time
}

type bucket struct {
	si    caps.StorageIndex
	share int
}

// NewServer serves what backend holds. Nothing is scanned; uploads that an
// earlier process left incomplete are the backend's to drop when it opens.
func NewServer(backend Backend, opt Options) *Server {
	if opt.Application == "" {
		opt.Application = "warren"
	}
	if opt.UploadTimeout == 0 {
		opt.UploadTimeout = 30 * time.Minute
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{backend: backend, opt: opt, uploads: map[bucket]*upload{}}
}

// Close drops the uploads in progress and closes the backend, if it can be. Calls that come later see a server that
// has forgotten them, as after a restart.
func (s *Server) Close() error {
	var errs []error
	for _, u := range s.underWay() {
		errs = append(errs, s.drop(u))
	}
	if c, ok := s.backend.(io.Closer); ok {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// Account is on whose behalf a session acts: the place where members and quotas
// come in. The zero Account is everyone's, without a limit.
type Account struct {
	// Owner is the lease owner number that the account's leases get. 0 stands for
	// Tahoe's own habit: 0 on new immutable shares, 1 elsewhere.
	Owner uint32
	// Admit is asked before storage grows by so many bytes; an error refuses (wrap
	// ErrNoSpace to say why to the client). Nil admits.
	Admit func(bytes uint64) error
}

// Session is a server acting for an account. It implements Client in this
// process, and has what a protocol needs beside.
type Session struct {
	*Server
	account Account
}

var _ Client = (*Session)(nil)

// As returns a session for the account.
func (s *Server) As(a Account) *Session { return &Session{s, a} }

// Local is a Client of a server in this process: a node reaches its own storage
// through it, without a network.
func Local(s *Server) Client { return s.As(Account{}) }

// available is what may still be taken, from uploads that do not get on, too: a
// client that reads here that there is no room asks for none.
func (s *Server) available() (uint64, error) {
	if s.opt.ReadOnly {
		return 0, nil
	}
	free, err := s.backend.Available()
	if err != nil {
		return 0, fmt.Errorf("storage: asking for free space: %w", err)
	}
	var yielding uint64
	s.dawdlers(s.underWay(), func(u *upload) { yielding += u.size })
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unpromised(free + min(yielding, s.promised)), nil
}

// unpromised is what is left of free; s.mu is held.
func (s *Server) unpromised(free uint64) uint64 {
	taken := s.opt.ReservedSpace + s.promised
	if taken < s.promised || free < taken {
		return 0
	}
	return free - taken
}

// reserve promises bytes to a write, and takes for it what uploads hold that do not
// get on. release ends the promise, when the bytes are on the medium or never will be.
func (ss *Session) reserve(bytes uint64) (release func(), err error) {
	release, err = ss.promise(bytes)
	if errors.Is(err, ErrNoSpace) && ss.yield(0, bytes) {
		return ss.promise(bytes)
	}
	return release, err
}

func (ss *Session) promise(bytes uint64) (release func(), err error) {
	if bytes == 0 {
		return func() {}, nil
	}
	var free uint64
	if !ss.opt.ReadOnly {
		if free, err = ss.backend.Available(); err != nil {
			return nil, fmt.Errorf("storage: asking for free space: %w", err)
		}
	}
	if ss.account.Admit != nil {
		if err := ss.account.Admit(bytes); err != nil {
			return nil, err
		}
	}
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if bytes > ss.unpromised(free) {
		return nil, ErrNoSpace
	}
	ss.promised += bytes
	return sync.OnceFunc(func() {
		ss.mu.Lock()
		ss.promised -= bytes
		ss.mu.Unlock()
	}), nil
}

// lease is what a request for a lease is granted now. fallback is the owner
// number that Tahoe uses in that place.
func (ss *Session) lease(secrets LeaseSecrets, fallback uint32) container.Lease {
	owner := ss.account.Owner
	if owner == 0 {
		owner = fallback
	}
	expires := ss.opt.Now().Add(container.LeaseDuration).Unix()
	return container.Lease{
		Owner: owner, Renew: secrets.Renew, Cancel: secrets.Cancel, Node: ss.opt.NodeID,
		Expires: uint32(min(max(expires, 0), math.MaxUint32)),
	}
}

// share is an open share of either kind: exactly one of the two is set.
type share struct {
	number    int
	file      File
	immutable *container.Immutable
	mutable   *container.Mutable
}

func (sh *share) kind() ShareKind {
	if sh.mutable != nil {
		return Mutable
	}
	return Immutable
}

func (sh *share) length() uint64 {
	if sh.mutable != nil {
		return sh.mutable.Length()
	}
	return sh.immutable.Length()
}

func (sh *share) read(offset, size uint64) ([]byte, error) {
	if sh.mutable != nil {
		return sh.mutable.Read(offset, size)
	}
	return sh.immutable.Read(offset, size)
}

func (sh *share) readInto(p []byte, offset uint64) (int, error) {
	if sh.mutable != nil {
		return sh.mutable.ReadInto(p, offset)
	}
	return sh.immutable.ReadInto(p, offset)
}

func (sh *share) addOrRenew(l container.Lease) ([]container.Patch, int64, error) {
	if sh.mutable != nil {
		return sh.mutable.AddOrRenew(l)
	}
	return sh.immutable.AddOrRenew(l)
}

// open opens one share; the storage index is locked. A file that is no share, or
// cannot be read, is container.ErrUnknown or container.ErrDamaged.
func (s *Server) open(si caps.StorageIndex, number int) (*share, error) {
	if number < 0 || number > MaxShare {
		return nil, ErrNoShare
	}
	f, err := s.backend.Open(si, number)
	if err != nil {
		return nil, err
	}
	sh, err := parse(f, number)
	if err != nil {
		f.Close()
		if !errors.Is(err, container.ErrUnknown) && !errors.Is(err, container.ErrDamaged) {
			// A bad spot of the medium takes this share only, not those beside it.
			err = fmt.Errorf("%w: %w", container.ErrDamaged, err)
		}
		return nil, fmt.Errorf("share %d: %w", number, err)
	}
	return sh, nil
}

func parse(f File, number int) (*share, error) {
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	head := make([]byte, 32)
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	sh := &share{number: number, file: f}
	switch mutable, ok := container.IsMutable(head[:n]); {
	case !ok:
		return nil, container.ErrUnknown
	case mutable:
		sh.mutable, err = container.OpenMutable(f, size)
	default:
		sh.immutable, err = container.OpenImmutable(f, size)
	}
	return sh, err
}

// openAll opens every share of a storage index; it is locked. A damaged file is
// logged and, with skip, left out; without skip it is an error.
func (s *Server) openAll(si caps.StorageIndex, skip bool) ([]*share, error) {
	numbers, err := s.backend.Shares(si)
	if err != nil {
		return nil, err
	}
	var all []*share
	for _, n := range numbers {
		sh, err := s.open(si, n)
		switch {
		case err == nil:
			all = append(all, sh)
		case errors.Is(err, ErrNoShare):
		case skip && (errors.Is(err, container.ErrUnknown) || errors.Is(err, container.ErrDamaged)):
			s.opt.Log.Warn("damaged share file", "storage-index", si.Text(), "share", n, "error", err)
		default:
			closeAll(all)
			return nil, err
		}
	}
	return all, nil
}

func closeAll(all []*share) {
	for _, sh := range all {
		sh.file.Close()
	}
}

// keyedLocks is a read-write lock for each storage index in use.
type keyedLocks struct {
	mu sync.Mutex
	// mu guards held and the counts in it.
	held map[caps.StorageIndex]*keyedLock
}

type keyedLock struct {
	sync.RWMutex
	users int
}

func (k *keyedLocks) get(si caps.StorageIndex) *keyedLock {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.held == nil {
		k.held = map[caps.StorageIndex]*keyedLock{}
	}
	l := k.held[si]
	if l == nil {
		l = &keyedLock{}
		k.held[si] = l
	}
	l.users++
	return l
}

func (k *keyedLocks) put(si caps.StorageIndex, l *keyedLock) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if l.users--; l.users == 0 {
		delete(k.held, si)
	}
}

// write excludes everyone else from the storage index until unlock.
func (k *keyedLocks) write(si caps.StorageIndex) (unlock func()) {
	l := k.get(si)
	l.Lock()
	return func() { l.Unlock(); k.put(si, l) }
}

// read excludes writers from the storage index until unlock.
func (k *keyedLocks) read(si caps.StorageIndex) (unlock func()) {
	l := k.get(si)
	l.RLock()
	return func() { l.RUnlock(); k.put(si, l) }
}

// numbers are the shares' numbers, ascending.
func numbers(all []*share) []int {
	ns := make([]int, 0, len(all))
	for _, sh := range all {
		ns = append(ns, sh.number)
	}
	slices.Sort(ns)
	return ns
}
