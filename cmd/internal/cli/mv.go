package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path"
	"strings"

	cli "github.com/urfave/cli/v2"
	"golang.org/x/text/unicode/norm"

	"warren/cmd/internal/alias"
	"warren/cmd/internal/ui"
)

// exitNotRemoved is mv's own, as in Tahoe: the new name is there, and the old one too.
const exitNotRemoved = 2

type mvOptions struct {
	from, to string
	keep     bool // ln
}

const toDirectory = "To put it into a directory under the same name, end TO with a slash, or say ALIAS: alone. A file in the way is replaced, a\n" +
	"directory is not.\n" + places

func (e *env) mvCommand() *cli.Command {
	return e.mvOrLn(false, "mv", "move a file or directory within the grid",
		"Exit code 2: the new name is there, and the old one could not be removed.\n"+toDirectory)
}

func (e *env) lnCommand() *cli.Command {
	return e.mvOrLn(true, "ln", "give a file or directory of the grid one more name", toDirectory)
}

func (e *env) mvOrLn(keep bool, name, usage, description string) *cli.Command {
	return e.onGrid(&cli.Command{
		Name: name, Usage: usage, ArgsUsage: "FROM TO", Description: description,
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 2, 2); err != nil {
				return err
			}
			return e.mv(c.Context, mvOptions{c.Args().Get(0), c.Args().Get(1), keep})
		},
	})
}

// mv links what stands at a path at another one, and then, for mv, removes the
// first: what goes wrong between leaves two names, never none.
func (e *env) mv(ctx context.Context, o mvOptions) error {
	node, err := e.open(ctx)
	if err != nil {
		return err
	}
	from, err := e.find(o.from)
	if err != nil {
		return err
	}
	to, err := e.find(o.to)
	if err != nil {
		return err
	}
	if !o.keep && lastPart(from.Path) == "" {
		return ui.Usage("FROM is no name in a directory that could be removed: warren ln gives it one more")
	}
	n, err := node.stat(ctx, webPath(from))
	if err != nil {
		return err
	}
	// A directory that is named by its capability alone can only be put into. (Tahoe
	// refuses that.)
	if to.Path == "" || strings.HasSuffix(to.Path, "/") {
		if lastPart(from.Path) == "" {
			return ui.Usage("FROM has no name: say which one it shall have")
		}
		to.Path += lastPart(from.Path)
	}
	if !o.keep {
		if n.Kind == "dirnode" && from.Cap == to.Cap && inside(to.Path, from.Path) {
			return ui.Usage("a directory cannot be moved into itself")
		}
		same, err := node.sameEntry(ctx, from, to)
		if err != nil {
			return err
		}
		if same { // or it would be removed
			e.done("OK")
			return nil
		}
	}
	status, err := node.link(ctx, webPath(to), n.cap(), "replace=only-files")
	switch {
	case status == http.StatusConflict:
		return ui.Fail(ui.ExitFailed, "to put it into a directory, end TO with a slash", errors.New("a directory cannot be overwritten with a file"))
	case err != nil:
		return err
	}
	if !o.keep {
		if _, err := node.text(ctx, "DELETE", webPath(from), nil); err != nil {
			return ui.Fail(exitNotRemoved, "warren unlink removes it", fmt.Errorf("the new name is there, and the old one too: %w", err))
		}
	}
	e.done("OK")
	return nil
}

// link puts a capability at a path of the web API, and returns the status of a
// refusal too.
func (c *nodeClient) link(ctx context.Context, at, cap, query string) (int, error) {
	resp, err := c.roundTrip(ctx, "PUT", at+"?t=uri&"+query, strings.NewReader(cap), -1, "")
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, readAway(resp)
}

// clean is a path's parts as the grid compares them.
func clean(p string) string { return norm.NFC.String(strings.Trim(path.Join("/", p), "/")) }

// inside says whether a path is that of a directory or of something in it.
func inside(p, dir string) bool {
	p, dir = clean(p), clean(dir)
	return strings.HasPrefix(p+"/", dir+"/")
}

// sameEntry says whether two places are one entry of one directory, by whatever
// ways they lead there.
func (c *nodeClient) sameEntry(ctx context.Context, a, b alias.Place) (bool, error) {
	a.Path, b.Path = clean(a.Path), clean(b.Path)
	if path.Base(a.Path) != path.Base(b.Path) {
		return false, nil
	}
	if a == b {
		return true, nil
	}
	parent := func(at alias.Place) (string, error) {
		at.Path = strings.TrimPrefix(path.Dir("/"+at.Path), "/")
		n, err := c.stat(ctx, webPath(at))
		return n.Read, err
	}
	x, err := parent(a)
	if err != nil {
		return false, err
	}
	y, err := parent(b)
	if e := new(ui.Error); errors.As(err, &e) && e.Code == ui.ExitNotFound {
		return false, nil // a directory that is to be made
	}
	return err == nil && x == y, err
}
