package storage

import "slices"

// Range is the bytes [Begin, End) of a share.
type Range struct{ Begin, End uint64 }

// ranges is a set of bytes: sorted, disjoint, never adjacent.
type ranges []Range

// add returns the set with r in it.
func (s ranges) add(r Range) ranges {
	if r.Begin >= r.End {
		return s
	}
	// [i, j) are those that touch or overlap r.
	i, _ := slices.BinarySearchFunc(s, r.Begin, func(have Range, at uint64) int {
		if have.End < at {
			return -1
		}
		return 1
	})
	j := i
	for ; j < len(s) && s[j].Begin <= r.End; j++ {
		r = Range{min(r.Begin, s[j].Begin), max(r.End, s[j].End)}
	}
	return slices.Replace(s, i, j, r)
}

// touches says whether r overlaps the set or is next to it: adding it then makes
// no further part.
func (s ranges) touches(r Range) bool {
	for _, have := range s {
		if have.Begin <= r.End && r.Begin <= have.End {
			return true
		}
	}
	return false
}

// within returns the parts of the set inside r.
func (s ranges) within(r Range) []Range {
	var parts []Range
	for _, have := range s {
		if p := (Range{max(have.Begin, r.Begin), min(have.End, r.End)}); p.Begin < p.End {
			parts = append(parts, p)
		}
	}
	return parts
}

// missing returns what [0, size) has beside the set.
func (s ranges) missing(size uint64) []Range {
	var gaps []Range
	var at uint64
	for _, have := range s {
		if have.Begin > at {
			gaps = append(gaps, Range{at, have.Begin})
		}
		at = have.End
	}
	if at < size {
		gaps = append(gaps, Range{at, size})
	}
	return gaps
}

// sum is how many bytes are in the set.
func (s ranges) sum() (n uint64) {
	for _, r := range s {
		n += r.End - r.Begin
	}
	return n
}
