package grid

import (
	"context"
	"errors"
	"time"

	"warren/node/caps"
	"warren/node/storage"
)

// observed is a Client that tells its grid when a call failed in transport: the
// server's state is then found out at once, not at the next recheck.
type observed struct {
	storage.Client
	failed func()
}

// ErrOutpaced is the cause (context.WithCancelCause) with which a caller ends calls
// that he gave up because other servers answered long before.
var ErrOutpaced = errors.New("grid: the other servers answered long before")

// note looks at a call's outcome. An answer of the server, even a refusal, and a
// caller who changed his mind say nothing against the connection. A deadline
// does, and ErrOutpaced: that is how a server that hangs shows.
func (o *observed) note(ctx context.Context, err error) {
	if err == nil || errors.Is(ctx.Err(), context.Canceled) && !errors.Is(context.Cause(ctx), ErrOutpaced) {
		return
	}
	for _, answer := range []error{
		storage.ErrNoShare, storage.ErrConflict, storage.ErrUnauthorized, storage.ErrNoSpace, storage.ErrBadRange,
		storage.ErrTooLarge, storage.ErrReadOnlyServer, storage.ErrComplete, storage.ErrMalformed,
	} {
		if errors.Is(err, answer) {
			return
		}
	}
	o.failed()
}

func (o *observed) Version(ctx context.Context) (storage.Version, error) {
	v, err := o.Client.Version(ctx)
	o.note(ctx, err)
	return v, err
}

// Watches says what the Client says, if it is a storage.Watcher.
func (o *observed) Watches() bool { return storage.Watches(o.Client) }

func (o *observed) Watch(ctx context.Context, have map[caps.StorageIndex]storage.Tag, wait time.Duration) (map[caps.StorageIndex]storage.Tag, error) {
	changed, err := storage.Watch(ctx, o.Client, have, wait)
	if !errors.Is(err, errors.ErrUnsupported) {
		o.note(ctx, err)
	}
	return changed, err
}

func (o *observed) CreateImmutable(ctx context.Context, si caps.StorageIndex, upload storage.Secret, lease storage.LeaseSecrets, shares []int, size uint64) ([]int, []int, error) {
	already, allocated, err := o.Client.CreateImmutable(ctx, si, upload, lease, shares, size)
	o.note(ctx, err)
	return already, allocated, err
}

func (o *observed) WriteImmutable(ctx context.Context, si caps.StorageIndex, share int, upload storage.Secret, offset uint64, data []byte) (bool, error) {
	done, err := o.Client.WriteImmutable(ctx, si, share, upload, offset, data)
	o.note(ctx, err)
	return done, err
}

// Write passes on what the server says is missing, if it is one that says so.
func (o *observed) Write(ctx context.Context, si caps.StorageIndex, share int, upload storage.Secret, offset uint64, data []byte) ([]storage.Range, error) {
	missing, err := storage.Write(ctx, o.Client, si, share, upload, offset, data)
	o.note(ctx, err)
	return missing, err
}

func (o *observed) AbortImmutable(ctx context.Context, si caps.StorageIndex, share int, upload storage.Secret) error {
	err := o.Client.AbortImmutable(ctx, si, share, upload)
	o.note(ctx, err)
	return err
}

func (o *observed) ListShares(ctx context.Context, kind storage.ShareKind, si caps.StorageIndex) ([]int, error) {
	list, err := o.Client.ListShares(ctx, kind, si)
	o.note(ctx, err)
	return list, err
}

func (o *observed) ReadShare(ctx context.Context, kind storage.ShareKind, si caps.StorageIndex, share int, offset, size uint64) ([]byte, error) {
	data, err := o.Client.ReadShare(ctx, kind, si, share, offset, size)
	o.note(ctx, err)
	return data, err
}

func (o *observed) AddLease(ctx context.Context, si caps.StorageIndex, lease storage.LeaseSecrets) error {
	err := o.Client.AddLease(ctx, si, lease)
	o.note(ctx, err)
	return err
}

func (o *observed) AdviseCorrupt(ctx context.Context, kind storage.ShareKind, si caps.StorageIndex, share int, reason string) error {
	err := o.Client.AdviseCorrupt(ctx, kind, si, share, reason)
	o.note(ctx, err)
	return err
}

func (o *observed) ReadTestWrite(ctx context.Context, si caps.StorageIndex, secrets storage.SlotSecrets, tw map[int]storage.TestWrite, read []storage.ReadVector) (bool, map[int][][]byte, error) {
	wrote, reads, err := o.Client.ReadTestWrite(ctx, si, secrets, tw, read)
	o.note(ctx, err)
	return wrote, reads, err
}

func (o *observed) ReadSlot(ctx context.Context, si caps.StorageIndex, shares []int, read []storage.ReadVector) (map[int][][]byte, error) {
	reads, err := o.Client.ReadSlot(ctx, si, shares, read)
	o.note(ctx, err)
	return reads, err
}
