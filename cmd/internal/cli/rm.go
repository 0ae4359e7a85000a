package cli

import (
	"context"

	cli "github.com/urfave/cli/v2"
)

func (e *env) rmCommand() *cli.Command {
	return &cli.Command{
		Name: "rm", Aliases: []string{"unlink"}, Usage: "remove a name from a directory of the grid", ArgsUsage: "DIRCAP/PATH",
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 1, 1); err != nil {
				return err
			}
			return e.rm(c.Context, c.Args().First())
		},
	}
}

// rm unlinks: what the name pointed to lives on for those who hold its cap.
func (e *env) rm(ctx context.Context, remote string) error {
	node, err := openNode(ctx, e.dir)
	if err != nil {
		return err
	}
	path, err := capPath(remote)
	if err != nil {
		return err
	}
	_, err = node.text(ctx, "DELETE", path, nil)
	return err
}
