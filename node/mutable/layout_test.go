package mutable

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"
)

func TestParseShareRefuses(t *testing.T) {
	var good []byte
	for _, c := range loadVectors(t).Cases {
		if c.Size == 1000 && c.N == 5 {
			good = c.Shares[0].Share
		}
	}
	if good == nil {
		t.Fatal("no vector")
	}
	be := binary.BigEndian
	u32 := func(at int, add uint32) func([]byte) []byte {
		return func(b []byte) []byte { be.PutUint32(b[at:], be.Uint32(b[at:])+add); return b }
	}
	u64 := func(at int, add uint64) func([]byte) []byte {
		return func(b []byte) []byte { be.PutUint64(b[at:], be.Uint64(b[at:])+add); return b }
	}
	neg := func(n int64) uint64 { return uint64(-n) }
	for _, c := range []struct {
		name   string
		change func([]byte) []byte
		want   error
	}{
		{"empty", func(b []byte) []byte { return nil }, errShare},
		{"half a header", func(b []byte) []byte { return b[:50] }, errShare},
		{"cut off by one", func(b []byte) []byte { return b[:len(b)-1] }, errShare},
		{"MDMF", func(b []byte) []byte { b[0] = 1; return b }, errShare},
		{"half an MDMF header", func(b []byte) []byte { b[0] = 1; return b[:mdmfHeader-1] }, errShare},
		{"version 2", func(b []byte) []byte { b[0] = 2; return b }, errVersion},
		{"version 255", func(b []byte) []byte { b[0] = 255; return b }, errVersion},
		{"k 0", func(b []byte) []byte { b[57] = 0; return b }, errShare},
		{"k above n", func(b []byte) []byte { b[57] = b[58] + 1; return b }, errShare},
		{"n 0", func(b []byte) []byte { b[58] = 0; return b }, errShare},
		{"k beside the segment size", func(b []byte) []byte { b[57] = 4; return b }, errShare},
		{"segment size", u64(59, 3), errShare},
		{"segment size 0", func(b []byte) []byte { be.PutUint64(b[59:], 0); return b }, errShare},
		{"data length above", u64(67, 3), errShare},
		{"data length 0", func(b []byte) []byte { be.PutUint64(b[67:], 0); return b }, errShare},
		{"data length of exabytes", func(b []byte) []byte { be.PutUint64(b[67:], 1<<62); return b }, ErrTooLarge},
		{"data length, all ones", func(b []byte) []byte { be.PutUint64(b[67:], 1<<64-1); return b }, ErrTooLarge},
		{"signature in the header", func(b []byte) []byte { be.PutUint32(b[75:], 100); return b }, errShare},
		{"signature far away", u32(75, 1<<20), errShare},
		{"chain before signature", func(b []byte) []byte { be.PutUint32(b[79:], be.Uint32(b[75:])-1); return b }, errShare},
		{"chain not a multiple", u32(79, 1), errShare},
		{"tree not a multiple", u32(83, 34), errShare},
		{"tree far away", u32(83, 34*1000), errShare},
		{"data before tree", func(b []byte) []byte { be.PutUint32(b[87:], be.Uint32(b[83:])-32); return b }, errShare},
		{"block of another size", u64(91, 1), errShare},
		{"private key wraps", u64(91, neg(1<<40)), errShare},
		{"end before private key", func(b []byte) []byte { be.PutUint64(b[99:], be.Uint64(b[91:])-1); return b }, errShare},
		{"private key of a gigabyte", u64(99, 1<<30), errShare},
		{"end, all ones", func(b []byte) []byte { be.PutUint64(b[99:], 1<<64-1); return b }, errShare},
	} {
		if _, err := ParseShare(c.change(bytes.Clone(good))); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if s, err := ParseShare(append(bytes.Clone(good), "left over"...)); err != nil || !bytes.Equal(s.Marshal(), good) {
		t.Errorf("what a longer version left behind the end: %v", err)
	}
}

func TestParseMDMFShareRefuses(t *testing.T) {
	var good []byte
	for _, c := range loadMDMF(t) {
		if c.Size == 1 && len(c.Shares) > 0 {
			good = c.Shares[0]
		}
	}
	if good == nil {
		t.Fatal("no vector")
	}
	be := binary.BigEndian
	set := func(at int, v uint64) func([]byte) []byte {
		return func(b []byte) []byte { be.PutUint64(b[at:], v); return b }
	}
	add := func(at int, v int64) func([]byte) []byte {
		return func(b []byte) []byte { be.PutUint64(b[at:], be.Uint64(b[at:])+uint64(v)); return b }
	}
	for _, c := range []struct {
		name   string
		change func([]byte) []byte
		want   error
	}{
		{"half a header", func(b []byte) []byte { return b[:mdmfHeader-1] }, errShare},
		{"cut off by one", func(b []byte) []byte { return b[:len(b)-1] }, errShare},
		{"k 0", func(b []byte) []byte { b[41] = 0; return b }, errShare},
		{"k above n", func(b []byte) []byte { b[41] = b[42] + 1; return b }, errShare},
		{"k beside the segment size", func(b []byte) []byte { b[41] = 4; return b }, errShare},
		{"segment size 0", set(43, 0), errShare},
		{"segment size no multiple", add(43, 1), errShare},
		{"segment size of a gigabyte", set(43, 3<<30), errShare},
		{"segment size, all ones", set(43, 1<<64-1), errShare},
		{"another segment size", add(43, -3), nil}, // the file is smaller all the same
		{"data length above", add(51, 3), errShare},
		{"data length 0", set(51, 0), errShare},
		{"data length of exabytes", set(51, 1<<62), ErrTooLarge},
		{"data length, all ones", set(51, 1<<64-1), ErrTooLarge},
		{"private key in the header", add(59, -1), errShare},
		{"private key after a gap", add(59, 1), errShare},
		{"chain before private key", set(67, 122), errShare},
		{"chain far away", add(67, 1<<20), errShare},
		{"chain not a multiple", add(75, 1), errShare},
		{"signature before chain", set(75, 124), errShare},
		{"public key before signature", add(83, -300), errShare},
		{"public key far away", add(83, 1<<30), errShare},
		{"public key ends before itself", add(91, -300), errShare},
		{"public key ends far away", add(91, 1<<30), errShare},
		{"data before the public key's end", set(99, 1000), errShare},
		{"data far away", add(99, 1<<30), errShare},
		{"data of another size", add(107, 1), errShare},
		{"tree before data", set(107, 2000), errShare},
		{"tree of two hashes", add(115, 32), errShare},
		{"tree not a multiple", add(115, -1), errShare},
		{"end, all ones", set(115, 1<<64-1), errShare},
	} {
		if _, err := ParseShare(c.change(bytes.Clone(good))); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if s, err := ParseShare(append(bytes.Clone(good), "left over"...)); err != nil || !bytes.Equal(s.Marshal(), good) {
		t.Errorf("what a longer version left behind the end: %v", err)
	}
}

func FuzzParseShare(f *testing.F) {
	for _, c := range loadVectors(f).Cases {
		if c.Size < 1000 {
			f.Add(c.Shares[0].Share)
		}
	}
	for _, c := range loadMDMF(f) {
		for _, b := range c.Shares {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseShare(b)
		if err != nil {
			return
		}
		if _, o, _ := parseHeader(b); s.Format == MDMF { // whatever is in the room before the data means nothing
			b = bytes.Clone(b)
			clear(b[o.publicKey.to:o.data.from])
		}
		if got := s.Marshal(); !bytes.Equal(got, b[:len(got)]) {
			t.Fatal("formats differently")
		}
		// No panic:
		if leaves, err := prove(s.Header, 0, s.Chain, s.BlockTree); err == nil {
			_ = checkBlocks(s.Header, 0, s.Data, leaves)
		}
	})
}

// FuzzHead lets a hostile server answer the survey's question.
func FuzzHead(f *testing.F) {
	for _, c := range loadVectors(f).Cases {
		f.Add(0, c.Shares[0].Share[:200])
	}
	for _, c := range loadMDMF(f) {
		for num, b := range c.Shares {
			f.Add(num, b)
		}
	}
	key := testKey(f)
	f.Fuzz(func(t *testing.T, num int, b []byte) {
		g := newTestGrid(t, 1)
		s := g.store(t, Options{Needed: 1, Happy: 1, Total: 1})
		g.at(key.Cap().StorageIndex(), 0).set(func(s *testServer) { s.frozen = map[int][]byte{num: b} })
		if _, _, err := s.Read(ctx, key.Cap().Read()); err == nil {
			share, err := ParseShare(b)
			if err != nil {
				t.Fatal("read from what is no share")
			}
			public, err := parsePublicKey(share.PublicKey)
			if err != nil || verify(public, share.prefix(), share.Signature) != nil {
				t.Fatal("believed without a signature")
			}
		}
	})
}

func TestPlan(t *testing.T) {
	has := func(server int, nums ...int) (list []target) {
		for _, n := range nums {
			list = append(list, target{slot: slot{server: server, num: n}})
		}
		return list
	}
	free := candidate{usable: true, roomy: true}
	with := func(c candidate, list []target) candidate { c.existing = list; return c }
	for _, c := range []struct {
		name     string
		servers  []candidate
		n, happy int
		want     [][]int // share numbers by server
	}{
		{"fresh", []candidate{free, free, free}, 5, 3, [][]int{{0, 3}, {1, 4}, {2}}},
		{"more servers than shares", []candidate{free, free, free}, 2, 2, [][]int{{0}, {1}, nil}},
		{"in place", []candidate{with(free, has(0, 2)), with(free, has(1, 0)), with(free, has(2, 1))}, 3, 3, [][]int{{2}, {0}, {1}}},
		{"homeless go to the idle", []candidate{with(free, has(0, 0, 1)), free, free}, 4, 3, [][]int{{0, 1}, {2}, {3}}},
		{"read-only keeps what it has", []candidate{with(candidate{usable: true}, has(0, 0)), free}, 2, 2, [][]int{{0}, {1}}},
		{"unusable has nothing", []candidate{with(candidate{roomy: true}, has(0, 0)), free}, 2, 1, [][]int{nil, {0, 1}}},
		{"foreign numbers are left", []candidate{with(free, has(0, 7)), free}, 1, 1, [][]int{{0}, nil}},
		{"crowd spreads", []candidate{with(free, has(0, 0, 1, 2)), free, free}, 3, 3, [][]int{{0, 1, 2}, {0}, {1}}},
		{"crowd stays when happy", []candidate{with(free, has(0, 0, 1, 2)), free, free}, 3, 1, [][]int{{0, 1, 2}, nil, nil}},
		{"nobody", []candidate{{}, {}}, 2, 2, [][]int{nil, nil}},
	} {
		got := make([][]int, len(c.servers))
		for _, t := range plan(c.servers, c.n, c.happy) {
			got[t.server] = append(got[t.server], t.num)
		}
		for i := range got {
			slices.Sort(got[i])
			if !slices.Equal(got[i], c.want[i]) {
				t.Errorf("%s: server %d gets %v, not %v", c.name, i, got[i], c.want[i])
			}
		}
	}
}
