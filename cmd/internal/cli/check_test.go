package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"warren/cmd/internal/ui"
)

const (
	checkedWell = `{"storage-index": "si", "summary": "Healthy", "results": {"healthy": true, "recoverable": true, "count-shares-good": 4,
		"count-shares-needed": 2, "count-shares-expected": 4, "count-wrong-shares": 0, "list-corrupt-shares": []}}`
	checkedSick = `{"storage-index": "si", "summary": "Not Healthy: 3 shares (enc 2-of-4)", "results": {"healthy": false, "recoverable": true,
		"count-shares-good": 3, "count-shares-needed": 2, "count-shares-expected": 4, "count-wrong-shares": 0,
		"list-corrupt-shares": [["v0-server\u001b[2J", "si", 3]], "lease-failures": ["v0-server"],
		"list-incompatible-shares": [["v0-server", "si", 2]], "troubles": ["server v0-other: it\u001b[2J hung"]}}`
	sickTalk   = "of an unknown version: server v0-server, SI si, shnum 2\nnot known: server v0-other: it\ufffd[2J hung\nour lease could not be renewed on server v0-server\n"
	checkedLIT = `{"storage-index": "", "results": {"healthy": true}}`
)

func repairOf(before, after, rest string) string {
	return fmt.Sprintf(`{"storage-index": "si", "pre-repair-results": %s, "post-repair-results": %s, %s}`, before, after, rest)
}

// What the node says, in Tahoe's words, and the exit code.
func TestCheckWords(t *testing.T) {
	const well = "Summary: Healthy\n storage index: si\n good-shares: 4 (encoding is 2-of-4)\n wrong-shares: 0\n"
	const sick = " storage index: si\n good-shares: 3 (encoding is 2-of-4)\n wrong-shares: 0\n corrupt shares:\n  server v0-server\ufffd[2J, SI si, shnum 3\n"
	for name, c := range map[string]struct {
		answer, out, talk string
		options           checkOptions
		query             string
		code              int
	}{
		"healthy":          {answer: checkedWell, out: well},
		"all":              {answer: checkedWell, out: well, options: checkOptions{verify: true, addLease: true}, query: "add-lease=true verify=true"},
		"sick":             {answer: checkedSick, out: "Summary: Not Healthy: 3 shares (enc 2-of-4)\n" + sick, talk: sickTalk, code: ui.ExitUnavailable},
		"literal":          {answer: checkedLIT, out: "Summary: Healthy (LIT)\n storage index: \n"},
		"literal, repair":  {answer: checkedLIT, out: "Summary: Healthy (LIT)\n storage index: \n", options: checkOptions{repair: true}, query: "repair=true"},
		"no repair needed": {answer: repairOf(checkedWell, checkedWell, `"repair-attempted": false, "repair-successful": false`), out: strings.Replace(well, "H", "h", 1), options: checkOptions{repair: true}, query: "repair=true"},
		"repaired": {answer: repairOf(checkedSick, checkedWell, `"repair-attempted": true, "repair-successful": true`), out: "Summary: not healthy\n" + sick + " repair successful\n",
			talk: sickTalk, options: checkOptions{repair: true}, query: "repair=true"},
		"not repaired": {answer: repairOf(checkedSick, checkedSick, `"repair-attempted": true, "repair-successful": false, "repair-failure": "no room"`), out: "Summary: not healthy\n" + sick + " repair failed\n",
			talk: "no room\n" + sickTalk, options: checkOptions{repair: true}, query: "repair=true", code: ui.ExitUnavailable},
		"nonsense":   {answer: `[]`, code: ui.ExitFailed},
		"no results": {answer: `{}`, code: ui.ExitFailed},
	} {
		var asked *http.Request
		e, out := answer(t, func(w http.ResponseWriter, r *http.Request) {
			asked = r
			io.WriteString(w, c.answer)
		})
		var talk bytes.Buffer
		e.ui.Err = &talk
		c.options.where = []string{someCap}
		err := e.check(t.Context(), c.options)
		if code := ui.Report(io.Discard, err); code != c.code || out.String() != c.out || talk.String() != c.talk {
			t.Errorf("%s: exit %d, %v\n%q, want\n%q\ntalk %q", name, code, err, out, c.out, &talk)
		}
		want := "POST t=check output=JSON"
		if c.query != "" {
			want += " " + c.query
		}
		if q := asked.URL.Query(); asked.Method != "POST" || len(q) != len(strings.Fields(want))-1 {
			t.Errorf("%s: %s %s", name, asked.Method, asked.URL.RawQuery)
		} else {
			for _, pair := range strings.Fields(want)[1:] {
				if key, value, _ := strings.Cut(pair, "="); q.Get(key) != value {
					t.Errorf("%s: %s", name, asked.URL.RawQuery)
				}
			}
		}
		if c.code == ui.ExitFailed {
			continue
		}
		out.Reset()
		e.ui.JSON = true
		if code := ui.Report(io.Discard, e.check(t.Context(), c.options)); code != c.code || out.String() != c.answer+"\n" {
			t.Errorf("%s as JSON: exit %d, %s", name, code, out)
		}
	}
}

// One file that cannot be checked does not keep the others from it.
func TestCheckOfSeveral(t *testing.T) {
	asked := 0
	e, out := answer(t, func(w http.ResponseWriter, r *http.Request) {
		asked++
		switch asked {
		case 1:
			http.Error(w, "not this one", http.StatusNotImplemented)
		case 2:
			io.WriteString(w, checkedSick)
		default:
			io.WriteString(w, checkedWell)
		}
	})
	err := e.check(t.Context(), checkOptions{where: []string{someCap, someCap, someCap}})
	if asked != 3 || strings.Count(out.String(), "Summary") != 2 || err == nil || err.Error() != "argument 1: not this one\nnot healthy: 1 of 3, not recoverable: 0" {
		t.Errorf("%d asked, %v: %s", asked, err, out)
	}
	if code := ui.Report(io.Discard, err); code != ui.ExitFailed {
		t.Errorf("exit %d", code)
	}
	err = e.check(t.Context(), checkOptions{where: []string{"nonsense"}})
	var u *ui.Error
	if !errors.As(err, &u) || u.Code != ui.ExitNotFound {
		t.Errorf("%v", err)
	}
}
