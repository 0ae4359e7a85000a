package dirnode

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"warren/node/caps"
	"warren/node/mutable"
)

var (
	// ErrNotDirectory: the capability, or a step of a path, is no directory.
	ErrNotDirectory = errors.New("dirnode: not a directory")
	// ErrUnsupported: a capability that gives no right to read.
	ErrUnsupported = errors.New("dirnode: directory of an unsupported kind")
)

// Files is what this package needs of immutable files.
type Files interface {
	// Put stores data and returns its LIT or CHK capability, always the same for
	// the same data.
	Put(ctx context.Context, data []byte) (caps.Cap, error)
	// Get returns the verified contents of a LIT or CHK capability.
	Get(ctx context.Context, c caps.Cap) ([]byte, error)
}

// Dirs makes, lists and edits directories. It is safe for concurrent use when
// its fields are.
type Dirs struct {
	Files   Files
	Mutable *mutable.Store
	Now     func() time.Time // nil: time.Now
	// Keeper, when not nil, looks after what Edit has set.
	Keeper *Keeper
	// TempDir is where a long walk keeps what it has met; "": the system's.
	TempDir string
}

func (d *Dirs) now() time.Time {
	if d.Now == nil {
		return time.Now()
	}
	return d.Now()
}

// Make makes a mutable directory in an SDMF file with a fresh key. The entries'
// metadata are taken as they are.
func (d *Dirs) Make(ctx context.Context, entries []Entry) (caps.DirWrite, error) {
	c, err := d.MakeIn(ctx, mutable.Kind{}, entries)
	if err != nil {
		return caps.DirWrite{}, err
	}
	return c.(caps.DirWrite), nil
}

// MakeIn is Make in a file of any kind.
func (d *Dirs) MakeIn(ctx context.Context, kind mutable.Kind, entries []Entry) (caps.WriteDir, error) {
	file, err := d.Mutable.Create(ctx, kind, func(c caps.MutableWrite) ([]byte, error) { return Writable(c).Pack(entries) })
	if err != nil {
		return nil, err
	}
	dir, _ := caps.Dir(file)
	return dir.(caps.WriteDir), nil
}

// MakeImmutable makes an immutable directory: the same entries, the same capability.
func (d *Dirs) MakeImmutable(ctx context.Context, entries []Entry) (caps.Cap, error) {
	data, err := Immutable().Pack(entries)
	if err != nil {
		return nil, err
	}
	file, err := d.Files.Put(ctx, data)
	if err != nil {
		return nil, err
	}
	switch file.(type) {
	case caps.CHK, caps.LIT:
		dir, _ := caps.Dir(file)
		return dir, nil
	}
	return nil, fmt.Errorf("dirnode: an immutable file came back as %s", file.Kind())
}

// List reads a directory, and tells its version when it is mutable.
func (d *Dirs) List(ctx context.Context, dir caps.Cap) ([]Entry, mutable.Version, error) {
	data, form, version, err := d.read(ctx, dir)
	if err != nil {
		return nil, mutable.Version{}, err
	}
	entries, err := form.Unpack(data)
	return entries, version, err
}

// contents is List with the size of the file that holds the directory.
func (d *Dirs) contents(ctx context.Context, dir caps.Cap) ([]Entry, uint64, error) {
	data, form, _, err := d.read(ctx, dir)
	if err != nil {
		return nil, 0, err
	}
	entries, err := form.Unpack(data)
	return entries, uint64(len(data)), err
}

// read gives a directory's bytes.
func (d *Dirs) read(ctx context.Context, dir caps.Cap) (data []byte, form Form, version mutable.Version, err error) {
	form = ReadOnly()
	file, ok := readable(dir)
	switch dir := dir.(type) {
	case caps.WriteDir:
		form = Writable(dir)
	case caps.DirCHK, caps.DirLIT:
		data, err = d.Files.Get(ctx, caps.File(dir))
		return data, Immutable(), version, err
	}
	if !ok {
		return nil, form, version, notDirectory(dir)
	}
	data, version, err = d.Mutable.Read(ctx, file)
	return data, form, version, err
}

// readable is the readcap of the file that holds a mutable directory.
func readable(dir caps.Cap) (caps.MutableRead, bool) {
	switch dir := dir.(type) {
	case caps.DirWrite:
		return dir.File().Read(), true
	case caps.DirRead:
		return dir.File(), true
	case caps.DirMDMFWrite:
		return dir.File().Read(), true
	case caps.DirMDMFRead:
		return dir.File(), true
	}
	return nil, false
}

func notDirectory(c caps.Cap) error {
	if caps.IsDir(c) {
		return fmt.Errorf("%w: %s", ErrUnsupported, c.Kind())
	}
	return ErrNotDirectory
}

// Versions asks for directories' versions without reading them, for those who ask
// again and again (mutable.Store.Versions). Immutable directories have only the zero
// version.
func (d *Dirs) Versions(ctx context.Context, dirs []caps.Cap) []mutable.Asked {
	out := make([]mutable.Asked, len(dirs))
	var files []caps.MutableRead
	var at []int
	for i, dir := range dirs {
		if file, ok := readable(dir); ok {
			files, at = append(files, file), append(at, i)
			continue
		}
		switch dir.(type) {
		case caps.DirCHK, caps.DirLIT:
		default:
			out[i].Err = notDirectory(dir)
		}
	}
	for i, a := range d.Mutable.Versions(ctx, files) {
		out[at[i]] = a
	}
	return out
}

// Watch has the channel closed when one of the mutable directories may have another
// version than the one of have (mutable.Store.Watch).
func (d *Dirs) Watch(ctx context.Context, dirs []caps.Cap, have []mutable.Version) (<-chan struct{}, error) {
	files := make([]caps.MutableRead, 0, len(dirs))
	for _, dir := range dirs {
		file, ok := readable(dir)
		if !ok {
			return nil, notDirectory(dir)
		}
		files = append(files, file)
	}
	return d.Mutable.Watch(ctx, files, have)
}

// Edit makes all changes at once, on top of whatever the directory holds at that
// moment. It survives concurrent writers, and a nil return means that the changes
// stand (mutable.Store.Modify).
func (d *Dirs) Edit(ctx context.Context, dir caps.WriteDir, changes []Change) error {
	changes = slices.Clone(changes)
	now := d.now() // one time for all attempts: a repeated change must not look new
	again := false
	var made []byte
	err := d.Mutable.Modify(ctx, dir, func(old []byte) (data []byte, err error) {
		data, err = Writable(dir).Apply(old, changes, now, again)
		again, made = true, data
		return data, err
	})
	if err == nil && d.Keeper != nil {
		d.Keeper.note(dir, changes, made)
	}
	return err
}

// Lookup follows a path of names from a directory and returns the last entry; of
// an empty path, an entry without name for root itself.
func (d *Dirs) Lookup(ctx context.Context, root caps.Cap, path []string) (Entry, error) {
	at := NewEntry("", root, nil)
	for i, name := range path {
		entries, _, err := d.List(ctx, at.Cap())
		if err != nil {
			return Entry{}, err
		}
		name = Normalize(name)
		j, found := slices.BinarySearchFunc(entries, name, func(e Entry, n string) int { return strings.Compare(e.Name, n) })
		if !found {
			return Entry{}, fmt.Errorf("%w: %q", ErrNoEntry, name)
		}
		at = entries[j]
		if i+1 < len(path) && !caps.IsDir(at.Cap()) {
			return Entry{}, fmt.Errorf("%w: %q", ErrNotDirectory, name)
		}
	}
	return at, nil
}
