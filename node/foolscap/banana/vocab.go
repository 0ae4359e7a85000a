package banana

import (
	"crypto/sha1"
	"encoding/hex"
	"strings"
)

// Vocabulary numbers the words that travel as VOCAB tokens. The zero value has
// none.
type Vocabulary struct {
	words   []string
	indices map[string]uint64
}

// MaxVocabulary is the highest index that Initial knows; the lowest is 0.
const MaxVocabulary = 1

// Initial returns a negotiated initial vocabulary (foolscap/vocab.py): 0 is
// empty, 1 holds the sequence types of Foolscap 0.0.6. ok is false for others.
func Initial(index int) (v Vocabulary, ok bool) {
	switch index {
	case 0:
		return Vocabulary{}, true
	case 1:
		return newVocabulary(
			"none", "boolean", "reference", "dict", "list", "tuple", "set", "immutable-set",
			"unicode", "set-vocab", "add-vocab", "call", "arguments", "answer", "error",
			"my-reference", "your-reference", "their-reference", "copyable",
			"instance", "module", "class", "method", "function", "attrdict"), true
	}
	return Vocabulary{}, false
}

func newVocabulary(words ...string) Vocabulary {
	v := Vocabulary{words: words, indices: make(map[string]uint64, len(words))}
	for i, w := range words {
		v.indices[w] = uint64(i)
	}
	return v
}

// Hash is the short digest by which both ends check that they mean the same
// table: the first four hex digits of the SHA-1 of the words joined by NUL.
func (v Vocabulary) Hash() string {
	sum := sha1.Sum([]byte(strings.Join(v.words, "\x00")))
	return hex.EncodeToString(sum[:])[:4]
}

func (v Vocabulary) word(i uint64) (string, bool) {
	if i >= uint64(len(v.words)) {
		return "", false
	}
	return v.words[i], true
}
