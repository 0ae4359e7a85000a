package cli

import (
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"warren/cmd/internal/ui"
)

func TestDeepCheck(t *testing.T) {
	line := func(path string, check string) string {
		return `{"type": "file", "path": ["` + path + `"], "storage-index": "si", "check-results": ` + strings.ReplaceAll(check, "\n", " ") + "}\n"
	}
	literal := `{"type": "file", "path": ["lit"], "storage-index": "", "check-results": {"storage-index": "", "results": {"healthy": true}}}` + "\n"
	for _, c := range []struct {
		name, answer string
		code         int
		out, err     string
	}{
		{"well", line("a", checkedWell) + literal + "\n" + `{"type": "stats", "stats": {}}` + "\n", ui.ExitOK, "'a': Healthy\n'lit': Healthy (LIT)\ndone: 2 objects checked, 2 healthy, 0 unhealthy\n", ""},
		{"sick", line("a", checkedWell) + line(`b\u001b'`, checkedSick), ui.ExitUnavailable, "done: 2 objects checked, 1 healthy, 1 unhealthy\n", "not healthy: 1 of 2, not recoverable: 0"},
		{"broken off", line("a", checkedWell) + "ERROR: UnrecoverableFileError(no shares)\n[Failure instance: URI:DIR2:abc:def gone]\nTraceback: x\n", ui.ExitFailed, "'a': Healthy\n", "URI:… gone]"},
		{"nonsense", "{\"type\": \"file\"}\n", ui.ExitFailed, "", "makes no sense"},
	} {
		e, out := answer(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, c.answer) })
		err := e.deepCheck(t.Context(), checkOptions{where: []string{someCap}}, true, false)
		code := ui.Report(io.Discard, err)
		if code != c.code || !strings.HasSuffix(out.String(), c.out) || err != nil && !strings.Contains(err.Error(), c.err) || strings.Contains(out.String(), "\x1b") {
			t.Errorf("%s: exit %d, %v\n%s", c.name, code, err, out)
		}
		if err != nil && (strings.Contains(err.Error(), "URI:DIR2") || strings.Contains(err.Error(), "Traceback")) {
			t.Errorf("%s: it says %v", c.name, err)
		}
	}
	// A connection that ends in the midst of an answer is no end of it.
	e, _ := answer(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100000")
		io.WriteString(w, literal)
	})
	err := e.deepCheck(t.Context(), checkOptions{where: []string{someCap}}, false, false)
	var fail *ui.Error
	if !errors.As(err, &fail) || fail.Code != ui.ExitUnavailable {
		t.Errorf("%v", err)
	}
}

// The browser's command line holds no capability, and nobody else may read the page
// that does.
func TestWebopen(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("SKIP: puts a program in xdg-open's place")
	}
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "xdg-open"), []byte("#!/bin/sh\necho \"$@\" >"+bin+"/args\ncat \"$1\" >"+bin+"/page\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	e, out := answer(t, func(http.ResponseWriter, *http.Request) {})
	if err := os.Mkdir(filepath.Join(e.dir, "private"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := e.webopen(t.Context(), webopenOptions{where: someCap + "/a&b", info: true}); err != nil {
		t.Fatal(err)
	}
	args, err1 := os.ReadFile(filepath.Join(bin, "args"))
	page, err2 := os.ReadFile(filepath.Join(bin, "page"))
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	file := strings.TrimSpace(string(args))
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 || filepath.Dir(file) != filepath.Join(e.dir, "private") {
		t.Errorf("%q is %v, %v", file, info, err)
	}
	if !strings.Contains(string(page), "/uri/URI:LIT:nbswy3dp/a&amp;b?t=info\"") {
		t.Errorf("the page is %s", page)
	}
	e.ui.JSON = true
	if err := e.webopen(t.Context(), webopenOptions{where: someCap}); err != nil || !strings.Contains(out.String(), "/uri/URI:LIT:nbswy3dp\"") {
		t.Errorf("%q, %v", out, err)
	}
}

// The quotes are those of quote_output in allmydata/util/encodingutil.py.
func TestQuote(t *testing.T) {
	for _, c := range []struct{ text, bare, marked string }{
		{"", "", "''"},
		{"plain ü", "plain ü", "'plain ü'"},
		{"it's", `"it's"`, `"it's"`},
		{`"x"`, `'"x"'`, `'"x"'`},
		{"a'$`\\\"", `"a'\$\` + "`" + `\\\""`, `"a'\$\` + "`" + `\\\""`},
		{"\x1b[2J", `"\x1b[2J"`, `"\x1b[2J"`},
		{"\U0001f600", `"\U0001f600"`, `"\U0001f600"`},
	} {
		if bare, marked := quote(c.text, false), quote(c.text, true); bare != c.bare || marked != c.marked {
			t.Errorf("%q: %s and %s", c.text, bare, marked)
		}
	}
}
