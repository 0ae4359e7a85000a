package cli

import (
	"context"
	"strings"

	cli "github.com/urfave/cli/v2"

	"warren/cmd/internal/ui"
)

func (e *env) unlinkCommand() *cli.Command {
	return e.onGrid(&cli.Command{
		Name: "unlink", Aliases: []string{"rm"}, Usage: "remove a name from a directory of the grid", ArgsUsage: "PATH",
		Description: "What the name led to lives on for those who hold its capability.\n" + places,
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 1, 1); err != nil {
				return err
			}
			return e.unlink(c.Context, c.Args().First())
		},
	})
}

func (e *env) unlink(ctx context.Context, where string) error {
	node, err := e.open(ctx)
	if err != nil {
		return err
	}
	at, err := e.find(where)
	if err != nil {
		return err
	}
	if strings.Trim(at.Path, "/") == "" {
		return ui.Usage("only names in directories can be removed: say ALIAS:NAME or DIRCAP/NAME")
	}
	if _, err = node.text(ctx, "DELETE", webPath(at), nil); err != nil {
		return err
	}
	e.done("200 OK")
	return nil
}

// done prints Tahoe's word for what went well, which is no data for machines.
func (e *env) done(word string) {
	if !e.ui.JSON {
		e.ui.Result("%s", word)
	}
}
