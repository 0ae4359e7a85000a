package magicfolder

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"warren/magicfolder/fsys"
	"warren/magicfolder/state"
)

// Clock is the time that a folder lives by.
type Clock interface {
	Now() time.Time
	// After sends once after d; stop releases it early.
	After(d time.Duration) (c <-chan time.Time, stop func())
}

// SystemClock is the machine's.
func SystemClock() Clock { return systemClock{} }

type systemClock struct{}

func (systemClock) Now() time.Time { return time.Now() }

func (systemClock) After(d time.Duration) (<-chan time.Time, func()) {
	t := time.NewTimer(d)
	return t.C, func() { t.Stop() }
}

// Options are what the folders of a node share. Grid and StatePath are needed,
// the rest has defaults.
type Options struct {
	Grid Grid
	// StatePath is the database, for instance NODEDIR/private/magicfolder.db.
	// Captured versions wait beside it, in StatePath + ".stash".
	StatePath string
	Clock     Clock
	Logger    *slog.Logger
	// Poll is how often the grid is asked for changes (5 s), as a rule: pace.go.
	Poll time.Duration
	// Scan is how often the whole folder is looked at (60 s), beside file events.
	Scan time.Duration
	// Settle is how long a file must be left alone before it is captured
	// (400 ms); negative: not at all.
	Settle time.Duration
	// Supersede is how soon after an edit the next one takes its place, as long as
	// it has not been uploaded (5 s); negative: each captured version is published.
	Supersede time.Duration
	// Grace is how long another participant may take to resolve a conflict
	// that both sides have published (3 polls).
	Grace time.Duration
	// Linger is how long a delete waits before it is published (10 s); negative:
	// not at all. An edit that another participant makes meanwhile wins without
	// anybody seeing the delete, which matters: a delete that reaches a
	// participant on magic-folder 24.3 before its own edit is out stops that
	// participant's whole folder. A file made again meanwhile is a plain edit.
	Linger time.Duration
	// Workers is how many small files are transferred at once (24); of large ones
	// it is a sixth. Storing a small file is waiting for servers and their disks.
	Workers int
	// Gather is called before a directory is made that must last: it may wait a few
	// seconds for storage servers that are about to connect, so that not only the
	// first ones hold it. May be nil.
	Gather func(context.Context)
	// Lost says whether the grid has a mutable directory no more: every storage server
	// that is known is connected and has said what it holds, and that is not enough to
	// read any version. Servers that are away, or do not answer, may hold it: then it is
	// false. nil: nobody can tell.
	Lost func(ctx context.Context, dir Cap) (bool, error)
	// OpenFS opens a folder's directory; fsys.Make and fsys.Open when nil.
	OpenFS func(dir string) (fsys.FS, error)
	// Fault, when set, may fail at a named step; tests crash folders there.
	Fault func(step string) error
}

func (o Options) withDefaults() (Options, error) {
	if o.Grid == nil || o.StatePath == "" {
		return o, errors.New("magic folders need a grid and a state path")
	}
	if o.Gather == nil {
		o.Gather = func(context.Context) {}
	}
	if o.Lost == nil {
		o.Lost = func(context.Context, Cap) (bool, error) { return false, nil }
	}
	if o.Clock == nil {
		o.Clock = SystemClock()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Poll <= 0 {
		o.Poll = 5 * time.Second
	}
	if o.Scan <= 0 {
		o.Scan = time.Minute
	}
	if o.Settle == 0 {
		o.Settle = 400 * time.Millisecond
	}
	if o.Supersede == 0 {
		o.Supersede = 5 * time.Second
	}
	if o.Grace <= 0 {
		o.Grace = 3 * o.Poll
	}
	if o.Linger == 0 {
		o.Linger = 10 * time.Second
	}
	if o.Workers <= 0 {
		o.Workers = 24
	}
	return o, nil
}

// Errors of the folder verbs.
var (
	ErrNoFolder = state.ErrNoFolder
	ErrFolder   = state.ErrFolder
	// ErrInUse: the database belongs to another running process.
	ErrInUse = state.ErrLocked
	// ErrMissing: the folder's directory has gone.
	ErrMissing = fsys.ErrMissing
	// ErrName: a participant or folder name that cannot be used.
	ErrName = errors.New("not a usable name")
	// ErrDirectory: the directory overlaps one that is a folder already, or holds
	// what is not to be shared.
	ErrDirectory = errors.New("the directory cannot become a folder")
	// ErrOwnFiles: the others would get this node's secrets, and what it writes
	// while it syncs would be a change to sync.
	ErrOwnFiles = fmt.Errorf("%w: it holds the files and secrets of this node itself; choose one below it", ErrDirectory)
	// ErrNotWritable: joining needs the Collective's writecap.
	ErrNotWritable = errors.New("not the writecap of a mutable directory")
	// ErrNotCollective: the directory is not a magic folder's Collective.
	ErrNotCollective = errors.New("not a magic folder that this version understands")
)
