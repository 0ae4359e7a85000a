package snapshot

import (
	"errors"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// MetadataName is the entry in a Collective or Personal directory that tells the
// version of the data model. No mangled path looks like it.
const MetadataName = "@metadata"

// DirectoryMetadata is what that entry's file holds.
const DirectoryMetadata = `{"version": 1}`

// ErrMangled is returned for a name that Mangle never makes.
var ErrMangled = errors.New("not a mangled path")

// Mangle flattens a relpath to an entry's name: "@" becomes "@@", "/" "@_".
func Mangle(relpath string) string {
	return strings.NewReplacer("@", "@@", "/", "@_").Replace(relpath)
}

// Unmangle is the inverse. It is stricter than magic-folder's, which lets a
// last "@" pass: only what Mangle makes is accepted.
func Unmangle(name string) (string, error) {
	if name == "" || !utf8.ValidString(name) {
		return "", ErrMangled
	}
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		switch c := name[i]; c {
		case '/':
			return "", ErrMangled
		case '@':
			i++
			if i >= len(name) {
				return "", ErrMangled
			}
			switch name[i] {
			case '@':
				b.WriteByte('@')
			case '_':
				b.WriteByte('/')
			default:
				return "", ErrMangled
			}
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), nil
}

// Key is the identity of a path: Tahoe keeps entry names in NFC, so two paths
// that differ in normal form alone are one entry.
func Key(relpath string) string { return norm.NFC.String(relpath) }
