package magicfolder

import (
	"context"
	"fmt"
	"time"

	"warren/magicfolder/remote"
	"warren/magicfolder/snapshot"
)

// RootKind says what a Root is, and so what it leads to.
type RootKind string

// The kinds. A plain root leads to what it links, if it is a directory, and so to
// nothing that Reach would have to say.
const (
	PlainRoot      RootKind = ""
	CollectiveRoot RootKind = "collective" // to the participants' Personal directories
	PersonalRoot   RootKind = "personal"   // to the current version of each file
	VersionRoot    RootKind = "version"    // to its content, metadata and parents
	AncestorRoot   RootKind = "ancestor"   // the same, of an earlier version
)

// Root is something on the grid that must stay alive. It is self-contained: Reach
// understands one that was made by an earlier process.
type Root struct {
	// Name is the folder's, the participant's or the file's; "" for what belongs to
	// the Root that it was reached from.
	Name string
	Cap  Cap
	Kind RootKind
	// Past: it is the content of an earlier version, which nothing needs but a look
	// back.
	Past bool
}

// Roots names what upkeep must keep alive for each folder. All the rest can be
// reached from there, by Reach.
func (m *Manager) Roots() []Root {
	var out []Root
	for _, f := range m.Folders() {
		cfg := f.config()
		// Ours first: the Collective has its readcap, which cannot be repaired with.
		if cfg.Personal != "" {
			out = append(out, Root{Name: cfg.Name + "/" + cfg.Author, Cap: cfg.Personal, Kind: PersonalRoot})
		}
		out = append(out, Root{Name: cfg.Name, Cap: cfg.Collective, Kind: CollectiveRoot})
		if cfg.Membership.Next != "" {
			out = append(out, Root{Name: cfg.Name + "/" + cfg.Author, Cap: cfg.Membership.Next, Kind: PersonalRoot})
		}
		for _, c := range cfg.Membership.Past {
			// Who was away since then finds there where we are.
			out = append(out, Root{Name: cfg.Name + "/" + cfg.Author + ", before", Cap: c})
		}
	}
	return out
}

// Reach lists what a root leads to: one step, so that the whole can be walked
// without holding it. A snapshot's parents are in its metadata, and linked nowhere.
// What other participants wrote and is not as it should be leads nowhere, or, where
// a later version of magic-folder may have written it, to what it links. An error is
// the grid's, and may go away.
func (m *Manager) Reach(ctx context.Context, r Root) ([]Root, error) {
	grid := m.opt.Grid
	switch r.Kind {
	case CollectiveRoot, PersonalRoot:
		entries, _, err := grid.List(ctx, r.Cap)
		if err != nil {
			return nil, fmt.Errorf("reading a %s directory: %w", r.Kind, err)
		}
		var out []Root
		for _, e := range entries {
			if got, ok := entryRoot(grid, r.Kind, e); ok {
				out = append(out, got)
			}
		}
		return out, nil
	case VersionRoot, AncestorRoot:
		s, err := snapshot.Read(ctx, grid, r.Cap)
		if snapshot.Malformed(err) {
			return []Root{{Cap: r.Cap}}, nil
		}
		if err != nil {
			return nil, err
		}
		out := []Root{{Cap: s.MetadataCap}}
		if !s.Deleted() {
			out = append(out, Root{Cap: s.Content, Past: r.Kind == AncestorRoot})
		}
		for _, p := range s.Parents {
			out = append(out, Root{Cap: p, Kind: AncestorRoot})
		}
		return out, nil
	}
	return nil, nil
}

// entryRoot is what an entry of a Collective or a Personal directory stands for.
func entryRoot(grid Grid, of RootKind, e Entry) (Root, bool) {
	c := e.Read
	if e.Write != "" {
		// Nobody should hand out a writecap; what it reads must live all the same.
		var err error
		if c, err = grid.ReadOnly(e.Write); err != nil {
			return Root{}, false
		}
	}
	if c == "" {
		return Root{}, false
	}
	kind := remote.KindOf(c)
	switch {
	case e.Name == snapshot.MetadataName:
		return Root{Name: e.Name, Cap: c}, kind == remote.File
	case of == CollectiveRoot:
		return Root{Name: e.Name, Cap: c, Kind: PersonalRoot}, kind == remote.Directory || kind == remote.MutableDirectory
	}
	relpath, err := snapshot.Unmangle(e.Name)
	return Root{Name: relpath, Cap: c, Kind: VersionRoot}, err == nil && kind == remote.Directory
}

// Active says that a folder has sent or received something a moment ago.
func (m *Manager) Active() bool {
	const moment = 5 * time.Second
	for _, f := range m.Folders() {
		f.mu.Lock()
		moved := f.stat.moved
		f.mu.Unlock()
		if f.now().Sub(moved) < moment {
			return true
		}
	}
	return false
}
