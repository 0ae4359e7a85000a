package container

import (
	"encoding/binary"
	"fmt"
	"io"
)

const (
	mutableHeader = 100
	mutableLease  = 92
	headerLeases  = 4
	mutableData   = mutableHeader + headerLeases*mutableLease // 468

	magicV1 = "Tahoe mutable container v1\n\x75\x09\x44\x03\x8e"
	magicV2 = "Tahoe mutable container v2\n\xc3\x55\x21\x99\x25"

	// MutableOverhead is the size of an empty slot file.
	MutableOverhead = mutableData + 4
	// MaxMutable is the largest mutable share, Tahoe's number.
	MaxMutable = 69105 * 1000 * 1000 * 1000 * 1000
)

// Mutable is a mutable slot file. Its methods that change the file return
// patches and take them as applied: apply them before the next call.
type Mutable struct {
	r       io.ReaderAt
	version int
	size    int64
	enabler Secret
	node    NodeID
	length  uint64
	extra   uint64 // offset of the count of extra leases
	extras  uint32
}

func mutableVersion(head []byte) int {
	if len(head) < len(magicV1) {
		return 0
	}
	switch string(head[:len(magicV1)]) {
	case magicV1:
		return 1
	case magicV2:
		return 2
	}
	return 0
}

// NewMutable is an empty version 2 slot file.
func NewMutable(node NodeID, enabler Secret) []byte {
	b := make([]byte, MutableOverhead)
	copy(b, magicV2)
	copy(b[32:], node[:])
	copy(b[52:], enabler[:])
	binary.BigEndian.PutUint64(b[92:], mutableData)
	return b
}

// OpenMutable parses the header of a file of size bytes.
func OpenMutable(r io.ReaderAt, size int64) (*Mutable, error) {
	var head [mutableHeader]byte
	if size < mutableData+4 {
		return nil, fmt.Errorf("%w: shorter than its header", ErrDamaged)
	}
	if err := readFull(r, head[:], 0); err != nil {
		return nil, err
	}
	m := &Mutable{r: r, version: mutableVersion(head[:]), size: size}
	if m.version == 0 {
		return nil, ErrUnknown
	}
	copy(m.node[:], head[32:])
	copy(m.enabler[:], head[52:])
	m.length = binary.BigEndian.Uint64(head[84:])
	m.extra = binary.BigEndian.Uint64(head[92:])
	// Each comparison keeps the next one from wrapping.
	if m.extra < mutableData || m.extra > uint64(size)-4 || m.length > m.extra-mutableData {
		return nil, fmt.Errorf("%w: its lengths reach past its leases", ErrDamaged)
	}
	var count [4]byte
	if err := readFull(r, count[:], int64(m.extra)); err != nil {
		return nil, err
	}
	m.extras = binary.BigEndian.Uint32(count[:])
	if uint64(m.extras)*mutableLease > uint64(size)-4-m.extra {
		return nil, fmt.Errorf("%w: shorter than its leases", ErrDamaged)
	}
	return m, nil
}

// Version is the container's version, 1 or 2.
func (m *Mutable) Version() int { return m.version }

// Length is the length of the share data.
func (m *Mutable) Length() uint64 { return m.length }

// WritableBy says whether the write enabler is the slot's, and which server recorded it.
func (m *Mutable) WritableBy(enabler Secret) (bool, NodeID) { return m.enabler.Equal(enabler), m.node }

// Read returns up to size bytes of the data at offset; short at its end, empty
// past it. It never returns lease data.
func (m *Mutable) Read(offset, size uint64) ([]byte, error) {
	return section(m.r, mutableData, m.length, offset, size)
}

// ReadInto reads what fits into p; n is how much of it there is.
func (m *Mutable) ReadInto(p []byte, offset uint64) (n int, err error) {
	return sectionInto(m.r, mutableData, m.length, offset, p)
}

// Matches says whether Read would return want.
func (m *Mutable) Matches(offset, size uint64, want []byte) (bool, error) {
	return equalAt(m.r, mutableData, m.length, offset, size, want)
}

// SizeAfter is the size of the file once data up to end is written and, maybe,
// one more lease added: the bound that space is reserved by.
func (m *Mutable) SizeAfter(end uint64) (int64, error) {
	if end > MaxMutable {
		return 0, ErrTooLarge
	}
	return int64(max(m.extra, mutableData+end)) + 4 + mutableLease*(int64(m.extras)+1), nil
}

// Write writes data at offset. As in Tahoe: a write that reaches the end of the
// data sets the new end, a gap before it reads as zeros, and the container grows
// but never shrinks. The patches do not survive a crash between them: apply them
// to a copy.
func (m *Mutable) Write(offset uint64, data []byte) ([]Patch, error) {
	end := offset + uint64(len(data))
	if offset > MaxMutable || end > MaxMutable {
		return nil, ErrTooLarge
	}
	var patches []Patch
	if end >= m.length {
		if mutableData+end > m.extra {
			grown, err := m.grow(mutableData + end)
			if err != nil {
				return nil, err
			}
			patches = append(patches, grown...)
		}
		// Beyond the old end of the file a gap is made of zeros already.
		for gap := mutableData + m.length; gap < min(mutableData+offset, uint64(m.size)); {
			n := min(mutableData+offset-gap, uint64(m.size)-gap, uint64(len(zeros)))
			patches = append(patches, Patch{int64(gap), zeros[:n]})
			gap += n
		}
		m.length = end
		m.size = max(m.size, int64(m.extra)+4+mutableLease*int64(m.extras))
		patches = append(patches, Patch{84, binary.BigEndian.AppendUint64(nil, end)})
	}
	if len(data) > 0 {
		patches = append(patches, Patch{mutableData + int64(offset), data})
	}
	return patches, nil
}

// zeros is what gaps are filled with; nobody writes to it.
var zeros = make([]byte, 1<<16)

// grow moves the extra leases to a new offset. What they leave behind is zeroed,
// lest it be read as data later. m.size stays the old one: Write's gap needs it.
func (m *Mutable) grow(extra uint64) ([]Patch, error) {
	block := make([]byte, 4+mutableLease*int64(m.extras))
	if err := readFull(m.r, block, int64(m.extra)); err != nil {
		return nil, err
	}
	patches := []Patch{
		{int64(m.extra), make([]byte, len(block))},
		{int64(extra), block},
		{92, binary.BigEndian.AppendUint64(nil, extra)},
	}
	m.extra = extra
	return patches, nil
}

// Shrink cuts the data to length; a length past its end changes nothing.
func (m *Mutable) Shrink(length uint64) []Patch {
	if length >= m.length {
		return nil
	}
	m.length = length
	return []Patch{{84, binary.BigEndian.AppendUint64(nil, length)}}
}

// Leases returns all leases, in file order, without the empty slots.
func (m *Mutable) Leases() ([]Stored, error) {
	all, _, err := m.slots()
	return all, err
}

// slots returns the leases and the first empty slot, -1 if none is empty.
func (m *Mutable) slots() (all []Stored, empty int, err error) {
	empty = -1
	var rec [mutableLease]byte
	for i := range headerLeases + int(m.extras) {
		if err := readFull(m.r, rec[:], m.slot(i)); err != nil {
			return nil, 0, err
		}
		l := Stored{version: m.version, slot: i}
		l.Owner = binary.BigEndian.Uint32(rec[:])
		l.Expires = binary.BigEndian.Uint32(rec[4:])
		copy(l.Renew[:], rec[8:])
		copy(l.Cancel[:], rec[40:])
		copy(l.Node[:], rec[72:])
		if l.Owner != 0 {
			all = append(all, l)
		} else if empty < 0 {
			empty = i
		}
	}
	return all, empty, nil
}

// AddOrRenew extends the first lease that lease.Renew renews, never shortening
// it, or else adds lease, whose owner must not be 0. grows is by how many bytes
// the file grows; no patches means that nothing has to change.
func (m *Mutable) AddOrRenew(lease Lease) (patches []Patch, grows int64, err error) {
	if lease.Owner == 0 {
		return nil, 0, fmt.Errorf("container: owner number 0 means no lease in a mutable slot")
	}
	leases, empty, err := m.slots()
	if err != nil {
		return nil, 0, err
	}
	for _, l := range leases {
		if l.RenewedBy(lease.Renew) {
			if lease.Expires <= l.Expires {
				return nil, 0, nil
			}
			return extend(m.slot(l.slot)+4, lease.Expires), 0, nil
		}
	}
	if empty >= 0 {
		return []Patch{{m.slot(empty), packMutableLease(m.version, lease)}}, 0, nil
	}
	if m.extras == 1<<32-1-headerLeases {
		return nil, 0, ErrTooLarge
	}
	m.extras++
	return []Patch{
		{m.slot(headerLeases + int(m.extras) - 1), packMutableLease(m.version, lease)},
		{int64(m.extra), binary.BigEndian.AppendUint32(nil, m.extras)},
	}, mutableLease, nil
}

func (m *Mutable) slot(i int) int64 {
	if i < headerLeases {
		return mutableHeader + mutableLease*int64(i)
	}
	return int64(m.extra) + 4 + mutableLease*int64(i-headerLeases)
}

func packMutableLease(version int, l Lease) []byte {
	renew, cancel := keep(version, l.Renew), keep(version, l.Cancel)
	b := make([]byte, 0, mutableLease)
	b = binary.BigEndian.AppendUint32(b, l.Owner)
	b = binary.BigEndian.AppendUint32(b, l.Expires)
	b = append(b, renew[:]...)
	b = append(b, cancel[:]...)
	return append(b, l.Node[:]...)
}
