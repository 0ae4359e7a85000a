package cli

import (
	"context"

	cli "github.com/urfave/cli/v2"

	"warren/cmd/internal/daemon"
	"warren/cmd/internal/ui"
	"warren/node/caps"
)

func (e *env) acceptRollbackCommand() *cli.Command {
	return &cli.Command{
		Name: "accept-rollback", Usage: "let changes build on an older version of a mutable file or directory", ArgsUsage: "STORAGE-INDEX...",
		Description: "The node remembers which versions it saw. Where servers show an older one it is read, `warren status`\n" +
			"says so, and changes are refused: they would bury the newer version, which may be on servers that are\n" +
			"away. This is for when it is lost for good. The newer version counts no longer, should it come back.",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "all", Usage: "all that `warren status` shows"}},
		Action: func(c *cli.Context) error {
			if c.Bool("all") == c.Args().Present() {
				return ui.Usage("STORAGE-INDEX... or --all")
			}
			return e.acceptRollback(c.Context, c.Args().Slice())
		},
	}
}

// acceptRollback accepts what is named; nothing named: all.
func (e *env) acceptRollback(ctx context.Context, indexes []string) error {
	for _, index := range indexes {
		if _, err := caps.ParseStorageIndex(index); err != nil {
			return ui.Usage("STORAGE-INDEX is what `warren status` shows: 26 letters and digits")
		}
	}
	node, err := openNode(ctx, e.dir)
	if err != nil {
		return err
	}
	if len(indexes) == 0 {
		var s daemon.Status
		if err := node.control(ctx, "GET", "status", nil, &s); err != nil {
			return err
		}
		for _, r := range s.Rollbacks {
			indexes = append(indexes, r.Index)
		}
	}
	accepted := 0
	for _, index := range indexes {
		var was bool
		if err := node.control(ctx, "POST", "rollbacks/"+pathEscape(index)+"/accept", nil, &was); err != nil {
			return err
		}
		if was {
			accepted++
		}
	}
	if e.ui.JSON {
		return e.ui.Data(map[string]int{"accepted": accepted})
	}
	e.ui.Result("accepted: %d of %d", accepted, len(indexes))
	return nil
}
