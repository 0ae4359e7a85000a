package gateway_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"warren/cmd/internal/gateway"
	"warren/magicfolder"
	"warren/tests/gridtest"
)

// BenchmarkFirstUpload is an operator's first scan: 300 files of up to 16 KiB,
// captured, stored on five servers (3 of 5, on disk, synced) over HTTPS on
// loopback, and published.
func BenchmarkFirstUpload(b *testing.B) {
	const files = 300
	for _, c := range []struct {
		name string
		o    gridtest.Options
	}{{"disk+https", gridtest.Options{Dir: "disk", HTTPS: true}}, {"memory", gridtest.Options{}}} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				o := c.o
				if o.Dir != "" {
					o.Dir = b.TempDir()
				}
				g := gridtest.New(b, o)
				dir := b.TempDir()
				random := rand.NewChaCha8([32]byte{1})
				for i := range files {
					body := make([]byte, 100+random.Uint64()%(16<<10))
					random.Read(body)
					if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("file %d", i)), body, 0o600); err != nil {
						b.Fatal(err)
					}
				}
				m, err := magicfolder.NewManager(magicfolder.Options{
					Grid: gateway.New(g.Files, g.Dirs), StatePath: filepath.Join(b.TempDir(), "state.db"), Settle: -1,
				})
				if err != nil {
					b.Fatal(err)
				}
				f, err := m.Create(b.Context(), "bench", dir, "alice")
				if err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				if err := f.ScanNow(b.Context()); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if st := f.Status(); st.Files != files || st.ToUpload.Files != 0 {
					b.Fatalf("%+v", st)
				}
				if err := m.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N)/files, "ms/file")
		})
	}
}
