package immutable

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
)

// Many readers of one file at once, over a client whose buffers go round, with a server
// that sends rubbish and one that fails now and then: each gets the right bytes.
func TestBuffersGoRound(t *testing.T) {
	g := newGrid(t, 6)
	c := newClient(t, g, 2, 4, 6, func(cfg *Config) { cfg.SegmentSize = 200_000 })
	data := pattern(6 << 20)
	cp := mustUpload(t, c, data).Cap
	g.nodes[1].lie = func(_ int, offset uint64, b []byte) []byte {
		b = bytes.Clone(b)
		if offset > 1<<20 && len(b) > 0 {
			b[len(b)/2] ^= 1
		}
		return b
	}
	f, err := c.Open(t.Context(), cp)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all sync.WaitGroup
	for i := range 6 {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 0))
			for range 4 {
				at := r.IntN(len(data))
				n := r.IntN(len(data) - at)
				w := &checking{want: data[at : at+n]}
				if r.IntN(3) == 0 {
					w.stop = r.IntN(n + 1)
				}
				err := f.WriteRange(t.Context(), w, int64(at), int64(n))
				if w.wrong || err == nil && len(w.want) > 0 || err != nil && !errors.Is(err, errEnough) {
					t.Errorf("%d bytes from %d: wrong %t, %d missing, %v", n, at, w.wrong, len(w.want), err)
				}
			}
		})
	}
	all.Wait()
}

var errEnough = errors.New("enough")

// checking compares what is written with what should be, and may have enough of it.
type checking struct {
	want  []byte
	wrong bool
	stop  int // after so many bytes, if not zero
}

func (c *checking) Write(p []byte) (int, error) {
	if len(p) > len(c.want) || !bytes.Equal(p, c.want[:len(p)]) {
		c.wrong = true
		return 0, errEnough
	}
	c.want = c.want[len(p):]
	if c.stop > 0 {
		if c.stop -= len(p); c.stop <= 0 {
			return 0, errEnough
		}
	}
	return len(p), nil
}
