package bench

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"testing"
	"time"

	"warren/node/erasure"
	"warren/tests/interop"
)

const (
	needed, happy, total = 3, 4, 5
	mebibyte             = 1 << 20
)

func TestMain(m *testing.M) {
	code := m.Run()
	interop.RemoveBuilt()
	os.Exit(code)
}

func random(seed uint64, n int) []byte {
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	out := make([]byte, n)
	rand.NewChaCha8(key).Read(out)
	return out
}

// yardstick is this machine's SHA-256 rate on one core, in MiB/s: the best of
// five, as every disturbance makes it slower.
func yardstick() float64 {
	data := random(0, 32*mebibyte)
	best := 0.0
	for range 5 {
		start := time.Now()
		sha256.Sum256(data)
		best = max(best, 32/time.Since(start).Seconds())
	}
	return best
}

// report names the rate of work on so many bytes that took so long in all.
func report(b *testing.B, size int, took time.Duration) {
	rate := float64(size) / mebibyte * float64(b.N) / took.Seconds()
	b.ReportMetric(rate, "MiB/s")
	b.ReportMetric(rate/yardstick(), "of-sha256")
	b.ReportMetric(0, "ns/op") // hidden: it says the same
}

func startGrid(b *testing.B) *interop.Introducer {
	intro := interop.StartOurIntroducer(b)
	for i := range total {
		interop.StartOurStorage(b, intro.FURL, fmt.Sprintf("server%d", i))
	}
	return intro
}

func BenchmarkSHA256(b *testing.B) {
	for b.Loop() {
		b.ReportMetric(yardstick(), "MiB/s")
	}
	b.ReportMetric(0, "ns/op")
}

// BenchmarkEncode is erasure coding alone, of segments of 1 MiB.
func BenchmarkEncode(b *testing.B) {
	for _, p := range [][2]int{{3, 5}, {3, 10}} {
		b.Run(fmt.Sprintf("%dof%d", p[0], p[1]), func(b *testing.B) {
			const segments = 64
			coder, err := erasure.New(p[0], p[1])
			if err != nil {
				b.Fatal(err)
			}
			data := coder.Split(random(1, mebibyte))
			start := time.Now()
			for b.Loop() {
				for range segments {
					if _, err := coder.Encode(data); err != nil {
						b.Fatal(err)
					}
				}
			}
			report(b, segments*mebibyte, time.Since(start))
		})
	}
}

// BenchmarkImmutable is `PUT /uri` and `GET /uri/CAP` of a file of 100 MiB.
func BenchmarkImmutable(b *testing.B) {
	const size = 100 * mebibyte
	client := interop.StartOurClient(b, startGrid(b).FURL, needed, happy, total, total)
	seed, readcap := uint64(1), ""
	b.Run("upload", func(b *testing.B) {
		var took time.Duration
		for b.Loop() {
			seed++ // convergent: the same bytes again would be stored already
			data := random(seed, size)
			start := time.Now()
			readcap = string(client.Must(b, "PUT", "/uri", bytes.NewReader(data)))
			took += time.Since(start)
		}
		report(b, size, took)
	})
	b.Run("download", func(b *testing.B) {
		if readcap == "" {
			b.Skip("SKIP: needs what the upload stored; run both")
		}
		want := sha256.Sum256(random(seed, size))
		var took time.Duration
		for b.Loop() {
			start := time.Now()
			resp, err := http.Get(client.URL + "/uri/" + readcap)
			if err != nil {
				b.Fatal(err)
			}
			h := sha256.New()
			_, err = io.Copy(h, resp.Body)
			resp.Body.Close()
			took += time.Since(start)
			if err != nil || [32]byte(h.Sum(nil)) != want {
				b.Fatalf("not the bytes that were stored (%v)", err)
			}
		}
		report(b, size, took)
	})
}
