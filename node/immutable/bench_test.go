package immutable

import (
	"bytes"
	"fmt"
	"io"
	"testing"
)

// To servers in memory: what encryption, coding, hashing and copying cost. A stream
// cannot be read twice, as the web API's bodies cannot, and is spooled to the disk.
func BenchmarkUpload(b *testing.B) {
	data := pattern(32 << 20)
	for _, p := range [][2]int{{3, 5}, {3, 10}} {
		for _, from := range []struct {
			name string
			body func() io.Reader
		}{
			{"", func() io.Reader { return bytes.NewReader(data) }},
			{"/stream", func() io.Reader { return io.MultiReader(bytes.NewReader(data)) }},
		} {
			b.Run(fmt.Sprintf("%dof%d%s", p[0], p[1], from.name), func(b *testing.B) {
				b.SetBytes(int64(len(data)))
				b.ReportAllocs()
				for b.Loop() {
					b.StopTimer()
					c := newClient(b, newGrid(b, p[1]), p[0], p[1], p[1])
					b.StartTimer()
					if _, err := c.Upload(b.Context(), from.body(), int64(len(data))); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// Without servers: what is left when they cost nothing.
func BenchmarkEncode(b *testing.B) {
	data := pattern(32 << 20)
	for _, p := range [][2]int{{3, 5}, {3, 10}} {
		b.Run(fmt.Sprintf("%dof%d", p[0], p[1]), func(b *testing.B) {
			s, err := newShape(p[0], p[1], uint64(len(data)), segmentSizeFor(p[0], uint64(len(data)), 1<<20))
			if err != nil {
				b.Fatal(err)
			}
			coder, err := newClient(b, newGrid(b, p[1]), p[0], p[1], p[1]).coder(p[0], p[1])
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				_, err := encode(b.Context(), s, coder, textOf(b, s, [16]byte{}, data), 1, collect{s.n, func([][]byte) error { return nil }})
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDownload(b *testing.B) {
	data := pattern(32 << 20)
	for _, p := range [][2]int{{3, 5}, {3, 10}} {
		b.Run(fmt.Sprintf("%dof%d", p[0], p[1]), func(b *testing.B) {
			g := newGrid(b, p[1])
			c := newClient(b, g, p[0], p[1], p[1])
			cp := mustUpload(b, c, data).Cap
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				f, err := c.Open(b.Context(), cp)
				if err != nil {
					b.Fatal(err)
				}
				if err := f.WriteRange(b.Context(), io.Discard, 0, -1); err != nil {
					b.Fatal(err)
				}
				if err := f.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
