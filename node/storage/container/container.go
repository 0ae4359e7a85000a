// Package container reads and writes Tahoe-LAFS share files: the immutable
// share file and the mutable slot file, with the leases inside them. Files move
// between a Tahoe 1.20 server and ours in both directions.
//
// The package is pure: parsing reads through an io.ReaderAt, and each change is
// returned as a list of patches which the caller applies in order. A caller that
// patches a file in place syncs after each patch: in that order a crash leaves
// every share and every acknowledged lease readable.
//
// # Immutable share file, versions 1 and 2 (numbers big-endian)
//
//	0   4   version
//	4   4   share data length, at most 2^32-1; Tahoe fills it in and ignores it
//	8   4   number of leases
//	12  A   share data; A = file size - 12 - 72 * leases
//	..  72  each lease: owner (4), renew secret (32), cancel secret (32), expiry (4)
//
// # Mutable slot file, versions 1 and 2
//
//	0    32   "Tahoe mutable container v1\n" (or v2) and five magic bytes
//	32   20   tub id of the server that recorded the write enabler
//	52   32   write enabler
//	84   8    data length
//	92   8    E, the offset of the count of extra leases
//	100  368  four leases of 92 bytes: owner (4; 0 means no lease), expiry (4),
//	          renew secret (32), cancel secret (32), tub id of the server (20)
//	468  ..   data; what lies between its end and E is what shrinking left behind
//	E    4    count of extra leases
//	E+4  ..   extra leases, 92 bytes each
//
// Version 1 holds lease secrets as they are, version 2 their unkeyed
// BLAKE2b-256. New files are version 2; a version 1 file stays what it is.
package container

import (
	"bytes"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/crypto/blake2b"
)

// LeaseDuration is what a lease is granted for, from the moment of the request.
const LeaseDuration = 31 * 24 * time.Hour

var (
	// ErrUnknown: the file is no share file of a version that we know.
	ErrUnknown = errors.New("container: not a share file of a known version")
	// ErrDamaged: the file starts as a share file, but its lengths contradict it.
	ErrDamaged = errors.New("container: damaged share file")
	// ErrTooLarge: the share would outgrow what its container can hold.
	ErrTooLarge = errors.New("container: share too large")
)

// Secret is a 32-byte lease secret, upload secret or write enabler. It prints
// redacted and is compared in constant time.
type Secret [32]byte

// String is redacted.
func (Secret) String() string { return "[secret]" }

// GoString is redacted.
func (Secret) GoString() string { return "[secret]" }

// Format is redacted for every verb.
func (Secret) Format(f fmt.State, _ rune) { io.WriteString(f, "[secret]") }

// Equal compares in constant time.
func (s Secret) Equal(t Secret) bool { return subtle.ConstantTimeCompare(s[:], t[:]) == 1 }

// NodeID is a server's 20-byte tub id.
type NodeID [20]byte

// Lease is what a caller asks for: the secrets in the clear.
type Lease struct {
	// Owner is the account's number. 0 in a mutable slot means that there is no lease.
	Owner         uint32
	Renew, Cancel Secret
	// Expires is in seconds since 1970, as far as 32 bits go.
	Expires uint32
	// Node is the server that accepted the lease; only mutable slots record it.
	Node NodeID
}

// Stored is a lease as it stands in a file; the secrets are hashed if the file
// is version 2.
type Stored struct {
	Lease
	version int
	slot    int
}

// RenewedBy says whether secret is the lease's renew secret.
func (s Stored) RenewedBy(secret Secret) bool { return s.Renew.Equal(keep(s.version, secret)) }

// CancelledBy says whether secret is the lease's cancel secret.
func (s Stored) CancelledBy(secret Secret) bool { return s.Cancel.Equal(keep(s.version, secret)) }

// keep is the form in which a file of the version holds a secret.
func keep(version int, s Secret) Secret {
	if version == 1 {
		return s
	}
	return blake2b.Sum256(s[:])
}

// Patch is one write to a share file. Patches are applied in order; in a live
// file each is synced before the next.
type Patch struct {
	Offset int64
	Data   []byte
}

// Apply writes the patches to a file that nobody reads yet.
func Apply(w io.WriterAt, patches []Patch) error {
	for _, p := range patches {
		if _, err := w.WriteAt(p.Data, p.Offset); err != nil {
			return err
		}
	}
	return nil
}

// sector is what a disk writes whole or not at all.
const sector = 512

// extend writes a later expiry over an earlier one. Where the number lies across two
// sectors a power cut could leave half of each: the higher half goes first, so that
// what is left never ends before the earlier one.
func extend(offset int64, expires uint32) []Patch {
	b := binary.BigEndian.AppendUint32(nil, expires)
	if high := sector - offset%sector; high < int64(len(b)) {
		return []Patch{{offset, b[:high]}, {offset + high, b[high:]}}
	}
	return []Patch{{offset, b}}
}

// IsMutable tells from the first 32 bytes of a share file which kind it is; ok
// is false when it is neither.
func IsMutable(head []byte) (mutable, ok bool) {
	if mutableVersion(head) != 0 {
		return true, true
	}
	return false, immutableVersion(head) != 0
}

// readFull reads exactly len(p) bytes; a file that ends before that is damaged.
func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: ends early", ErrDamaged)
	}
	return err
}

// section reads size bytes at offset of data that is length bytes long and
// starts at base of the file: short at the end, empty past it. Numbers that
// would wrap are past the end.
func section(r io.ReaderAt, base int64, length, offset, size uint64) ([]byte, error) {
	p := make([]byte, min(size, length-min(offset, length)))
	_, err := sectionInto(r, base, length, offset, p)
	return p, err
}

// sectionInto is section into p; n is how much of it there is.
func sectionInto(r io.ReaderAt, base int64, length, offset uint64, p []byte) (n int, err error) {
	if offset >= length {
		return 0, nil
	}
	p = p[:min(uint64(len(p)), length-offset)]
	return len(p), readFull(r, p, base+int64(offset))
}

// equalAt says whether section would return want, without holding more of the
// file than a block.
func equalAt(r io.ReaderAt, base int64, length, offset, size uint64, want []byte) (bool, error) {
	var have uint64
	if offset < length {
		have = min(size, length-offset)
	}
	if have != uint64(len(want)) {
		return false, nil
	}
	block := make([]byte, min(have, 1<<16))
	for len(want) > 0 {
		b := block[:min(len(block), len(want))]
		if err := readFull(r, b, base+int64(offset)); err != nil {
			return false, err
		}
		if !bytes.Equal(b, want[:len(b)]) {
			return false, nil
		}
		offset += uint64(len(b))
		want = want[len(b):]
	}
	return true, nil
}
