package magicfolder

import (
	"context"

	"warren/magicfolder/remote"
)

// The grid as a folder sees it. The contract itself, in sentences, is in
// package remote, where the inner rooms can reach it too.
type (
	// Cap is the text of a capability; it prints redacted.
	Cap = remote.Cap
	// Entry is a directory's entry.
	Entry = remote.Entry
	// Change sets or removes an entry.
	Change = remote.Change
	// Version identifies the contents of a mutable directory.
	Version = remote.Version
	// Asked is what came of the question for a directory's version.
	Asked = remote.Asked
	// Grid is what a folder needs of the grid.
	Grid = remote.Grid
)

// versionOf asks for the version of one directory.
func versionOf(ctx context.Context, g Grid, dir Cap) (Version, error) {
	a := g.Versions(ctx, []Cap{dir})[0]
	return a.Version, a.Err
}

// Errors that a Grid returns and this room branches on.
var (
	ErrUnhappy     = remote.ErrUnhappy
	ErrUnavailable = remote.ErrUnavailable
	ErrExists      = remote.ErrExists
	ErrUnwatched   = remote.ErrUnwatched
)
