package interop

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// hugeSize is the file of TestHugeFiles, unless WARREN_BYTES says another size:
// WARREN_BYTES=4617089843 (4.3 GiB) and WARREN_BYTES=13958643712 (13 GiB) are what the
// test is for. They need three times the size below TMPDIR, some two minutes a GiB, half
// of them Tahoe's, and -timeout=2h.
const hugeSize = 40<<20 + 123

// stream is bytes that can be made from any place on, and never are in memory or on
// disk as a whole.
type stream struct{ size int64 }

func (s stream) from(offset, length int64) io.Reader {
	block, err := aes.NewCipher([]byte("the same each day"[:16]))
	if err != nil {
		panic(err) // the key has the right length
	}
	var counter [aes.BlockSize]byte
	binary.BigEndian.PutUint64(counter[8:], uint64(offset/aes.BlockSize))
	r := &cipher.StreamReader{S: cipher.NewCTR(block, counter[:]), R: zeros{}}
	io.CopyN(io.Discard, r, offset%aes.BlockSize)
	return io.LimitReader(r, min(length, s.size-offset))
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// TestHugeFiles has our node store a file on Tahoe's server, and Tahoe's node one on
// ours, as one share, which beyond 4 GiB has layout version 2; both read ranges of it,
// ours all of it, and the other's put gives the same capability. Our node's memory does
// not grow with the file.
func TestHugeFiles(t *testing.T) {
	NeedPeers(t)
	t.Parallel()
	s := stream{hugeSize}
	if text := os.Getenv("WARREN_BYTES"); text != "" {
		var err error
		if s.size, err = strconv.ParseInt(text, 10, 64); err != nil || s.size < 1<<20 {
			t.Fatalf("WARREN_BYTES=%s: %v", text, err)
		}
	}
	limit := 2*time.Minute + time.Duration(s.size>>30)*4*time.Minute
	for _, c := range []struct {
		name       string
		start      func(t testing.TB, introducerFURL, nickname string, extra ...string) (*Process, string)
		oursStores bool
	}{{"ours on Tahoe's server", StartStorage, true}, {"Tahoe's on our server", StartOurStorage, false}} {
		t.Run(c.name, func(t *testing.T) {
			in := StartOurIntroducer(t)
			_, dir := c.start(t, in.FURL, "storage")
			ours, theirs := startClients(t, in.FURL, 1, 1, 1, 1)
			var cap string
			timed := func(what string, do func()) {
				began := time.Now()
				do()
				took := time.Since(began)
				t.Logf("%s: %v, %.1f MB/s", what, took.Round(time.Millisecond), float64(s.size)/1e6/took.Seconds())
			}
			put := func(mine bool, existing int) {
				t.Helper()
				got := ""
				if mine {
					timed("our put", func() { got = putStream(t, ours, s, limit, existing) })
				} else {
					timed("Tahoe's put", func() { got = putTahoe(t, theirs, s, limit) })
				}
				if cap == "" {
					cap = got
				} else if got != cap {
					t.Error("the capabilities differ")
				}
			}
			put(c.oursStores, 0)
			wantLayout(t, dir, s.size)
			at := "/uri/" + url.PathEscape(cap)
			const length = 5000
			offsets := []int64{0, s.size/2 - 1, s.size - length, s.size - 7}
			for _, edge := range []int64{1 << 20, 1 << 32, 3 << 32} {
				if edge+length < s.size {
					offsets = append(offsets, edge-length/2)
				}
			}
			for who, client := range map[string]*WebClient{"ours": ours, "Tahoe's": theirs} {
				began := time.Now()
				for _, offset := range offsets {
					want, err := io.ReadAll(s.from(offset, length))
					if err != nil {
						t.Fatal(err)
					}
					got, code, err := client.DoRange(at, fmt.Sprintf("bytes=%d-%d", offset, offset+length-1))
					if err != nil || code != http.StatusPartialContent || !bytes.Equal(got, want) {
						t.Errorf("%s, at %d: %d bytes, status %d, %v", who, offset, len(got), code, err)
					}
				}
				t.Logf("%d ranges, %s: %v", len(offsets), who, time.Since(began).Round(time.Millisecond))
			}
			timed("our get", func() { getStream(t, ours, cap, s) })
			put(!c.oursStores, 1)
			peak := ours.Process.PeakMemory()
			t.Logf("our node had %d MiB at most", peak>>20)
			if peak > (64+16)<<20 {
				t.Errorf("our node had %d MiB", peak>>20)
			}
		})
	}
}

// putStream stores s with our command. existing is how many shares it is to find.
func putStream(t *testing.T, c *WebClient, s stream, limit time.Duration, existing int) string {
	t.Helper()
	out, err := TryRunInput(t, limit, s.from(0, s.size), Warren(t), "-d", c.Dir, "put", "--json", "-")
	if err != nil {
		t.Fatal(err)
	}
	var told struct {
		Cap      string
		Size     int64
		Pushed   int `json:"shares_pushed"`
		Existing int `json:"shares_existing"`
	}
	if err := json.Unmarshal([]byte(out), &told); err != nil {
		t.Fatal(err)
	}
	if told.Size != s.size || told.Existing != existing || told.Pushed != 1-existing {
		t.Errorf("%d bytes, %d shares pushed, %d existing", told.Size, told.Pushed, told.Existing)
	}
	return told.Cap
}

// putTahoe stores s through a Tahoe node.
func putTahoe(t *testing.T, c *WebClient, s stream, limit time.Duration) string {
	t.Helper()
	req, err := http.NewRequest("PUT", c.URL+"/uri", s.from(0, s.size))
	if err != nil {
		t.Fatal(err)
	}
	req.ContentLength = s.size
	client := http.Client{Timeout: limit}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode/100 != 2 {
		t.Fatalf("status %d, %v: %s", resp.StatusCode, err, b)
	}
	return strings.TrimSpace(string(b))
}

// getStream fetches all of it with our command.
func getStream(t *testing.T, c *WebClient, cap string, s stream) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), Warren(t), "-d", c.Dir, "get", cap, "-")
	same := &comparer{want: s.from(0, s.size)}
	var stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = same, &stderr
	if err := cmd.Run(); err != nil || same.seen != s.size {
		t.Errorf("%d bytes came as they should, of %d: %v\n%s", same.seen, s.size, err, stderr.Bytes())
	}
}

// comparer refuses bytes that are not those of want.
type comparer struct {
	want io.Reader
	seen int64
	buf  []byte
}

func (c *comparer) Write(p []byte) (int, error) {
	if len(c.buf) < len(p) {
		c.buf = make([]byte, len(p))
	}
	n, err := io.ReadFull(c.want, c.buf[:len(p)])
	if err != nil || !bytes.Equal(c.buf[:n], p) {
		return 0, fmt.Errorf("other bytes after %d", c.seen)
	}
	c.seen += int64(n)
	return n, nil
}

// wantLayout looks at the only share of a storage node.
func wantLayout(t *testing.T, dir string, size int64) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "storage", "shares", "??", "*", "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("the shares %v, %v", files, err)
	}
	f, err := os.Open(files[0])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	var version [4]byte
	if _, err := f.ReadAt(version[:], 12); err != nil { // behind the container's header
		t.Fatal(err)
	}
	want := uint32(1)
	if size > 1<<32 {
		want = 2
	}
	got := binary.BigEndian.Uint32(version[:])
	t.Logf("a share of %d bytes, layout %d", info.Size(), got)
	if got != want || info.Size() < size {
		t.Errorf("layout %d, want %d", got, want)
	}
}
