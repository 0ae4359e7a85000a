// Package code holds the short code that one person reads to another, and the
// link that carries the same code together with its mailbox.
//
// A code is magic-wormhole's: a nameplate (the number of a meeting place at a
// mailbox server), then words of the PGP word list, joined by hyphens:
//
//	7-crossover-clockwork
//
// The words alternate between the list's two columns, beginning with the
// column of three-syllable words, so that a word left out, doubled or swapped
// is noticed before anything is sent: a wrong code costs the invite, because
// the exchange (SPAKE2) grants one guess.
//
// A link is
//
//	warren:7-crossover-clockwork@ws://host:port/path
//
// It holds no character that a shell reads as its own.
//
// A code is a secret until it is used: Code and Link print redacted, and no
// error of this package contains a part of one. What the user mistyped and the
// words near it stand in MistypedError.Nearest, for the terminal of the person
// who typed it only.
package code

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/psanford/wormhole-william/wordlist"
)

// Bounds of what a code may be.
const (
	// MinWords and MaxWords bound the words of a code: two give a guesser
	// one chance in 65,536, four one in four thousand million.
	MinWords = 2
	MaxWords = 8
	// maxNameplate is far above what servers allot and keeps the number
	// within what every peer reads.
	maxNameplate = 18
	// maxText bounds what Parse looks at.
	maxText = 200
)

// Errors that callers branch on. A word that is not in the list is a
// *MistypedError, which is ErrMalformed too.
var (
	// ErrMalformed: the text is not number-word-word.
	ErrMalformed = errors.New("not an invite code")
	// ErrMailbox: the text is not a mailbox's address (ws://host:port/path).
	ErrMailbox = errors.New("not a mailbox address")
)

// Code is a nameplate and its words. The zero Code is no code.
type Code struct {
	nameplate string
	words     string // joined by hyphens
}

// New draws words of the given number from rand for a nameplate.
func New(rand io.Reader, nameplate string, words int) (Code, error) {
	if err := checkNameplate(nameplate); err != nil {
		return Code{}, err
	}
	if words < MinWords || words > MaxWords {
		return Code{}, fmt.Errorf("%w: %d words, want %d to %d", ErrMalformed, words, MinWords, MaxWords)
	}
	drawn := make([]byte, words)
	if _, err := io.ReadFull(rand, drawn); err != nil {
		return Code{}, fmt.Errorf("drawing the words of a code: %w", err)
	}
	list := make([]string, words)
	for i, b := range drawn {
		list[i] = word(i, b)
	}
	return Code{nameplate, strings.Join(list, "-")}, nil
}

// Parse reads a code as a person types it: in either case, with blanks around
// it. Every word must be in the list and in the column of its place.
func Parse(s string) (Code, error) {
	if len(s) > maxText {
		return Code{}, fmt.Errorf("%w: too long", ErrMalformed)
	}
	s = strings.ToLower(strings.Trim(s, " \t\r\n"))
	parts := strings.Split(s, "-")
	if err := checkNameplate(parts[0]); err != nil {
		return Code{}, err
	}
	words := parts[1:]
	for i, w := range words {
		if w == "" {
			return Code{}, fmt.Errorf("%w: word %d is empty", ErrMalformed, i+1)
		}
		if _, ok := index(i, w); ok {
			continue
		}
		wrong := &MistypedError{Word: i + 1, Nearest: nearest(i, w)}
		if _, ok := index(i+1, w); ok {
			wrong.Misplaced = true
		}
		return Code{}, wrong
	}
	if len(words) < MinWords || len(words) > MaxWords {
		return Code{}, fmt.Errorf("%w: %d words after the number, want %d to %d", ErrMalformed, len(words), MinWords, MaxWords)
	}
	return Code{parts[0], strings.Join(words, "-")}, nil
}

// Text is the code itself, as it is read to a friend.
func (c Code) Text() string {
	if c.IsZero() {
		return ""
	}
	return c.nameplate + "-" + c.words
}

// String redacts: a code never stands in a log or an error.
func (c Code) String() string { return "[code]" }

// Format redacts for every verb.
func (c Code) Format(f fmt.State, _ rune) { io.WriteString(f, c.String()) }

// Nameplate is the number of the meeting place. It is no secret: the mailbox
// server knows it.
func (c Code) Nameplate() string { return c.nameplate }

// Words counts the words.
func (c Code) Words() int {
	if c.IsZero() {
		return 0
	}
	return strings.Count(c.words, "-") + 1
}

// IsZero says whether c is no code.
func (c Code) IsZero() bool { return c.nameplate == "" }

// Equal compares in constant time.
func (c Code) Equal(d Code) bool {
	return subtle.ConstantTimeCompare([]byte(c.Text()), []byte(d.Text())) == 1
}

// MistypedError names a word that is not in the list, or not in its column.
type MistypedError struct {
	Word      int      // counted from one
	Misplaced bool     // a word of the list, but of the other column: one is missing or swapped
	Nearest   []string // the words of the right column nearest to it: show them only to who typed it
}

// Error says which word, never what it was.
func (e *MistypedError) Error() string {
	if e.Misplaced {
		return fmt.Sprintf("word %d of the code cannot stand there: a word is missing or two are swapped", e.Word)
	}
	return fmt.Sprintf("word %d of the code is not in the word list", e.Word)
}

// Unwrap makes it an ErrMalformed.
func (e *MistypedError) Unwrap() error { return ErrMalformed }

func checkNameplate(s string) error {
	if s == "" || len(s) > maxNameplate || s[0] == '0' {
		return fmt.Errorf("%w: it must begin with a number", ErrMalformed)
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return fmt.Errorf("%w: it must begin with a number", ErrMalformed)
		}
	}
	return nil
}

// word is the word for byte b at place i (from zero).
func word(i int, b byte) string {
	pair := wordlist.RawWords[b]
	if i%2 == 0 {
		return strings.ToLower(pair.Odd)
	}
	return strings.ToLower(pair.Even)
}

// index finds w in the column of place i.
func index(i int, w string) (byte, bool) {
	for b := range 256 {
		if word(i, byte(b)) == w {
			return byte(b), true
		}
	}
	return 0, false
}
