package mailbox

import (
	"encoding/json"
	"unicode/utf8"
)

// fields is an inbound frame.
type fields map[string]json.RawMessage

func parse(frame []byte) (fields, error) {
	var f fields
	if !utf8.Valid(frame) || json.Unmarshal(frame, &f) != nil || f == nil {
		return nil, refusal("not a JSON object")
	}
	return f, nil
}

// text reads a required string of printable ASCII: what stands in our keys and
// is sent on to the other side.
func (f fields) text(name string, limit int) (string, error) {
	var s string
	raw, ok := f[name]
	if !ok {
		return "", refusal("missing '" + name + "'")
	}
	if json.Unmarshal(raw, &s) != nil || s == "" || len(s) > limit || string(raw) == "null" {
		return "", refusal("bad '" + name + "'")
	}
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return "", refusal("bad '" + name + "'")
		}
	}
	return s, nil
}

func (f fields) optional(name string, limit int) (string, error) {
	if raw, ok := f[name]; !ok || string(raw) == "null" || string(raw) == `""` {
		return "", nil
	}
	return f.text(name, limit)
}

// nullable is an optional string for an answer: null when it is absent or bad.
func (f fields) nullable(name string) any {
	if s, err := f.optional(name, 64); err == nil && s != "" {
		return s
	}
	return nil
}

func (f fields) hex(name string, limit int) (string, error) {
	if raw := f[name]; string(raw) == `""` {
		return "", nil
	}
	s, err := f.text(name, limit)
	if err != nil {
		return "", err
	}
	if len(s)%2 != 0 {
		return "", refusal("bad '" + name + "'")
	}
	for i := range len(s) {
		if c := s[i]; !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F') {
			return "", refusal("bad '" + name + "'")
		}
	}
	return s, nil
}

func (f fields) nameplate() (string, error) {
	s, err := f.text("nameplate", 40)
	if err != nil {
		return "", err
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return "", refusal("bad 'nameplate'")
		}
	}
	return s, nil
}

// ours decodes our extension's object, if there is one.
func (f fields) ours(into any) error {
	raw, ok := f[extension]
	if !ok {
		return nil
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return refusal("bad " + extension)
	}
	return nil
}

func (f fields) reason() (string, error) {
	var told struct {
		Reason string `json:"reason"`
	}
	if err := f.ours(&told); err != nil {
		return "", err
	}
	switch told.Reason {
	case "", goneUsed, goneExpired, goneCancelled, goneFailed:
		return told.Reason, nil
	}
	return "", refusal("bad " + extension)
}
