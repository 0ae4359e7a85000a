package dirnode

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"warren/node/caps"
)

var (
	// ErrExists: the name is taken and the change must not replace what is there.
	ErrExists = errors.New("dirnode: name is taken")
	// ErrNoEntry: there is no entry of that name.
	ErrNoEntry = errors.New("dirnode: no such entry")
	// ErrWrongType: the entry is a file where a directory was demanded, or the reverse.
	ErrWrongType = errors.New("dirnode: entry is of the wrong type")
)

// Overwrite says what a change may replace: Tahoe's replace=true, false and
// only-files.
type Overwrite int

// The policies.
const (
	Always Overwrite = iota
	Never
	OnlyFiles
)

// Type limits which entry is deleted. Entries of an unknown kind are of any type.
type Type int

// The types.
const (
	AnyType Type = iota
	FileType
	DirectoryType
)

// Change sets an entry, removes the one of Entry.Name with Delete, or moves one there
// with From.
//
// Setting: Entry.Metadata nil keeps the metadata of an entry that is replaced.
// The times in metadata["tahoe"] are kept by this package: linkcrtime from when the
// name first came, linkmotime of this change. An entry with "no-write" in its
// metadata loses its writecap, as in Tahoe.
type Change struct {
	Entry     Entry
	Overwrite Overwrite
	Delete    bool
	MustExist bool // deleting what is not there is ErrNoEntry
	Only      Type // deleting anything else is ErrWrongType
	// Still, when not nil, has an entry deleted only if it gives what Still gives: what
	// somebody else put there since stays, and that is no error.
	Still *Entry
	// From, when not "", is the name of the entry that becomes the one of Entry.Name,
	// with its capabilities and metadata; nothing else of Entry counts. One that is not
	// there is ErrNoEntry.
	From string
}

// Apply makes changes, in their order, to the bytes of a mutable directory. again
// says that the same changes, with the same now, were tried before and may be in
// the bytes already: applying them to such bytes gives those bytes.
func (f Form) Apply(data []byte, changes []Change, now time.Time, again bool) ([]byte, error) {
	children, err := f.children(data)
	if err != nil {
		return nil, err
	}
	for _, ch := range changes {
		if ch.Delete {
			children, err = f.remove(children, ch, again)
		} else if ch.From != "" {
			children, err = f.move(children, ch, now, again)
		} else {
			children, err = f.set(children, ch, now, again)
		}
		if err != nil {
			return nil, err
		}
	}
	return join(children), nil
}

func (f Form) remove(children []*child, ch Change, again bool) ([]*child, error) {
	name := Normalize(ch.Entry.Name)
	i, found := slices.BinarySearchFunc(children, name, byName)
	if !found {
		if ch.MustExist && !again {
			return nil, ErrNoEntry
		}
		return children, nil
	}
	e := f.open(children[i])
	if t := e.kind(); ch.Only != AnyType && t != AnyType && t != ch.Only {
		return nil, ErrWrongType
	}
	if ch.Still != nil && (e == nil || !e.gives(*ch.Still)) {
		return children, nil
	}
	return slices.Delete(children, i, i+1), nil
}

// gives says that two entries give the same capabilities.
func (e Entry) gives(o Entry) bool { return sameCap(e.Write, o.Write) && sameCap(e.Read, o.Read) }

func sameCap(a, b caps.Cap) bool {
	return a == nil && b == nil || a != nil && b != nil && a.Text() == b.Text()
}

// move gives an entry another name.
func (f Form) move(children []*child, ch Change, now time.Time, again bool) ([]*child, error) {
	from, to := Normalize(ch.From), Normalize(ch.Entry.Name)
	i, found := slices.BinarySearchFunc(children, from, byName)
	if !found || f.open(children[i]) == nil {
		// Moved by the attempt before, as far as can be told.
		if _, there := slices.BinarySearchFunc(children, to, byName); again && there {
			return children, nil
		}
		return nil, ErrNoEntry
	}
	if from == to {
		return children, nil
	}
	e := *children[i].entry
	e.Name = to
	children, err := f.set(children, Change{Entry: e, Overwrite: ch.Overwrite}, now, false)
	if err != nil {
		return nil, err
	}
	return f.remove(children, Change{Entry: Entry{Name: from}}, false)
}

// kind is AnyType for what is not known.
func (e *Entry) kind() Type {
	if e == nil || e.Cap() == nil {
		return AnyType
	}
	if _, unknown := e.Cap().(caps.Unknown); unknown {
		return AnyType
	}
	if caps.IsDir(e.Read) {
		return DirectoryType
	}
	return FileType
}

func (f Form) set(children []*child, ch Change, now time.Time, again bool) ([]*child, error) {
	given, err := parseObject(ch.Entry.Metadata)
	if err != nil {
		return nil, err
	}
	name := Normalize(ch.Entry.Name)
	i, found := slices.BinarySearchFunc(children, name, byName)
	var was *Entry
	var old object
	if found {
		if was = f.open(children[i]); was != nil {
			if old, err = parseObject(was.Metadata); err != nil {
				return nil, err
			}
		}
	}
	meta := stamp(old, given, ch.Entry.Metadata != nil, now)
	e := ch.Entry
	if v, _ := meta.get("no-write"); truthy(v) && e.Write != nil {
		if ro := caps.ReadOnly(e.Write); ro != nil {
			e.Read = ro
		}
		e.Write = nil
	}
	c, err := f.child(e, meta)
	if err != nil {
		return nil, err
	}
	if found {
		if again && string(children[i].raw) == string(c.raw) {
			return children, nil // ours, from the attempt before
		}
		if ch.Overwrite == Never || ch.Overwrite == OnlyFiles && was.kind() == DirectoryType {
			return nil, fmt.Errorf("%w: %q", ErrExists, name)
		}
	}
	return put(children, c), nil
}

// stamp is Tahoe's update of an entry's metadata.
func stamp(old, given object, replace bool, now time.Time) object {
	ctime, hadCtime := old.get("ctime")
	system, hadSystem := old.get("tahoe")
	meta := old
	if replace {
		meta = given.without("tahoe")
		if hadSystem {
			meta = meta.set("tahoe", system)
		}
	}
	times, err := parseObject([]byte(system))
	if !hadSystem || err != nil {
		times = nil
	}
	stamp := seconds(now)
	if _, ok := times.get("linkcrtime"); !ok {
		if hadCtime { // before 1.4 it was called so
			times = times.set("linkcrtime", ctime)
		} else {
			times = times.set("linkcrtime", stamp)
		}
	}
	return meta.set("tahoe", times.set("linkmotime", stamp).python())
}

// seconds is the time as Python's time.time() prints it.
func seconds(t time.Time) string {
	return pythonFloat(float64(t.UnixNano()) / 1e9)
}
