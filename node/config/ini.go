package config

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The syntax is that of Python's configparser.ConfigParser(strict=False), because
// Tahoe reads its settings with it. It differs from every Go package for INI files
// where it matters: "#" and ";" begin a comment only at the start of a line, ":" is
// a delimiter like "=", deeper indented lines go on with the value, even behind empty
// lines, a trailing backslash and quotes mean nothing, and "%" interpolates. A reader
// that took a nickname apart at "#" would not be reading the same file. This one also
// remembers the lines, so that an edit keeps comments and order.

// Bounds on settings files.
const (
	maxFile  = 1 << 20
	maxValue = 16 << 10
)

type ini struct {
	file  string // base name, for errors
	lines []string
	// values[section][key]: keys in lower case, values raw (not interpolated). The
	// last definition counts, as in Python.
	values map[string]map[string]string
	order  []string // sections as they first appear
	places map[string]map[string][]span
	ends   map[string]int // the line behind a section's last line that says anything
}

// span is a definition's lines, [from, to).
type span struct{ from, to int }

const defaultSection = "DEFAULT"

func readIni(path string) (*ini, error) {
	file := filepath.Base(path)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		// Tahoe takes a missing file for an empty one.
		return parseIni(file, nil)
	}
	if err != nil {
		return nil, &Error{File: file, Err: err}
	}
	defer f.Close()
	data, err := readLimited(f)
	if err != nil {
		return nil, &Error{File: file, Err: err}
	}
	return parseIni(file, data)
}

func parseIni(file string, data []byte) (*ini, error) {
	if len(data) > maxFile {
		return nil, &Error{File: file, Err: ErrTooLong}
	}
	if !utf8.Valid(data) {
		return nil, &Error{File: file, Detail: "not UTF-8", Err: ErrSyntax}
	}
	text := strings.TrimPrefix(string(data), "\ufeff")
	p := &ini{
		file:   file,
		values: map[string]map[string]string{},
		places: map[string]map[string][]span{},
		ends:   map[string]int{},
	}
	if text != "" {
		p.lines = strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	}
	return p, p.parse()
}

func (p *ini) parse() error {
	var section, key string
	inSection := false
	indent := 0
	for i, line := range p.lines {
		value := strings.TrimFunc(line, isSpace)
		if value == "" {
			// An empty line belongs to the value only when more of it follows, and is
			// dropped with the value's end otherwise.
			if inSection && key != "" {
				p.values[section][key] += "\n"
			}
			continue
		}
		if value[0] == '#' || value[0] == ';' {
			if inSection {
				p.ends[section] = i + 1
			}
			continue
		}
		depth := indentation(line)
		if inSection && key != "" && depth > indent {
			p.values[section][key] += "\n" + value
			places := p.places[section][key]
			places[len(places)-1].to = i + 1
			p.ends[section] = i + 1
			continue
		}
		indent = depth
		if name, ok := header(value); ok {
			section, key, inSection = name, "", true
			if p.values[section] == nil {
				p.values[section] = map[string]string{}
				p.places[section] = map[string][]span{}
				p.order = append(p.order, section)
			}
			p.ends[section] = i + 1
			continue
		}
		if !inSection {
			return &Error{File: p.file, Line: i + 1, Detail: "a setting before the first [section]", Err: ErrSyntax}
		}
		at := strings.IndexAny(value, "=:")
		if at < 0 {
			return &Error{File: p.file, Line: i + 1, Section: section, Detail: "neither [section] nor key = value", Err: ErrSyntax}
		}
		key = strings.ToLower(strings.TrimRightFunc(value[:at], isSpace))
		if key == "" {
			return &Error{File: p.file, Line: i + 1, Section: section, Detail: "a value without a key", Err: ErrSyntax}
		}
		p.values[section][key] = strings.TrimFunc(value[at+1:], isSpace)
		p.places[section][key] = append(p.places[section][key], span{i, i + 1})
		p.ends[section] = i + 1
	}
	for _, keys := range p.values {
		for k, v := range keys {
			keys[k] = strings.TrimRightFunc(v, isSpace)
		}
	}
	return nil
}

// header takes "[NAME]" as Python does: up to the last bracket, whatever follows.
func header(value string) (string, bool) {
	end := strings.LastIndexByte(value, ']')
	if value[0] != '[' || end < 2 {
		return "", false
	}
	return value[1:end], true
}

// isSpace is what Python calls white space.
func isSpace(r rune) bool { return unicode.IsSpace(r) || 0x1c <= r && r <= 0x1f }

func indentation(line string) int {
	n := 0
	for _, r := range line {
		if !isSpace(r) {
			return n
		}
		n++
	}
	return n
}

// get returns a value with its references expanded. ok is false when it is not set.
func (p *ini) get(section, key string) (value string, ok bool, err error) {
	raw, ok := p.values[section][key]
	if !ok {
		return "", false, nil
	}
	budget := maxValue
	value, err = p.expand(section, raw, 1, &budget)
	if err != nil {
		return "", true, &Error{File: p.file, Section: section, Key: key, Detail: err.Error(), Err: ErrSyntax}
	}
	return value, true, nil
}

// expand is Python's BasicInterpolation: "%%" is a percent sign, "%(key)s" another
// value of the section, at most ten deep. The budget bounds the work that a file full
// of references could make.
func (p *ini) expand(section, raw string, depth int, budget *int) (string, error) {
	if depth > 10 {
		return "", errors.New("references too deep")
	}
	var out strings.Builder
	for raw != "" {
		at := strings.IndexByte(raw, '%')
		if at < 0 {
			at = len(raw)
		}
		out.WriteString(raw[:at])
		if *budget -= at + 1; *budget < 0 {
			return "", errors.New("value too long")
		}
		raw = raw[at:]
		switch {
		case raw == "":
		case strings.HasPrefix(raw, "%%"):
			out.WriteByte('%')
			raw = raw[2:]
		case strings.HasPrefix(raw, "%("):
			end := strings.IndexByte(raw, ')')
			if end < 3 || !strings.HasPrefix(raw[end:], ")s") {
				return "", errors.New("a percent sign must be doubled")
			}
			ref, ok := p.values[section][strings.ToLower(raw[2:end])]
			if !ok {
				return "", errors.New("reference to a key that is not there")
			}
			if strings.Contains(ref, "%") {
				v, err := p.expand(section, ref, depth+1, budget)
				if err != nil {
					return "", err
				}
				ref = v
			} else {
				*budget -= len(ref)
			}
			out.WriteString(ref)
			raw = raw[end+2:]
		default:
			return "", errors.New("a percent sign must be doubled")
		}
	}
	return out.String(), nil
}

// bytes is the file's text.
func (p *ini) bytes() []byte {
	if len(p.lines) == 0 {
		return nil
	}
	return []byte(strings.Join(p.lines, "\n") + "\n")
}

// set returns a copy of p in which the key has the value (already checked and
// escaped); everything else stays in place. It fails rather than changing the meaning
// of another line.
func (p *ini) set(section, key, value string) (*ini, error) {
	line := strings.TrimRightFunc(key+" = "+value, isSpace)
	key = strings.ToLower(key)
	var lines []string
	if places := p.places[section][key]; len(places) > 0 {
		// The last definition counts. Keep its indentation: deeper lines around it
		// would otherwise be taken for its continuation, or it for theirs.
		at := places[len(places)-1]
		old := p.lines[at.from]
		lines = append(lines, p.lines[:at.from]...)
		lines = append(lines, old[:len(old)-len(strings.TrimLeftFunc(old, isSpace))]+line)
		lines = append(lines, p.lines[at.to:]...)
	} else if end, ok := p.ends[section]; ok {
		lines = append(lines, p.lines[:end]...)
		lines = append(lines, line)
		lines = append(lines, p.lines[end:]...)
	} else {
		lines = append(lines, p.lines...)
		if len(lines) > 0 && lines[len(lines)-1] != "" {
			lines = append(lines, "")
		}
		lines = append(lines, "["+section+"]", line)
	}
	return p.edited(lines, section, key, value)
}

// edited parses the new lines and checks that they differ from the old ones in the
// one value alone.
func (p *ini) edited(lines []string, section, key, value string) (*ini, error) {
	fail := &Error{File: p.file, Section: section, Key: key, Detail: "cannot be changed without changing another setting", Err: ErrSyntax}
	q, err := parseIni(p.file, []byte(strings.Join(lines, "\n")+"\n"))
	if err != nil {
		return nil, err
	}
	for name := range q.values {
		if p.values[name] == nil && name != section {
			return nil, fail
		}
	}
	for name, old := range p.values {
		want := old
		if name == section {
			want = maps.Clone(old)
			want[key] = value
		}
		if !maps.Equal(q.values[name], want) {
			return nil, fail
		}
	}
	if q.values[section][key] != value {
		return nil, fail
	}
	return q, nil
}
