package sha256x2

import (
	"crypto/sha256"
	"os"
	"strings"
	"syscall"
	"testing"
)

// fenced returns n bytes between two pages that must not be touched, which the
// bytes fill to the last.
func fenced(t *testing.T, n int) []byte {
	page := os.Getpagesize()
	whole := (n + page - 1) / page * page
	m, err := syscall.Mmap(-1, 0, whole+2*page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Munmap(m); err != nil {
			t.Error(err)
		}
	})
	for _, fence := range [][]byte{m[:page], m[page+whole:]} {
		if err := syscall.Mprotect(fence, syscall.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	copy(m[page:page+whole], noise(20, whole))
	return m[page : page+whole]
}

func TestReadsNothingOutside(t *testing.T) {
	// One byte too far, before or behind, ends the test program with a fault.
	a, b := fenced(t, 16<<10), fenced(t, 16<<10)
	for n := 0; n <= len(a); n += 1 + n/300*37 {
		for m := n; m <= min(n+130, len(b)); m += 65 {
			for _, ends := range [][2][]byte{{a[:n], b[:m]}, {a[len(a)-n:], b[len(b)-m:]}, {b[len(b)-m:], a[:n]}} {
				var out [2][Size]byte
				Sum(out[:], nil, ends[:])
				if out[0] != sha256.Sum256(ends[0]) || out[1] != sha256.Sum256(ends[1]) {
					t.Fatalf("lengths %d and %d: wrong", n, m)
				}
				p := New()
				p.Write(ends[0], ends[1])
				if p.Sum(0) != out[0] || p.Sum(1) != out[1] {
					t.Fatalf("lengths %d and %d: the pair is wrong", n, m)
				}
			}
		}
	}
}

func TestUsesWhatTheCPUHas(t *testing.T) {
	// The other tests leave the lanes out where they are not supported. That must
	// not come from a mistake in finding out.
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		t.Fatal(err)
	}
	has := map[string]bool{}
	for line := range strings.Lines(string(info)) {
		if strings.HasPrefix(line, "flags") {
			for _, f := range strings.Fields(line) {
				has[f] = true
			}
			break
		}
	}
	if want := built && has["sha_ni"] && has["ssse3"] && has["sse4_1"]; supported != want {
		t.Errorf("supported is %v; by /proc/cpuinfo it should be %v", supported, want)
	}
}
