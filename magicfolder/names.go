package magicfolder

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"warren/magicfolder/snapshot"
)

const maxParticipant = 128 // bytes

// CheckParticipant gives a participant's name as it is written (NFC), or says
// why it cannot be one. The name becomes a part of file names on every
// participant's disk.
func CheckParticipant(name string) (string, error) {
	if !utf8.ValidString(name) {
		return "", fmt.Errorf("%w: not UTF-8", ErrName)
	}
	name = norm.NFC.String(strings.TrimSpace(name))
	if err := foreignName(name); err != nil {
		return "", err
	}
	if strings.HasPrefix(name, "@") || strings.HasPrefix(name, ".") {
		return "", fmt.Errorf("%w: it starts with %q", ErrName, name[:1])
	}
	return name, nil
}

// foreignName is what a name found in a Collective must pass.
func foreignName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: empty", ErrName)
	case len(name) > maxParticipant:
		return fmt.Errorf("%w: longer than %d bytes", ErrName, maxParticipant)
	case !utf8.ValidString(name):
		return fmt.Errorf("%w: not UTF-8", ErrName)
	case name == "." || name == "..":
		return fmt.Errorf("%w: a path", ErrName)
	case name == snapshot.MetadataName:
		return fmt.Errorf("%w: reserved", ErrName)
	}
	for _, r := range name {
		switch {
		case r == '/' || r == '\\':
			return fmt.Errorf("%w: a slash in it", ErrName)
		case unicode.IsControl(r) || r == '\u2028' || r == '\u2029':
			return fmt.Errorf("%w: a control character in it", ErrName)
		case unicode.Is(unicode.Bidi_Control, r):
			return fmt.Errorf("%w: a mark that turns the text's direction in it", ErrName)
		}
	}
	return nil
}

// freeName gives want, or the first of want-2, want-3.. that taken denies.
func freeName(want string, taken func(string) bool) string {
	if !taken(want) {
		return want
	}
	for n := 2; ; n++ {
		suffix := "-" + strconv.Itoa(n)
		base := want
		for len(base)+len(suffix) > maxParticipant {
			_, size := utf8.DecodeLastRuneInString(base)
			base = base[:len(base)-size]
		}
		if name := base + suffix; !taken(name) {
			return name
		}
	}
}
