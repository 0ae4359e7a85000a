package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"warren/node/caps"
	"warren/node/storage/container"
)

// maxPieces is how many separate pieces of a share may have arrived: it bounds
// what a client that writes every second byte can make us remember.
const maxPieces = 4096

// maxUploads is how many shares may be in the making: each keeps a file open, and
// when there are no more of those the server cannot even be reached. It is room for
// thirty uploads of 256 shares to this one server.
const maxUploads = 8192

// upload is an immutable share in the making.
type upload struct {
	bucket
	secret Secret
	size   uint64
	begun  time.Time

	mu sync.Mutex
	// mu guards what follows, and orders the writes to draft.
	draft   Draft
	written ranges
	last    time.Time // of the last write
	over    bool      // published or dropped: draft is no more
}

// CreateImmutable implements Client.
func (ss *Session) CreateImmutable(ctx context.Context, si caps.StorageIndex, secret Secret, secrets LeaseSecrets, shares []int, size uint64) (already, allocated []int, err error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	for _, n := range shares {
		if n < 0 || n > MaxShare {
			return nil, nil, fmt.Errorf("%w: share number out of range", ErrMalformed)
		}
	}
	defer ss.timed(opAllocate)()
	ss.dropStale()
	// For writing: leases are written, and the answer is about what is there.
	defer ss.locks.write(si)()
	all, err := ss.openAll(si, true)
	if err != nil {
		return nil, nil, err
	}
	defer closeAll(all)
	lease := ss.lease(secrets, 0)
	if err := ss.addLeases(si, all, lease); err != nil {
		return nil, nil, err
	}
	// A number whose file is damaged is taken too, though not held.
	taken, err := ss.backend.Shares(si)
	if err != nil {
		return nil, nil, err
	}
	shares = slices.Clone(shares)
	slices.Sort(shares)
	for _, n := range slices.Compact(shares) {
		if slices.Contains(taken, n) {
			continue
		}
		ok, err := ss.allocate(bucket{si, n}, secret, lease, size)
		if err != nil {
			return nil, nil, err
		}
		if ok {
			allocated = append(allocated, n)
		}
	}
	return numbers(all), allocated, nil
}

// allocate starts one upload, or finds that it is under way with the same secret
// and size. Not ok: someone else's is under way, there is no room, or too much is
// under way.
func (ss *Session) allocate(b bucket, secret Secret, lease container.Lease, size uint64) (ok bool, err error) {
	ss.mu.Lock()
	u, all := ss.uploads[b], len(ss.uploads)
	ss.mu.Unlock()
	if u != nil {
		return u.size == size && u.secret.Equal(secret), nil
	}
	if all >= maxUploads && !ss.yield(1, 0) {
		return false, nil
	}
	layout, err := container.NewImmutable(size, lease)
	if err != nil {
		return false, nil
	}
	release, err := ss.reserve(size + container.ImmutableOverhead)
	if errors.Is(err, ErrNoSpace) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer release()
	draft, err := ss.backend.Draft(b.si, b.share, false)
	if err == nil {
		if err = container.Apply(draft, layout); err != nil {
			draft.Discard()
		}
	}
	if errors.Is(err, ErrNoSpace) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("storage: starting share %d: %w", b.share, err)
	}
	ss.mu.Lock()
	defer ss.mu.Unlock()
	now := ss.opt.Now()
	ss.uploads[b] = &upload{bucket: b, secret: secret, size: size, begun: now, draft: draft, last: now}
	ss.promised += size
	return true, nil
}

// WriteImmutable implements Client.
func (ss *Session) WriteImmutable(ctx context.Context, si caps.StorageIndex, number int, secret Secret, offset uint64, data []byte) (done bool, err error) {
	required, err := ss.Write(ctx, si, number, secret, offset, data)
	return err == nil && len(required) == 0, err
}

// Uploading says whether the share is in the making and secret is its upload
// secret: nil, ErrNoShare or ErrUnauthorized.
func (ss *Session) Uploading(si caps.StorageIndex, number int, secret Secret) error {
	_, err := ss.find(bucket{si, number}, secret)
	return err
}

func (ss *Session) find(b bucket, secret Secret) (*upload, error) {
	ss.mu.Lock()
	u := ss.uploads[b]
	ss.mu.Unlock()
	if u == nil {
		return nil, ErrNoShare
	}
	if !u.secret.Equal(secret) {
		return nil, ErrUnauthorized
	}
	return u, nil
}

// Write is WriteImmutable, and says what has not arrived yet; nothing: the share
// is complete, visible and durable.
func (ss *Session) Write(ctx context.Context, si caps.StorageIndex, number int, secret Secret, offset uint64, data []byte) (required []Range, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	u, err := ss.find(bucket{si, number}, secret)
	if err != nil {
		return nil, err
	}
	defer ss.timed(opWrite)()
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.over {
		return nil, ErrNoShare
	}
	if uint64(len(data)) > u.size || offset > u.size-uint64(len(data)) {
		return nil, fmt.Errorf("%w: past the end of the share", ErrBadRange)
	}
	u.last = ss.opt.Now()
	r := Range{offset, offset + uint64(len(data))}
	for _, have := range u.written.within(r) {
		old := make([]byte, have.End-have.Begin)
		if _, err := u.draft.ReadAt(old, container.ImmutableDataOffset+int64(have.Begin)); err != nil {
			return nil, fmt.Errorf("storage: reading back: %w", err)
		}
		if !bytes.Equal(old, data[have.Begin-offset:have.End-offset]) {
			return nil, ErrConflict
		}
	}
	if len(u.written) >= maxPieces && !u.written.touches(r) {
		return nil, fmt.Errorf("%w: too many pieces", ErrTooLarge)
	}
	if len(data) > 0 {
		if _, err := u.draft.WriteAt(data, container.ImmutableDataOffset+int64(offset)); err != nil {
			return nil, fmt.Errorf("storage: writing share %d: %w", number, err)
		}
	}
	u.written = u.written.add(r)
	if required = u.written.missing(u.size); len(required) > 0 {
		return required, nil
	}
	return nil, ss.complete(u)
}

// complete publishes an upload; u.mu is held. When it fails the upload is gone:
// the client starts over, or finds that the share did arrive.
func (ss *Session) complete(u *upload) error {
	defer ss.timed(opClose)()
	defer ss.locks.write(u.si)()
	defer ss.forget(u)
	taken, err := ss.backend.Shares(u.si)
	if err == nil && slices.Contains(taken, u.share) {
		err = ErrConflict // a mutable share came first
	}
	if err != nil {
		return errors.Join(err, u.draft.Discard())
	}
	if err := ss.backend.Publish(u.si, map[int]Draft{u.share: u.draft}, nil); err != nil {
		return fmt.Errorf("storage: completing share %d: %w", u.share, err)
	}
	ss.tallies.grown(u.size + container.ImmutableOverhead)
	return nil
}

// forget ends an upload; u.mu is held.
func (s *Server) forget(u *upload) {
	if u.over {
		return
	}
	u.over = true
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.uploads, u.bucket)
	s.promised -= u.size
}

// drop ends an upload without a share.
func (s *Server) drop(u *upload) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return s.discard(u)
}

// discard is drop; u.mu is held.
func (s *Server) discard(u *upload) error {
	if u.over {
		return nil
	}
	// The file first: once forgotten, the number may be drafted anew.
	err := u.draft.Discard()
	s.forget(u)
	return err
}

// dropStale drops uploads that were left alone for too long. It runs when
// somebody asks for room, or how much there is: until then they are in nobody's way.
func (s *Server) dropStale() {
	for _, u := range s.underWay() {
		if !u.mu.TryLock() {
			continue // it is being written to; nobody waits for its disk here
		}
		var err error
		if s.opt.Now().Sub(u.last) > s.opt.UploadTimeout {
			err = s.discard(u)
		}
		u.mu.Unlock()
		if err != nil {
			s.opt.Log.Warn("dropping a stale upload", "storage-index", u.si.Text(), "share", u.share, "error", err)
		}
	}
}

// AbortImmutable implements Client.
func (ss *Session) AbortImmutable(ctx context.Context, si caps.StorageIndex, number int, secret Secret) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	u, err := ss.find(bucket{si, number}, secret)
	if errors.Is(err, ErrNoShare) {
		if _, held := ss.ShareLength(ctx, Immutable, si, number); held == nil {
			return ErrComplete
		}
	}
	if err != nil {
		return err
	}
	ss.tallies.add(opAbort, 0)
	return ss.drop(u)
}
