package gateway

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"warren/cmd/internal/alias"
	"warren/magicfolder"
	"warren/node/caps"
	"warren/node/upkeep"
)

// Roots names what upkeep must keep alive on a node: the aliases of its directory,
// and its folders.
type Roots struct {
	Dir     string // the node directory
	Folders *magicfolder.Manager
}

// All names all roots. An error says which could not be named.
func (r Roots) All() ([]upkeep.Item, error) {
	var errs []error
	aliases, err := alias.Read(r.Dir)
	if err != nil {
		errs = append(errs, fmt.Errorf("the aliases cannot be read: %w", err))
	}
	var out []upkeep.Item
	for _, name := range slices.Sorted(maps.Keys(aliases)) {
		c, err := alias.Cap(aliases[name])
		if err != nil {
			errs = append(errs, fmt.Errorf("the alias %q %w", name, err))
			continue
		}
		out = append(out, upkeep.Item{Name: name + ":", Cap: c})
	}
	for _, root := range r.Folders.Roots() {
		root.Name = "folder " + root.Name
		it, err := rootItem(root)
		if err != nil {
			errs = append(errs, fmt.Errorf("the %s: %w", root.Name, err))
			continue
		}
		out = append(out, it)
	}
	return out, errors.Join(errs...)
}

// Reach is upkeep's question what a part of a folder leads to.
func (r Roots) Reach(ctx context.Context, it upkeep.Item) ([]upkeep.Item, error) {
	found, err := r.Folders.Reach(ctx, magicfolder.Root{
		Name: it.Name, Cap: magicfolder.Cap(it.Cap.Text()), Kind: magicfolder.RootKind(it.Kind), Past: it.Past,
	})
	if err != nil {
		return nil, err
	}
	out := make([]upkeep.Item, 0, len(found))
	for _, root := range found {
		it, err := rootItem(root)
		if err != nil {
			return nil, err
		}
		out = append(out, it)
	}
	return out, nil
}

func rootItem(r magicfolder.Root) (upkeep.Item, error) {
	c, err := caps.Parse(r.Cap.Text())
	if err != nil {
		return upkeep.Item{}, fmt.Errorf("a capability cannot be used: %w", err)
	}
	return upkeep.Item{Name: r.Name, Cap: c, Kind: string(r.Kind), Past: r.Past}, nil
}
