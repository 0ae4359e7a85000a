package cli

import (
	"context"

	cli "github.com/urfave/cli/v2"
)

func (e *env) mkdirCommand() *cli.Command {
	return &cli.Command{
		Name: "mkdir", Usage: "make a directory on the grid and print its capability", ArgsUsage: "[DIRCAP/PATH]",
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 0, 1); err != nil {
				return err
			}
			return e.mkdir(c.Context, c.Args().First())
		},
	}
}

// mkdir makes a directory, unlinked or at a path; one that is there is the answer.
func (e *env) mkdir(ctx context.Context, remote string) error {
	node, err := openNode(ctx, e.dir)
	if err != nil {
		return err
	}
	path := "/uri"
	if remote != "" {
		if path, err = capPath(remote); err != nil {
			return err
		}
	}
	cap, err := node.text(ctx, "POST", path+"?t=mkdir", nil)
	if err != nil {
		return err
	}
	if e.ui.JSON {
		return e.ui.Data(map[string]string{"cap": cap})
	}
	e.ui.Result("%s", cap)
	return nil
}
