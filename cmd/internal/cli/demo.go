package cli

import (
	"os"

	cli "github.com/urfave/cli/v2"

	"warren/cmd/internal/demo"
	"warren/cmd/internal/ui"
)

func (e *env) demoCommand() *cli.Command {
	return &cli.Command{
		Name: "demo", Usage: "run the whole story on this machine: a grid, an invite, a join, a synced folder",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "from", Value: ".", Usage: "the tree whose files the folder holds"},
			&cli.Int64Flag{Name: "large", Usage: "size of the large file in MiB (default 100; 10 with Tor)"},
			&cli.BoolFlag{Name: "keep", Usage: "leave everything in place afterwards"},
			&cli.StringFlag{Name: "tor-control-port", Usage: "onion services only, by the tor with this control port"},
			&cli.StringFlag{Name: "tor-torrc", Usage: "further torrc lines for the tors that newcomers launch"},
		},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 0, 0); err != nil {
				return err
			}
			exe, err := os.Executable()
			if err != nil {
				return err
			}
			o := demo.Options{
				Exe: exe, Out: e.ui.Out, From: c.String("from"), Keep: c.Bool("keep"), LargeFile: c.Int64("large") << 20,
				TorControl: c.String("tor-control-port"), Torrc: c.String("tor-torrc"),
			}
			if (o.TorControl == "") != (o.Torrc == "") {
				return ui.Usage("--tor-control-port and --tor-torrc go together")
			}
			if o.LargeFile == 0 {
				o.LargeFile = 100 << 20
				if o.TorControl != "" {
					o.LargeFile = 10 << 20
				}
			}
			return demo.Run(c.Context, o)
		},
	}
}
