package cli

import (
	"context"
	"strings"

	cli "github.com/urfave/cli/v2"
)

func (e *env) mkdirCommand() *cli.Command {
	return e.onGrid(&cli.Command{
		Name: "mkdir", Usage: "make a directory on the grid and print its capability", ArgsUsage: "[PATH]",
		Description: "Without a path the directory has no name: only its capability leads to it.\n" + places,
		Flags:       []cli.Flag{&cli.StringFlag{Name: "format", Usage: "SDMF or MDMF"}},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 0, 1); err != nil {
				return err
			}
			format, err := format(c.String("format"), "SDMF", "MDMF")
			if err != nil {
				return err
			}
			return e.mkdir(c.Context, c.Args().First(), format)
		},
	})
}

// mkdir makes a directory, unlinked or at a path; one that is there is the answer.
func (e *env) mkdir(ctx context.Context, where, format string) error {
	node, err := e.open(ctx)
	if err != nil {
		return err
	}
	path := "/uri"
	if where != "" {
		at, err := e.find(where)
		if err != nil {
			return err
		}
		if strings.Trim(at.Path, "/") != "" {
			path = webPath(at)
		}
	}
	path += "?t=mkdir"
	if format != "" {
		path += "&format=" + format
	}
	cap, err := node.text(ctx, "POST", path, nil)
	if err != nil {
		return err
	}
	cap = strings.TrimSpace(cap)
	if e.ui.JSON {
		return e.ui.Data(map[string]string{"cap": cap})
	}
	e.ui.Result("%s", cap)
	return nil
}
