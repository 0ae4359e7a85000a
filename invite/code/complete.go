package code

import (
	"slices"
	"strings"
)

// Complete returns the texts that the typed prefix can grow into by finishing
// its last word: the whole prefix with the word completed, and a hyphen after
// it while more of the want words follow. A prefix without a hyphen is still
// the number, which nobody can guess: nothing is offered.
func Complete(prefix string, want int) []string {
	if len(prefix) > maxText {
		return nil
	}
	prefix = strings.ToLower(prefix)
	cut := strings.LastIndexByte(prefix, '-')
	if cut < 0 {
		return nil
	}
	done, last := prefix[:cut+1], prefix[cut+1:]
	place := strings.Count(done, "-") - 1
	if place >= want || place >= MaxWords {
		return nil
	}
	var out []string
	for b := range 256 {
		w := word(place, byte(b))
		if !strings.HasPrefix(w, last) {
			continue
		}
		w = done + w
		if place+1 < want {
			w += "-"
		}
		out = append(out, w)
	}
	slices.Sort(out)
	return out
}

// nearest lists at most three words of place i's column, the closest first.
// Farther than half of the typed word is no help.
func nearest(i int, typed string) []string {
	if len(typed) > 24 {
		return nil
	}
	type candidate struct {
		word string
		far  int
	}
	limit := max(2, len(typed)/2)
	var found []candidate
	for b := range 256 {
		w := word(i, byte(b))
		if d := distance(typed, w); d <= limit {
			found = append(found, candidate{w, d})
		}
	}
	slices.SortFunc(found, func(a, b candidate) int {
		if a.far != b.far {
			return a.far - b.far
		}
		return strings.Compare(a.word, b.word)
	})
	var out []string
	for _, c := range found[:min(3, len(found))] {
		out = append(out, c.word)
	}
	return out
}

// distance is Levenshtein's: insertions, deletions and substitutions of bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
