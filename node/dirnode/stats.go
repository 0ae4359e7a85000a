package dirnode

import (
	"encoding/json"
	"math"

	"warren/node/caps"
)

// Stats are the figures of a tree, under the names that Tahoe gives them in JSON
// (deep_stats.py). Sizes are in bytes; those of mutable files are not known.
type Stats struct {
	APIVersion               int       `json:"api-version"` // 1
	Files                    int       `json:"count-files"` // of the three kinds below
	ImmutableFiles           int       `json:"count-immutable-files"`
	MutableFiles             int       `json:"count-mutable-files"`
	LiteralFiles             int       `json:"count-literal-files"`
	Directories              int       `json:"count-directories"`
	Unknown                  int       `json:"count-unknown"`
	ImmutableSize            uint64    `json:"size-immutable-files"`
	LiteralSize              uint64    `json:"size-literal-files"`
	DirectoriesSize          uint64    `json:"size-directories"`
	LargestDirectory         uint64    `json:"largest-directory"`
	LargestDirectoryChildren int       `json:"largest-directory-children"`
	LargestImmutableFile     uint64    `json:"largest-immutable-file"`
	Sizes                    Histogram `json:"size-files-histogram"` // of immutable and literal files
}

// NewStats counts nothing yet.
func NewStats() Stats { return Stats{APIVersion: 1} }

// Add counts what a walk came to.
func (s *Stats) Add(step Step) {
	switch step.Class {
	case UnknownClass:
		s.Unknown++
		return
	case DirectoryClass:
		s.Directories++
		if step.Err == nil {
			s.DirectoriesSize += step.Size
			s.LargestDirectory = max(s.LargestDirectory, step.Size)
			s.LargestDirectoryChildren = max(s.LargestDirectoryChildren, step.Entries)
		}
		return
	}
	s.Files++
	var size uint64
	switch c := step.Entry.Cap().(type) {
	case caps.LIT:
		size = uint64(len(c.Data))
		s.LiteralFiles++
		s.LiteralSize += size
	case caps.CHK:
		size = c.Size
		s.immutable(size)
	case caps.CHKVerify:
		size = c.Size
		s.immutable(size)
	default:
		s.MutableFiles++
		return
	}
	s.Sizes.add(size)
}

func (s *Stats) immutable(size uint64) {
	s.ImmutableFiles++
	s.ImmutableSize += size
	s.LargestImmutableFile = max(s.LargestImmutableFile, size)
}

// Size is what Tahoe's deep-size says of the tree.
func (s *Stats) Size() uint64 { return s.ImmutableSize + s.DirectoriesSize }

// Histogram counts sizes in buckets, two a decade: 0, 1 to 3, 4 to 10, 11 to 31, 32
// to 100, and so on. In JSON it is a list of [first, last, count], without those
// that are empty.
type Histogram struct{ counts []int }

// bucketEnds are the last sizes of Tahoe's buckets: the powers of the square root of
// 10, as floats that were multiplied one by one, and the largest size.
var bucketEnds = func() (ends []uint64) {
	ends = []uint64{0, 3}
	for p := math.Sqrt(10) * math.Sqrt(10); p < math.MaxUint64; p *= math.Sqrt(10) {
		ends = append(ends, uint64(p))
	}
	return append(ends, math.MaxUint64)
}()

func (h *Histogram) add(size uint64) {
	i := 0
	for size > bucketEnds[i] {
		i++
	}
	for len(h.counts) <= i {
		h.counts = append(h.counts, 0)
	}
	h.counts[i]++
}

// MarshalJSON writes Tahoe's list.
func (h Histogram) MarshalJSON() ([]byte, error) {
	list := [][3]uint64{}
	first := uint64(0)
	for i, n := range h.counts {
		if n > 0 {
			list = append(list, [3]uint64{first, bucketEnds[i], uint64(n)})
		}
		first = bucketEnds[i] + 1
	}
	return json.Marshal(list)
}
