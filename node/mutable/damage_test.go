package mutable

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"testing"
)

// Whatever of a share is damaged: k intact ones are enough, fewer are an error,
// wrong bytes never come back, and the next write makes the file whole.
func TestCorruption(t *testing.T) {
	const k, n = 3, 5
	type place func(o offsets) (from, to uint64)
	fixed := func(from, to uint64) place { return func(offsets) (uint64, uint64) { return from, to } }
	header := map[Format]map[string][2]uint64{
		SDMF: {
			"version": {0, 1}, "seqnum": {1, 9}, "root hash": {9, 41}, "IV": {41, 57}, "k": {57, 58}, "n": {58, 59},
			"segment size": {59, 67}, "data length": {67, 75}, "signature offset": {75, 79}, "chain offset": {79, 83},
			"tree offset": {83, 87}, "data offset": {87, 91}, "private key offset": {91, 99},
		},
		MDMF: {
			"version": {0, 1}, "seqnum": {1, 9}, "root hash": {9, 41}, "k": {41, 42}, "n": {42, 43},
			"segment size": {43, 51}, "data length": {51, 59}, "private key offset": {59, 67}, "chain offset": {67, 75},
			"signature offset": {75, 83}, "public key offset": {83, 91}, "public key end": {91, 99}, "data offset": {99, 107},
			"tree offset": {107, 115}, "end": {115, 123},
		},
	}
	tried := 0
	for format, ranges := range header {
		fields := map[string]place{
			"public key":          func(o offsets) (uint64, uint64) { return o.publicKey.from, o.publicKey.from + 1 },
			"public key, middle":  func(o offsets) (uint64, uint64) { return o.publicKey.from + 93, o.publicKey.from + 94 },
			"signature":           func(o offsets) (uint64, uint64) { return o.signature.from + 5, o.signature.from + 6 },
			"chain, number":       func(o offsets) (uint64, uint64) { return o.chain.from, o.chain.from + 2 },
			"chain, hash":         func(o offsets) (uint64, uint64) { return o.chain.from + 2, o.chain.from + 34 },
			"block hash tree":     func(o offsets) (uint64, uint64) { return o.tree.from, o.tree.to },
			"block":               func(o offsets) (uint64, uint64) { return o.data.from, o.data.to },
			"last byte of data":   func(o offsets) (uint64, uint64) { return o.data.to - 1, o.data.to },
			"cut off in the data": nil,
		}
		if format == MDMF {
			fields["salt"] = func(o offsets) (uint64, uint64) { return o.data.from, o.data.from + saltLen }
		}
		for name, r := range ranges {
			fields[name] = fixed(r[0], r[1])
		}
		sizes := []int{100, 30_000} // within the first question, and beyond
		if format == MDMF {
			sizes = []int{100, 300_000}
		}
		for name, where := range fields {
			for _, size := range sizes {
				tried++
				t.Run(fmt.Sprint(format, " ", name, " ", size), func(t *testing.T) { corrupt(t, format, k, n, size, name, where) })
			}
		}
	}
	if tried != 2*(13+9+15+10) {
		t.Errorf("%d kinds of damage", tried)
	}
}

func corrupt(t *testing.T, format Format, k, n, size int, name string, where func(offsets) (from, to uint64)) {
	g := newTestGrid(t, n)
	s := g.store(t, Options{Needed: k, Happy: n, Total: n, Attempts: 8})
	want := string(testContents(size))
	key := testKey(t)
	file := key.cap(format)
	if _, err := s.Create(ctx, Kind{format, key}, fixed([]byte(want))); err != nil {
		t.Fatal(err)
	}
	read := key.Cap().Read()
	si := file.StorageIndex()
	damage := func(i int) {
		for num, b := range g.shares(si)[i] {
			if _, err := ParseShare(b); err != nil {
				continue // damaged already
			}
			_, o, _ := parseHeader(b)
			b = bytes.Clone(b)
			if where == nil {
				b = b[:o.data.from+1]
			} else {
				from, to := where(o)
				for j := from; j < to; j++ {
					b[j] ^= 0x55
				}
			}
			g.put(key.Cap(), i, num, b)
		}
	}
	damage(0)
	damage(3)
	reader := g.store(t, Options{Needed: k, Happy: n, Total: n})
	got, _, err := reader.Read(ctx, read)
	if err != nil || string(got) != want {
		t.Fatal("wrong bytes:", err)
	}
	var streamed bytes.Buffer
	f, err := g.store(t, Options{Needed: k, Happy: n, Total: n}).Open(ctx, read)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.WriteRange(ctx, &streamed, 10, int64(size)-20); err != nil || streamed.String() != want[10:size-10] {
		t.Fatal("wrong bytes of a range:", err)
	}
	if err := reader.Modify(ctx, file, appendText("more")); err != nil {
		t.Fatal(err)
	}
	whole := 0
	for _, shares := range g.shares(si) {
		for _, b := range shares {
			if sh, err := ParseShare(b); err == nil && sh.Seqnum == 2 {
				whole++
			}
		}
	}
	if whole != n {
		t.Fatalf("%d shares are whole after a write", whole)
	}
	for i := range 3 {
		damage(i)
	}
	if name == "signature" {
		return // one intact signature proves the header of all
	}
	got, _, err = g.store(t, Options{Needed: k, Happy: n, Total: n}).Read(ctx, read)
	if !errors.Is(err, ErrNotEnoughShares) {
		t.Fatalf("read %d bytes from two intact shares of three, %v", len(got), err)
	}
	f, err = g.store(t, Options{Needed: k, Happy: n, Total: n}).Open(ctx, read)
	if err == nil {
		err = f.WriteRange(ctx, io.Discard, 0, int64(f.Size()))
	}
	if !errors.Is(err, ErrNotEnoughShares) {
		t.Fatalf("opened and read from two intact shares of three: %v", err)
	}
}

// A private key that is damaged in some shares is taken from another; in all, no
// write is possible and reading still is.
func TestCorruptPrivateKey(t *testing.T) {
	g := newTestGrid(t, 3)
	s := g.store(t, Options{Needed: 2, Happy: 3, Total: 3})
	file := mustCreate(t, s, []byte("text"))
	damage := func(i int) {
		for num, b := range g.shares(file.StorageIndex())[i] {
			_, o, err := parseHeader(b)
			if err != nil {
				t.Fatal(err)
			}
			b = bytes.Clone(b)
			b[o.privateKey.from+100] ^= 1
			g.put(file, i, num, b)
		}
	}
	damage(0)
	damage(1)
	other := g.store(t, Options{Needed: 2, Happy: 3, Total: 3})
	if err := other.Modify(ctx, file, appendText(" 2")); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		damage(i)
	}
	last := g.store(t, Options{Needed: 2, Happy: 3, Total: 3})
	if err := last.Modify(ctx, file, appendText(" 3")); !errors.Is(err, ErrNotEnoughShares) {
		t.Error(err)
	}
	if got := mustRead(t, last, file); got != "text 2" {
		t.Errorf("%q", got)
	}
}

// With up to k servers stuck at an old version, the newest is read; a Store that
// has seen the newest asks everybody before it believes an old one.
func TestStaleServers(t *testing.T) {
	const k, n = 3, 10
	for _, stale := range []int{k - 1, k} {
		g := newTestGrid(t, n)
		s := g.store(t, Options{Needed: k, Happy: 7, Total: n})
		file := mustCreate(t, s, []byte("old"))
		before := g.shares(file.StorageIndex())
		if err := s.Overwrite(ctx, file, []byte("new")); err != nil {
			t.Fatal(err)
		}
		for i := range stale {
			g.at(file.StorageIndex(), i).set(func(s *testServer) { s.frozen = before[i] })
		}
		if got := mustRead(t, g.store(t, Options{Needed: k, Happy: 7, Total: n}), file); got != "new" {
			t.Errorf("%d stale: %q", stale, got)
		}
	}
	g := newTestGrid(t, n)
	s := g.store(t, Options{Needed: k, Happy: 3, Total: n})
	file := mustCreate(t, s, []byte("old"))
	before := g.shares(file.StorageIndex())
	if err := s.Overwrite(ctx, file, []byte("new")); err != nil {
		t.Fatal(err)
	}
	for i := range 7 { // more than the first question reaches
		g.at(file.StorageIndex(), i).set(func(s *testServer) { s.frozen = before[i] })
	}
	if got := mustRead(t, s, file); got != "new" {
		t.Errorf("a Store that knows better reads %q", got)
	}
}

// Servers that lie: shares of another file, unsigned sequence numbers, answers
// beside the question.
func TestLyingServers(t *testing.T) {
	const k, n = 2, 4
	lies := map[string]func(int, []byte) []byte{
		"a high sequence number": func(_ int, b []byte) []byte { b[1] = 0x7f; return b },
		"nothing":                func(_ int, b []byte) []byte { return nil },
		"rubbish":                func(_ int, b []byte) []byte { return bytes.Repeat([]byte{0}, 200) },
		"MDMF":                   func(_ int, b []byte) []byte { b[0] = 1; return b },
	}
	for name, lie := range lies {
		g := newTestGrid(t, n)
		s := g.store(t, Options{Needed: k, Happy: 3, Total: n})
		file := mustCreate(t, s, []byte("text"))
		g.at(file.StorageIndex(), 0).set(func(s *testServer) { s.mangle = lie })
		if err := s.Modify(ctx, file, appendText(" 2")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if v, err := s.Version(ctx, file.Read()); err != nil || v.Seqnum != 2 {
			t.Errorf("%s: version %v, %v", name, v, err)
		}
	}

	g := newTestGrid(t, n)
	s := g.store(t, Options{Needed: k, Happy: 3, Total: n})
	file := mustCreate(t, s, []byte("text"))
	other, err := s.Create(ctx, Kind{}, fixed([]byte("another file")))
	if err != nil {
		t.Fatal(err)
	}
	foreign := g.shares(other.StorageIndex())[0]
	g.at(file.StorageIndex(), 0).set(func(s *testServer) { s.frozen = foreign })
	if got := mustRead(t, s, file); got != "text" {
		t.Errorf("%q", got)
	}
	g.at(file.StorageIndex(), 0).set(func(s *testServer) { s.frozen = map[int][]byte{300: {1}, -1: {2}} })
	if got := mustRead(t, s, file); got != "text" {
		t.Errorf("%q", got)
	}
	// A server that refuses every write without a reason is worked around.
	g.at(file.StorageIndex(), 0).set(func(s *testServer) { s.frozen, s.refuses = nil, true })
	if err := s.Modify(ctx, file, appendText(" 2")); err != nil {
		t.Error(err)
	}
	if got := mustRead(t, s, file); got != "text 2" {
		t.Errorf("%q", got)
	}
}

// Shares in a format that this version does not read are said to be that, and no
// server is told that they are damaged.
func TestForeignShares(t *testing.T) {
	for name, c := range map[string]struct {
		mangle  func(int, []byte) []byte
		want    error
		advised int
	}{
		"to come":   {func(_ int, b []byte) []byte { b[0] = 2; return b }, errVersion, 0},
		"MDMF":      {func(_ int, b []byte) []byte { b[0] = 1; return b }, ErrNotEnoughShares, 1},
		"too large": {func(_ int, b []byte) []byte { binary.BigEndian.PutUint64(b[67:], MaxSize+1); return b }, ErrTooLarge, 0},
		"damaged":   {func(_ int, b []byte) []byte { b[20] ^= 1; return b }, ErrNotEnoughShares, 1},
	} {
		g := newTestGrid(t, 3)
		opts := Options{Needed: 2, Happy: 2, Total: 3}
		file := mustCreate(t, g.store(t, opts), []byte("text"))
		for _, ts := range g.tests {
			ts.set(func(s *testServer) { s.mangle = c.mangle })
		}
		if _, err := g.store(t, opts).Version(ctx, file.Read()); !errors.Is(err, ErrNotEnoughShares) || !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if err := g.store(t, opts).Overwrite(ctx, file, []byte("new")); !errors.Is(err, ErrNotEnoughShares) || !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		for id, ts := range g.tests {
			ts.set(func(s *testServer) {
				if s.advised != 2*c.advised { // once by each Store
					t.Errorf("%s: %s got %d advisories", name, id, s.advised)
				}
			})
		}
	}
}

// A version of which only a damaged share is in sight is not overwritten by what
// is older, while it may be whole on a server that is away; nor for ever.
func TestDamagedNewerVersion(t *testing.T) {
	const n = 3
	for _, gone := range []bool{true, false} {
		g := newTestGrid(t, n)
		opts := Options{Needed: 1, Happy: 1, Total: n, Attempts: 8}
		s := g.store(t, opts)
		file := mustCreate(t, s, []byte("base"))
		si := file.StorageIndex()
		old := g.shares(si)
		if err := s.Modify(ctx, file, appendText(" acknowledged")); err != nil {
			t.Fatal(err)
		}
		for num, b := range g.shares(si)[0] {
			_, o, err := parseHeader(b)
			if err != nil {
				t.Fatal(err)
			}
			b = bytes.Clone(b)
			b[o.data.from] ^= 1
			g.put(file, 0, num, b)
		}
		for num, b := range old[1] { // a restored backup
			g.put(file, 1, num, b)
		}
		if gone { // the third server fell back, too: nobody has the newer version
			for num, b := range old[2] {
				g.put(file, 2, num, b)
			}
			if err := g.store(t, opts).Modify(ctx, file, appendText(" more")); err != nil {
				t.Fatal(err)
			}
			got, v, err := s.Read(ctx, file.Read())
			if err != nil || string(got) != "base more" || v.Seqnum != 3 {
				t.Errorf("%q, version %d, %v", got, v.Seqnum, err)
			}
			continue
		}
		third := g.at(si, 2)
		third.set(func(s *testServer) { s.down = true })
		if err := g.store(t, opts).Modify(ctx, file, appendText(" lost")); !errors.Is(err, ErrNewerVersion) {
			t.Fatal(err)
		}
		third.set(func(s *testServer) { s.down = false })
		if err := g.store(t, opts).Modify(ctx, file, appendText(" more")); err != nil {
			t.Fatal(err)
		}
		if got := mustRead(t, s, file); got != "base acknowledged more" {
			t.Errorf("%q", got)
		}
	}
}
