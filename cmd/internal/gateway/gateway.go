// Package gateway gives magic folders the grid that they ask for
// (magicfolder.Grid), from the files and directories of a node in this process, and
// gives upkeep what they want kept alive (Roots). It translates capabilities,
// entries and errors, and holds no state.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"

	"warren/magicfolder"
	"warren/node/caps"
	"warren/node/dirnode"
	"warren/node/immutable"
	"warren/node/mutable"
)

// Gateway implements magicfolder.Grid.
type Gateway struct {
	files *immutable.Client
	dirs  *dirnode.Dirs
}

var _ magicfolder.Grid = (*Gateway)(nil)

// New returns a Gateway to a node's files and directories.
func New(files *immutable.Client, dirs *dirnode.Dirs) *Gateway {
	return &Gateway{files: files, dirs: dirs}
}

// PutFile stores an immutable file.
func (g *Gateway) PutFile(ctx context.Context, r io.Reader, size int64) (magicfolder.Cap, error) {
	res, err := g.files.Upload(ctx, r, size)
	if err != nil {
		return "", translate(err)
	}
	return magicfolder.Cap(res.Cap.Text()), nil
}

// PutDirectory stores an immutable directory.
func (g *Gateway) PutDirectory(ctx context.Context, entries []magicfolder.Entry) (magicfolder.Cap, error) {
	list := make([]dirnode.Entry, 0, len(entries))
	for _, e := range entries {
		d, err := entry(e)
		if err != nil {
			return "", err
		}
		list = append(list, d)
	}
	c, err := g.dirs.MakeImmutable(ctx, list)
	if err != nil {
		return "", translate(err)
	}
	return magicfolder.Cap(c.Text()), nil
}

// MakeDirectory makes an empty mutable directory.
func (g *Gateway) MakeDirectory(ctx context.Context) (write, read magicfolder.Cap, err error) {
	c, err := g.dirs.Make(ctx, nil)
	if err != nil {
		return "", "", translate(err)
	}
	return magicfolder.Cap(c.Text()), magicfolder.Cap(c.Read().Text()), nil
}

// Get writes a file's bytes to w.
func (g *Gateway) Get(ctx context.Context, file magicfolder.Cap, w io.Writer) error {
	c, err := parse(file)
	if err != nil {
		return err
	}
	return translate(g.files.Fetch(ctx, c, w))
}

// List reads a directory.
func (g *Gateway) List(ctx context.Context, dir magicfolder.Cap) ([]magicfolder.Entry, magicfolder.Version, error) {
	c, err := parse(dir)
	if err != nil {
		return nil, "", err
	}
	list, version, err := g.dirs.List(ctx, c)
	if err != nil {
		return nil, "", translate(err)
	}
	entries := make([]magicfolder.Entry, 0, len(list))
	for _, d := range list {
		e := magicfolder.Entry{Name: d.Name, Metadata: d.Metadata}
		if d.Write != nil {
			e.Write = magicfolder.Cap(d.Write.Text())
		}
		if d.Read != nil {
			e.Read = magicfolder.Cap(d.Read.Text())
		}
		entries = append(entries, e)
	}
	return entries, magicfolder.Version(version.String()), nil
}

// Update changes a mutable directory.
func (g *Gateway) Update(ctx context.Context, dir magicfolder.Cap, changes []magicfolder.Change) error {
	w, err := writable(dir)
	if err != nil {
		return err
	}
	list := make([]dirnode.Change, 0, len(changes))
	for _, ch := range changes {
		d := dirnode.Change{Delete: ch.Delete}
		if ch.Absent {
			d.Overwrite = dirnode.Never
		}
		if ch.Delete {
			d.Entry.Name = ch.Entry.Name
		} else if d.Entry, err = entry(ch.Entry); err != nil {
			return err
		}
		list = append(list, d)
	}
	return translate(g.dirs.Edit(ctx, w, list))
}

// Versions asks for mutable directories' versions.
func (g *Gateway) Versions(ctx context.Context, dirs []magicfolder.Cap) []magicfolder.Asked {
	out := make([]magicfolder.Asked, len(dirs))
	var list []caps.Cap
	var at []int
	for i, dir := range dirs {
		c, err := parse(dir)
		if err != nil {
			out[i].Err = err
			continue
		}
		list, at = append(list, c), append(at, i)
	}
	for i, a := range g.dirs.Versions(ctx, list) {
		out[at[i]] = magicfolder.Asked{Version: magicfolder.Version(a.Version.String()), Err: translate(a.Err)}
	}
	return out
}

// Watch waits for one of the directories to change.
func (g *Gateway) Watch(ctx context.Context, dirs []magicfolder.Cap, have []magicfolder.Version) (<-chan struct{}, error) {
	list := make([]caps.Cap, len(dirs))
	versions := make([]mutable.Version, len(dirs))
	for i := range dirs {
		var err error
		if list[i], err = parse(dirs[i]); err != nil {
			return nil, err
		}
		if versions[i], err = mutable.ParseVersion(string(have[i])); err != nil {
			return nil, err
		}
	}
	changed, err := g.dirs.Watch(ctx, list, versions)
	return changed, translate(err)
}

// ReadOnly attenuates a capability.
func (g *Gateway) ReadOnly(c magicfolder.Cap) (magicfolder.Cap, error) {
	p, err := parse(c)
	if err != nil {
		return "", err
	}
	ro := caps.ReadOnly(p)
	if ro == nil {
		return "", errors.New("the capability gives no right to read")
	}
	return magicfolder.Cap(ro.Text()), nil
}

// Writable says whether c is the writecap of a mutable directory.
func (g *Gateway) Writable(c magicfolder.Cap) bool {
	_, err := writable(c)
	return err == nil
}

func parse(c magicfolder.Cap) (caps.Cap, error) {
	p, err := caps.Parse(c.Text())
	if err != nil {
		return nil, fmt.Errorf("a capability cannot be used: %w", err)
	}
	return p, nil
}

func writable(c magicfolder.Cap) (caps.DirWrite, error) {
	p, err := parse(c)
	if err != nil {
		return caps.DirWrite{}, err
	}
	w, ok := p.(caps.DirWrite)
	if !ok {
		return caps.DirWrite{}, fmt.Errorf("a capability of kind %s is not the writecap of a directory", p.Kind())
	}
	return w, nil
}

// entry translates; an entry without caps stays one (a snapshot that deletes).
func entry(e magicfolder.Entry) (dirnode.Entry, error) {
	d := dirnode.Entry{Name: e.Name, Metadata: e.Metadata}
	var err error
	if e.Write != "" {
		if d.Write, err = parse(e.Write); err != nil {
			return d, err
		}
	}
	if e.Read != "" {
		d.Read, err = parse(e.Read)
	} else if d.Write != nil {
		d.Read = caps.ReadOnly(d.Write)
	}
	return d, err
}

// translate maps the grid's errors to those that a folder branches on.
func translate(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, immutable.ErrUnhappy), errors.Is(err, mutable.ErrUnhappy):
		return fmt.Errorf("%w: %w", magicfolder.ErrUnhappy, err)
	case errors.Is(err, immutable.ErrNotEnoughShares), errors.Is(err, mutable.ErrNotEnoughShares),
		errors.Is(err, mutable.ErrNotFound), errors.Is(err, mutable.ErrNewerVersion), errors.Is(err, mutable.ErrRolledBack):
		return fmt.Errorf("%w: %w", magicfolder.ErrUnavailable, err)
	case errors.Is(err, mutable.ErrUnwatched):
		return fmt.Errorf("%w: %w", magicfolder.ErrUnwatched, err)
	case errors.Is(err, dirnode.ErrExists):
		return fmt.Errorf("%w: %w", magicfolder.ErrExists, err)
	}
	return err
}
