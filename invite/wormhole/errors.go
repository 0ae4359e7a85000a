package wormhole

import (
	"errors"
	"strings"
)

// Errors that end a session. Test with errors.Is.
var (
	// ErrCode: the code is not number-words.
	ErrCode = errors.New("bad wormhole code")
	// ErrWrongCode: the two sides hold different codes. The code is spent.
	ErrWrongCode = errors.New("the codes of the two sides differ")
	// ErrCrowded: two others have met at this code already.
	ErrCrowded = errors.New("two others have met at this code already")
	// ErrUnknown, ErrUsed, ErrExpired, ErrCancelled, ErrFailed: what our own
	// mailbox server says of a nameplate that is not there. Failed means
	// that somebody tried it with wrong words.
	ErrUnknown   = errors.New("nobody waits at this code")
	ErrUsed      = errors.New("this code has been used")
	ErrExpired   = errors.New("this code has expired")
	ErrCancelled = errors.New("this code has been cancelled")
	ErrFailed    = errors.New("this code was spent by a wrong guess")
	// ErrTooLarge: a message or frame exceeds its bound.
	ErrTooLarge = errors.New("message too large")
	// ErrUnreachable: the mailbox server cannot be reached.
	ErrUnreachable = errors.New("mailbox server cannot be reached")
	// ErrServer: the mailbox server refused; its words follow.
	ErrServer = errors.New("mailbox server")
	// ErrNotOurs: the mailbox server cannot keep an exchange for long.
	ErrNotOurs = errors.New("the mailbox server does not keep invites for that long")
	// ErrSave: the session's state could not be kept.
	ErrSave = errors.New("keeping the session's state")
	// ErrClosed: the session was closed.
	ErrClosed = errors.New("session closed")
)

// serverError maps what a server says to an error, and whether trying again
// later may help.
func serverError(text string) (err error, again bool) {
	switch text {
	case "crowded":
		return ErrCrowded, false
	case "nameplate unknown":
		return ErrUnknown, false
	case "nameplate used", "reclaimed":
		return ErrUsed, false
	case "nameplate expired", "mailbox expired":
		return ErrExpired, false
	case "nameplate cancelled", "mailbox cancelled":
		return ErrCancelled, false
	case "nameplate failed":
		return ErrFailed, false
	}
	err = &saidError{printable(text, 120)}
	return err, strings.HasSuffix(text, "try again later")
}

type saidError struct{ text string }

func (e *saidError) Error() string { return ErrServer.Error() + ": " + e.text }
func (e *saidError) Unwrap() error { return ErrServer }

// printable makes foreign text fit for a terminal.
func printable(s string, limit int) string {
	var b strings.Builder
	for _, r := range s {
		if b.Len() >= limit {
			break
		}
		if r < 0x20 || r > 0x7e {
			r = '?'
		}
		b.WriteRune(r)
	}
	return b.String()
}
