package ui

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"
)

// What another machine said reaches the terminal as text, whatever it holds.
func TestReport(t *testing.T) {
	for _, c := range []struct {
		err  error
		code int
		want string
	}{
		{nil, ExitOK, ""},
		{errors.New("plain"), ExitFailed, "warren: plain\n"},
		{fs.ErrNotExist, ExitNotFound, "warren: file does not exist\n"},
		{fmt.Errorf("step: %w", Fail(ExitTor, "start it", errors.New("no tor"))), ExitTor, "warren: step: no tor\n  start it\n"},
		{errors.Join(Usage("no %s", "x"), errors.New("and more")), ExitUsage, "warren: no x\nand more\n  see --help\n"},
		{errors.New("\x1b[2Jgone\r\u202e"), ExitFailed, "warren: \ufffd[2Jgone\ufffd\ufffd\n"},
	} {
		var out bytes.Buffer
		if code := Report(&out, c.err); code != c.code || out.String() != c.want {
			t.Errorf("%v: exit %d, %q, want %d, %q", c.err, code, &out, c.code, c.want)
		}
	}
}

// Without a terminal a question is answered by its default, and no bar is drawn.
func TestNobodyWatches(t *testing.T) {
	var talk bytes.Buffer
	u := &UI{In: bytes.NewBufferString("elsewhere\n"), Err: &talk}
	if got, err := u.Ask(t.Context(), "Where?", "here"); got != "here" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	p := u.Progress("get", 2)
	p.start = p.start.AddDate(-1, 0, 0)
	if n, err := p.Write([]byte("ab")); n != 2 || err != nil || p.bar != nil {
		t.Errorf("%d, %v, bar %v", n, err, p.bar)
	}
	p.Finish()
	if talk.Len() != 0 {
		t.Errorf("it said %q", &talk)
	}
}

// Ctrl-C ends a question that nobody answers.
func TestReadLine(t *testing.T) {
	for text, want := range map[string]string{"a b\nrest": "a b", "cut": "cut", "": "", "\n": ""} {
		in := strings.NewReader(text)
		if got, err := readLine(t.Context(), in); got != want || err != nil {
			t.Errorf("%q: %q, %v", text, got, err)
		}
		if rest, _ := io.ReadAll(in); !strings.HasSuffix(text, string(rest)) || text == "a b\nrest" && string(rest) != "rest" {
			t.Errorf("%q: %q is left", text, rest)
		}
	}
	in, out := io.Pipe()
	defer out.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := readLine(ctx, in); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	out.CloseWithError(fs.ErrClosed)
	if _, err := readLine(t.Context(), in); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("a broken terminal: %v", err)
	}
}
