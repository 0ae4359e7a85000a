package webapi

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"warren/node/caps"
	"warren/node/dirnode"
)

// relink handles t=relink, which gives an entry another name or another directory,
// and t=rename, which is that within one directory.
//
// Within a directory it is one edit. Between two, the entry stands in both for a
// moment; what somebody else puts in its place meanwhile stays there.
func (s *server) relink(w http.ResponseWriter, r *http.Request, at place, t string) error {
	over, err := overwrite(r)
	if err != nil {
		return err
	}
	to, given, err := text(r, "to_dir")
	if err != nil {
		return err
	}
	if t == "rename" {
		if given {
			return bad("to_dir= is not valid for rename")
		}
		if _, named := argument(r, "to_name"); !named {
			return bad("to_name= is required for rename")
		}
	}
	name, named, err := text(r, "from_name")
	if err != nil {
		return err
	}
	if !named {
		return bad("from_name= is required")
	}
	name = strings.TrimSpace(name)
	newName, named, err := text(r, "to_name")
	if err != nil {
		return err
	}
	if !named {
		newName = name
	}
	newName = strings.TrimSpace(newName)
	for _, field := range [][2]string{{"from_name", name}, {"to_name", newName}} {
		if strings.Contains(field[1], "/") {
			return bad("%s= may not contain a slash", field[0])
		}
	}
	dir := at.cap
	if given {
		if dir, err = s.directory(r.Context(), strings.TrimSpace(to)); err != nil {
			return err
		}
	}
	if caps.IsReadOnly(at.cap) || caps.IsReadOnly(dir) {
		return ErrReadOnly
	}
	if err := s.move(r.Context(), at.cap, name, dir, newName, over); errors.Is(err, dirnode.ErrNoEntry) {
		return noChild(name)
	} else if err != nil {
		return err
	}
	return s.done(w, r, "thing moved")
}

// directory finds the directory that to_dir= names: a cap, and names below it.
func (s *server) directory(ctx context.Context, path string) (caps.Cap, error) {
	names := strings.Split(path, "/")
	c, err := caps.Parse(names[0])
	if err != nil || !caps.IsDir(c) {
		return nil, bad("to_dir is not a directory")
	}
	at := place{cap: c}
	for _, name := range names[1:] {
		if !caps.IsDir(at.cap) {
			return nil, bad("to_dir is not a directory")
		}
		if at, err = s.child(ctx, at.cap, name); err != nil {
			return nil, err
		}
		if at.cap == nil {
			return nil, noChild(at.name)
		}
	}
	if !caps.IsDir(at.cap) {
		return nil, bad("to_dir is not a directory")
	}
	return at.cap, nil
}

// move moves an entry; both capabilities are writecaps.
func (s *server) move(ctx context.Context, from caps.Cap, name string, to caps.Cap, newName string, over dirnode.Overwrite) error {
	if from.Text() == to.Text() {
		if dirnode.Normalize(name) == dirnode.Normalize(newName) {
			return nil // so says Tahoe, whether it is there or not
		}
		return s.Grid.Edit(ctx, from, []dirnode.Change{{From: name, Entry: dirnode.Entry{Name: newName}, Overwrite: over}})
	}
	at, err := s.child(ctx, from, name)
	if err != nil {
		return err
	}
	if at.cap == nil {
		return dirnode.ErrNoEntry
	}
	e := at.entry
	e.Name = newName
	if err := s.Grid.Edit(ctx, to, []dirnode.Change{{Entry: e, Overwrite: over}}); err != nil {
		return err
	}
	return s.Grid.Edit(ctx, from, []dirnode.Change{{Entry: dirnode.Entry{Name: at.name}, Delete: true, Still: &at.entry}})
}

// setChildren handles t=set_children: many entries at once, all or none.
func (s *server) setChildren(w http.ResponseWriter, r *http.Request, dir caps.Cap) error {
	over, err := overwrite(r)
	if err != nil {
		return err
	}
	b, err := readSmall(r)
	if err != nil {
		return err
	}
	if len(b) == 0 {
		return errNoChildren
	}
	entries, err := children(b)
	if err != nil {
		return err
	}
	changes := make([]dirnode.Change, 0, len(entries))
	for _, e := range entries {
		changes = append(changes, dirnode.Change{Entry: e, Overwrite: over})
	}
	if err := s.Grid.Edit(r.Context(), dir, changes); err != nil {
		return err
	}
	return s.done(w, r, "Okay so I did it.")
}
