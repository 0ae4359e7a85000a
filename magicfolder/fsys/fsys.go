// Package fsys is a magic folder's view of a directory on disk: it looks at
// files, and puts whole files into place without ever losing what stood there.
//
// New contents are written to a hidden staging area inside the folder (so that
// moving them is a rename) and then placed, swapped or taken:
//
//	Place  staged -> path      fails when something is there
//	Swap   staged <-> path     what stood at path is in the staging area after
//	Take   path -> staged      a delete, until the staged file is discarded
//
// Each gives the caller what really stood at the path, to compare it with what
// was expected, before anything is thrown away: an edit made at the last moment
// is found and kept.
//
// Open gives the real thing, which works below an os.Root: nothing that a remote
// participant names is ever reached outside the folder. NewMemory gives one in
// memory.
package fsys

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"warren/magicfolder/snapshot"
)

// Staging is the hidden directory in the folder's root. A folder without it is
// not mounted, or not ours.
const Staging = ".warren-staging"

// Limits on a relpath.
const (
	MaxPath = 4096 // bytes, also what a path of the system calls can hold
	MaxName = 255  // bytes, of each part
)

// Errors.
var (
	ErrName    = errors.New("a path that a folder cannot hold")
	ErrMissing = errors.New("the folder's directory is not there (moved, or not mounted)")
	ErrNotFile = errors.New("not a regular file")
	ErrTarget  = errors.New("a symbolic link that does not stay inside the folder")
	ErrNoLinks = errors.New("a symbolic link, which this system does not make for us")
)

// State tells whether a file has changed: equal states, equal contents, as far
// as a file system tells.
type State struct {
	Size     int64  `json:"size"`
	Modified int64  `json:"modified"` // nanoseconds since the epoch
	Inode    uint64 `json:"inode,omitempty"`
	Kind     Kind   `json:"kind,omitempty"`
	Exec     bool   `json:"exec,omitempty"` // its owner may execute it
}

// Kind of what stands at a path.
type Kind int

// Kinds. Other is a FIFO, socket, device, or a symlink that leads out of the
// folder: never followed or opened. A Symlink's contents are its target. A Mark is
// a file that no disk has: each directory has one, empty, whose name is
// snapshot.DirectoryMark; to place it makes the directory, to take it removes the
// directory if that is empty.
const (
	Regular Kind = iota
	Dir
	Other
	Symlink
	Mark
)

// Synced says whether such a thing has versions.
func (k Kind) Synced() bool { return k == Regular || k == Symlink || k == Mark }

// Item is what stands at a path.
type Item struct {
	Path  string // slash-separated, relative to the folder
	Kind  Kind
	State State
	// Problem says why this item cannot be synced, in words for the user.
	Problem string
}

// File is open for reading.
type File interface {
	io.ReadCloser
	// State of the open file now, whatever has become of its name.
	State() (State, error)
}

// Writer writes a staged file.
type Writer interface {
	io.Writer
	// Finish syncs the contents to disk, sets the time and closes.
	Finish(modified time.Time) (State, error)
	// Abort closes and removes the file. After Finish it does nothing.
	Abort()
}

// FS is a folder's directory. Methods may be called concurrently. Missing
// things give errors that are fs.ErrNotExist, things in the way fs.ErrExist.
type FS interface {
	// Present fails with ErrMissing when the directory has gone from under us.
	Present() error
	// Walk calls fn for everything below dir ("" is the root), except the
	// staging area; it does not follow symlinks. An unreadable directory is an
	// Item with a Problem. Of marks it shows those of empty directories alone. For
	// a directory fn may return fs.SkipDir.
	Walk(dir string, fn func(Item) error) error
	Lstat(path string) (Item, error)
	// Empty says whether path is a directory with nothing in it.
	Empty(path string) bool
	// Modes says whether files keep the right to execute them.
	Modes() bool
	// Same says whether two paths name the same file, as they do when they
	// differ in case alone on a file system that ignores case.
	Same(a, b string) bool
	// Open opens what is Synced; ErrNotFile for anything else.
	Open(path string) (File, error)
	Create(staged string) (Writer, error)
	OpenStaged(staged string) (File, error)
	// Place moves a staged file to a path where nothing is. It makes directories.
	Place(staged, path string) error
	// Swap exchanges a staged file with the one at path, in one step where the
	// system has such a step.
	Swap(staged, path string) error
	// Take moves the file at path to the staging area.
	Take(path, staged string) error
	// Rename gives the file at from the name to, in the same directory, where
	// nothing is.
	Rename(from, to string) error
	// RemoveDir removes an empty directory.
	RemoveDir(path string) error
	// Dress makes a staged file what it is to be at path. A Regular one gets the
	// permissions of the regular file there, if there is one, and exec, unless
	// that is nil. A Symlink becomes a link to what the file holds: ErrTarget when
	// that leads out of the folder, ErrNoLinks.
	Dress(staged, path string, kind Kind, exec *bool) (State, error)
	// CopyMode gives a staged file the permissions of the regular file at path;
	// ErrNotFile for anything else.
	CopyMode(path, staged string) error
	// Discard removes a staged file; a missing one is no error.
	Discard(staged string) error
	// Staged lists the staging area.
	Staged() ([]string, error)
	Close() error
}

// CheckPath refuses relpaths that no folder can hold or that would lead
// elsewhere. windows adds what Windows cannot hold or takes for something else.
func CheckPath(path string, windows bool) error {
	switch {
	case path == "":
		return fmt.Errorf("%w: empty", ErrName)
	case len(path) > MaxPath:
		return fmt.Errorf("%w: longer than %d bytes", ErrName, MaxPath)
	case !utf8.ValidString(path):
		return fmt.Errorf("%w: not UTF-8", ErrName)
	case strings.IndexByte(path, 0) >= 0:
		return fmt.Errorf("%w: a zero byte", ErrName)
	}
	parts := strings.Count(path, "/")
	i := -1
	for part := range strings.SplitSeq(path, "/") {
		i++
		switch {
		case len(part) == len(snapshot.DirectoryMark) && strings.EqualFold(part, snapshot.DirectoryMark) &&
			(i == 0 || i < parts || part != snapshot.DirectoryMark):
			return fmt.Errorf("%w: a name that is reserved", ErrName)
		case part == "" || part == "." || part == "..":
			return fmt.Errorf("%w: an empty, . or .. part", ErrName)
		case len(part) > MaxName:
			return fmt.Errorf("%w: a name longer than %d bytes", ErrName, MaxName)
		case i == 0 && strings.EqualFold(part, Staging):
			return fmt.Errorf("%w: our own staging area", ErrName)
		}
		if windows {
			if why := windowsPart(part); why != "" {
				return fmt.Errorf("%w: %s", ErrName, why)
			}
		}
	}
	return nil
}

// WindowsProblem says in words why a Windows participant cannot hold this path;
// empty when it can.
func WindowsProblem(path string) string {
	for part := range strings.SplitSeq(path, "/") {
		if why := windowsPart(part); why != "" {
			return why
		}
	}
	return ""
}

// MaxTarget bounds the text of a symlink, in bytes.
const MaxTarget = 4095

// CheckTarget refuses the targets of a symlink at path that lead out of the folder,
// by themselves or through other links that pass: what goes up does so first, and
// no higher than the folder.
func CheckTarget(path, target string) error {
	if target == "" || len(target) > MaxTarget || strings.HasPrefix(target, "/") || strings.IndexByte(target, 0) >= 0 || !utf8.ValidString(target) {
		return ErrTarget
	}
	depth, down := strings.Count(path, "/"), false
	for part := range strings.SplitSeq(target, "/") {
		switch {
		case part == "" || part == ".":
		case part == "..":
			if depth--; down || depth < 0 {
				return ErrTarget
			}
		case depth == 0 && !down && strings.EqualFold(part, Staging):
			return ErrTarget
		default:
			down = true
		}
	}
	return nil
}

func windowsPart(part string) string {
	if i := strings.IndexAny(part, `<>:"\|?*`); i >= 0 {
		return fmt.Sprintf("Windows has no %q in names", part[i])
	}
	for _, r := range part {
		if r < ' ' {
			return "Windows has no control characters in names"
		}
	}
	if strings.HasSuffix(part, ".") || strings.HasSuffix(part, " ") {
		return "Windows drops a dot or space at the end of a name"
	}
	base, _, _ := strings.Cut(part, ".")
	if base = strings.TrimRight(base, " "); len(base) > len("CONOUT$") {
		return "" // longer than any of the reserved ones
	}
	base = strings.ToUpper(base)
	switch base {
	case "CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$":
		return "Windows reserves the name " + base
	}
	if rest, ok := strings.CutPrefix(base, "COM"); ok && device(rest) {
		return "Windows reserves the name " + base
	}
	if rest, ok := strings.CutPrefix(base, "LPT"); ok && device(rest) {
		return "Windows reserves the name " + base
	}
	return ""
}

func device(s string) bool {
	switch s {
	case "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "¹", "²", "³":
		return true
	}
	return false
}

// Printable gives a path a form that is safe to show: control characters, and
// the marks that turn the direction of text, are escaped.
func Printable(path string) string {
	var b strings.Builder
	for i := 0; i < len(path); {
		r, n := utf8.DecodeRuneInString(path[i:])
		switch {
		case r == utf8.RuneError && n <= 1:
			fmt.Fprintf(&b, `\x%02x`, path[i])
		case unicode.IsControl(r):
			fmt.Fprintf(&b, `\x%02x`, r)
		case unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029':
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
		i += n
	}
	return b.String()
}

// stagedName holds staged names to what we make ourselves.
func stagedName(name string) error {
	if name == "" || len(name) > 128 || strings.ContainsAny(name, `/\`) || name == "." || name == ".." {
		return fmt.Errorf("%w: staged name", ErrName)
	}
	return nil
}
