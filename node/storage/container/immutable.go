package container

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
)

const (
	immutableHeader = 12
	immutableLease  = 72

	// ImmutableOverhead is what a new immutable share file with one lease takes
	// beside its data.
	ImmutableOverhead = immutableHeader + immutableLease
	// ImmutableLeaseSize is what one more lease takes.
	ImmutableLeaseSize = immutableLease
	// MaxImmutable is the largest share that we lay out: file offsets stay positive.
	MaxImmutable = math.MaxInt64 / 2
)

// Immutable is a complete immutable share file, open for reading.
type Immutable struct {
	r       io.ReaderAt
	version int
	length  uint64
	leases  uint32
}

func immutableVersion(head []byte) int {
	if len(head) < 4 {
		return 0
	}
	if v := binary.BigEndian.Uint32(head); v == 1 || v == 2 {
		return int(v)
	}
	return 0
}

// NewImmutable lays out a version 2 file for size bytes of data with one lease.
// The data, yet to be written, starts at ImmutableDataOffset.
func NewImmutable(size uint64, lease Lease) ([]Patch, error) {
	if size > MaxImmutable {
		return nil, ErrTooLarge
	}
	head := make([]byte, immutableHeader)
	binary.BigEndian.PutUint32(head, 2)
	binary.BigEndian.PutUint32(head[4:], uint32(min(size, math.MaxUint32)))
	binary.BigEndian.PutUint32(head[8:], 1)
	return []Patch{
		{0, head},
		{immutableHeader + int64(size), packImmutableLease(2, lease)},
	}, nil
}

// ImmutableDataOffset is where the share data starts.
const ImmutableDataOffset = immutableHeader

// OpenImmutable parses the header of a file of size bytes.
//
// Adding a lease writes the record behind the last one and then the count. A
// crash between the two leaves a record, or a part of one, that nothing counts:
// the header's data length tells, and the tail is not taken for data. Tahoe
// would take it so; the next lease added here overwrites it.
func OpenImmutable(r io.ReaderAt, size int64) (*Immutable, error) {
	var head [immutableHeader]byte
	if size < immutableHeader {
		return nil, fmt.Errorf("%w: shorter than its header", ErrDamaged)
	}
	if err := readFull(r, head[:], 0); err != nil {
		return nil, err
	}
	im := &Immutable{r: r, version: immutableVersion(head[:]), leases: binary.BigEndian.Uint32(head[8:])}
	if im.version == 0 {
		return nil, ErrUnknown
	}
	length := size - immutableHeader - immutableLease*int64(im.leases)
	if length < 0 {
		return nil, fmt.Errorf("%w: shorter than its leases", ErrDamaged)
	}
	declared := int64(binary.BigEndian.Uint32(head[4:]))
	if tail := length - declared; declared != math.MaxUint32 && tail > 0 && tail <= immutableLease {
		length = declared
	}
	im.length = uint64(length)
	return im, nil
}

// Version is the container's version, 1 or 2.
func (im *Immutable) Version() int { return im.version }

// Length is the length of the share data.
func (im *Immutable) Length() uint64 { return im.length }

// Read returns up to size bytes of the data at offset; short at its end, empty
// past it. It never returns lease data.
func (im *Immutable) Read(offset, size uint64) ([]byte, error) {
	return section(im.r, immutableHeader, im.length, offset, size)
}

// ReadInto reads what fits into p; n is how much of it there is.
func (im *Immutable) ReadInto(p []byte, offset uint64) (n int, err error) {
	return sectionInto(im.r, immutableHeader, im.length, offset, p)
}

// Leases returns all leases, in file order.
func (im *Immutable) Leases() ([]Stored, error) {
	var all []Stored
	var rec [immutableLease]byte
	for i := range im.leases {
		if err := readFull(im.r, rec[:], im.slot(i)); err != nil {
			return nil, err
		}
		l := Stored{version: im.version, slot: int(i)}
		l.Owner = binary.BigEndian.Uint32(rec[:])
		copy(l.Renew[:], rec[4:])
		copy(l.Cancel[:], rec[36:])
		l.Expires = binary.BigEndian.Uint32(rec[68:])
		all = append(all, l)
	}
	return all, nil
}

// AddOrRenew extends the first lease that lease.Renew renews, never shortening
// it, or else adds lease. grows is by how many bytes the file grows; no patches
// means that nothing has to change.
func (im *Immutable) AddOrRenew(lease Lease) (patches []Patch, grows int64, err error) {
	leases, err := im.Leases()
	if err != nil {
		return nil, 0, err
	}
	for _, l := range leases {
		if l.RenewedBy(lease.Renew) {
			if lease.Expires <= l.Expires {
				return nil, 0, nil
			}
			return extend(im.slot(uint32(l.slot))+68, lease.Expires), 0, nil
		}
	}
	if im.leases == math.MaxUint32 {
		return nil, 0, ErrTooLarge
	}
	return []Patch{
		{im.slot(im.leases), packImmutableLease(im.version, lease)},
		{8, binary.BigEndian.AppendUint32(nil, im.leases+1)},
	}, immutableLease, nil
}

func (im *Immutable) slot(i uint32) int64 {
	return immutableHeader + int64(im.length) + immutableLease*int64(i)
}

func packImmutableLease(version int, l Lease) []byte {
	renew, cancel := keep(version, l.Renew), keep(version, l.Cancel)
	b := make([]byte, 0, immutableLease)
	b = binary.BigEndian.AppendUint32(b, l.Owner)
	b = append(b, renew[:]...)
	b = append(b, cancel[:]...)
	return binary.BigEndian.AppendUint32(b, l.Expires)
}
