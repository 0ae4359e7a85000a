package immutable

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"warren/tests/bounds"
)

func testUEB(t testing.TB) UEB {
	t.Helper()
	s, err := newShape(3, 10, 300000, 131073)
	if err != nil {
		t.Fatal(err)
	}
	u := newUEB(s)
	u.CrypttextHash[0], u.CrypttextRoot[1], u.ShareRoot[2] = 1, ':', ','
	return u
}

func TestUEBComesBack(t *testing.T) {
	u := testUEB(t)
	got, err := ParseUEB(u.Format())
	if err != nil || got != u {
		t.Fatalf("%+v, %v", got, err)
	}
	if want := "codec_name:3:crs,codec_params:11:131073-3-10,crypttext_hash:32:"; !strings.HasPrefix(string(u.Format()), want) {
		t.Fatalf("%q", u.Format())
	}
	old := append(u.Format(), "plaintext_hash:2:xx,"...)
	if got, err := ParseUEB(old); err != nil || got != u {
		t.Fatalf("unknown keys: %+v, %v", got, err)
	}
	if _, err := u.shape(3, 10, 300000); err != nil {
		t.Fatal(err)
	}
}

func TestBadUEBs(t *testing.T) {
	good := string(testUEB(t).Format())
	swap := func(old, new string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("%q is not in the UEB", old)
		}
		return strings.Replace(good, old, new, 1)
	}
	for name, bad := range map[string]string{
		"empty":              "",
		"too long":           good + strings.Repeat("x:1:y,", 400),
		"no colon":           good + "x",
		"empty key":          good + ":1:y,",
		"cut":                good[:len(good)-1],
		"cut in a value":     good[:len(good)-3],
		"no comma":           good[:len(good)-1] + ";",
		"twice":              good + "size:6:300000,",
		"huge length":        swap("size:6:", "size:99999:"),
		"negative length":    swap("size:6:", "size:-6:"),
		"length with zero":   swap("size:6:", "size:06:"),
		"length with plus":   swap("size:6:", "size:+6:"),
		"length overflow":    swap("size:6:", "size:18446744073709551616:"),
		"size not a number":  swap("size:6:300000,", "size:6:30000x,"),
		"size negative":      swap("size:6:300000,", "size:2:-1,"),
		"size zero-padded":   swap("size:6:300000,", "size:7:0300000,"),
		"size beyond int64":  swap("size:6:300000,", "size:19:9223372036854775808,"),
		"short hash":         swap("share_root_hash:32:", "share_root_hash:31:"),
		"k of 257":           swap("needed_shares:1:3,", "needed_shares:3:257,"),
		"no share root":      swap("share_root_hash", "share_root_hush"),
		"no codec":           swap("codec_name", "codec_game"),
		"no crypttext root":  swap("crypttext_root_hash", "crypttext_root_bash"),
		"no segment size":    swap("segment_size", "segment_sise"),
		"no number of segms": swap("num_segments", "num_segmints"),
	} {
		if _, err := ParseUEB([]byte(bad)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A UEB that hashes right may still come from a hostile uploader.
func TestUEBsThatDoNotFit(t *testing.T) {
	for name, change := range map[string]func(*UEB){
		"codec":              func(u *UEB) { u.CodecName = "xor" },
		"parameters":         func(u *UEB) { u.CodecParams = "1-1-1" },
		"tail parameters":    func(u *UEB) { u.TailCodecParams = "1-1-1" },
		"size":               func(u *UEB) { u.Size++ },
		"segment size zero":  func(u *UEB) { u.SegmentSize = 0 },
		"segment size not k": func(u *UEB) { u.SegmentSize++ },
		"segment size huge":  func(u *UEB) { u.SegmentSize = 3 << 40 },
		"segment count":      func(u *UEB) { u.NumSegments++ },
		"k":                  func(u *UEB) { u.NeededShares = 2 },
		"n":                  func(u *UEB) { u.TotalShares = 11 },
	} {
		u := testUEB(t)
		change(&u)
		if _, err := u.shape(3, 10, 300000); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, c := range map[string]struct {
		k, n          int
		size, segment uint64
	}{
		"k zero": {0, 10, 100, 100}, "n below k": {3, 2, 99, 99}, "n beyond": {3, 257, 99, 99},
		"size zero": {3, 10, 0, 99}, "size beyond": {3, 10, math.MaxUint64, 99},
		"too many segments": {3, 10, 1 << 62, 3},
	} {
		if _, err := newShape(c.k, c.n, c.size, c.segment); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBadHeaders(t *testing.T) {
	s, err := newShape(3, 10, 300000, 131073)
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range []int{1, 2} {
		l := layoutOf(s, version)
		good := l.header(s)
		got, err := parseHeader(good)
		if err != nil || got != l || got.fits(s) != nil {
			t.Fatalf("version %d: %+v, %v", version, got, err)
		}
		for i := range good {
			if _, err := parseHeader(good[:i]); !errors.Is(err, ErrMalformed) {
				t.Errorf("version %d, cut at %d: %v", version, i, err)
			}
		}
		width := 4
		if version == 2 {
			width = 8
		}
		// Block size, data size and the offset of the unused tree are never read.
		for field, name := range map[int]string{2: "blocks", 4: "crypttext", 5: "block hashes", 6: "chain", 7: "UEB"} {
			for _, value := range []uint64{0, 1, 5, math.MaxUint32, math.MaxUint64} {
				bad := bytes.Clone(good)
				at := 4 + field*width
				if version == 1 {
					binary.BigEndian.PutUint32(bad[at:], uint32(value))
				} else {
					binary.BigEndian.PutUint64(bad[at:], value)
				}
				got, err := parseHeader(bad)
				if err == nil {
					err = got.fits(s)
				}
				if field == 2 && value <= 5 || field == 7 && value == math.MaxUint32 && err == nil {
					continue // more room than needed: the hashes will tell
				}
				if !errors.Is(err, ErrMalformed) {
					t.Errorf("version %d, %s at %d: %v", version, name, value, err)
				}
			}
		}
	}
	for _, version := range []uint32{0, 3, math.MaxUint32} {
		b := binary.BigEndian.AppendUint32(nil, version)
		if _, err := parseHeader(append(b, make([]byte, 100)...)); !errors.Is(err, ErrMalformed) {
			t.Errorf("version %d: %v", version, err)
		}
	}
}

func TestChains(t *testing.T) {
	if _, err := parseChain(make([]byte, 33)); !errors.Is(err, ErrMalformed) {
		t.Error(err)
	}
	twice := make([]byte, 68)
	twice[40] = 1
	if _, err := parseChain(twice); !errors.Is(err, ErrMalformed) {
		t.Error(err)
	}
	if m, err := parseChain(nil); err != nil || len(m) != 0 {
		t.Error(m, err)
	}
	// Recorded from CPython 3.11: list(set(..)) after adding in this order.
	for _, c := range []struct{ in, out []int }{
		{[]int{0}, []int{0}},
		{[]int{16, 8, 4, 1, 15}, []int{1, 4, 8, 15, 16}},
		{[]int{9, 3, 2, 10}, []int{10, 9, 2, 3}},
		{[]int{64, 30, 14, 5, 1, 63}, []int{64, 1, 5, 14, 30, 63}},
	} {
		if got := chainOrder(c.in); !slices.Equal(got, c.out) {
			t.Errorf("%v: %v, want %v", c.in, got, c.out)
		}
	}
}

func FuzzUEB(f *testing.F) {
	f.Add(testUEB(f).Format())
	f.Add([]byte("codec_name:3:crs,size:1:0,"))
	f.Add([]byte("a:99999999999999999999:b,"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var u UEB
		var err error
		bounds.Memory(t, len(b), 64, func() { u, err = ParseUEB(b) })
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		again, err := ParseUEB(u.Format())
		if err != nil || again != u {
			t.Fatalf("%+v became %+v: %v", u, again, err)
		}
		if s, err := u.shape(u.NeededShares, u.TotalShares, u.Size); err == nil {
			v := newUEB(s)
			v.CrypttextHash, v.CrypttextRoot, v.ShareRoot = u.CrypttextHash, u.CrypttextRoot, u.ShareRoot
			if v != u {
				t.Fatalf("%+v is accepted for %+v", u, v)
			}
		}
	})
}

func FuzzHeader(f *testing.F) {
	s, err := newShape(3, 10, 300000, 131073)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(layoutOf(s, 1).header(s))
	f.Add(layoutOf(s, 2).header(s))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := parseHeader(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		// What is read comes back, except for the fields that are never read.
		out := l.header(s)
		width := 4 * l.version
		for i := range out {
			switch field := (i - 4) / width; {
			case i < 4, field == 2, field >= 4:
				if out[i] != b[i] {
					t.Fatalf("byte %d: %x became %x", i, b, out)
				}
			}
		}
		_ = l.fits(s)
	})
}

func FuzzChain(f *testing.F) {
	f.Add(make([]byte, 68))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseChain(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		// Every item is in the chain as it was said, and nothing else is.
		said := map[int]bool{}
		for ; len(b) > 0; b = b[chainItem:] {
			node := int(binary.BigEndian.Uint16(b))
			if h, ok := m[node]; !ok || h != [32]byte(b[2:chainItem]) {
				t.Fatalf("node %d is another", node)
			}
			said[node] = true
		}
		if len(m) > len(said) {
			t.Fatalf("%d nodes, %d were said", len(m), len(said))
		}
	})
}
