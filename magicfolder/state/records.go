package state

import (
	"warren/magicfolder/fsys"
	"warren/magicfolder/remote"
	"warren/magicfolder/snapshot"
)

// Folder is a folder's configuration. It holds secrets: the seed of our author
// key, which never leaves this file, and two writecaps.
type Folder struct {
	ID         string     `json:"id"`
	Name       string     `json:"name"`
	Dir        string     `json:"dir"`
	Author     string     `json:"author"` // our name in the Collective
	Seed       []byte     `json:"seed"`
	Collective remote.Cap `json:"collective"`
	Personal   remote.Cap `json:"personal"` // writecap
	Readcap    remote.Cap `json:"readcap"`  // of Personal
	Enrolled   bool       `json:"enrolled"` // our entry has been seen in the Collective
	Made       int64      `json:"made"`
	Membership Membership `json:"membership,omitzero"`
}

// String keeps the secrets out of logs.
func (f Folder) String() string { return "folder " + f.Name }

// GoString too.
func (f Folder) GoString() string { return f.String() }

// File is what we know about one path. Its key in the database is the path in
// NFC, as in the snapshots that we make; Relpath is as the disk has it.
type File struct {
	Relpath string `json:"relpath"`
	// Head is the version that our Personal directory is to hold; Linked is what
	// it held when we last wrote or read it.
	Head   remote.Cap `json:"head,omitempty"`
	Linked remote.Cap `json:"linked,omitempty"`
	// Yields is a Head that our directory is not to hold: a deletion that another
	// participant's names, see publish.
	Yields  remote.Cap `json:"yields,omitempty"`
	Content remote.Cap `json:"content,omitempty"` // of Head; empty: a delete
	// Form of what Disk and Sum describe, as told by its author.
	Form snapshot.Form `json:"form,omitzero"`
	Mine bool          `json:"mine,omitempty"` // we are Head's author
	// Disk and Sum describe the newest version that we know the disk to hold:
	// the newest stashed one, else Head. Disk is nil when the file is absent.
	Disk *fsys.State `json:"disk,omitempty"`
	Sum  []byte      `json:"sum,omitempty"` // SHA-256
	// Move is the replacement under way, recovered after a crash.
	Move *Move `json:"move,omitempty"`
	// Rival is another version that waits for its owner to act, see package
	// conflict.
	Rival *Rival `json:"rival,omitempty"`
	// Conflicts are the conflict files made for this path.
	Conflicts []Conflict `json:"conflicts,omitempty"`
}

// Unlinked says that our Personal directory is not as Head wants it.
func (f File) Unlinked() bool { return f.Head != f.Linked && f.Head != f.Yields }

// Move is the journal of putting a downloaded version into place.
type Move struct {
	Staged  string        `json:"staged"`
	Cap     remote.Cap    `json:"cap"`
	Content remote.Cap    `json:"content,omitempty"` // empty: a delete
	Sum     []byte        `json:"sum,omitempty"`
	Old     *fsys.State   `json:"old,omitempty"` // what was expected at the path
	OldSum  []byte        `json:"old_sum,omitempty"`
	New     fsys.State    `json:"new"`
	Form    snapshot.Form `json:"form,omitzero"` // of the new version
	// Stash is a version of ours that begins with the move. Without a Cap the bytes
	// that are put in place are ours, and Head stays.
	Stash *Stashed `json:"stash,omitempty"`
}

// Deletes says that the move takes the file away and puts nothing in its place.
func (m Move) Deletes() bool { return m.Content == "" && m.Stash == nil }

// Rival see File.
type Rival struct {
	Cap   remote.Cap `json:"cap"`
	Name  string     `json:"name"`
	Since int64      `json:"since"` // nanoseconds
}

// Conflict is one conflict file.
type Conflict struct {
	Path string     `json:"path"`
	Name string     `json:"name"` // the participant whose bytes they are
	Cap  remote.Cap `json:"cap"`
	Sum  []byte     `json:"sum"`
	// Staged is where the file goes while it is being removed; "" when it is not.
	Staged string `json:"staged,omitempty"`
}

// Stashed is a captured version that is not published yet. The versions of one
// path form a line: the parent of each is the one before; Parents are those of
// the first.
type Stashed struct {
	ID       uint64       `json:"id"`
	Key      string       `json:"key"`
	Relpath  string       `json:"relpath"`
	Parents  []remote.Cap `json:"parents,omitempty"`
	Deleted  bool         `json:"deleted,omitempty"`
	File     string       `json:"file,omitempty"` // in the stash directory; empty when Content says all
	Size     int64        `json:"size"`
	Sum      []byte       `json:"sum,omitempty"`
	Modified int64        `json:"modified"` // seconds
	Captured int64        `json:"captured"` // seconds
	// Begun is Captured of the first version whose place this one took, and that of
	// others between; 0: it took none's.
	Begun int64 `json:"begun,omitempty"`
	// Content and Snapshot are filled as the upload goes on.
	Content  remote.Cap    `json:"content,omitempty"`
	Form     snapshot.Form `json:"form,omitzero"`
	Snapshot remote.Cap    `json:"snapshot,omitempty"`
}

// Known is a snapshot that was read and checked.
type Known struct {
	Relpath  string        `json:"relpath"`
	Author   string        `json:"author"`
	Key      []byte        `json:"key"`
	Modified int64         `json:"modified"`
	Content  remote.Cap    `json:"content,omitempty"`
	Parents  []remote.Cap  `json:"parents,omitempty"`
	Form     snapshot.Form `json:"form,omitzero"`
}

// Pin is the author key that a name stands for.
type Pin struct {
	Key []byte `json:"key"`
	// Own: it was seen in that participant's own Personal directory.
	Own bool `json:"own,omitempty"`
	// Ours: its program is ours.
	Ours bool `json:"ours,omitempty"`
	// Past are keys that the name stood for before: what they signed stays good.
	Past [][]byte `json:"past,omitempty"`
}
