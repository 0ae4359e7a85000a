package foolscap

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"warren/node/foolscap/banana"
)

// Errors that callers branch on.
var (
	// ErrDisconnected: the connection was lost before the answer came. Whether the
	// call was done is unknown.
	ErrDisconnected = errors.New("foolscap: connection lost")
	// ErrClosed: the tub was closed.
	ErrClosed = errors.New("foolscap: tub is closed")
	// ErrGift: a third-party reference was to be sent.
	ErrGift = errors.New("foolscap: references to third parties are not sent")
)

// violationClass is what Foolscap calls a message that breaks a rule.
const violationClass = "foolscap.tokens.Violation"

// failureCopyable is the name under which a Failure travels.
const failureCopyable = "twisted.python.failure.Failure"

// Failure is an exception of the other side, or one for it: a handler returns a
// *Failure to tell the caller what went wrong; of its other errors the caller
// learns nothing. As received it is foreign text: clean it before a terminal.
type Failure struct {
	Class   string   // of the exception, with its module
	Message string   // up to 1000 bytes
	Parents []string // the class and all its bases
}

func (f *Failure) Error() string {
	return fmt.Sprintf("foolscap: the peer failed: %s: %q", clip(f.Class, 100), clip(f.Message, 300))
}

// IsClass says whether the exception is of a class or of one derived from it.
func (f *Failure) IsClass(class string) bool {
	return f.Class == class || slices.Contains(f.Parents, class)
}

// Violation is the Failure for a call that is not as it has to be.
func Violation(format string, args ...any) *Failure {
	return &Failure{
		Class: violationClass, Message: fmt.Sprintf(format, args...),
		Parents: []string{violationClass, "builtins.Exception", "builtins.BaseException", "builtins.object"},
	}
}

// NoMethod is the Failure for a method that an object does not have.
func NoMethod() *Failure { return Violation("no such method") }

// forPeer is what the peer may know of an error.
func forPeer(err error) *Failure {
	var f *Failure
	if errors.As(err, &f) {
		return f
	}
	var v *banana.Violation
	if errors.As(err, &v) {
		return Violation("%s", v.Reason)
	}
	return &Failure{
		Class: "builtins.Exception", Message: "internal error",
		Parents: []string{"builtins.Exception", "builtins.BaseException", "builtins.object"},
	}
}

// The bounds of Foolscap's FailureConstraint, which refuses a longer one.
const (
	maxClass   = 200
	maxMessage = 1000
	maxParents = 30
)

func (f *Failure) sequence() banana.Sequence {
	// Foolscap drops the connection over text that is not UTF-8.
	text := func(s string, n int) []byte { return []byte(strings.ToValidUTF8(clip(s, n), "")) }
	parents := []any{}
	for _, p := range f.Parents[:min(len(f.Parents), maxParents)] {
		parents = append(parents, text(p, maxClass))
	}
	return banana.Sequence{Type: "copyable", Items: []any{
		[]byte(failureCopyable),
		[]byte("value"), text(f.Message, maxMessage),
		[]byte("type"), text(f.Class, maxClass),
		[]byte("traceback"), []byte("Traceback unavailable\n"),
		[]byte("parents"), parents,
	}}
}

// parseFailure reads a copyable Failure.
func parseFailure(s banana.Sequence) (*Failure, error) {
	bad := &banana.Violation{Reason: "malformed failure"}
	if len(s.Items)%2 != 1 {
		return nil, bad
	}
	f := &Failure{}
	for i := 1; i < len(s.Items); i += 2 {
		key, ok := s.Items[i].([]byte)
		if !ok {
			return nil, bad
		}
		switch string(key) {
		case "type", "value":
			text, ok := s.Items[i+1].([]byte)
			if !ok {
				return nil, bad
			}
			if string(key) == "type" {
				f.Class = clip(string(text), maxClass)
			} else {
				f.Message = clip(string(text), maxMessage)
			}
		case "parents":
			list, ok := s.Items[i+1].([]any)
			if !ok {
				return nil, bad
			}
			for _, p := range list {
				text, ok := p.([]byte)
				if !ok || len(f.Parents) == maxParents {
					return nil, bad
				}
				f.Parents = append(f.Parents, clip(string(text), maxClass))
			}
		}
	}
	if f.Class == "" {
		return nil, bad
	}
	return f, nil
}
