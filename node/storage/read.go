package storage

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"warren/node/caps"
	"warren/node/storage/container"
)

// Version implements Client.
func (ss *Session) Version(ctx context.Context) (Version, error) {
	if err := ctx.Err(); err != nil {
		return Version{}, err
	}
	ss.dropStale()
	free, err := ss.available()
	if err != nil {
		return Version{}, err
	}
	return Version{
		MaximumImmutableShareSize: free,
		MaximumMutableShareSize:   container.MaxMutable,
		AvailableSpace:            free,
		Application:               ss.opt.Application,
	}, nil
}

// ListShares implements Client.
func (ss *Session) ListShares(ctx context.Context, kind ShareKind, si caps.StorageIndex) ([]int, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if kind == Immutable {
		defer ss.timed(opGet)()
	}
	defer ss.locks.read(si)()
	all, err := ss.openAll(si, true)
	if err != nil {
		return nil, err
	}
	defer closeAll(all)
	var these []*share
	for _, sh := range all {
		if sh.kind() == kind {
			these = append(these, sh)
		}
	}
	return numbers(these), nil
}

// ShareLength is the length of a share's data.
func (ss *Session) ShareLength(ctx context.Context, kind ShareKind, si caps.StorageIndex, number int) (uint64, error) {
	r, err := ss.OpenShare(ctx, kind, si, number)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	return r.Length(), nil
}

// ReadShare implements Client.
func (ss *Session) ReadShare(ctx context.Context, kind ShareKind, si caps.StorageIndex, number int, offset, size uint64) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	defer ss.timed(reading(kind))()
	defer ss.locks.read(si)()
	sh, err := ss.openKind(kind, si, number)
	if err != nil {
		return nil, err
	}
	defer sh.file.Close()
	return sh.read(offset, size)
}

// reading is what a read of a share counts as.
func reading(kind ShareKind) operation {
	if kind == Mutable {
		return opReadv
	}
	return opRead
}

// A ShareReader reads a share bit by bit, for somebody who takes it slowly: nobody
// else waits for the next bit. It is not safe for concurrent use.
type ShareReader struct {
	ss     *Session
	kind   ShareKind
	si     caps.StorageIndex
	number int
	length uint64
	open   *share // nil for a mutable share
}

// OpenShare opens a share for reading; Close it. An immutable one stays as it was,
// even if it is removed meanwhile. A mutable one is looked up again by each read:
// where what is open cannot be replaced (Windows), a reader must not stop a writer.
func (ss *Session) OpenShare(ctx context.Context, kind ShareKind, si caps.StorageIndex, number int) (*ShareReader, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	defer ss.locks.read(si)()
	sh, err := ss.openKind(kind, si, number)
	if err != nil {
		return nil, err
	}
	r := &ShareReader{ss: ss, kind: kind, si: si, number: number, length: sh.length()}
	if kind == Immutable {
		r.open = sh
	} else {
		sh.file.Close()
	}
	return r, nil
}

// Length is how long the share was when it was opened.
func (r *ShareReader) Length() uint64 { return r.length }

// Read reads what fits into p, from offset on: short at the share's end, 0 past it.
func (r *ShareReader) Read(ctx context.Context, p []byte, offset uint64) (n int, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	defer r.ss.timed(reading(r.kind))()
	if r.open != nil {
		return r.open.readInto(p, offset)
	}
	defer r.ss.locks.read(r.si)()
	sh, err := r.ss.openKind(r.kind, r.si, r.number)
	if err != nil {
		return 0, err
	}
	defer sh.file.Close()
	return sh.readInto(p, offset)
}

// Close lets go of the share.
func (r *ShareReader) Close() {
	if r.open != nil {
		r.open.file.Close()
	}
}

func (ss *Session) openKind(kind ShareKind, si caps.StorageIndex, number int) (*share, error) {
	sh, err := ss.open(si, number)
	if err != nil {
		return nil, err
	}
	if sh.kind() != kind {
		sh.file.Close()
		return nil, ErrNoShare
	}
	return sh, nil
}

// ReadSlot implements Client. All vectors see the same version of each share.
func (ss *Session) ReadSlot(ctx context.Context, si caps.StorageIndex, shares []int, read []ReadVector) (map[int][][]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	defer ss.timed(opReadv)()
	defer ss.locks.read(si)()
	all, err := ss.openAll(si, true)
	if err != nil {
		return nil, err
	}
	defer closeAll(all)
	wanted := map[int]bool{}
	for _, n := range shares {
		wanted[n] = true
	}
	var these []*share
	for _, sh := range all {
		if sh.mutable != nil && (shares == nil || wanted[sh.number]) {
			these = append(these, sh)
		}
	}
	return readVectors(these, read)
}

// MaxSlotRead is how much one ReadTestWrite reads at most. All of it is in memory
// at once, and a share with a hole in it, which costs nobody anything, is as large
// as its writer likes.
const MaxSlotRead = 64 << 20

// checkReads refuses to read more than MaxSlotRead.
func checkReads(all []*share, read []ReadVector) error {
	left := uint64(MaxSlotRead)
	for _, sh := range all {
		for _, v := range read {
			length := sh.length()
			size := min(v.Size, length-min(v.Offset, length))
			if size > left {
				return fmt.Errorf("%w: reading more than %d MiB at once", ErrTooLarge, MaxSlotRead>>20)
			}
			left -= size
		}
	}
	return nil
}

func readVectors(all []*share, read []ReadVector) (map[int][][]byte, error) {
	answers := make(map[int][][]byte, len(all))
	for _, sh := range all {
		parts := make([][]byte, 0, len(read))
		for _, v := range read {
			data, err := sh.read(v.Offset, v.Size)
			if err != nil {
				return nil, err
			}
			parts = append(parts, data)
		}
		answers[sh.number] = parts
	}
	return answers, nil
}

// AddLease implements Client.
func (ss *Session) AddLease(ctx context.Context, si caps.StorageIndex, secrets LeaseSecrets) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	defer ss.timed(opAddLease)()
	defer ss.locks.write(si)()
	all, err := ss.openAll(si, true)
	if err != nil {
		return err
	}
	defer closeAll(all)
	if len(all) == 0 {
		return ErrNoShare
	}
	return ss.addLeases(si, all, ss.lease(secrets, 1))
}

// addLeases puts the lease on the shares, or, for want of space, on none; the
// storage index is write-locked.
func (ss *Session) addLeases(si caps.StorageIndex, all []*share, lease container.Lease) error {
	amended := map[int][]container.Patch{}
	var growth uint64
	for _, sh := range all {
		lease := lease
		if sh.mutable != nil && lease.Owner == 0 {
			lease.Owner = 1 // 0 would mean "no lease" there
		}
		patches, grows, err := sh.addOrRenew(lease)
		if err != nil {
			return err
		}
		if len(patches) == 0 {
			continue
		}
		amended[sh.number] = patches
		growth += uint64(grows)
		// Windows lets nobody write to what is open without leave to do so.
		sh.file.Close()
	}
	if len(amended) == 0 {
		return nil
	}
	release, err := ss.reserve(growth)
	if err != nil {
		return err
	}
	defer release()
	if err := ss.amend(si, amended); err != nil {
		return fmt.Errorf("storage: writing a lease: %w", err)
	}
	return nil
}

// amend amends shares together, where the backend can.
func (ss *Session) amend(si caps.StorageIndex, patches map[int][]container.Patch) error {
	if a, ok := ss.backend.(Amender); ok {
		return a.AmendAll(si, patches)
	}
	for _, n := range slices.Sorted(maps.Keys(patches)) {
		if err := ss.backend.Amend(si, n, patches[n]); err != nil {
			return err
		}
	}
	return nil
}

// maxReason is the longest reason that an advisory keeps, Tahoe's limit.
const maxReason = 32765

// AdviseCorrupt implements Client: the advisory is kept for the operator, with
// the name and text that Tahoe gives it.
func (ss *Session) AdviseCorrupt(ctx context.Context, kind ShareKind, si caps.StorageIndex, number int, reason string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(reason) > maxReason {
		return ErrTooLarge
	}
	defer ss.locks.read(si)()
	sh, err := ss.openKind(kind, si, number)
	if err != nil && !errors.Is(err, container.ErrDamaged) && !errors.Is(err, container.ErrUnknown) {
		return err
	}
	if err == nil {
		sh.file.Close()
	}
	text := fmt.Sprintf("report: Share Corruption\ntype: %s\nstorage_index: %s\nshare_number: %d\n\n%s\n\n", kind, si.Text(), number, reason)
	release, err := ss.reserve(uint64(len(text)))
	if err != nil {
		return err
	}
	defer release()
	// Tahoe drops the colons, which Windows refuses.
	now := strings.ReplaceAll(ss.opt.Now().UTC().Format("2006-01-02T15:04:05.000000"), ":", "")
	if err := ss.backend.Advise(fmt.Sprintf("%s--%s-%d", now, si.Text(), number), []byte(text)); err != nil {
		return err
	}
	// What is kept is bounded, and so is what is logged.
	ss.opt.Log.Warn("a client claims corruption", "kind", kind, "storage-index", si.Text(), "share", number)
	return nil
}
