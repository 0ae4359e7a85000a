// Package remote is the contract between a magic folder and the grid: the few
// things that a folder asks of it, batch-shaped, and the errors that it branches
// on. It stands below the other rooms of magicfolder so that each can use it;
// package magicfolder names the same things again for those who provide a grid.
package remote

import (
	"context"
	"encoding/json"
	"errors"
	"io"

	"warren/node/caps"
)

// Cap is the text of a Tahoe capability. It is a secret: it prints redacted.
type Cap string

// String redacts: a cap never stands in a log or an error.
func (c Cap) String() string {
	if c == "" {
		return "[no cap]"
	}
	return "[cap]"
}

// GoString redacts %#v too.
func (c Cap) GoString() string { return c.String() }

// Text is the capability itself.
func (c Cap) Text() string { return string(c) }

// Entry is a directory's entry. Write is empty where only reading is given.
// Both are empty in the content entry of a snapshot that is a delete.
type Entry struct {
	Name     string
	Write    Cap
	Read     Cap
	Metadata json.RawMessage // the JSON object that stands beside the caps; may be nil
}

// Change sets an entry (Entry.Name) or, with Delete, removes it.
type Change struct {
	Entry  Entry
	Delete bool
	// Absent makes the whole Update fail with ErrExists, nothing applied, when
	// an entry of that name is there already at the moment of writing.
	Absent bool
}

// Version identifies the contents of a mutable directory: equal versions mean
// equal contents.
type Version string

// Asked is what came of the question for a directory's version.
type Asked struct {
	Version Version
	Err     error
}

// Errors that a Grid returns and a folder branches on.
var (
	// ErrUnhappy: fewer servers than the node's happy setting take shares now.
	// Nothing was lost; try again when servers return.
	ErrUnhappy = errors.New("too few storage servers")
	// ErrUnavailable: fewer than the needed shares can be read now.
	ErrUnavailable = errors.New("not enough shares can be read")
	// ErrExists: a Change with Absent met an entry of that name.
	ErrExists = errors.New("the directory has an entry of that name")
	// ErrUnwatched: the storage servers do not tell of changes.
	ErrUnwatched = errors.New("the storage servers do not tell of changes")
)

// Grid is what a folder needs of the grid. All methods may be called
// concurrently. A nil error of a writing method means stored on the grid.
type Grid interface {
	// PutFile stores size bytes as an immutable file and returns its readcap.
	PutFile(ctx context.Context, r io.Reader, size int64) (Cap, error)
	// PutDirectory stores an immutable directory of immutable entries. An entry
	// without any cap is stored as such.
	PutDirectory(ctx context.Context, entries []Entry) (Cap, error)
	// MakeDirectory makes an empty mutable directory: writecap and readcap.
	MakeDirectory(ctx context.Context) (write, read Cap, err error)
	// Get writes the file's verified bytes to w.
	Get(ctx context.Context, file Cap, w io.Writer) error
	// List reads a directory (mutable or immutable) and, when mutable, its version.
	List(ctx context.Context, dir Cap) ([]Entry, Version, error)
	// Update applies all changes at once, on top of whatever the directory holds
	// at that moment, and survives concurrent writers.
	Update(ctx context.Context, dir Cap, changes []Change) error
	// Versions asks for the versions of mutable directories without reading their
	// contents, cheaply, so that it can be done often. The answers are in the order of
	// the directories.
	Versions(ctx context.Context, dirs []Cap) []Asked
	// Watch has the channel closed when one of the mutable directories may have
	// another version than the one of have, which Versions or List gave last, or when
	// that would not be told any more. The error is ErrUnwatched when nobody tells of
	// it. ctx ends the watching, and has to be ended. A hint: Versions is the truth, and
	// is to be asked now and then all the same.
	Watch(ctx context.Context, dirs []Cap, have []Version) (changed <-chan struct{}, err error)
	// ReadOnly attenuates; a cap that is already read-only returns itself.
	ReadOnly(c Cap) (Cap, error)
	// Writable says whether c is the writecap of a mutable directory.
	Writable(c Cap) bool
}

// Kind is what a folder distinguishes among capabilities.
type Kind int

// The kinds; everything else (verifycaps, unknown caps, garbage) is Other.
const (
	Other            Kind = iota
	File                  // an immutable file
	Directory             // an immutable directory
	MutableDirectory      // a mutable directory, writecap or readcap
)

// KindOf looks at the capability's text alone, which has to be the usual one.
func KindOf(c Cap) Kind {
	if len(c) > 1<<16 {
		return Other
	}
	parsed, err := caps.Parse(string(c))
	if err != nil || parsed.Text() != c.Text() {
		// One directory under two texts would be two participants.
		return Other
	}
	switch parsed.(type) {
	case caps.LIT, caps.CHK:
		return File
	case caps.DirLIT, caps.DirCHK:
		return Directory
	case caps.DirWrite, caps.DirRead, caps.DirMDMFWrite, caps.DirMDMFRead:
		return MutableDirectory
	}
	return Other
}

// Size is how many bytes an immutable file or directory has, as its capability
// says; false for everything else.
func Size(c Cap) (int64, bool) {
	if len(c) > 1<<16 {
		return 0, false
	}
	parsed, err := caps.Parse(string(c))
	if err != nil {
		return 0, false
	}
	switch p := parsed.(type) {
	case caps.CHK:
		return int64(p.Size), true
	case caps.DirCHK:
		return int64(p.Size), true
	case caps.LIT:
		return int64(len(p.Data)), true
	case caps.DirLIT:
		return int64(len(p.Data)), true
	}
	return 0, false
}
