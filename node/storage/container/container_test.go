package container

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"warren/tests/bounds"
)

// buffer is a file in memory.
type buffer struct{ data []byte }

func (b *buffer) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(b.data).ReadAt(p, off)
}

func (b *buffer) WriteAt(p []byte, off int64) (int, error) {
	if end := int(off) + len(p); end > len(b.data) {
		b.data = append(b.data, make([]byte, end-len(b.data))...)
	}
	return copy(b.data[off:], p), nil
}

type vectors struct {
	Node, Enabler string
	Cases         []struct {
		Name, Kind string
		Version    int
		Steps      []struct {
			Op      string
			File    string
			Size    uint64
			Owner   uint32
			Number  byte
			Expires uint32
			Writes  []struct {
				Offset uint64
				Data   string
			}
			Length *uint64
		}
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func load(t testing.TB) vectors {
	t.Helper()
	raw, err := os.ReadFile("testdata/containers.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Cases) == 0 {
		t.Fatal("no cases")
	}
	return v
}

func numbered(n byte, owner, expires uint32, node NodeID) Lease {
	return Lease{
		Owner: owner, Expires: expires, Node: node,
		Renew:  Secret(bytes.Repeat([]byte{n}, 32)),
		Cancel: Secret(bytes.Repeat([]byte{n + 128}, 32)),
	}
}

// TestTahoeFiles repeats, byte for byte, what Tahoe did to its share files.
func TestTahoeFiles(t *testing.T) {
	v := load(t)
	node := NodeID(unhex(t, v.Node))
	for _, c := range v.Cases {
		t.Run(fmt.Sprintf("%s v%d %s", c.Kind, c.Version, c.Name), func(t *testing.T) {
			f := &buffer{}
			for i, s := range c.Steps {
				want := unhex(t, s.File)
				size := int64(len(f.data))
				var patches []Patch
				var grows int64
				var err error
				switch {
				case s.Op == "create" && c.Kind == "immutable":
					patches, err = NewImmutable(s.Size, numbered(1, 0, 1000, node))
					if c.Version == 1 { // which we do not write: checked from its file on
						patches, err = []Patch{{0, want}}, nil
					}
				case s.Op == "create":
					patches = []Patch{{0, NewMutable(node, Secret(unhex(t, v.Enabler)))}}
					if c.Version == 1 {
						patches = []Patch{{0, want}}
					}
				case s.Op == "fill":
					data := make([]byte, c.Steps[0].Size)
					for i := range data {
						data[i] = byte(i % 251)
					}
					patches = []Patch{{ImmutableDataOffset, data}}
				case s.Op == "replace":
					f.data, patches = nil, []Patch{{0, want}}
				case s.Op == "lease" && c.Kind == "immutable":
					im, oerr := OpenImmutable(f, size)
					if oerr != nil {
						t.Fatal(oerr)
					}
					patches, grows, err = im.AddOrRenew(numbered(s.Number, s.Owner, s.Expires, node))
				case s.Op == "lease":
					m, oerr := OpenMutable(f, size)
					if oerr != nil {
						t.Fatal(oerr)
					}
					patches, grows, err = m.AddOrRenew(numbered(s.Number, s.Owner, s.Expires, node))
				case s.Op == "write":
					m, oerr := OpenMutable(f, size)
					if oerr != nil {
						t.Fatal(oerr)
					}
					for _, w := range s.Writes {
						p, err := m.Write(w.Offset, unhex(t, w.Data))
						if err != nil {
							t.Fatal(err)
						}
						if err := Apply(f, p); err != nil {
							t.Fatal(err)
						}
					}
					if s.Length != nil {
						patches = m.Shrink(*s.Length)
					}
				default:
					t.Fatalf("unknown step %q", s.Op)
				}
				if err != nil {
					t.Fatalf("step %d: %v", i, err)
				}
				if err := Apply(f, patches); err != nil {
					t.Fatal(err)
				}
				if s.Op == "lease" && int64(len(f.data)) != size+grows {
					t.Errorf("step %d: grew by %d, said %d", i, int64(len(f.data))-size, grows)
				}
				if !bytes.Equal(f.data, want) {
					t.Fatalf("step %d (%s): the file differs from Tahoe's\n got %x\nwant %x", i, s.Op, f.data, want)
				}
				checkRoundTrip(t, f.data)
			}
		})
	}
}

// checkRoundTrip parses a share file and formats it again from what was parsed.
func checkRoundTrip(t *testing.T, data []byte) {
	t.Helper()
	again, err := reformat(data)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again, data) {
		t.Fatalf("parsed and formatted again:\n got %x\nwant %x", again, data)
	}
}

func reformat(data []byte) ([]byte, error) {
	r, size := bytes.NewReader(data), int64(len(data))
	out := slices.Clone(data)
	mutable, ok := IsMutable(data[:min(32, len(data))])
	switch {
	case !ok:
		return nil, ErrUnknown
	case mutable:
		m, err := OpenMutable(r, size)
		if err != nil {
			return nil, err
		}
		head := NewMutable(m.node, m.enabler)[:mutableHeader]
		if m.version == 1 {
			copy(head, magicV1)
		}
		binary.BigEndian.PutUint64(head[84:], m.length)
		binary.BigEndian.PutUint64(head[92:], m.extra)
		copy(out, head)
		body, err := m.Read(0, 1<<62)
		if err != nil {
			return nil, err
		}
		copy(out[mutableData:], body)
		leases, err := m.Leases()
		if err != nil {
			return nil, err
		}
		for _, l := range leases {
			copy(out[m.slot(l.slot):], packMutableLease(1, l.Lease)) // 1: the secrets as stored
		}
	default:
		im, err := OpenImmutable(r, size)
		if err != nil {
			return nil, err
		}
		binary.BigEndian.PutUint32(out, uint32(im.version))
		body, err := im.Read(0, 1<<62)
		if err != nil {
			return nil, err
		}
		copy(out[immutableHeader:], body)
		leases, err := im.Leases()
		if err != nil {
			return nil, err
		}
		for _, l := range leases {
			copy(out[im.slot(uint32(l.slot)):], packImmutableLease(1, l.Lease))
		}
	}
	return out, nil
}

func TestSecretsAreHashed(t *testing.T) {
	l := numbered(1, 1, 1, NodeID{})
	m := NewMutable(NodeID{}, Secret{})
	f := &buffer{m}
	open, err := OpenMutable(f, int64(len(m)))
	if err != nil {
		t.Fatal(err)
	}
	patches, _, err := open.AddOrRenew(l)
	if err != nil {
		t.Fatal(err)
	}
	Apply(f, patches)
	if bytes.Contains(f.data, l.Renew[:]) || bytes.Contains(f.data, l.Cancel[:]) {
		t.Error("a lease secret stands in a version 2 file")
	}
	leases, err := open.Leases()
	if err != nil || len(leases) != 1 {
		t.Fatal(leases, err)
	}
	if !leases[0].RenewedBy(l.Renew) || !leases[0].CancelledBy(l.Cancel) || leases[0].RenewedBy(l.Cancel) {
		t.Error("the stored lease does not know its secrets")
	}
	if s := fmt.Sprintf("%v %+v %x %s %#v", l.Renew, l, l.Renew, l.Renew, leases[0]); strings.Contains(s, "0101") || strings.Contains(s, "1, 1, 1") {
		t.Errorf("a secret prints as %s", s)
	}
	if _, _, err := open.AddOrRenew(Lease{}); err == nil {
		t.Error("a lease of owner 0 in a mutable slot")
	}
}

// TestTornLease: a crash between the two writes that add a lease shows nothing.
func TestTornLease(t *testing.T) {
	f := &buffer{}
	layout, err := NewImmutable(10, numbered(1, 0, 1, NodeID{}))
	if err != nil {
		t.Fatal(err)
	}
	Apply(f, layout)
	Apply(f, []Patch{{ImmutableDataOffset, []byte("0123456789")}})
	im, err := OpenImmutable(f, int64(len(f.data)))
	if err != nil {
		t.Fatal(err)
	}
	patches, _, err := im.AddOrRenew(numbered(2, 0, 2, NodeID{}))
	if err != nil {
		t.Fatal(err)
	}
	whole := slices.Clone(f.data)
	for cut := 1; cut <= immutableLease; cut++ {
		torn := &buffer{slices.Clone(whole)}
		Apply(torn, []Patch{{patches[0].Offset, patches[0].Data[:cut]}})
		im, err := OpenImmutable(torn, int64(len(torn.data)))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := im.Read(0, 1000); err != nil || string(got) != "0123456789" {
			t.Fatalf("after %d bytes of a lease the data is %q, %v", cut, got, err)
		}
		again, _, err := im.AddOrRenew(numbered(2, 0, 2, NodeID{}))
		if err != nil {
			t.Fatal(err)
		}
		Apply(torn, again)
		im, err = OpenImmutable(torn, int64(len(torn.data)))
		if err != nil {
			t.Fatal(err)
		}
		if leases, err := im.Leases(); err != nil || len(leases) != 2 {
			t.Fatalf("leases %v, %v", leases, err)
		}
	}
}

func TestTooLarge(t *testing.T) {
	if _, err := NewImmutable(1<<63-1, Lease{}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("an immutable share of 2^63 bytes: %v", err)
	}
	m, err := OpenMutable(bytes.NewReader(NewMutable(NodeID{}, Secret{})), MutableOverhead)
	if err != nil {
		t.Fatal(err)
	}
	for _, off := range []uint64{MaxMutable, 1 << 63, 1<<64 - 1} {
		if _, err := m.Write(off, []byte("x")); !errors.Is(err, ErrTooLarge) {
			t.Errorf("a write at %d: %v", off, err)
		}
	}
	if _, err := m.SizeAfter(1 << 63); !errors.Is(err, ErrTooLarge) {
		t.Errorf("size after 2^63: %v", err)
	}
}

// FuzzContainer: no file makes us panic or read past its data, and what parses
// formats to itself.
func FuzzContainer(f *testing.F) {
	for i, c := range load(f).Cases {
		if i%3 == 0 {
			f.Add(unhex(f, c.Steps[len(c.Steps)-1].File), uint64(3), uint64(60), []byte("data"))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, offset, size uint64, write []byte) {
		var again []byte
		var err error
		// A lease takes more in memory than in the file; and a slice grows.
		bounds.Memory(t, len(data), 16, func() { again, err = reformat(data) })
		if err != nil {
			if !errors.Is(err, ErrUnknown) && !errors.Is(err, ErrDamaged) {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(again, data) {
			t.Fatalf("parsed and formatted again:\n got %x\nwant %x", again, data)
		}
		mutable, _ := IsMutable(data[:min(32, len(data))])
		if !mutable {
			im, err := OpenImmutable(bytes.NewReader(data), int64(len(data)))
			if err != nil {
				t.Fatal(err)
			}
			got, err := im.Read(offset, size)
			if err != nil || uint64(len(got)) > size || uint64(len(got)) > im.Length() {
				t.Fatalf("read %d bytes, %v", len(got), err)
			}
			return
		}
		file := &buffer{slices.Clone(data)}
		m, err := OpenMutable(file, int64(len(data)))
		if err != nil {
			t.Fatal(err)
		}
		before, err := m.Read(0, 1<<62)
		if err != nil {
			t.Fatal(err)
		}
		offset %= 1 << 16
		patches, err := m.Write(offset, write)
		if err != nil {
			t.Fatal(err)
		}
		if err := Apply(file, patches); err != nil {
			t.Fatal(err)
		}
		m, err = OpenMutable(file, int64(len(file.data)))
		if err != nil {
			t.Fatalf("after a write: %v", err)
		}
		want := before
		if end := int(offset) + len(write); end > len(want) {
			want = append(want, make([]byte, end-len(want))...)
		}
		copy(want[offset:], write)
		got, err := m.Read(0, 1<<62)
		if err != nil && err != io.EOF || !bytes.Equal(got, want) {
			t.Fatalf("after a write the data is\n got %x\nwant %x", got, want)
		}
	})
}
