package immutable

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"warren/node/caps"
	"warren/node/storage"
)

// line is a slow line that all servers of a grid share, as behind Tor: whoever
// sends or receives takes turns, a packet each.
type line struct {
	turn   chan struct{} // capacity 1: held by whoever uses the line
	second int           // bytes a second
	bytes  int           // guarded by turn: that went over it
}

func newLine(second int) *line { return &line{turn: make(chan struct{}, 1), second: second} }

func (l *line) carry(ctx context.Context, n int) error {
	const packet = 8192
	for ; n > 0; n -= packet {
		select {
		case l.turn <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		size := min(n, packet)
		time.Sleep(time.Duration(size) * time.Second / time.Duration(l.second)) // in the bubble
		l.bytes += size
		<-l.turn
	}
	return nil
}

// distant is a server at the other end of a line.
type distant struct {
	storage.Client
	line *line
}

func (d distant) WriteImmutable(ctx context.Context, si caps.StorageIndex, share int, upload storage.Secret, offset uint64, data []byte) (bool, error) {
	if err := d.line.carry(ctx, len(data)); err != nil {
		return false, err
	}
	return d.Client.WriteImmutable(ctx, si, share, upload, offset, data)
}

func (d distant) ReadShare(ctx context.Context, kind storage.ShareKind, si caps.StorageIndex, share int, offset, size uint64) ([]byte, error) {
	data, err := d.Client.ReadShare(ctx, kind, si, share, offset, size)
	if err == nil {
		err = d.line.carry(ctx, len(data))
	}
	return data, err
}

// A line may be slow without any server being slow: files come and go over it, and
// not many times over.
func TestSlowLine(t *testing.T) {
	for name, rate := range map[string]int{"20 KB/s": 20_000, "100 KB/s": 100_000, "1 MB/s": 1_000_000} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGrid(t, 10)
				c := newClient(t, g, 3, 10, 10)
				data := pattern(8<<20 + 12345)
				up, down := newLine(rate), newLine(rate)
				for _, n := range g.nodes {
					n.Client = distant{n.Client, up}
				}
				cp := mustUpload(t, c, data).Cap
				if most := len(data) * 10 / 3 * 101 / 100; up.bytes > most {
					t.Errorf("%d bytes went up, %d are enough", up.bytes, most)
				}
				for _, n := range g.nodes {
					n.Client = distant{n.Client.(distant).Client, down}
				}
				// Of the first segment nothing is known, and ten servers are soon asked
				// for what three would give.
				mustDownload(t, c, cp, data)
				if most := len(data) * 14 / 10; down.bytes > most {
					t.Errorf("%d bytes came down, for %d", down.bytes, len(data))
				}
				down.bytes = 0
				mustDownload(t, c, cp, data)
				if most := len(data) * 101 / 100; down.bytes > most {
					t.Errorf("%d bytes came down the second time, for %d", down.bytes, len(data))
				}
				// Small files are read whole, in one go.
				var small []caps.Cap
				for i := range 20 {
					small = append(small, mustUpload(t, c, data[:240_000+i]).Cap)
				}
				c = newClient(t, g, 3, 10, 10)
				down.bytes = 0
				for i, cp := range small {
					mustDownload(t, c, cp, data[:240_000+i])
				}
				if most := 20 * 240_000 * 13 / 10; down.bytes > most {
					t.Errorf("%d bytes came down for twenty small files of %d", down.bytes, 240_000)
				}
			})
		})
	}
}
