package sha256x2

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
)

// ways runs a test of the lanes, if this CPU has them, and of what replaces them.
func ways(t *testing.T, test func(t *testing.T, fast bool)) {
	t.Run("plain", func(t *testing.T) { test(t, false) })
	if supported { // TestUsesWhatTheCPUHas sees to it that this is no accident
		t.Run("lanes", func(t *testing.T) { test(t, true) })
	}
}

func noise(seed uint64, n int) []byte {
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	b := make([]byte, n)
	rand.NewChaCha8(key).Read(b)
	return b
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func TestKnownDigests(t *testing.T) {
	// FIPS 180-2, appendix B, and the empty message.
	for text, want := range map[string]string{
		"":    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		"abc": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
		"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq": "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
		string(bytes.Repeat([]byte("a"), 1000000)):                 "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
	} {
		ways(t, func(t *testing.T, fast bool) {
			var out [3][Size]byte
			sum(fast, out[:], []byte(text[:len(text)/3]), [][]byte{[]byte(text[len(text)/3:]), noise(1, 99), []byte(text[len(text)/3:])})
			for _, i := range []int{0, 2} {
				if got := hex.EncodeToString(out[i][:]); got != want {
					t.Errorf("%.40q: %s, want %s", text, got, want)
				}
			}
		})
	}
}

func TestEveryShortLength(t *testing.T) {
	// Both lanes, each length from 0 to 300 beside each other, each once as the
	// message alone and once behind a prefix that moves it against the blocks.
	const most = 300
	data := noise(2, 2*most+64)
	var want [2][most + 1][Size]byte
	prefixes := [2][]byte{nil, data[most : most+33]}
	for w, prefix := range prefixes {
		for n := range most + 1 {
			want[w][n] = sha256.Sum256(join(prefix, data[:n]))
		}
	}
	ways(t, func(t *testing.T, fast bool) {
		seen := 0
		var out [2][Size]byte
		for w, prefix := range prefixes {
			for n := range most + 1 {
				for m := range most + 1 {
					sum(fast, out[:], prefix, [][]byte{data[:n], data[:m]})
					if out[0] != want[w][n] || out[1] != want[w][m] {
						t.Fatalf("lengths %d and %d behind %d: wrong", n, m, len(prefix))
					}
					seen++
				}
			}
		}
		if seen != 2*301*301 {
			t.Fatalf("%d cases", seen)
		}
	})
}

func TestEveryAlignment(t *testing.T) {
	data := noise(3, 64+64+5000)
	ways(t, func(t *testing.T, fast bool) {
		for i := range 64 {
			for j := range 64 {
				a, b := data[i:i+700+j], data[j:j+700]
				var out [2][Size]byte
				sum(fast, out[:], data[:j], [][]byte{a, b})
				if out[0] != sha256.Sum256(join(data[:j], a)) || out[1] != sha256.Sum256(join(data[:j], b)) {
					t.Fatalf("at %d and %d: wrong", i, j)
				}
			}
		}
	})
}

func TestManyMessages(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	data := noise(4, 4<<20)
	piece := func(most int) []byte {
		n := r.IntN(most + 1)
		at := r.IntN(len(data) - n + 1)
		return data[at : at+n]
	}
	ways(t, func(t *testing.T, fast bool) {
		for _, most := range []int{64, 1000, 70000, 3 << 20} {
			for count := range 10 {
				prefix := piece(200)
				var messages [][]byte
				for range count {
					messages = append(messages, piece(most))
				}
				if count == 9 { // as a segment's blocks are
					for i := range messages {
						messages[i] = data[i*most/16:][:most/16*3]
					}
				}
				out := make([][Size]byte, count)
				sum(fast, out, prefix, messages)
				for i, m := range messages {
					if out[i] != sha256.Sum256(join(prefix, m)) {
						t.Fatalf("message %d of %d, %d bytes: wrong", i, count, len(m))
					}
				}
			}
		}
	})
}

// exercise feeds a Pair as script says and compares it with crypto/sha256 at every
// step.
func exercise(t *testing.T, fast bool, data, script []byte) {
	t.Helper()
	p := newPair(fast)
	want := [2]*bytes.Buffer{{}, {}}
	for len(script) >= 4 {
		op, x, y, z := script[0], int(script[1]), int(script[2]), int(script[3])
		script = script[4:]
		a := data[min(x, len(data)):]
		a = a[:min(len(a), y*(1+int(op>>4)*z))]
		b := data[min(z, len(data)):]
		b = b[:min(len(b), x*(1+int(op>>4)*y))]
		switch op % 8 {
		case 0:
			i := x % 2
			p.Reset(i)
			want[i].Reset()
		case 1:
			b = a
		case 2:
			b = nil
		case 3:
			a = nil
		}
		p.Write(a, b)
		want[0].Write(a)
		want[1].Write(b)
		for _, i := range []int{y % 2, 1 - y%2} {
			if got := p.Sum(i); got != sha256.Sum256(want[i].Bytes()) {
				t.Fatalf("digest %d of %d bytes: wrong", i, want[i].Len())
			}
		}
	}
}

func TestPair(t *testing.T) {
	data := noise(5, 40<<10)
	ways(t, func(t *testing.T, fast bool) {
		for i := range 60 {
			exercise(t, fast, data, noise(uint64(100+i), 4*12))
		}
	})
}

func TestPairOfAFileAndItsSegments(t *testing.T) {
	// As an upload uses it: one digest goes on, the other begins anew, behind
	// prefixes of different lengths.
	for _, segment := range []int{1, 63, 64, 1000, 1048578, 1 << 20} {
		data := noise(6, min(5*segment+segment/3, 4<<20))
		ways(t, func(t *testing.T, fast bool) {
			p := newPair(fast)
			p.Write([]byte("26 bytes come before a file"), nil)
			for at := 0; at < len(data); at += segment {
				part := data[at:min(at+segment, len(data))]
				p.Reset(1)
				p.Write(nil, []byte("and 34 bytes before each segment of it"))
				p.Write(part, part)
				if p.Sum(1) != sha256.Sum256(join([]byte("and 34 bytes before each segment of it"), part)) {
					t.Fatalf("segment at %d: wrong", at)
				}
			}
			if p.Sum(0) != sha256.Sum256(join([]byte("26 bytes come before a file"), data)) {
				t.Fatal("file: wrong")
			}
		})
	}
}

func TestLongerThan32BitsOfLength(t *testing.T) {
	// The length that is hashed counts bits: 2^32 of them are half a GiB.
	part := noise(7, 1<<20)
	want := sha256.New()
	p := New()
	for range 512 {
		want.Write(part)
		p.Write(part, part)
	}
	want.Write(part[:3])
	p.Write(part[:3], nil)
	if got := p.Sum(0); !bytes.Equal(got[:], want.Sum(nil)) {
		t.Error("2^32+24 bits: wrong")
	}
}

func TestInputsStayAsTheyAre(t *testing.T) {
	data := noise(8, 3000)
	before := bytes.Clone(data)
	ways(t, func(t *testing.T, fast bool) {
		var out [3][Size]byte
		sum(fast, out[:], data[:50], [][]byte{data[:1000:1000], data[1000:2010:2010], data[2010:]})
		p := newPair(fast)
		p.Write(data[:777:777], data[777:])
		p.Sum(0)
		if !bytes.Equal(data, before) {
			t.Error("hashing has changed what was hashed")
		}
	})
}

func TestAtOnce(t *testing.T) {
	data := noise(9, 200<<10)
	want := sha256.Sum256(data)
	ways(t, func(t *testing.T, fast bool) {
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				out := make([][Size]byte, 5)
				sum(fast, out, data[:100], [][]byte{data[100:], data[100:], data[100:], data[100:], data[100:]})
				p := newPair(fast)
				p.Write(data, data)
				for _, d := range append(out, p.Sum(0), p.Sum(1)) {
					if d != want {
						t.Error("wrong")
					}
				}
			})
		}
		wg.Wait()
	})
}

func TestMisusePanics(t *testing.T) {
	ways(t, func(t *testing.T, fast bool) {
		for name, misuse := range map[string]func(){
			"too little room": func() { sum(fast, make([][Size]byte, 1), nil, make([][]byte, 2)) },
			"too much room":   func() { sum(fast, make([][Size]byte, 3), nil, make([][]byte, 2)) },
			"digest 2":        func() { newPair(fast).Sum(2) },
			"digest -1":       func() { newPair(fast).Reset(-len(t.Name())) },
		} {
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("%s: no panic", name)
					}
				}()
				misuse()
			}()
		}
		sum(fast, nil, []byte("x"), nil) // nothing to do is no misuse
		sum(fast, make([][Size]byte, 2), nil, make([][]byte, 2))
	})
}

func TestAllocatesNothing(t *testing.T) {
	if !supported {
		t.Log("crypto/sha256 is used, which allocates its state")
		return
	}
	data := noise(10, 10000)
	messages := [][]byte{data[:4000], data[4000:8000], data[8000:]}
	out := make([][Size]byte, len(messages))
	p := New()
	if n := testing.AllocsPerRun(10, func() {
		Sum(out, data[:33], messages)
		p.Write(data, data)
		p.Sum(1)
		p.Reset(1)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzSum(f *testing.F) {
	f.Add([]byte(""), []byte(""), []byte(""), uint8(0))
	f.Add([]byte("29:a tag,"), bytes.Repeat([]byte("x"), 119), bytes.Repeat([]byte("y"), 120), uint8(3))
	f.Add(bytes.Repeat([]byte("p"), 64), bytes.Repeat([]byte("x"), 128), []byte("y"), uint8(63))
	f.Fuzz(func(t *testing.T, prefix, x, y []byte, shift uint8) {
		a := join(make([]byte, shift), x)[shift:] // at every alignment
		messages := [][]byte{a, y, join(y, x)}
		for _, fast := range []bool{false, supported} {
			out := make([][Size]byte, len(messages))
			sum(fast, out, prefix, messages)
			for i, m := range messages {
				if out[i] != sha256.Sum256(join(prefix, m)) {
					t.Fatalf("message %d of %d bytes behind %d: wrong", i, len(m), len(prefix))
				}
			}
		}
	})
}

func FuzzPair(f *testing.F) {
	data := noise(11, 16<<10)
	f.Add([]byte{1, 0, 64, 0, 5, 1, 64, 2, 0, 1, 2, 3})
	f.Add(noise(12, 40))
	f.Fuzz(func(t *testing.T, script []byte) {
		script = script[:min(len(script), 64)]
		exercise(t, false, data, script)
		exercise(t, supported, data, script)
	})
}

// The two figures to compare are those of one size: BenchmarkOne is crypto/sha256.
func BenchmarkOne(b *testing.B) { bench(b, false) }
func BenchmarkTwo(b *testing.B) { bench(b, true) }

func bench(b *testing.B, fast bool) {
	if fast && !supported {
		b.Fatal("this CPU has no lanes: nothing to compare")
	}
	for _, size := range []int{32, 1 << 10, 3414, 349526} { // a block of a 10 KiB file, one of a 1 MiB segment
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			messages := make([][]byte, 10)
			for i := range messages {
				messages[i] = noise(13, size)
			}
			out := make([][Size]byte, len(messages))
			prefix := noise(14, 33)
			b.SetBytes(int64(size * len(messages)))
			for b.Loop() {
				sum(fast, out, prefix, messages)
			}
		})
	}
	b.Run("pair", func(b *testing.B) {
		data := noise(15, 1<<20)
		p := newPair(fast)
		b.SetBytes(2 << 20)
		for b.Loop() {
			if fast {
				p.Write(data, data)
			} else { // on one core, which Write would not stay on
				p.plain[0].Write(data)
				p.plain[1].Write(data)
			}
		}
	})
}
