package storage

import (
	"context"
	"errors"
	"math"

	"warren/node/caps"
	"warren/node/storage/container"
)

// Secret is a 32-byte lease secret, upload secret or write enabler. It prints
// redacted and is compared in constant time.
type Secret = container.Secret

// LeaseSecrets renew and cancel one lease.
type LeaseSecrets struct {
	Renew, Cancel Secret
}

// ShareKind says which of the two namespaces an operation is about.
type ShareKind string

// The kinds, spelled as in GBS paths.
const (
	Immutable ShareKind = "immutable"
	Mutable   ShareKind = "mutable"
)

// Errors that callers branch on. Every Client maps its protocol's answers to
// these; everything else is a transport failure (wrapped, safe to retry unless
// the method says otherwise).
var (
	ErrNoShare        = errors.New("storage: no such share")            // 404
	ErrConflict       = errors.New("storage: conflicting write")        // 409
	ErrUnauthorized   = errors.New("storage: secret refused")           // 401, 403
	ErrNoSpace        = errors.New("storage: server is out of space")   // 507, refused allocation
	ErrBadRange       = errors.New("storage: range not satisfiable")    // 416
	ErrTooLarge       = errors.New("storage: request too large")        // 413
	ErrReadOnlyServer = errors.New("storage: server accepts no shares") // in-process only; 507 over GBS
	ErrComplete       = errors.New("storage: share is complete")        // 405: nothing to abort any more
	ErrMalformed      = errors.New("storage: malformed request")        // 400
)

// Version is what a server says of itself.
type Version struct {
	MaximumImmutableShareSize uint64
	MaximumMutableShareSize   uint64
	AvailableSpace            uint64
	Application               string // "tahoe-lafs/1.20.0", "warren/0.1.0"
}

// WriteVector writes Data at Offset of a mutable share.
type WriteVector struct {
	Offset uint64
	Data   []byte
}

// TestVector holds when the share's bytes [Offset, Offset+Size) equal Specimen.
// An absent share reads as empty: Offset 0, Size 1, empty Specimen demands absence.
type TestVector struct {
	Offset, Size uint64
	Specimen     []byte
}

// ReadVector asks for Size bytes at Offset; the answer is shorter at the end of
// the share.
type ReadVector struct {
	Offset, Size uint64
}

// TestWrite is what is asked of one share of a slot. NewLength nil leaves the
// length; zero deletes the share.
type TestWrite struct {
	Test      []TestVector
	Write     []WriteVector
	NewLength *uint64
}

// SlotSecrets authorise a mutable write.
type SlotSecrets struct {
	WriteEnabler Secret
	LeaseSecrets
}

// Client is one storage server as a client sees it: over GBS, over Foolscap or
// in this process. All methods are safe for concurrent use. When a write method
// returns nil (RTW: true), what it wrote is durable on that server.
type Client interface {
	// Version asks the server what it is and how much it takes.
	Version(ctx context.Context) (Version, error)

	// CreateImmutable reserves room for shares of size bytes each. already: all
	// complete shares the server holds, asked for or not (their leases are renewed);
	// allocated: those that may now be written under upload. A number in neither
	// was refused for want of space. Repeating it with the same upload secret
	// returns the same buckets (from a Tahoe server: neither list names them, until
	// the upload is complete or given up).
	CreateImmutable(ctx context.Context, si caps.StorageIndex, upload Secret, lease LeaseSecrets, shares []int, size uint64) (already, allocated []int, err error)
	// WriteImmutable writes data at offset of an allocated share. done says that
	// all size bytes have arrived, which makes the share complete and visible.
	// Repeating an identical write is safe; a differing one is ErrConflict. Only
	// done is durable: a server that restarts forgets incomplete shares. Once done,
	// there is nothing left to write to: ErrNoShare.
	WriteImmutable(ctx context.Context, si caps.StorageIndex, share int, upload Secret, offset uint64, data []byte) (done bool, err error)
	// AbortImmutable drops an incomplete share. ErrComplete when it is complete.
	AbortImmutable(ctx context.Context, si caps.StorageIndex, share int, upload Secret) error

	// ListShares returns the numbers of the (complete) shares held, ascending;
	// none is an empty slice, not an error.
	ListShares(ctx context.Context, kind ShareKind, si caps.StorageIndex) ([]int, error)
	// ReadShare reads up to size bytes at offset; short at the end of the share,
	// empty past it. ErrNoShare when it is not there.
	ReadShare(ctx context.Context, kind ShareKind, si caps.StorageIndex, share int, offset, size uint64) ([]byte, error)
	// AddLease adds or renews the lease on every share of the storage index held,
	// of either kind. ErrNoShare when there is none.
	AddLease(ctx context.Context, si caps.StorageIndex, lease LeaseSecrets) error
	// AdviseCorrupt tells the server that a share is damaged.
	AdviseCorrupt(ctx context.Context, kind ShareKind, si caps.StorageIndex, share int, reason string) error

	// ReadTestWrite is the slot's one atomic operation: read the vectors of every
	// share held, test, and, when every test holds, write all. wrote is false when
	// a test failed; reads holds, for every share held before the write, one
	// answer a vector. ErrUnauthorized: the write enabler is wrong. ErrTooLarge, and
	// nothing is written: the answer would be more than MaxSlotRead.
	ReadTestWrite(ctx context.Context, si caps.StorageIndex, secrets SlotSecrets, tw map[int]TestWrite, read []ReadVector) (wrote bool, reads map[int][][]byte, err error)
	// ReadSlot reads the vectors of the named shares (nil: of all held); shares not
	// held are missing from the answer. Over GBS each vector is a request of its
	// own: a write between two of them shows in one and not in the other.
	ReadSlot(ctx context.Context, si caps.StorageIndex, shares []int, read []ReadVector) (map[int][][]byte, error)
}

// Resumer is a Client whose server says what has not arrived of a share, so that an
// upload which broke off goes on where it was. GBS says it; Foolscap cannot.
type Resumer interface {
	// Write is WriteImmutable, and returns what is still missing of the share;
	// nothing says that it is complete.
	Write(ctx context.Context, si caps.StorageIndex, share int, upload Secret, offset uint64, data []byte) (missing []Range, err error)
}

// Write writes to c and returns what is missing, as a Resumer does. Of a Client that
// is none, all that follows data counts as missing until the share is complete.
func Write(ctx context.Context, c Client, si caps.StorageIndex, share int, upload Secret, offset uint64, data []byte) (missing []Range, err error) {
	if r, ok := c.(Resumer); ok {
		return r.Write(ctx, si, share, upload, offset, data)
	}
	done, err := c.WriteImmutable(ctx, si, share, upload, offset, data)
	if err != nil || done {
		return nil, err
	}
	return []Range{{offset + uint64(len(data)), math.MaxUint64}}, nil
}
