package ui

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
)

// Exit codes, documented in README.md.
const (
	ExitOK          = 0
	ExitFailed      = 1 // the operation failed
	ExitUsage       = 2 // the command line is wrong
	ExitNotFound    = 3 // no such file, directory entry, folder or invite
	ExitNoNode      = 4 // the node is not running, or cannot be reached
	ExitUnavailable = 5 // too few storage servers or shares at the moment
	ExitTor         = 6 // Tor is not ready
	ExitInvite      = 7 // the code is wrong, used, expired or cancelled
)

// ExitCodes says the same to people.
const ExitCodes = "Exit codes: 0 done, 1 failed or interrupted, 2 wrong command line, 3 not found, 4 the node is not running,\n" +
	"5 too few storage servers or shares at the moment, 6 Tor is not ready, 7 a code that is no good (join)."

// Error is a failure with what to do next and an exit code.
type Error struct {
	Err  error
	Hint string
	Code int
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Fail wraps err with an exit code and a hint.
func Fail(code int, hint string, err error) error {
	return &Error{Err: err, Hint: hint, Code: code}
}

// Usage is a wrong command line.
func Usage(format string, args ...any) error {
	return &Error{Err: fmt.Errorf(format, args...), Code: ExitUsage, Hint: "see --help"}
}

// Report prints a command's error and its hint and returns the exit code.
func Report(w io.Writer, err error) int {
	if err == nil {
		return ExitOK
	}
	// An error may tell what another machine said.
	for i, line := range strings.Split(err.Error(), "\n") {
		if i == 0 {
			line = "warren: " + line
		}
		fmt.Fprintln(w, Clean(line))
	}
	var e *Error
	switch {
	case errors.As(err, &e):
	case errors.Is(err, fs.ErrNotExist):
		return ExitNotFound
	default:
		return ExitFailed
	}
	if e.Hint != "" {
		fmt.Fprintf(w, "  %s\n", e.Hint)
	}
	return e.Code
}
