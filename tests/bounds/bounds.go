// Package bounds is for fuzz targets: a parser of foreign bytes may take so much
// memory as they are long, some times over, and not what they say.
package bounds

import (
	"runtime"
	"runtime/metrics"
	"testing"
)

// base is what a call may take whatever its input is: error messages, and what else
// goes on in a test's process.
const base = 256 << 10

// Memory calls parse, maybe twice, and fails when that took more from the heap than
// factor times the input's length, beside a fixed amount.
func Memory(t testing.TB, input, factor int, parse func()) {
	t.Helper()
	most := uint64(base + factor*input)
	// Cheap, and late to hear of small allocations: now and then it tells of those
	// that came before.
	roughly := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(roughly)
	before := roughly[0].Value.Uint64()
	parse()
	if metrics.Read(roughly); roughly[0].Value.Uint64()-before <= most {
		return
	}
	var exactly runtime.MemStats
	runtime.ReadMemStats(&exactly)
	before = exactly.TotalAlloc
	parse()
	if runtime.ReadMemStats(&exactly); exactly.TotalAlloc-before > most {
		t.Errorf("%d bytes of input took %d bytes of memory, more than %d", input, exactly.TotalAlloc-before, most)
	}
}
