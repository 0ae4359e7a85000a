package message

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Errors that a FieldError wraps.
var (
	ErrTooLarge   = errors.New("too large")
	ErrJSON       = errors.New("not the JSON expected")
	ErrMissing    = errors.New("missing")
	ErrType       = errors.New("of the wrong type")
	ErrLength     = errors.New("empty or too long")
	ErrCharacters = errors.New("not free of characters that are not allowed there")
	ErrRange      = errors.New("out of range")
	ErrTwice      = errors.New("given twice")
	ErrForm       = errors.New("not of the form expected")
	ErrAbilities  = errors.New("the other side's program speaks no invite protocol that we know")
	ErrRefused    = errors.New("the other side refused")
)

// FieldError says which field of a received message is wrong, and how. It never
// quotes the content, which may be a secret or an attack on the terminal.
type FieldError struct {
	Field string // one of the names that this package knows; "" for the whole
	Err   error
}

func (e *FieldError) Error() string {
	if e.Field == "" {
		return "received message: " + e.Err.Error()
	}
	return "received message: " + e.Field + " is " + e.Err.Error()
}

// Unwrap gives the sentinel.
func (e *FieldError) Unwrap() error { return e.Err }

func bad(field string, err error) error { return &FieldError{field, err} }

// maxDepth bounds nesting; nothing of ours nests deeper than three.
const maxDepth = 16

// object decodes a JSON object strictly: valid UTF-8, names exact and once, one
// value and nothing behind it. (encoding/json alone takes the last of two equal
// names and folds case, so two readers could see different settings.)
func object(field string, b []byte) (map[string]json.RawMessage, error) {
	if len(b) > MaxSize {
		return nil, bad(field, ErrTooLarge)
	}
	if !utf8.Valid(b) || !shallow(b) {
		return nil, bad(field, ErrJSON)
	}
	if t := bytes.TrimLeft(b, " \t\r\n"); len(t) == 0 || t[0] != '{' {
		if json.Valid(b) {
			return nil, bad(field, ErrType)
		}
		return nil, bad(field, ErrJSON)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	if _, err := d.Token(); err != nil {
		return nil, bad(field, ErrJSON)
	}
	out := map[string]json.RawMessage{}
	for d.More() {
		t, err := d.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return nil, bad(field, ErrJSON)
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, bad(field, ErrJSON)
		}
		if _, twice := out[name]; twice {
			return nil, bad(field, ErrTwice)
		}
		out[name] = raw
	}
	if _, err := d.Token(); err != nil {
		return nil, bad(field, ErrJSON)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, bad(field, ErrJSON)
	}
	return out, nil
}

// shallow says whether b nests less than maxDepth deep.
func shallow(b []byte) bool {
	depth, quoted := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return false
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return true
}

// present: Tahoe treats null as absent.
func present(m map[string]json.RawMessage, name string) bool {
	raw, ok := m[name]
	return ok && string(raw) != "null"
}

// str reads a string of at most limit bytes.
func str(m map[string]json.RawMessage, field, name string, limit int) (string, error) {
	if !present(m, name) {
		return "", bad(field, ErrMissing)
	}
	var s string
	if raw := m[name]; raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		return "", bad(field, ErrType)
	}
	if s == "" || len(s) > limit {
		return "", bad(field, ErrLength)
	}
	return s, nil
}

// checkText: one line that a person reads. No control characters, no line
// breaks, none that turn the writing direction or show nothing, nothing that
// stood for broken text, no blanks around it.
func checkText(field, s string, limit int) error {
	if s == "" || len(s) > limit {
		return bad(field, ErrLength)
	}
	if strings.TrimSpace(s) != s {
		return bad(field, ErrCharacters)
	}
	for _, r := range s {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return bad(field, ErrCharacters)
		}
	}
	return nil
}

// MaxName bounds folder and participant names in bytes: room is left for what is
// appended to them in file names.
const MaxName = 100

// reserved are the names that Windows gives to devices.
var reserved = regexp.MustCompile(`(?i)^(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?$`)

// CheckName accepts the name of a folder or a participant: text that is one
// component of a path on every system, and an entry of a Tahoe directory in its
// normal form (NFC). It names field in its error.
func CheckName(field, s string) error {
	if err := checkText(field, s, MaxName); err != nil {
		return err
	}
	if strings.ContainsAny(s, `/\:*?"<>|`) || strings.ContainsAny(s[:1], ".-~@") || strings.HasSuffix(s, ".") || reserved.MatchString(s) {
		return bad(field, ErrCharacters)
	}
	if !norm.NFC.IsNormalString(s) {
		return bad(field, ErrForm)
	}
	return nil
}

var number = regexp.MustCompile(`^[1-9][0-9]{0,2}$`)

// count reads a small positive number, a JSON number or a string of digits.
func count(m map[string]json.RawMessage, name string) (int, error) {
	raw := m[name]
	text := string(raw)
	if raw[0] == '"' {
		if json.Unmarshal(raw, &text) != nil {
			return 0, bad(name, ErrType)
		}
	} else if raw[0] != '-' && (raw[0] < '0' || raw[0] > '9') {
		return 0, bad(name, ErrType) // true is not 1
	}
	if !number.MatchString(text) {
		return 0, bad(name, ErrRange)
	}
	n, err := strconv.Atoi(text)
	if err != nil || n > 256 {
		return 0, bad(name, ErrRange)
	}
	return n, nil
}
