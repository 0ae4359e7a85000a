package dirnode

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Metadata is written as Python's json module writes it, since equal entries must
// give equal bytes: ", " and ": " between tokens, ASCII only, keys in the order
// in which they came, floats in Python's shortest form. The functions here work
// on JSON text and keep what decoding into Go values would lose: order, lone
// surrogates, the difference between 1 and 1.0.

// maxMetadata bounds the JSON of one entry, maxDepth its nesting: each level
// costs a copy.
const (
	maxMetadata = 1 << 20
	maxDepth    = 100
	// maxDigits is where Python refuses to read an integer: one longer would make
	// the whole directory unreadable to Tahoe.
	maxDigits = 4300
)

// member is a key and its value, both in Python's spelling.
type member struct{ key, value string }

// object is a JSON object in the order of its keys.
type object []member

// parseObject reads metadata; nil is the empty object.
func parseObject(text json.RawMessage) (object, error) {
	if text == nil {
		return nil, nil
	}
	if len(text) > maxMetadata || !utf8.Valid(text) || !json.Valid(text) {
		return nil, fmt.Errorf("%w: not JSON", ErrMetadata)
	}
	if depth(text) > maxDepth {
		return nil, fmt.Errorf("%w: nested too deep", ErrMetadata)
	}
	s := &scanner{text: string(text)}
	s.space()
	if s.text[s.at] != '{' {
		return nil, fmt.Errorf("%w: not a JSON object", ErrMetadata)
	}
	o := s.object()
	if s.err != nil {
		return nil, s.err
	}
	return o, nil
}

// depth is how deep valid JSON is nested.
func depth(text []byte) int {
	now, most := 0, 0
	inString := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			now++
			most = max(most, now)
		case c == '}' || c == ']':
			now--
		}
	}
	return most
}

// python is the object as json.dumps writes it.
func (o object) python() string {
	var b strings.Builder
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(m.key)
		b.WriteString(": ")
		b.WriteString(m.value)
	}
	b.WriteByte('}')
	return b.String()
}

func (o object) index(key string) int {
	key = `"` + key + `"`
	return slices.IndexFunc(o, func(m member) bool { return m.key == key })
}

func (o object) get(key string) (value string, ok bool) {
	if i := o.index(key); i >= 0 {
		return o[i].value, true
	}
	return "", false
}

// set replaces a value in its place or appends it, as a Python dict does.
func (o object) set(key, value string) object {
	if i := o.index(key); i >= 0 {
		o = slices.Clone(o)
		o[i].value = value
		return o
	}
	return append(slices.Clip(o), member{`"` + key + `"`, value})
}

func (o object) without(key string) object {
	return slices.DeleteFunc(slices.Clone(o), func(m member) bool { return m.key == `"`+key+`"` })
}

// truthy is Python's bool() of a value.
func truthy(value string) bool {
	switch value {
	case "", "null", "false", `""`, "[]", "{}", "0", "0.0", "-0.0":
		return false
	}
	return true
}

// scanner rewrites JSON that json.Valid has passed, so that it need not check
// structure again.
type scanner struct {
	text string
	at   int
	err  error
}

func (s *scanner) space() {
	for s.at < len(s.text) && strings.IndexByte(" \t\r\n", s.text[s.at]) >= 0 {
		s.at++
	}
}

func (s *scanner) value() string {
	s.space()
	switch c := s.text[s.at]; c {
	case '{':
		return s.object().python()
	case '[':
		var items []string
		for s.at++; ; s.at++ {
			s.space()
			if s.text[s.at] == ']' {
				break
			}
			items = append(items, s.value())
			s.space()
			if s.text[s.at] == ']' {
				break
			}
		}
		s.at++
		return "[" + strings.Join(items, ", ") + "]"
	case '"':
		return s.str()
	case 't', 'n':
		s.at += 4
		return s.text[s.at-4 : s.at]
	case 'f':
		s.at += 5
		return "false"
	}
	return s.number()
}

func (s *scanner) object() object {
	var o object
	place := map[string]int{}
	for s.at++; ; s.at++ {
		s.space()
		if s.text[s.at] == '}' {
			break
		}
		key := s.str()
		s.space()
		s.at++ // colon
		value := s.value()
		// A key that comes twice keeps its first place and its last value.
		if i, twice := place[key]; twice {
			o[i].value = value
		} else {
			place[key] = len(o)
			o = append(o, member{key, value})
		}
		s.space()
		if s.text[s.at] == '}' {
			break
		}
	}
	s.at++
	return o
}

const hexDigits = "0123456789abcdef"

func (s *scanner) str() string {
	var b strings.Builder
	unit := func(u uint16) {
		switch {
		case u == '"' || u == '\\':
			b.WriteByte('\\')
			b.WriteByte(byte(u))
		case u >= ' ' && u <= '~':
			b.WriteByte(byte(u))
		case u == '\n':
			b.WriteString(`\n`)
		case u == '\r':
			b.WriteString(`\r`)
		case u == '\t':
			b.WriteString(`\t`)
		case u == '\f':
			b.WriteString(`\f`)
		case u == '\b':
			b.WriteString(`\b`)
		default:
			b.WriteString(`\u`)
			for shift := 12; shift >= 0; shift -= 4 {
				b.WriteByte(hexDigits[u>>shift&15])
			}
		}
	}
	b.WriteByte('"')
	s.at++
	for s.text[s.at] != '"' {
		if s.text[s.at] == '\\' {
			c := s.text[s.at+1]
			s.at += 2
			if c == 'u' {
				u, err := strconv.ParseUint(s.text[s.at:s.at+4], 16, 16)
				if err != nil {
					s.err = fmt.Errorf("%w: escape", ErrMetadata)
				}
				unit(uint16(u))
				s.at += 4
				continue
			}
			if i := strings.IndexByte("bfnrt", c); i >= 0 {
				c = "\b\f\n\r\t"[i]
			}
			unit(uint16(c))
			continue
		}
		r, size := utf8.DecodeRuneInString(s.text[s.at:])
		s.at += size
		if r >= 0x10000 {
			unit(uint16(0xd800 + (r-0x10000)>>10))
			r = 0xdc00 + (r-0x10000)&0x3ff
		}
		unit(uint16(r))
	}
	s.at++
	b.WriteByte('"')
	return b.String()
}

func (s *scanner) number() string {
	from := s.at
	for s.at < len(s.text) && strings.IndexByte("+-.eE0123456789", s.text[s.at]) >= 0 {
		s.at++
	}
	text := s.text[from:s.at]
	if !strings.ContainsAny(text, ".eE") {
		if text == "-0" {
			return "0"
		}
		if len(strings.TrimPrefix(text, "-")) > maxDigits {
			s.err = fmt.Errorf("%w: number too long", ErrMetadata)
			return "0"
		}
		return text
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		s.err = fmt.Errorf("%w: number out of range", ErrMetadata)
		return "0"
	}
	return pythonFloat(f)
}

// pythonFloat is repr(f): shortest digits that read back the same, fixed notation
// for exponents from -4 to 15.
func pythonFloat(f float64) string {
	if f == 0 {
		return strconv.FormatFloat(f, 'f', 1, 64)
	}
	sci := strconv.FormatFloat(f, 'e', -1, 64) // d.ddde+XX, at least two digits, as in Python
	exp, err := strconv.Atoi(sci[strings.IndexByte(sci, 'e')+1:])
	if err == nil && exp >= -4 && exp < 16 {
		fixed := strconv.FormatFloat(f, 'f', -1, 64)
		if !strings.Contains(fixed, ".") {
			fixed += ".0"
		}
		return fixed
	}
	return sci
}
