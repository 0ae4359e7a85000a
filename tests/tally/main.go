// Command tally reads what `go test -json` prints and tells it briefly, a line a
// package as each ends: all that a failed test said, every skipped test with its
// reason, since go test itself hides those, and the slowest tests. At the end
// comes once more how each failed test began its complaint, because of a long log
// often only the end is kept. It fails when anything failed, or when no package
// was tested.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

func main() {
	if err := tally(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "tally:", err)
		os.Exit(1)
	}
}

// event is one line of go test -json; see go doc test2json and go help buildjson.
type event struct {
	Action, Package, Test, Output string
	ImportPath                    string // of build events
	Elapsed                       float64
}

type outcome struct {
	name    string
	seconds float64
}

const (
	slowest      = 8
	recapLines   = 6
	recapColumns = 300
)

func tally(in io.Reader, out io.Writer) error {
	said := map[[2]string]*strings.Builder{} // by package and test
	var skipped, recap []string
	var tests []outcome
	packages, failed := 0, 0
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		var e event
		if json.Unmarshal(line, &e) != nil {
			out.Write(line) // not of go test: whatever it is, show it
			continue
		}
		key := [2]string{e.Package, e.Test}
		switch e.Action {
		case "output":
			if said[key] == nil {
				said[key] = &strings.Builder{}
			}
			said[key].WriteString(e.Output)
			continue
		case "build-output":
			io.WriteString(out, e.Output)
			continue
		case "pass", "fail", "skip":
		default:
			continue
		}
		text := ""
		if b := said[key]; b != nil {
			text = b.String()
			delete(said, key)
		}
		switch {
		case e.Test == "":
			if e.Action == "skip" { // it has no tests
				continue
			}
			packages++
			word := "ok  "
			if e.Action == "fail" {
				word = "FAIL"
				failed++
				// What was said outside of its tests, and by those that never ended.
				io.WriteString(out, text)
				for k, b := range said {
					if k[0] == e.Package {
						io.WriteString(out, b.String())
						delete(said, k)
					}
				}
			}
			// go test's own closing line, which others read too.
			fmt.Fprintf(out, "%s\t%s\t%.3fs\n", word, e.Package, e.Elapsed)
		case e.Action == "fail":
			io.WriteString(out, text)
			failed++
			recap = append(recap, fmt.Sprintf("FAILED %s %s:", e.Package, e.Test))
			said := own(text)
			for _, line := range said[:min(recapLines, len(said))] {
				recap = append(recap, fmt.Sprintf("    %.*s", recapColumns, line))
			}
		case e.Action == "skip":
			skipped = append(skipped, fmt.Sprintf("%s %s: %s", e.Package, e.Test, reason(text)))
		}
		if e.Test != "" && !strings.Contains(e.Test, "/") {
			tests = append(tests, outcome{e.Package + " " + e.Test, e.Elapsed})
		}
	}
	slices.SortFunc(tests, func(a, b outcome) int { return cmp.Compare(b.seconds, a.seconds) })
	fmt.Fprintf(out, "%d packages, %d tests, %d skipped; the slowest:\n", packages, len(tests), len(skipped))
	for _, t := range tests[:min(slowest, len(tests))] {
		fmt.Fprintf(out, "  %6.1fs %s\n", t.seconds, t.name)
	}
	for _, s := range skipped {
		fmt.Fprintln(out, "SKIPPED", s)
	}
	for _, r := range recap {
		fmt.Fprintln(out, r)
	}
	if failed > 0 || packages == 0 {
		return fmt.Errorf("%d failed of %d packages", failed, packages)
	}
	return nil
}

// reason is what a skipped test said, in one line.
func reason(text string) string { return strings.Join(own(text), " ") }

// own are the lines that a test itself said, without go test's.
func own(text string) []string {
	var own []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "===") && !strings.HasPrefix(line, "---") {
			own = append(own, line)
		}
	}
	return own
}
