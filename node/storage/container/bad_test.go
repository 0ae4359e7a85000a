package container

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// A badFile is no share file, with what is wrong with it.
type badFile struct {
	name string
	want error
	data []byte
}

// with is a file with other bytes in it.
func with(file []byte, off int, b ...byte) []byte {
	out := slices.Clone(file)
	copy(out[off:], b)
	return out
}

func u32(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
func u64(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// strangers are files of no version of either kind.
func strangers() []badFile {
	var all []badFile
	for name, text := range map[string]string{
		"nothing": "", "one byte": "\x00", "three bytes": "\x00\x00\x00", "a page": "<!doctype html><title>404</title>........", "zeros": strings.Repeat("\x00", 500),
		"ones": strings.Repeat("\xff", 500), "gzip": "\x1f\x8b\x08\x00" + strings.Repeat("x", 100), "version 0": "\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x00hello",
		"version 3": "\x00\x00\x00\x03\x00\x00\x00\x05\x00\x00\x00\x00hello", "version 1 backwards": "\x01\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00hello",
		"version 2 backwards": "\x02\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00hello", "version -1": "\xff\xff\xff\xff\x00\x00\x00\x05\x00\x00\x00\x00hello",
		"version 0x101": "\x00\x00\x01\x01\x00\x00\x00\x05\x00\x00\x00\x00hello", "a byte before": "\x00\x00\x00\x00\x02\x00\x00\x00\x05\x00\x00\x00\x00hello",
	} {
		all = append(all, badFile{name, ErrUnknown, []byte(text)})
	}
	return all
}

func badImmutables(version byte) []badFile {
	f := &buffer{}
	layout, err := NewImmutable(5, Lease{})
	if err != nil {
		panic(err)
	}
	Apply(f, layout)
	good := with(f.data, 3, version)
	all := []badFile{
		{"cut in its data", ErrDamaged, good[:immutableHeader+3]},
		{"cut in its lease", ErrDamaged, good[:immutableHeader+immutableLease-1]},
		{"two leases", ErrDamaged, with(good, 8, u32(2)...)},
		{"3 leases, and room for 2", ErrDamaged, append(with(good, 8, u32(3)...), make([]byte, immutableLease)...)},
		{"256 leases", ErrDamaged, with(good, 8, u32(256)...)},
		{"a billion leases", ErrDamaged, with(good, 8, u32(1e9)...)},
		{"2^31 leases", ErrDamaged, with(good, 8, u32(1<<31)...)},
		{"2^31-1 leases", ErrDamaged, with(good, 8, u32(1<<31-1)...)},
		{"all leases there are", ErrDamaged, with(good, 8, u32(1<<32-1)...)},
		// 72 * 59652324 = 2^32 + 32: what wraps would fit.
		{"leases that wrap around", ErrDamaged, with(good, 8, u32(59652324)...)},
		{"2^32-1 bytes of data and all leases", ErrDamaged, with(good, 4, bytes.Repeat([]byte{0xff}, 8)...)},
		{"text for a header", ErrDamaged, append(u32(uint32(version)), "not a share"...)},
	}
	for size := 4; size < immutableHeader; size++ {
		all = append(all, badFile{fmt.Sprintf("%d bytes of header", size), ErrDamaged, good[:size]})
	}
	for _, size := range []int{immutableHeader, immutableHeader + 1, immutableHeader + 36, immutableHeader + 71} {
		all = append(all, badFile{fmt.Sprintf("%d bytes", size), ErrDamaged, good[:size]})
	}
	return all
}

func badMutables(version byte) []badFile {
	good := NewMutable(NodeID{1}, Secret{2})
	magic, other := magicV2, magicV1
	if version == 1 {
		magic, other = magicV1, magicV2
	}
	copy(good, magic)
	// One with data, and a lease behind it.
	long := slices.Concat(good[:mutableData], make([]byte, 100+4+mutableLease))
	copy(long[84:], u64(100))
	copy(long[92:], u64(mutableData+100))
	copy(long[mutableData+100:], u32(1))
	if _, err := reformat(long); err != nil {
		panic(err)
	}
	all := []badFile{
		{"version 3", ErrUnknown, with(good, 25, '3')},
		{"the other version's number", ErrUnknown, with(good, 25, other[25])},
		{"the other version's magic", ErrUnknown, with(good, 27, []byte(other[27:])...)},
		{"magic off by one", ErrUnknown, with(good, 31, magic[31]+1)},
		{"no line end", ErrUnknown, with(good, 26, ' ')},
		{"a byte too early", ErrUnknown, good[1:]},
		{"31 bytes of magic", ErrUnknown, good[:31]},
		{"magic alone", ErrDamaged, good[:32]},
		{"cut in its node id", ErrDamaged, good[:40]},
		{"cut in its write enabler", ErrDamaged, good[:60]},
		{"cut in its lengths", ErrDamaged, good[:90]},
		{"no leases", ErrDamaged, good[:mutableHeader]},
		{"three leases", ErrDamaged, good[:mutableHeader+3*mutableLease]},
		{"no count of leases", ErrDamaged, good[:mutableData]},
		{"three bytes of it", ErrDamaged, good[:mutableData+3]},
		{"data longer than the container", ErrDamaged, with(good, 84, u64(1)...)},
		{"data over the leases", ErrDamaged, with(long, 84, u64(101)...)},
		{"data of 2^63 bytes", ErrDamaged, with(long, 84, u64(1<<63)...)},
		{"data of 2^64-1 bytes", ErrDamaged, with(long, 84, u64(1<<64-1)...)},
		{"data that wraps around", ErrDamaged, with(long, 84, u64(1<<64-mutableData)...)},
		{"extra leases at 0", ErrDamaged, with(long, 92, u64(0)...)},
		{"extra leases in the header", ErrDamaged, with(long, 92, u64(mutableHeader)...)},
		{"extra leases one byte early", ErrDamaged, with(good, 92, u64(mutableData-1)...)},
		{"extra leases amid the data", ErrDamaged, with(long, 92, u64(mutableData+99)...)},
		{"extra leases at the end", ErrDamaged, with(long, 92, u64(uint64(len(long)))...)},
		{"extra leases three bytes before it", ErrDamaged, with(long, 92, u64(uint64(len(long)-3))...)},
		{"extra leases at 2^63", ErrDamaged, with(long, 92, u64(1<<63)...)},
		{"extra leases at 2^64-1", ErrDamaged, with(long, 92, u64(1<<64-1)...)},
		{"extra leases at 2^64-4", ErrDamaged, with(long, 92, u64(1<<64-4)...)},
		{"an extra lease that is not there", ErrDamaged, with(good, mutableData, u32(1)...)},
		{"one of two that is not there", ErrDamaged, with(long, mutableData+100, u32(2)...)},
		{"an extra lease that is cut", ErrDamaged, long[:len(long)-1]},
		{"2^32-1 extra leases", ErrDamaged, with(long, mutableData+100, u32(1<<32-1)...)},
		// 92 * 46684428 = 2^32 + 80: what wraps would fit.
		{"extra leases that wrap around", ErrDamaged, with(long, mutableData+100, u32(46684428)...)},
	}
	return all
}

func TestBadFiles(t *testing.T) {
	for _, c := range []struct {
		name string
		all  []badFile
	}{
		{"immutable version 1", badImmutables(1)}, {"immutable version 2", badImmutables(2)},
		{"mutable version 1", badMutables(1)}, {"mutable version 2", badMutables(2)},
	} {
		all := append(c.all, strangers()...)
		if len(all) < 25 {
			t.Errorf("%s: only %d bad files", c.name, len(all))
		}
		for _, b := range all {
			if _, err := reformat(b.data); !errors.Is(err, b.want) {
				t.Errorf("%s, %s: %v, want %v", c.name, b.name, err, b.want)
			}
			// Whoever opens it as the one that it is not learns the same or less.
			r, size := bytes.NewReader(b.data), int64(len(b.data))
			for _, open := range []func() error{
				func() error { _, err := OpenImmutable(r, size); return err },
				func() error { _, err := OpenMutable(r, size); return err },
			} {
				if err := open(); !errors.Is(err, ErrUnknown) && !errors.Is(err, ErrDamaged) {
					t.Errorf("%s, %s: opened: %v", c.name, b.name, err)
				}
			}
		}
	}
}
