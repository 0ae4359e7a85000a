package storagetest

import (
	"bytes"
	"context"
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"warren/node/caps"
	"warren/node/storage"
)

// A Quirk is something that a real Tahoe 1.20 server does otherwise than the
// contract says.
type Quirk int

// The quirks.
const (
	// NoRepeat: creating a bucket twice with one upload secret names it once.
	NoRepeat Quirk = iota
	// Blunt: what cannot be done is a plain failure, with no error to branch on.
	Blunt
)

// Clients is the suite of the storage.Client contract: each test gets a client of
// its own empty server. For Tahoe's server it takes the quirks that it has.
func Clients(t *testing.T, open func(t *testing.T) storage.Client, quirks ...Quirk) {
	has := func(q Quirk) bool { return slices.Contains(quirks, q) }
	for _, c := range []struct {
		name string
		test func(*suite)
	}{
		{"version", (*suite).version},
		{"immutable life", (*suite).immutableLife},
		{"immutable conflicts", (*suite).immutableConflicts},
		{"immutable abort", (*suite).immutableAbort},
		{"immutable side by side", (*suite).immutableSideBySide},
		{"reads", (*suite).reads},
		{"leases", (*suite).leases},
		{"advisories", (*suite).advisories},
		{"mutable life", (*suite).mutableLife},
		{"mutable tests", (*suite).mutableTests},
		{"mutable holes and lengths", (*suite).mutableLengths},
		{"mutable write enabler", (*suite).mutableEnabler},
		{"mutable races", (*suite).mutableRaces},
		{"read slot", (*suite).readSlot},
		{"out of bounds", (*suite).bounds},
		{"cancelled", (*suite).cancelled},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.test(&suite{T: t, c: open(t), ctx: t.Context(), has: has, si: caps.StorageIndex{9, 8, 7}})
		})
	}
}

type suite struct {
	*testing.T
	c   storage.Client
	ctx context.Context
	has func(Quirk) bool
	si  caps.StorageIndex
}

// Secret makes a recognisable secret for tests.
func Secret(b byte) storage.Secret { return storage.Secret(bytes.Repeat([]byte{b}, 32)) }

var (
	upload = Secret('u')
	lease  = storage.LeaseSecrets{Renew: Secret('r'), Cancel: Secret('c')}
	slot   = storage.SlotSecrets{WriteEnabler: Secret('w'), LeaseSecrets: lease}
)

func (s *suite) fail(err, want error, what string) {
	s.Helper()
	if err == nil {
		s.Errorf("%s: no error, want %v", what, want)
	} else if !errors.Is(err, want) && !(want != storage.ErrNoShare && want != storage.ErrUnauthorized && want != storage.ErrConflict && s.has(Blunt)) {
		s.Errorf("%s: %v, want %v", what, err, want)
	}
}

func (s *suite) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *suite) shares(kind storage.ShareKind, want ...int) {
	s.Helper()
	got, err := s.c.ListShares(s.ctx, kind, s.si)
	if err != nil || got == nil || !slices.Equal(got, want) {
		s.Errorf("%s shares %v (nil: %v), %v; want %v", kind, got, got == nil, err, want)
	}
}

// store uploads a whole immutable share.
func (s *suite) store(si caps.StorageIndex, share int, data []byte) {
	s.Helper()
	_, got, err := s.c.CreateImmutable(s.ctx, si, upload, lease, []int{share}, uint64(len(data)))
	s.must(err)
	if !slices.Equal(got, []int{share}) {
		s.Fatalf("allocated %v", got)
	}
	done, err := s.c.WriteImmutable(s.ctx, si, share, upload, 0, data)
	s.must(err)
	if !done {
		s.Fatal("the whole share is written, and it is not done")
	}
}

func (s *suite) version() {
	v, err := s.c.Version(s.ctx)
	s.must(err)
	if v.Application == "" || v.MaximumMutableShareSize == 0 || v.AvailableSpace == 0 || v.MaximumImmutableShareSize == 0 {
		s.Errorf("version %+v", v)
	}
}

func (s *suite) immutableLife() {
	data := bytes.Repeat([]byte("0123456789"), 100)
	s.shares(storage.Immutable)
	already, got, err := s.c.CreateImmutable(s.ctx, s.si, upload, lease, []int{3, 0, 255}, 1000)
	s.must(err)
	if len(already) != 0 || !slices.Equal(got, []int{0, 3, 255}) {
		s.Fatalf("already %v, allocated %v", already, got)
	}
	again := []int{3}
	if s.has(NoRepeat) {
		again = nil
	}
	_, got, err = s.c.CreateImmutable(s.ctx, s.si, upload, lease, []int{3}, 1000)
	if s.must(err); !slices.Equal(got, again) {
		s.Errorf("the same bucket again: %v, want %v", got, again)
	}
	_, got, err = s.c.CreateImmutable(s.ctx, s.si, Secret('x'), lease, []int{3}, 1000)
	if s.must(err); len(got) != 0 {
		s.Errorf("somebody else's bucket: %v", got)
	}
	// Out of order, overlapping, with a hole in the middle until the end.
	for _, part := range []struct{ from, to int }{{600, 1000}, {0, 300}, {100, 400}, {500, 700}} {
		done, err := s.c.WriteImmutable(s.ctx, s.si, 3, upload, uint64(part.from), data[part.from:part.to])
		if s.must(err); done {
			s.Fatalf("done after %v", part)
		}
	}
	s.shares(storage.Immutable)
	if _, err := s.c.ReadShare(s.ctx, storage.Immutable, s.si, 3, 0, 10); !errors.Is(err, storage.ErrNoShare) {
		s.Errorf("reading an incomplete share: %v", err)
	}
	done, err := s.c.WriteImmutable(s.ctx, s.si, 3, upload, 400, data[400:500])
	if s.must(err); !done {
		s.Fatal("all has arrived, and it is not done")
	}
	s.shares(storage.Immutable, 3)
	read, err := s.c.ReadShare(s.ctx, storage.Immutable, s.si, 3, 0, 2000)
	if s.must(err); !bytes.Equal(read, data) {
		s.Errorf("read %d bytes, not what was written", len(read))
	}
	_, err = s.c.WriteImmutable(s.ctx, s.si, 3, upload, 0, data)
	s.fail(err, storage.ErrNoShare, "writing to a complete share")
	already, got, err = s.c.CreateImmutable(s.ctx, s.si, upload, lease, []int{3, 4}, 1000)
	if s.must(err); !slices.Equal(already, []int{3}) || !slices.Equal(got, []int{4}) {
		s.Errorf("already %v, allocated %v", already, got)
	}
	already, _, err = s.c.CreateImmutable(s.ctx, s.si, upload, lease, []int{5}, 1000)
	if s.must(err); !slices.Equal(already, []int{3}) {
		s.Errorf("already %v, held is share 3, asked for or not", already)
	}
}

func (s *suite) immutableConflicts() {
	_, _, err := s.c.CreateImmutable(s.ctx, s.si, upload, lease, []int{1}, 10)
	s.must(err)
	_, err = s.c.WriteImmutable(s.ctx, s.si, 1, upload, 2, []byte("abc"))
	s.must(err)
	_, err = s.c.WriteImmutable(s.ctx, s.si, 1, upload, 2, []byte("abc"))
	s.must(err)
	_, err = s.c.WriteImmutable(s.ctx, s.si, 1, upload, 0, []byte("xxaXc"))
	s.fail(err, storage.ErrConflict, "differing bytes")
	_, err = s.c.WriteImmutable(s.ctx, s.si, 1, Secret('x'), 5, []byte("de"))
	s.fail(err, storage.ErrUnauthorized, "wrong upload secret")
	_, err = s.c.WriteImmutable(s.ctx, s.si, 2, upload, 0, []byte("de"))
	s.fail(err, storage.ErrNoShare, "a bucket never created")
	_, err = s.c.WriteImmutable(s.ctx, s.si, 1, upload, 8, []byte("too long"))
	s.fail(err, storage.ErrBadRange, "past the end")
	done, err := s.c.WriteImmutable(s.ctx, s.si, 1, upload, 5, []byte("defgh"))
	s.must(err)
	if done {
		s.Error("done without the first two bytes")
	}
	done, err = s.c.WriteImmutable(s.ctx, s.si, 1, upload, 0, []byte("__abcdefgh"))
	if s.must(err); !done {
		s.Error("not done")
	}
	got, err := s.c.ReadShare(s.ctx, storage.Immutable, s.si, 1, 0, 10)
	if s.must(err); string(got) != "__abcdefgh" {
		s.Errorf("read %q", got)
	}
}

func (s *suite) immutableAbort() {
	_, _, err := s.c.CreateImmutable(s.ctx, s.si, upload, lease, []int{1, 2}, 4)
	s.must(err)
	s.fail(s.c.AbortImmutable(s.ctx, s.si, 1, Secret('x')), storage.ErrUnauthorized, "aborting somebody else's")
	s.must(s.c.AbortImmutable(s.ctx, s.si, 1, upload))
	s.fail(s.c.AbortImmutable(s.ctx, s.si, 1, upload), storage.ErrNoShare, "aborting twice")
	_, err = s.c.WriteImmutable(s.ctx, s.si, 1, upload, 0, []byte("data"))
	s.fail(err, storage.ErrNoShare, "writing after aborting")
	_, got, err := s.c.CreateImmutable(s.ctx, s.si, Secret('x'), lease, []int{1}, 5)
	if s.must(err); !slices.Equal(got, []int{1}) {
		s.Errorf("allocated %v after aborting", got)
	}
	_, err = s.c.WriteImmutable(s.ctx, s.si, 2, upload, 0, []byte("data"))
	s.must(err)
	s.fail(s.c.AbortImmutable(s.ctx, s.si, 2, upload), storage.ErrComplete, "aborting a complete share")
	s.shares(storage.Immutable, 2)
}

func (s *suite) immutableSideBySide() {
	const shares, parts = 5, 8
	_, _, err := s.c.CreateImmutable(s.ctx, s.si, upload, lease, []int{0, 1, 2, 3, 4}, parts*1000)
	s.must(err)
	var wg sync.WaitGroup
	for n := range shares {
		for p := range parts {
			wg.Go(func() {
				data := bytes.Repeat([]byte{byte(n<<4 | p)}, 1000)
				if _, err := s.c.WriteImmutable(s.ctx, s.si, n, upload, uint64(p*1000), data); err != nil {
					s.Errorf("share %d part %d: %v", n, p, err)
				}
			})
		}
	}
	wg.Wait()
	s.shares(storage.Immutable, 0, 1, 2, 3, 4)
	got, err := s.c.ReadShare(s.ctx, storage.Immutable, s.si, 4, 6999, 2)
	if s.must(err); !bytes.Equal(got, []byte{0x46, 0x47}) {
		s.Errorf("read %x", got)
	}
}

func (s *suite) reads() {
	s.store(s.si, 0, []byte("immutable data"))
	s.must(s.write(0, storage.TestWrite{Write: []storage.WriteVector{{Offset: 0, Data: []byte("immutable data")}}}, caps.StorageIndex{1}))
	for kind, si := range map[storage.ShareKind]caps.StorageIndex{storage.Immutable: s.si, storage.Mutable: {1}} {
		for _, c := range []struct {
			offset, size uint64
			want         string
		}{
			{0, 14, "immutable data"}, {0, 1 << 20, "immutable data"}, {0, math.MaxInt64, "immutable data"}, {0, math.MaxUint64, "immutable data"},
			{10, 4, "data"}, {13, 1, "a"}, {13, 2, "a"}, {14, 1, ""}, {14, 0, ""}, {0, 0, ""}, {15, 72, ""},
			// Far past the end lie the leases, and numbers that would wrap around to them.
			{14, 72, ""}, {86, 500, ""}, {math.MaxInt64 - 3, 10, ""}, {math.MaxUint64 - 11, 92, ""}, {math.MaxUint64, math.MaxUint64, ""},
		} {
			got, err := s.c.ReadShare(s.ctx, kind, si, 0, c.offset, c.size)
			if err != nil || got == nil || string(got) != c.want {
				s.Errorf("%s read at %d of %d: %q, %v; want %q", kind, c.offset, c.size, got, err, c.want)
			}
		}
		for _, n := range []int{1, 254} {
			_, err := s.c.ReadShare(s.ctx, kind, si, n, 0, 1)
			s.fail(err, storage.ErrNoShare, "an absent share")
			_, err = s.c.ReadShare(s.ctx, kind, si, n, 0, 0)
			s.fail(err, storage.ErrNoShare, "nothing of an absent share")
		}
	}
}

func (s *suite) leases() {
	s.fail(s.c.AddLease(s.ctx, s.si, lease), storage.ErrNoShare, "a lease on nothing")
	s.store(s.si, 0, []byte("some data"))
	other := storage.LeaseSecrets{Renew: Secret('R'), Cancel: Secret('C')}
	for range 2 {
		s.must(s.c.AddLease(s.ctx, s.si, lease))
		s.must(s.c.AddLease(s.ctx, s.si, other))
	}
	got, err := s.c.ReadShare(s.ctx, storage.Immutable, s.si, 0, 0, 1000)
	if s.must(err); string(got) != "some data" {
		s.Errorf("data after leases: %q", got)
	}
	si := caps.StorageIndex{2}
	s.must(s.write(0, storage.TestWrite{Write: []storage.WriteVector{{Data: []byte("slot")}}}, si))
	for b := range 8 { // four in the header, the rest behind the data
		s.must(s.c.AddLease(s.ctx, si, storage.LeaseSecrets{Renew: Secret(byte(b)), Cancel: Secret('C')}))
	}
	s.must(s.write(0, storage.TestWrite{Write: []storage.WriteVector{{Offset: 4, Data: bytes.Repeat([]byte("."), 1000)}}}, si))
	got, err = s.c.ReadShare(s.ctx, storage.Mutable, si, 0, 0, 2000)
	if s.must(err); string(got) != "slot"+strings.Repeat(".", 1000) {
		s.Errorf("slot after leases: %q", got)
	}
}

func (s *suite) advisories() {
	s.store(s.si, 0, []byte("some data"))
	s.must(s.c.AdviseCorrupt(s.ctx, storage.Immutable, s.si, 0, "it smells: \u2623"))
	s.fail(s.c.AdviseCorrupt(s.ctx, storage.Immutable, s.si, 1, "it smells"), storage.ErrNoShare, "an advisory on nothing")
	s.fail(s.c.AdviseCorrupt(s.ctx, storage.Mutable, caps.StorageIndex{3}, 0, "it smells"), storage.ErrNoShare, "an advisory on nothing")
	s.must(s.write(0, storage.TestWrite{}, caps.StorageIndex{3}))
	s.must(s.c.AdviseCorrupt(s.ctx, storage.Mutable, caps.StorageIndex{3}, 0, "it smells"))
}

// write writes one share of a slot, and expects that it is written.
func (s *suite) write(share int, tw storage.TestWrite, si caps.StorageIndex) error {
	wrote, _, err := s.c.ReadTestWrite(s.ctx, si, slot, map[int]storage.TestWrite{share: tw}, nil)
	if err == nil && !wrote {
		err = errors.New("a test failed")
	}
	return err
}

func length(n uint64) *uint64 { return &n }

func (s *suite) mutableLife() {
	s.shares(storage.Mutable)
	absent := []storage.TestVector{{Offset: 0, Size: 1}}
	wrote, reads, err := s.c.ReadTestWrite(s.ctx, s.si, slot, map[int]storage.TestWrite{
		0: {Test: absent, Write: []storage.WriteVector{{Offset: 0, Data: []byte("share zero")}}},
		9: {Test: absent, Write: []storage.WriteVector{{Offset: 0, Data: []byte("share")}, {Offset: 5, Data: []byte(" nine")}}},
	}, []storage.ReadVector{{Offset: 0, Size: 100}})
	if s.must(err); !wrote || len(reads) != 0 {
		s.Fatalf("wrote %v, reads %v", wrote, reads)
	}
	s.shares(storage.Mutable, 0, 9)
	// The reads are of what was there before, of all shares, named or not.
	wrote, reads, err = s.c.ReadTestWrite(s.ctx, s.si, slot, map[int]storage.TestWrite{
		9: {Write: []storage.WriteVector{{Offset: 6, Data: []byte("NINE!")}}},
	}, []storage.ReadVector{{Offset: 0, Size: 100}, {Offset: 6, Size: 2}, {Offset: 100, Size: 2}})
	want := map[int][][]byte{0: {[]byte("share zero"), []byte("ze"), {}}, 9: {[]byte("share nine"), []byte("ni"), {}}}
	if s.must(err); !wrote || !reflect.DeepEqual(reads, want) {
		s.Errorf("wrote %v, reads %v", wrote, reads)
	}
	got, err := s.c.ReadShare(s.ctx, storage.Mutable, s.si, 9, 0, 100)
	if s.must(err); string(got) != "share NINE!" {
		s.Errorf("read %q", got)
	}
	// Length zero deletes; deleting what is absent is no error.
	s.must(s.write(9, storage.TestWrite{NewLength: length(0)}, s.si))
	s.must(s.write(9, storage.TestWrite{NewLength: length(0)}, s.si))
	s.shares(storage.Mutable, 0)
	s.must(s.write(0, storage.TestWrite{NewLength: length(0)}, s.si))
	s.shares(storage.Mutable)
	s.must(s.write(0, storage.TestWrite{Test: absent, Write: []storage.WriteVector{{Data: []byte("again")}}}, s.si))
	s.shares(storage.Mutable, 0)
}

func (s *suite) mutableTests() {
	s.must(s.write(1, storage.TestWrite{Write: []storage.WriteVector{{Data: []byte("0123456789")}}}, s.si))
	for _, c := range []struct {
		share int
		test  storage.TestVector
		want  bool
	}{
		{1, storage.TestVector{Offset: 0, Size: 10, Specimen: []byte("0123456789")}, true},
		{1, storage.TestVector{Offset: 0, Size: 99, Specimen: []byte("0123456789")}, true},
		{1, storage.TestVector{Offset: 4, Size: 2, Specimen: []byte("45")}, true},
		{1, storage.TestVector{Offset: 9, Size: 5, Specimen: []byte("9")}, true},
		{1, storage.TestVector{Offset: 10, Size: 5, Specimen: []byte{}}, true},
		{1, storage.TestVector{Offset: 1 << 40, Size: 1 << 40, Specimen: []byte{}}, true},
		{1, storage.TestVector{Offset: 4, Size: 2, Specimen: []byte("4")}, false},
		{1, storage.TestVector{Offset: 4, Size: 1, Specimen: []byte("45")}, false},
		{1, storage.TestVector{Offset: 4, Size: 2, Specimen: []byte("46")}, false},
		{1, storage.TestVector{Offset: 0, Size: 1, Specimen: []byte{}}, false},
		{2, storage.TestVector{Offset: 0, Size: 1, Specimen: []byte{}}, true},
		{2, storage.TestVector{Offset: 7, Size: 7, Specimen: []byte{}}, true},
		{2, storage.TestVector{Offset: 0, Size: 1, Specimen: []byte("x")}, false},
	} {
		wrote, reads, err := s.c.ReadTestWrite(s.ctx, s.si, slot, map[int]storage.TestWrite{
			c.share: {Test: []storage.TestVector{c.test}},
			1:       {Test: []storage.TestVector{c.test}},
		}, []storage.ReadVector{{Size: 3}})
		if c.share != 1 {
			wrote, reads, err = s.c.ReadTestWrite(s.ctx, s.si, slot, map[int]storage.TestWrite{
				c.share: {Test: []storage.TestVector{c.test}, NewLength: length(0)},
			}, []storage.ReadVector{{Size: 3}})
		}
		if err != nil || wrote != c.want || string(reads[1][0]) != "012" {
			s.Errorf("share %d %+v: %v, %v, %v; want %v", c.share, c.test, wrote, reads, err, c.want)
		}
	}
	// One test that fails, on any share, and nothing is written.
	wrote, _, err := s.c.ReadTestWrite(s.ctx, s.si, slot, map[int]storage.TestWrite{
		1: {Write: []storage.WriteVector{{Data: []byte("X")}}},
		3: {Test: []storage.TestVector{{Size: 1, Specimen: []byte("?")}}, Write: []storage.WriteVector{{Data: []byte("X")}}},
	}, nil)
	if s.must(err); wrote {
		s.Error("wrote although a test failed")
	}
	s.shares(storage.Mutable, 1)
	got, err := s.c.ReadShare(s.ctx, storage.Mutable, s.si, 1, 0, 100)
	if s.must(err); string(got) != "0123456789" {
		s.Errorf("read %q", got)
	}
}

func (s *suite) mutableLengths() {
	for _, c := range []struct {
		name string
		tw   storage.TestWrite
		want string
	}{
		{"create with a hole", storage.TestWrite{Write: []storage.WriteVector{{Offset: 3, Data: []byte("abc")}}}, "\x00\x00\x00abc"},
		{"inside", storage.TestWrite{Write: []storage.WriteVector{{Offset: 1, Data: []byte("Z")}}}, "\x00Z\x00abc"},
		{"cut", storage.TestWrite{NewLength: length(2)}, "\x00Z"},
		{"longer changes nothing", storage.TestWrite{NewLength: length(5)}, "\x00Z"},
		{"what was cut does not come back", storage.TestWrite{Write: []storage.WriteVector{{Offset: 5, Data: []byte("!")}}}, "\x00Z\x00\x00\x00!"},
		{"write and cut", storage.TestWrite{Write: []storage.WriteVector{{Offset: 0, Data: []byte("0123456789")}}, NewLength: length(4)}, "0123"},
		{"two writes, the later wins", storage.TestWrite{Write: []storage.WriteVector{{Offset: 0, Data: []byte("aaaa")}, {Offset: 2, Data: []byte("bbb")}}}, "aabbb"},
		{"an empty write at the end", storage.TestWrite{Write: []storage.WriteVector{{Offset: 5, Data: []byte{}}}}, "aabbb"},
		{"an empty write beyond it", storage.TestWrite{Write: []storage.WriteVector{{Offset: 7, Data: []byte{}}}}, "aabbb\x00\x00"},
		{"grow a lot", storage.TestWrite{Write: []storage.WriteVector{{Offset: 700, Data: []byte("end")}}, NewLength: length(703)}, "aabbb" + strings.Repeat("\x00", 695) + "end"},
	} {
		if err := s.write(0, c.tw, s.si); err != nil {
			s.Errorf("%s: %v", c.name, err)
			continue
		}
		got, err := s.c.ReadShare(s.ctx, storage.Mutable, s.si, 0, 0, 1<<20)
		if err != nil || string(got) != c.want {
			s.Errorf("%s: %q, %v; want %q", c.name, got, err, c.want)
		}
	}
}

func (s *suite) mutableEnabler() {
	s.must(s.write(0, storage.TestWrite{Write: []storage.WriteVector{{Data: []byte("mine")}}}, s.si))
	wrong := slot
	wrong.WriteEnabler = Secret('W')
	_, _, err := s.c.ReadTestWrite(s.ctx, s.si, wrong, map[int]storage.TestWrite{0: {NewLength: length(0)}}, nil)
	s.fail(err, storage.ErrUnauthorized, "wrong write enabler")
	_, _, err = s.c.ReadTestWrite(s.ctx, s.si, wrong, nil, []storage.ReadVector{{Size: 1}})
	s.fail(err, storage.ErrUnauthorized, "wrong write enabler, only reading")
	_, _, err = s.c.ReadTestWrite(s.ctx, s.si, wrong, map[int]storage.TestWrite{1: {Write: []storage.WriteVector{{Data: []byte("theirs")}}}}, nil)
	s.fail(err, storage.ErrUnauthorized, "wrong write enabler for a share beside")
	s.shares(storage.Mutable, 0)
}

func (s *suite) mutableRaces() {
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for i := range 8 {
		wg.Go(func() {
			wrote, _, err := s.c.ReadTestWrite(s.ctx, s.si, slot, map[int]storage.TestWrite{
				0: {Test: []storage.TestVector{{Size: 1}}, Write: []storage.WriteVector{{Data: []byte{byte('0' + i)}}}},
			}, nil)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				s.Errorf("racing: %v", err)
			}
			if wrote {
				won++
			}
		})
	}
	wg.Wait()
	if won != 1 {
		s.Errorf("%d of 8 found the slot empty", won)
	}
}

func (s *suite) readSlot() {
	s.must(s.write(0, storage.TestWrite{Write: []storage.WriteVector{{Data: []byte("zero")}}}, s.si))
	s.must(s.write(5, storage.TestWrite{Write: []storage.WriteVector{{Data: []byte("five")}}}, s.si))
	for _, c := range []struct {
		shares []int
		read   []storage.ReadVector
		want   map[int][][]byte
	}{
		{nil, []storage.ReadVector{{Offset: 0, Size: 2}, {Offset: 2, Size: 9}}, map[int][][]byte{0: {[]byte("ze"), []byte("ro")}, 5: {[]byte("fi"), []byte("ve")}}},
		{[]int{5, 6}, []storage.ReadVector{{Offset: 0, Size: 2}}, map[int][][]byte{5: {[]byte("fi")}}},
		{[]int{6}, []storage.ReadVector{{Offset: 0, Size: 2}}, map[int][][]byte{}},
		{[]int{}, []storage.ReadVector{{Offset: 0, Size: 2}}, map[int][][]byte{}},
		{nil, nil, map[int][][]byte{0: {}, 5: {}}},
		{[]int{0, 6}, nil, map[int][][]byte{0: {}}},
	} {
		got, err := s.c.ReadSlot(s.ctx, s.si, c.shares, c.read)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			s.Errorf("shares %v %v: %v, %v; want %v", c.shares, c.read, got, err, c.want)
		}
	}
	got, err := s.c.ReadSlot(s.ctx, caps.StorageIndex{77}, nil, []storage.ReadVector{{Size: 1}})
	if s.must(err); got == nil || len(got) != 0 {
		s.Errorf("an empty slot: %v", got)
	}
}

func (s *suite) bounds() {
	_, _, err := s.c.CreateImmutable(s.ctx, s.si, upload, lease, []int{math.MaxInt32}, 10)
	if !s.has(Blunt) { // Tahoe makes a share of any number
		s.fail(err, storage.ErrMalformed, "a share number beyond 255")
		already, got, err := s.c.CreateImmutable(s.ctx, s.si, upload, lease, []int{0}, math.MaxInt64)
		if s.must(err); len(already)+len(got) != 0 {
			s.Errorf("a share of 2^63 bytes: %v, %v", already, got)
		}
	}
	for _, w := range []storage.WriteVector{{Offset: math.MaxUint64, Data: []byte("x")}, {Offset: 1 << 62, Data: []byte("x")}} {
		if !s.has(Blunt) { // Tahoe takes the first as a hole of 2^64 bytes to fill
			s.fail(s.write(0, storage.TestWrite{Write: []storage.WriteVector{w}}, s.si), storage.ErrTooLarge, "a write far out")
		}
	}
	s.shares(storage.Mutable)
}

func (s *suite) cancelled() {
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	_, err := s.c.ListShares(ctx, storage.Mutable, s.si)
	s.fail(err, context.Canceled, "a cancelled context")
}
