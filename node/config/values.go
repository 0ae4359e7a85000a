package config

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

func readLimited(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, ErrTooLong
	}
	return data, nil
}

// CheckValue says whether a text may become a value in a settings file: UTF-8 on one
// line, without control characters and without white space around it, so that it can
// neither end its line nor come back different. Every value that is written passes
// through here; whoever receives one from another machine should ask early.
func CheckValue(v string) error {
	switch {
	case len(v) > maxValue:
		return ErrTooLong
	case !utf8.ValidString(v):
		return fmt.Errorf("%w: not UTF-8", ErrValue)
	case strings.TrimFunc(v, isSpace) != v:
		return fmt.Errorf("%w: white space at its beginning or end", ErrValue)
	}
	for _, r := range v {
		// U+2028 and U+2029 end lines for some readers.
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return fmt.Errorf("%w: control character", ErrValue)
		}
	}
	return nil
}

// escape is the way back from expand.
func escape(v string) string { return strings.ReplaceAll(v, "%", "%%") }

func parseBool(s string) (bool, error) {
	switch strings.ToLower(s) {
	case "1", "yes", "true", "on":
		return true, nil
	case "0", "no", "false", "off":
		return false, nil
	}
	return false, errors.New("neither true nor false")
}

// parseInt reads a decimal number. quoted: it was spelled b'2', as tahoe
// create-client --join of 1.20 writes the numbers that it receives as strings.
func parseInt(s string, low, high int) (n int, quoted bool, err error) {
	for _, q := range []string{"'", `"`} {
		inner, begins := strings.CutPrefix(s, "b"+q)
		inner, ends := strings.CutSuffix(inner, q)
		if begins && ends {
			s, quoted = inner, true
		}
	}
	v, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return 0, quoted, errors.New("not a number")
	}
	if int(v) < low || int(v) > high {
		return 0, quoted, fmt.Errorf("not between %d and %d", low, high)
	}
	return int(v), quoted, nil
}

// parseSize reads "1G", "10MiB", "500kB", "7"; K is 1000 and Ki 1024.
func parseSize(s string) (uint64, error) {
	if s == "" {
		return 0, nil
	}
	digits := len(s) - len(strings.TrimLeft(s, "0123456789"))
	n, err := strconv.ParseUint(s[:digits], 10, 64)
	if err != nil || n > math.MaxInt64 {
		return 0, errors.New("not a size")
	}
	unit := strings.TrimSuffix(strings.ToUpper(s[digits:]), "B")
	base := uint64(1000)
	if u, ok := strings.CutSuffix(unit, "I"); ok {
		unit, base = u, 1024
	}
	power := 0
	if unit != "" {
		if power = strings.Index("KMGTPE", unit) + 1; power == 0 || len(unit) != 1 {
			return 0, errors.New("not a size")
		}
	}
	for range power {
		if n > math.MaxInt64/base {
			return 0, errors.New("size too large")
		}
		n *= base
	}
	return n, nil
}

const day = 24 * time.Hour

// parseDuration reads "31 days", "2mo", "1 year".
func parseDuration(s string) (time.Duration, error) {
	text := strings.TrimSuffix(s, "s")
	unit := time.Duration(0)
	for _, u := range []struct {
		name string
		d    time.Duration
	}{{"day", day}, {"month", 31 * day}, {"mo", 31 * day}, {"year", 365 * day}} {
		if rest, ok := strings.CutSuffix(text, u.name); ok {
			text, unit = rest, u.d
			break
		}
	}
	if unit == 0 {
		return 0, errors.New("no unit (day, month or year)")
	}
	n, err := strconv.ParseUint(strings.TrimFunc(text, isSpace), 10, 31)
	if err != nil {
		return 0, errors.New("not a number of days, months or years")
	}
	if n > uint64(math.MaxInt64/unit) {
		return 0, errors.New("too long a time")
	}
	return time.Duration(n) * unit, nil
}

// parseDate reads "2026-11-23" as the midnight, UTC, that begins the day.
func parseDate(s string) (time.Time, error) {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return time.Time{}, errors.New("not a date like 2026-11-23")
	}
	return t, nil
}
