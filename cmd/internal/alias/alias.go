// Package alias is the names that a user gives to directories of the grid:
// private/aliases in a node directory, a file that Tahoe-LAFS reads and writes too
// (allmydata/scripts/common.py). It is UTF-8, one alias a line:
//
//	# what begins so, and an empty line, is nobody's
//	name: URI:DIR2:...
//
// A name ends at the first colon; of two lines with one name the later counts.
// private/root_dir.cap, of old nodes, names the default alias when the file does
// not.
//
// Call Read for what there is, Add for one more, and Find to read what stands on a
// command line. The capabilities here are secrets.
package alias

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"

	"warren/node/caps"
	"warren/node/durable"
)

// Default is the alias of a path that names none.
const Default = "tahoe"

// Errors.
var (
	ErrExists  = errors.New("already exists")
	ErrName    = errors.New("not a name for an alias")
	ErrUnknown = errors.New("unknown alias")
	ErrCap     = errors.New("does not name a directory")
)

// File is where the aliases of a node directory are.
func File(dir string) string { return filepath.Join(dir, "private", "aliases") }

// Read returns the aliases of a node directory: name -> capability as it stands
// there. Lines that are none are passed over, so that one bad line does not take
// the others away. Without a file there are none.
func Read(dir string) (map[string]string, error) {
	found := map[string]string{}
	root, err := os.ReadFile(filepath.Join(dir, "private", "root_dir.cap"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if cap := strings.TrimSpace(string(root)); cap != "" {
		found[Default] = cap
	}
	text, err := os.ReadFile(File(dir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		name, cap, ok := strings.Cut(line, ":")
		if ok && !strings.HasPrefix(line, "#") {
			found[name] = strings.TrimSpace(cap)
		}
	}
	return found, nil
}

// CheckName says whether an alias of this name could be found again: Tahoe refuses
// colons and spaces, and would not read a comment, a line's end, or a path.
func CheckName(name string) error {
	switch {
	case strings.Contains(name, ":"):
		return fmt.Errorf("%w: it cannot contain colons", ErrName)
	case strings.Contains(name, " "):
		return fmt.Errorf("%w: it cannot contain spaces", ErrName)
	case name == "", strings.HasPrefix(name, "#"), strings.Contains(name, "/"), name == "URI", !utf8.ValidString(name),
		strings.ContainsFunc(name, func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) }):
		return ErrName
	}
	return nil
}

// Add writes one more alias. The rest of the file stays byte for byte; the new one
// is on the disk when Add returns. A name that is there is ErrExists.
func Add(dir, name string, cap caps.Cap) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if !names(cap) {
		return ErrCap
	}
	known, err := Read(dir)
	if err != nil {
		return err
	}
	if _, ok := known[name]; ok {
		return fmt.Errorf("alias %q %w", name, ErrExists)
	}
	text, err := os.ReadFile(File(dir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(text) > 0 && text[len(text)-1] != '\n' {
		text = append(text, '\n')
	}
	text = fmt.Appendf(text, "%s: %s\n", name, cap.Text())
	return durable.WriteFile(File(dir), text, 0o600)
}

// Cap reads what stands behind an alias: a directory's capability.
func Cap(text string) (caps.Cap, error) {
	c, err := caps.Parse(text)
	if err != nil || !names(c) {
		return nil, ErrCap
	}
	return c, nil
}

// names says whether a capability is that of a directory one can look into.
func names(c caps.Cap) bool { return caps.IsDir(c) && !caps.IsVerifier(c) }

// IsCap says whether an argument begins with a capability.
func IsCap(arg string) bool {
	arg = strings.TrimLeft(arg, " ")
	for _, prefix := range []string{"ro.", "imm."} {
		arg = strings.TrimPrefix(arg, prefix)
	}
	return strings.HasPrefix(arg, "URI:")
}

// Place is a path on the grid: below a capability, "" for what that itself names.
type Place struct {
	Cap  string // as given: not parsed, it may be of a kind to come
	Path string // parts separated by /
}

// Split reads an argument without knowing the aliases: a Place when it begins with
// a capability ("CAP", "CAP/path", "CAP:./path"), else the alias before its colon
// and the path behind. A colon behind a slash belongs to the path, and so does,
// with drives, that of "C:\file"; then, and without a colon, named is false.
func Split(arg string, drives bool) (at Place, name string, named bool) {
	arg = strings.Trim(arg, " ")
	if IsCap(arg) {
		if cap, path, ok := strings.Cut(arg, ":./"); ok {
			return Place{cap, path}, "", true
		}
		cap, path, _ := strings.Cut(arg, "/")
		return Place{cap, path}, "", true
	}
	name, path, ok := strings.Cut(arg, ":")
	if !ok || strings.Contains(name, "/") || drives && len(name) == 1 {
		return Place{Path: arg}, "", false
	}
	return Place{Path: path}, name, true
}

// Find reads an argument that must be on the grid; one that names no alias is below
// the default one. An alias that is not there is ErrUnknown.
func Find(known map[string]string, arg string) (Place, error) {
	at, name, named := Split(arg, false)
	if at.Cap != "" {
		return at, nil
	}
	if !named {
		name = Default
	}
	text, ok := known[name]
	if !ok && !named {
		return at, fmt.Errorf("%w: none is named, and the default one, %q, does not exist", ErrUnknown, Default)
	}
	if !ok {
		return at, fmt.Errorf("%w %q", ErrUnknown, name)
	}
	cap, err := Cap(text)
	if err != nil {
		return at, fmt.Errorf("alias %q: %w", name, err)
	}
	at.Cap = cap.Text()
	return at, nil
}
