// Package ui is how warren talks in a terminal: results to standard output, talk
// to standard error, progress on what takes longer than a second, errors with
// the hint that ends them, and the exit codes.
//
// Text that came from elsewhere (nicknames, folder names, participants) passes
// through Clean before it reaches a terminal.
package ui

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"

	"golang.org/x/term"
)

// UI is one command's terminal. Its methods are not for concurrent use, except
// Say and Result, whose lines are written whole.
type UI struct {
	In       io.Reader
	Out, Err io.Writer
	JSON     bool // results as JSON, no talk
	Quiet    bool // no talk
}

// Say prints a line of talk.
func (u *UI) Say(format string, args ...any) {
	if u.Quiet || u.JSON {
		return
	}
	fmt.Fprintf(u.Err, format+"\n", args...)
}

// Result prints a line of result.
func (u *UI) Result(format string, args ...any) {
	fmt.Fprintf(u.Out, format+"\n", args...)
}

// Data prints v as indented JSON: the result of a command under --json.
func (u *UI) Data(v any) error {
	enc := json.NewEncoder(u.Out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// Line prints v as JSON on one line: a result, under --json, of a command that goes
// on and may have more to say.
func (u *UI) Line(v any) error {
	enc := json.NewEncoder(u.Out)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// Interactive says whether questions can be asked.
func (u *UI) Interactive() bool {
	f, ok := u.In.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// watched says whether somebody sees the talk: a bar in a file is rubbish.
func (u *UI) watched() bool {
	f, ok := u.Err.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// ShowsResults says whether standard output is a terminal: what is written there is
// looked at, and no bar may run through it.
func (u *UI) ShowsResults() bool {
	f, ok := u.Out.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Ask asks one question with a default; without a terminal it answers the default.
// It ends with ctx.
func (u *UI) Ask(ctx context.Context, question, def string) (string, error) {
	if !u.Interactive() {
		return def, nil
	}
	fmt.Fprintf(u.Err, "%s [%s] ", question, def)
	line, err := readLine(ctx, u.In)
	if err != nil {
		fmt.Fprintln(u.Err)
		return "", err
	}
	if answer := strings.TrimSpace(line); answer != "" {
		return answer, nil
	}
	return def, nil
}

// readLine reads to the end of a line or of the input.
func readLine(ctx context.Context, in io.Reader) (string, error) {
	type result struct {
		line string
		err  error
	}
	done := make(chan result, 1)
	// A read from a terminal cannot be ended: when ctx ends first, this ends with the
	// process, as whoever pressed Ctrl-C wants.
	go func() {
		var line strings.Builder
		b := make([]byte, 1) // byte by byte: what follows the line belongs to others
		for {
			n, err := in.Read(b)
			switch {
			case n == 1 && b[0] != '\n':
				line.WriteByte(b[0])
			case n == 1, err == io.EOF:
				done <- result{line.String(), nil}
				return
			case err != nil:
				done <- result{"", err}
				return
			}
		}
	}()
	select {
	case r := <-done:
		return r.line, r.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// Clean makes foreign text safe for a terminal and keeps it on one line: control
// characters, escape sequences and direction overrides become U+FFFD.
func Clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsGraphic(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}
