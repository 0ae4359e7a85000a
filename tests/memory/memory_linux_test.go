package memory

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	"warren/node/caps"
	"warren/node/grid"
	"warren/node/immutable"
	"warren/node/storage"
)

// sinkhole takes every share and keeps nothing.
type sinkhole struct {
	storage.Client
	mu   sync.Mutex // guards left
	left map[caps.StorageIndex]uint64
}

func (s *sinkhole) CreateImmutable(_ context.Context, si caps.StorageIndex, _ storage.Secret, _ storage.LeaseSecrets, shares []int, size uint64) (already, allocated []int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left[si] = size
	return nil, shares, nil
}

func (s *sinkhole) WriteImmutable(_ context.Context, si caps.StorageIndex, _ int, _ storage.Secret, _ uint64, data []byte) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left[si] -= uint64(len(data))
	return s.left[si] == 0, nil
}

type sinkholes []grid.Server

func (s sinkholes) Permuted(caps.StorageIndex) []grid.Server { return s }

// TestMemoryOfUploads: the whole process, test and all, stays within 64 MiB and 16 MiB
// for each upload, however large the file. Each case is a process of its own.
func TestMemoryOfUploads(t *testing.T) {
	if what := os.Getenv("WARREN_TEST_UPLOAD"); what != "" {
		uploadForMemory(t, what)
		return
	}
	peak := func(size, uploads int, seekable bool) int {
		cmd := exec.Command(os.Args[0], "-test.run=^TestMemoryOfUploads$", "-test.v")
		cmd.Env = append(os.Environ(), "GOMEMLIMIT=", "GOGC=", fmt.Sprintf("WARREN_TEST_UPLOAD=%d %d %t", size, uploads, seekable))
		out, err := cmd.CombinedOutput()
		_, after, found := strings.Cut(string(out), "peak: ")
		kb, _, _ := strings.Cut(after, " kB")
		n, err2 := strconv.Atoi(kb)
		if err != nil || !found || err2 != nil {
			t.Fatalf("%v, %v\n%s", err, err2, out)
		}
		t.Logf("%d uploads of %d MiB: %d KiB", uploads, size, n)
		return n
	}
	limit := func(uploads int) int { return (64 + 16*uploads) << 10 }
	for _, seekable := range []bool{true, false} {
		small, large := peak(64, 1, seekable), peak(256, 1, seekable)
		if max(small, large) > limit(1) || large > small+small/4 {
			t.Errorf("%d KiB for 64 MiB, %d KiB for 256 MiB", small, large)
		}
	}
	if n := peak(32, 6, false); n > limit(6) {
		t.Errorf("%d KiB for six uploads", n)
	}
}

func uploadForMemory(t *testing.T, what string) {
	var size, uploads int
	var seekable bool
	if _, err := fmt.Sscan(what, &size, &uploads, &seekable); err != nil {
		t.Fatal(err)
	}
	var servers sinkholes
	for i := range 10 {
		id := strconv.Itoa(i)
		servers = append(servers, grid.Server{ID: id, LeaseSeed: []byte(id), Client: &sinkhole{left: map[caps.StorageIndex]uint64{}}})
	}
	c, err := immutable.New(immutable.Config{
		Servers: servers, Needed: 3, Happy: 10, Total: 10, TempDir: t.TempDir(),
		Convergence: immutable.Secret("convergence"), LeaseSecret: immutable.Secret("lease"),
	})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range uploads {
		all.Go(func() {
			body := io.LimitReader(rand.NewChaCha8([32]byte{byte(i)}), int64(size)<<20)
			if seekable {
				f, err := os.CreateTemp(t.TempDir(), "")
				if err != nil {
					t.Error(err)
					return
				}
				defer f.Close()
				if _, err := io.CopyBuffer(struct{ io.Writer }{f}, body, make([]byte, 64<<10)); err != nil {
					t.Error(err)
					return
				}
				if _, err := f.Seek(0, io.SeekStart); err != nil {
					t.Error(err)
					return
				}
				body = f
			}
			if _, err := c.Upload(t.Context(), body, -1); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := bytes.Cut(status, []byte("VmHWM:"))
	line, _, _ := bytes.Cut(after, []byte("\n"))
	fmt.Printf("peak: %s\n", bytes.TrimSpace(line))
}
