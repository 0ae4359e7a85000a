package main

import (
	"strings"
	"testing"
)

func TestTally(t *testing.T) {
	const good = `{"Action":"start","Package":"a"}
{"Action":"run","Package":"a","Test":"TestX"}
{"Action":"output","Package":"a","Test":"TestX","Output":"=== RUN   TestX\n"}
{"Action":"output","Package":"a","Test":"TestX","Output":"    x_test.go:3: SKIP: no moon\n"}
{"Action":"output","Package":"a","Test":"TestX","Output":"--- SKIP: TestX (0.00s)\n"}
{"Action":"skip","Package":"a","Test":"TestX","Elapsed":0}
{"Action":"output","Package":"a","Test":"TestY","Output":"chatter\n"}
{"Action":"pass","Package":"a","Test":"TestY","Elapsed":1.5}
{"Action":"pass","Package":"a","Elapsed":2}
{"Action":"skip","Package":"empty"}
`
	for name, c := range map[string]struct {
		in, fails string
		want, not []string
	}{
		"a reason":       {in: good, want: []string{"ok  \ta\t2.000s\n", "SKIPPED a TestX: x_test.go:3: SKIP: no moon", "1 packages, 2 tests, 1 skipped"}, not: []string{"chatter", "empty"}},
		"a failure":      {in: good + `{"Action":"output","Package":"b","Test":"TestZ","Output":"why\n"}` + "\n" + `{"Action":"fail","Package":"b","Test":"TestZ"}` + "\n" + `{"Action":"fail","Package":"b","Elapsed":1}` + "\n", fails: "failed", want: []string{"why\n", "FAIL\tb\t1.000s\n", "FAILED b TestZ:\n    why\n"}},
		"a panic":        {in: `{"Action":"output","Package":"b","Test":"TestZ","Output":"panic: oh\n"}` + "\n" + `{"Action":"fail","Package":"b","Elapsed":1}` + "\n", fails: "1 failed", want: []string{"panic: oh"}},
		"does not build": {in: `{"ImportPath":"b","Action":"build-output","Output":"undefined: q\n"}` + "\n" + `{"Action":"fail","Package":"b","Elapsed":0}` + "\n", fails: "1 failed", want: []string{"undefined: q"}},
		"not JSON":       {in: "warning: x\n" + good, want: []string{"warning: x\n"}},
		"nothing":        {in: "", fails: "of 0 packages"},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			err := tally(strings.NewReader(c.in), &out)
			if (err != nil) != (c.fails != "") || err != nil && !strings.Contains(err.Error(), c.fails) {
				t.Errorf("%v, want %q", err, c.fails)
			}
			for _, w := range c.want {
				if !strings.Contains(out.String(), w) {
					t.Errorf("%q is missing in:\n%s", w, out.String())
				}
			}
			for _, w := range c.not {
				if strings.Contains(out.String(), w) {
					t.Errorf("%q is in:\n%s", w, out.String())
				}
			}
		})
	}
}
