package mutable

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"warren/node/caps"
	"warren/node/storage"
)

// mdmfCase is a file of the real Tahoe's (tests/vectors/gen_mutable.py).
type mdmfCase struct {
	Size, K, N          int
	Updates             [][2]int // offset and length
	Write, Read, Verify string
	Signature           []byte
	SHA256              []string
	Shares              [][]byte
}

func loadMDMF(t testing.TB) []mdmfCase {
	t.Helper()
	var f struct{ Cases []mdmfCase }
	readJSON(t, "mdmf.json", &f)
	if len(f.Cases) < 30 {
		t.Fatalf("%d vectors", len(f.Cases))
	}
	return f.Cases
}

// vectorSalts is randomness whose every 16 bytes are the salts of the vectors.
type vectorSalts struct {
	mu    sync.Mutex // guards count
	count int
}

func (v *vectorSalts) Read(p []byte) (int, error) {
	if len(p) != saltLen {
		return rand.Read(p)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	h := sha256.Sum256(fmt.Appendf(nil, "salt %d", v.count))
	v.count++
	return copy(p, h[:]), nil
}

// splicedContents is what a case's file holds in the end.
func (c mdmfCase) contents() []byte {
	text := testContents(c.Size)
	for _, u := range c.Updates {
		text = spliced(text, u[0], testContents(u[1]))
	}
	return text
}

func spliced(old []byte, offset int, data []byte) []byte {
	text := make([]byte, max(len(old), offset+len(data)))
	copy(text, old)
	copy(text[offset:], data)
	return text
}

func createMDMF(t testing.TB, s *Store, contents []byte) caps.MDMFWrite {
	t.Helper()
	key := testKey(t)
	if _, err := s.Create(ctx, Kind{Format: MDMF, Key: key}, fixed(contents)); err != nil {
		t.Fatal(err)
	}
	return key.MDMFCap()
}

// With Tahoe's salts our shares are Tahoe's, to the byte but for the signature, after
// creation and after changes in place; and what we read of them is right.
func TestMDMFVectors(t *testing.T) {
	for _, c := range loadMDMF(t) {
		t.Run(fmt.Sprintf("%d bytes, %d of %d, %v", c.Size, c.K, c.N, c.Updates), func(t *testing.T) {
			t.Parallel()
			g := newTestGrid(t, c.N)
			s := g.store(t, Options{Needed: c.K, Happy: 1, Total: c.N, Rand: &vectorSalts{}})
			file := createMDMF(t, s, testContents(c.Size))
			if file.Text() != c.Write || file.Read().Text() != c.Read || file.Verify().Text() != c.Verify {
				t.Fatal("caps differ from Tahoe's")
			}
			for _, u := range c.Updates {
				if err := s.Update(ctx, file, uint64(u[0]), testContents(u[1])); err != nil {
					t.Fatal(err)
				}
			}
			seen := 0
			for _, shares := range g.shares(file.StorageIndex()) {
				for num, b := range shares {
					sh, err := ParseShare(b)
					if err != nil {
						t.Fatal(err)
					}
					if sh.Seqnum != uint64(1+len(c.Updates)) || sh.DataLength != uint64(len(c.contents())) {
						t.Fatalf("%+v", sh.Header)
					}
					sh.Signature = c.Signature
					if sum := sha256.Sum256(sh.Marshal()); hex.EncodeToString(sum[:]) != c.SHA256[num] {
						t.Errorf("share %d differs from Tahoe's", num)
					}
					public, err := parsePublicKey(sh.PublicKey)
					if err != nil || verify(public, sh.prefix(), c.Signature) != nil {
						t.Fatalf("Tahoe's signature does not fit: %v", err)
					}
					seen++
				}
			}
			if seen != c.N {
				t.Errorf("%d shares", seen)
			}
			for num, b := range c.Shares {
				sh, err := ParseShare(b)
				if err != nil || !bytes.Equal(sh.Marshal(), b) {
					t.Errorf("Tahoe's share %d formats differently: %v", num, err)
				}
			}
			got, v, err := s.Read(ctx, file.Read())
			if err != nil || !bytes.Equal(got, c.contents()) || v.Seqnum != uint64(1+len(c.Updates)) {
				t.Fatalf("read %d bytes, %v, %v", len(got), v, err)
			}
		})
	}
}

// cost counts what servers are asked for.
type cost struct {
	reads, read, writes, written atomic.Int64
}

func (g *testGrid) count() *cost {
	c := &cost{}
	for _, ts := range g.tests {
		ts.set(func(s *testServer) { s.cost = c })
	}
	return c
}

// Ranges come from any place, and cost the segments that hold them, twice the tree's
// hashes and no more.
func TestRange(t *testing.T) {
	const k, n, size = 3, 5, 20*131073 + 500
	g := newTestGrid(t, n)
	opts := Options{Needed: k, Happy: n, Total: n}
	want := testContents(size)
	file := createMDMF(t, g.store(t, opts), want)
	for _, r := range [][2]int{{0, 1}, {131072, 1}, {131072, 2}, {size - 1, 1}, {size - 600, 600}, {5 * 131073, 131073}, {0, 0}, {size, 0}, {0, size}, {400_000, 1_500_000}} {
		s := g.store(t, opts)
		c := g.count()
		f, err := s.Open(ctx, file.Read())
		if err != nil || f.Size() != size || f.Format() != MDMF || f.Version().Seqnum != 1 {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := f.WriteRange(ctx, &b, int64(r[0]), int64(r[1])); err != nil || !bytes.Equal(b.Bytes(), want[r[0]:r[0]+r[1]]) {
			t.Errorf("%v: %d bytes, %v", r, b.Len(), err)
		}
		segments := 0
		if r[1] > 0 {
			segments = (r[0]+r[1]-1)/131073 - r[0]/131073 + 1
		}
		if limit := int64(n*headSize + k*(63*32+segments*(43691+16))); c.read.Load() > limit {
			t.Errorf("%v: %d bytes were read, more than %d", r, c.read.Load(), limit)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	f, err := g.store(t, opts).Open(ctx, file.Read())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range [][2]int64{{-1, 1}, {0, size + 1}, {size, 1}, {0, -1}} {
		if err := f.WriteRange(ctx, io.Discard, r[0], r[1]); !errors.Is(err, ErrRange) {
			t.Errorf("%v: %v", r, err)
		}
	}
	// One segment or none is read at once.
	for _, size := range []int{0, 1, 70_000} {
		g := newTestGrid(t, n)
		file := mustCreate(t, g.store(t, opts), testContents(size))
		f, err := g.store(t, opts).Open(ctx, file.Read())
		if err != nil {
			t.Fatal(err)
		}
		c := g.count()
		var b bytes.Buffer
		if err := f.WriteRange(ctx, &b, 0, int64(size)); err != nil || !bytes.Equal(b.Bytes(), testContents(size)) || c.reads.Load() > 0 {
			t.Errorf("%d bytes: %d reads, %v", size, c.reads.Load(), err)
		}
	}
}

// A patch writes the segments that it touches, the trees and the header; wherever
// it falls, the file is as if it had been written whole.
func TestUpdate(t *testing.T) {
	const k, n, segment = 3, 5, 131073
	r := mrand.New(mrand.NewPCG(1, 2))
	tried := 0
	for _, size := range []int{0, 1, 100, segment - 1, segment, segment + 1, 3 * segment, 6*segment + 99} {
		g := newTestGrid(t, n)
		s := g.store(t, Options{Needed: k, Happy: n, Total: n})
		want := testContents(size)
		file := createMDMF(t, s, want)
		offsets := []int{0, size, size / 2, max(0, size-1), size / segment * segment}
		for range 3 {
			offsets = append(offsets, r.IntN(len(want)+1))
		}
		for i, offset := range offsets {
			length := []int{1, 10, segment, 2*segment + 7}[r.IntN(4)]
			data := bytes.Repeat([]byte{byte(i + 1)}, length)
			want = spliced(want, offset, data)
			c := g.count()
			if err := s.Update(ctx, file, uint64(offset), data); err != nil {
				t.Fatalf("%d bytes at %d of %d: %v", length, offset, len(want), err)
			}
			tried++
			got, v, err := g.store(t, Options{Needed: k, Happy: n, Total: n}).Read(ctx, file.Read())
			if err != nil || !bytes.Equal(got, want) || v.Seqnum != uint64(i+2) {
				t.Fatalf("%d bytes at %d of %d: others came back: %v, %v", length, offset, len(want), v, err)
			}
			segments := (offset+length-1)/segment - offset/segment + 1
			trees := 64 * 32
			if limit := int64(n * (mdmfData + trees + segments*(segment/k+16))); c.written.Load() > limit || c.writes.Load() != n {
				t.Errorf("%d bytes at %d of %d: %d were written with %d calls, more than %d", length, offset, len(want), c.written.Load(), c.writes.Load(), limit)
			}
		}
		if err := s.Update(ctx, file, uint64(len(want)+1), []byte("x")); !errors.Is(err, ErrRange) {
			t.Errorf("beyond the end: %v", err)
		}
		if err := s.Update(ctx, file, uint64(len(want)+1), nil); !errors.Is(err, ErrRange) {
			t.Errorf("nothing beyond the end: %v", err)
		}
		if err := s.Update(ctx, file, 1<<63, []byte("x")); !errors.Is(err, ErrRange) {
			t.Errorf("far beyond the end: %v", err)
		}
		if err := s.Update(ctx, file, uint64(len(want)), nil); err != nil {
			t.Errorf("nothing at the end: %v", err)
		}
	}
	if tried != 8*8 {
		t.Errorf("%d updates", tried)
	}
}

// What is not whole is not patched but written anew, and so mended; SDMF always is.
func TestUpdateWhole(t *testing.T) {
	const n, segment = 5, 131073
	data := bytes.Repeat([]byte("x"), 50)
	for name, c := range map[string]struct {
		format  Format
		k       int
		happy   int
		prepare func(g *testGrid, s *Store, file caps.MDMFWrite)
	}{
		"SDMF":             {format: SDMF, k: 3},
		"a high threshold": {format: MDMF, k: 4},
		"a share is gone": {format: MDMF, k: 3, prepare: func(g *testGrid, _ *Store, file caps.MDMFWrite) {
			g.remove(file, 2)
		}},
		"a server is away": {format: MDMF, k: 3, happy: 4, prepare: func(g *testGrid, _ *Store, file caps.MDMFWrite) {
			g.at(file.StorageIndex(), 1).set(func(s *testServer) { s.down = true })
		}},
		"a tree is damaged": {format: MDMF, k: 3, prepare: func(g *testGrid, _ *Store, file caps.MDMFWrite) {
			g.damage(file, 1, func(o offsets) uint64 { return o.tree.from + 70 })
		}},
		"a signature is damaged": {format: MDMF, k: 3, prepare: func(g *testGrid, _ *Store, file caps.MDMFWrite) {
			for i := range 2 {
				g.damage(file, i, func(o offsets) uint64 { return o.publicKey.from })
			}
		}},
		"a server has an older version": {format: MDMF, k: 3, prepare: func(g *testGrid, s *Store, file caps.MDMFWrite) {
			old := g.shares(file.StorageIndex())
			if err := s.Overwrite(ctx, file, testContents(2*segment)); err != nil {
				g.t.Fatal(err)
			}
			for num, b := range old[0] {
				g.put(caps.SSKWrite{WriteKey: file.WriteKey, Fingerprint: file.Fingerprint}, 0, num, b)
			}
		}},
		"a server refuses": {format: MDMF, k: 3, happy: 4, prepare: func(g *testGrid, _ *Store, file caps.MDMFWrite) {
			g.at(file.StorageIndex(), 3).set(func(s *testServer) { s.refuses = true })
		}},
		"two servers fail amid it": {format: MDMF, k: 3, happy: 4, prepare: func(g *testGrid, _ *Store, file caps.MDMFWrite) {
			for _, i := range []int{2, 3} {
				g.at(file.StorageIndex(), i).set(func(s *testServer) {
					times := 0
					s.before = func(write bool) error {
						if write && times == 0 {
							times++
							return errDown
						}
						return nil
					}
				})
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			g := newTestGrid(t, n)
			happy := max(c.happy, 1)
			s := g.store(t, Options{Needed: c.k, Happy: happy, Total: n, Attempts: 8})
			key := testKey(t)
			if _, err := s.Create(ctx, Kind{c.format, key}, fixed(testContents(2*segment))); err != nil {
				t.Fatal(err)
			}
			if c.prepare != nil {
				c.prepare(g, s, key.MDMFCap())
			}
			if err := g.store(t, Options{Needed: c.k, Happy: happy, Total: n, Attempts: 8}).Update(ctx, key.cap(c.format), 2*segment-10, data); err != nil {
				t.Fatal(err)
			}
			want := spliced(testContents(2*segment), 2*segment-10, data)
			got, _, err := g.store(t, Options{Needed: c.k, Happy: happy, Total: n}).Read(ctx, key.Cap().Read())
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%d bytes: %v", len(got), err)
			}
			if err := s.Update(ctx, key.cap(c.format), uint64(len(want)+1), data); !errors.Is(err, ErrRange) {
				t.Errorf("beyond the end: %v", err)
			}
		})
	}
}

// damage flips a byte of each share that a server holds.
func (g *testGrid) damage(file caps.MDMFWrite, server int, where func(offsets) uint64) {
	g.t.Helper()
	for num, b := range g.shares(file.StorageIndex())[server] {
		_, o, err := parseHeader(b)
		if err != nil {
			g.t.Fatal(err)
		}
		b = bytes.Clone(b)
		b[where(o)] ^= 1
		g.put(caps.SSKWrite{WriteKey: file.WriteKey, Fingerprint: file.Fingerprint}, server, num, b)
	}
}

// remove deletes the shares that a server holds.
func (g *testGrid) remove(file caps.MDMFWrite, server int) {
	g.t.Helper()
	srv := g.Permuted(file.StorageIndex())[server]
	s := &Store{opts: Options{LeaseSecret: []byte("x")}}
	secrets, err := s.secrets(file.WriteKey, file.StorageIndex(), srv.LeaseSeed)
	if err != nil {
		g.t.Fatal(err)
	}
	for num := range g.shares(file.StorageIndex())[server] {
		if wrote, _, err := g.tests[srv.ID].Client.ReadTestWrite(ctx, file.StorageIndex(), secrets, map[int]storage.TestWrite{num: {NewLength: new(uint64)}}, nil); err != nil || !wrote {
			g.t.Fatalf("remove a share: %v, %v", wrote, err)
		}
	}
}

// The same key makes the same caps, whichever encoding it comes in.
func TestImportKey(t *testing.T) {
	key := testKey(t)
	for name, der := range map[string][]byte{"PKCS #8": key.privateDER, "PKCS #1": x509.MarshalPKCS1PrivateKey(key.private)} {
		got, err := ImportKey(der)
		if err != nil || got.Cap() != key.Cap() || got.MDMFCap() != key.MDMFCap() || !bytes.Equal(got.privateDER, key.privateDER) {
			t.Errorf("%s: another key: %v", name, err)
		}
	}
	if _, err := ImportKey([]byte("junk")); err == nil {
		t.Error("junk is a key")
	}
}

// Writers that change one file in place, and one that writes it whole, race: what
// was acknowledged stands, each in its own place.
func TestRaceInPlace(t *testing.T) {
	const segment, writers, each, length = 131073, 3, 15, 7
	for _, c := range []struct{ k, happy, n, servers int }{{3, 4, 5, 5}, {2, 3, 3, 3}, {1, 1, 1, 1}} {
		t.Run(fmt.Sprintf("%d-of-%d on %d", c.k, c.n, c.servers), func(t *testing.T) {
			g := newTestGrid(t, c.servers)
			for i, srv := range g.servers {
				r := mrand.New(mrand.NewPCG(uint64(i), 7))
				g.tests[srv.ID].set(func(s *testServer) {
					s.before = func(bool) error { // under the server's lock
						for range r.IntN(20) {
							runtime.Gosched()
						}
						return nil
					}
				})
			}
			opts := Options{Needed: c.k, Happy: c.happy, Total: c.n, Attempts: 200, Pause: func(ctx context.Context, n int) error {
				for range mrand.IntN(200 * n) {
					runtime.Gosched()
				}
				return ctx.Err()
			}}
			file := createMDMF(t, g.store(t, opts), make([]byte, 2*segment))
			place := func(w, i int) int { return (w*each + i) * (2*segment + 500) / (writers * each) } // the last ones at the end, which grows
			entry := func(w, i int) []byte { return fmt.Appendf(nil, "[%d:%03d]", w, i)[:length] }
			var mu sync.Mutex // guards acknowledged
			acknowledged := map[[2]int]bool{}
			var wg sync.WaitGroup
			for w := range writers {
				wg.Add(1)
				go func() {
					defer wg.Done()
					s := g.store(t, opts)
					for i := range each {
						at, data := place(w, i), entry(w, i)
						var err error
						if w == 0 {
							err = s.Modify(ctx, file, func(old []byte) ([]byte, error) { return spliced(old, at, data), nil })
						} else {
							err = s.Update(ctx, file, uint64(at), data)
						}
						switch {
						case err == nil:
							mu.Lock()
							acknowledged[[2]int{w, i}] = true
							mu.Unlock()
						case errors.Is(err, ErrUncoordinated), errors.Is(err, ErrNewerVersion), errors.Is(err, ErrRange):
						default:
							t.Errorf("%s: %v", data, err)
						}
					}
				}()
			}
			wg.Wait()
			got, _, err := g.store(t, opts).Read(ctx, file.Read())
			if err != nil {
				t.Fatal(err)
			}
			for a := range acknowledged {
				if at := place(a[0], a[1]); !bytes.Equal(got[at:at+length], entry(a[0], a[1])) {
					t.Errorf("%s was acknowledged and is not there", entry(a[0], a[1]))
				}
			}
			if len(acknowledged) < writers*each/2 {
				t.Errorf("%d of %d were acknowledged", len(acknowledged), writers*each)
			}
		})
	}
}

// A large file that is replaced after it was opened is read as it is then when its
// length is the same, and is an error when it is not; never a mixture.
func TestReplacedAmidRead(t *testing.T) {
	const k, n, size = 3, 5, 30 * 131073
	for _, c := range []struct {
		name   string
		length int
		after  int // bytes
	}{{"same length, before", size, 0}, {"another length, before", size - 1, 0}, {"same length, amid", size, 1}} {
		t.Run(c.name, func(t *testing.T) {
			g := newTestGrid(t, n)
			opts := Options{Needed: k, Happy: n, Total: n}
			writer := g.store(t, opts)
			old := testContents(size)
			file := createMDMF(t, writer, old)
			f, err := g.store(t, opts).Open(ctx, file.Read())
			if err != nil {
				t.Fatal(err)
			}
			replaced := bytes.Repeat([]byte("x"), c.length)
			var got bytes.Buffer
			out := writerFunc(func(p []byte) (int, error) {
				if got.Len() == 0 && c.after > 0 {
					// One run may have been fetched ahead; a third cannot.
					if err := writer.Overwrite(ctx, file, replaced); err != nil {
						t.Error(err)
					}
				}
				return got.Write(p)
			})
			if c.after == 0 {
				if err := writer.Overwrite(ctx, file, replaced); err != nil {
					t.Fatal(err)
				}
			}
			err = f.WriteRange(ctx, out, 0, size)
			switch {
			case c.after == 0 && c.length == size:
				if err != nil || !bytes.Equal(got.Bytes(), replaced) || f.Version().Seqnum != 2 {
					t.Errorf("%d bytes of version %v: %v", got.Len(), f.Version(), err)
				}
			case c.after == 0:
				if !errors.Is(err, ErrNotEnoughShares) || got.Len() > 0 {
					t.Errorf("%d bytes, %v", got.Len(), err)
				}
			default:
				if err != nil && !errors.Is(err, ErrNotEnoughShares) || !bytes.HasPrefix(old, got.Bytes()) || err == nil && got.Len() < size {
					t.Errorf("%d bytes, %v", got.Len(), err)
				}
			}
		})
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// A server that is slow is waited for once, not with every piece of a large file.
func TestSlowServerIsDemoted(t *testing.T) {
	const k, n, size = 2, 4, 60 * 131072
	g := newTestGrid(t, n)
	file := createMDMF(t, g.store(t, Options{Needed: k, Happy: n, Total: n}), testContents(size))
	s := g.store(t, Options{Needed: k, Happy: n, Total: n, Patience: 5 * time.Second})
	f, err := s.Open(ctx, file.Read())
	if err != nil {
		t.Fatal(err)
	}
	var hung atomic.Int64
	slow := f.survey.of(f.version.prefix)[0]
	g.tests[f.survey.servers[slow.server].ID].set(func(s *testServer) {
		s.hangReads = true
		s.asked = func(bool) { hung.Add(1) }
	})
	var b bytes.Buffer
	if err := f.WriteRange(ctx, &b, 0, size); err != nil || !bytes.Equal(b.Bytes(), testContents(size)) {
		t.Fatal(err)
	}
	if hung.Load() > 2 { // of four
		t.Errorf("a server that hangs was asked %d times", hung.Load())
	}
}
