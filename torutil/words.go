package torutil

import (
	"fmt"
	"strconv"
	"strings"
)

// words is an endpoint string taken apart: Twisted's little language of
// colon-separated words, each positional or key=value, with backslash quoting.
type words struct {
	args  []string
	named map[string]string
}

func splitWords(s string) (words, error) {
	w := words{named: make(map[string]string)}
	var key string
	var hasKey bool
	var word strings.Builder
	end := func() error {
		if !hasKey {
			w.args = append(w.args, word.String())
		} else {
			if _, twice := w.named[key]; twice {
				return fmt.Errorf("%s is said twice", key)
			}
			w.named[key] = word.String()
		}
		word.Reset()
		hasKey = false
		return nil
	}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\':
			if i++; i == len(s) {
				return words{}, fmt.Errorf("it ends in a backslash")
			}
			word.WriteByte(s[i])
		case c == ':':
			if err := end(); err != nil {
				return words{}, err
			}
		case c == '=' && !hasKey:
			key, hasKey = word.String(), true
			word.Reset()
		default:
			word.WriteByte(c)
		}
	}
	return w, end()
}

func quoteWord(s string) string {
	return strings.NewReplacer(`\`, `\\`, `:`, `\:`, `=`, `\=`).Replace(s)
}

func (w words) positional(i int) (string, bool) {
	if i < 0 || i >= len(w.args) {
		return "", false
	}
	return w.args[i], true
}

// take gives a word by its name, or by its position, and forgets the name.
func (w words) take(name string, position int) (string, bool, error) {
	byPlace, placed := w.positional(position)
	byName, named := w.named[name]
	delete(w.named, name)
	switch {
	case placed && named:
		return "", false, fmt.Errorf("%s is said twice", name)
	case named:
		return byName, true, nil
	default:
		return byPlace, placed, nil
	}
}

// dropNumber checks a word that we understand and have no use for.
func (w words) dropNumber(name string, position int) error {
	text, ok, err := w.take(name, position)
	if err != nil || !ok {
		return err
	}
	if _, err := strconv.ParseUint(text, 10, 16); err != nil {
		return fmt.Errorf("%s %q is not a number", name, text)
	}
	return nil
}

// rest refuses every word that was not taken.
func (w words) rest(positions int) error {
	for name := range w.named {
		return fmt.Errorf("%q is not understood", name)
	}
	if len(w.args) > positions {
		return fmt.Errorf("too many words (write a colon inside a word as \\:)")
	}
	return nil
}

// restKnown is rest, but for words that Twisted knows and we do not need.
func (w words) restKnown(positions int, known ...string) error {
	for _, name := range known {
		delete(w.named, name)
	}
	return w.rest(positions)
}
