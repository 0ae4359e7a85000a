// Package cli is warren's command line: one file a verb, each an options struct
// and a run function. Main parses, runs and returns the exit code.
//
// The command line is a client of the node's web API (Tahoe's, and our verbs
// below /private/warren/v1/); only run, join, mailbox and demo do work of their
// own. Results go to standard output, talk to standard error; --json gives
// results for machines; exit codes are in package ui.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	cli "github.com/urfave/cli/v2"

	"warren/cmd/internal/ui"
)

// env is what every verb gets: the terminal, the version, the node directory.
type env struct {
	ui      *ui.UI
	version string
	dir     string // the node directory, absolute
	dirSet  bool   // it was named on the command line
	grid    gridOptions
}

// Main runs the command line and returns the exit code.
func Main(version string, args []string, in io.Reader, out, errOut io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	app := newApp(version, in, out, errOut)
	err := app.RunContext(ctx, flagsFirst(app, args))
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = interrupted(err)
	}
	return ui.Report(errOut, err)
}

// interrupted is the error of a command that Ctrl-C ended: what to do next stays.
func interrupted(err error) error {
	said := errors.New("interrupted")
	var e *ui.Error
	if errors.As(err, &e) {
		return ui.Fail(ui.ExitFailed, e.Hint, said)
	}
	return said
}

func newApp(version string, in io.Reader, out, errOut io.Writer) *cli.App {
	e := &env{ui: &ui.UI{In: in, Out: out, Err: errOut}, version: version}
	app := &cli.App{
		Name: "warren", Version: version,
		Usage:       "a shared folder on a grid of friends: Tahoe-LAFS, invites and magic folders in one program",
		Description: ui.ExitCodes,
		Reader:      in,
		Writer:      out,
		ErrWriter:   errOut,
		Flags:       e.commonFlags(),
		Commands: []*cli.Command{
			e.inviteCommand(), e.joinCommand(), e.folderCommand(),
			e.createClientCommand(), e.createNodeCommand(), e.createIntroducerCommand(),
			e.runCommand(), e.statusCommand(), e.storageCommand(), e.upkeepCommand(), e.mailboxCommand(), e.demoCommand(),
			e.mkdirCommand(), e.lsCommand(), e.getCommand(), e.putCommand(), e.cpCommand(), e.mvCommand(), e.lnCommand(), e.unlinkCommand(),
			e.createAliasCommand(), e.addAliasCommand(), e.listAliasesCommand(),
			e.manifestCommand(), e.statsCommand(), e.checkCommand(), e.deepCheckCommand(), e.backupCommand(), e.webopenCommand(), e.acceptRollbackCommand(),
		},
		// Errors are reported in one place, ui.Report.
		ExitErrHandler: func(*cli.Context, error) {},
		OnUsageError:   func(_ *cli.Context, err error, _ bool) error { return ui.Usage("%v", err) },
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return ui.Usage("there is no command %q", c.Args().First())
			}
			return cli.ShowAppHelp(c)
		},
		Suggest: true,
		// A comma in a pattern belongs to it.
		DisableSliceFlagSeparator: true,
	}
	for _, c := range app.Commands {
		e.complete(c)
	}
	return app
}

// complete gives a command, and those below it, the common flags and our error
// handling.
func (e *env) complete(c *cli.Command) {
	c.Flags = append(c.Flags, e.commonFlags()...)
	c.OnUsageError = func(_ *cli.Context, err error, _ bool) error { return ui.Usage("%v", err) }
	for _, sub := range c.Subcommands {
		e.complete(sub)
	}
	if c.Action == nil && c.Subcommands != nil {
		c.Action = func(ctx *cli.Context) error {
			if ctx.Args().Present() {
				return ui.Usage("there is no command %q", c.Name+" "+ctx.Args().First())
			}
			return cli.ShowSubcommandHelp(ctx)
		}
	}
	if run := c.Action; run != nil {
		c.Action = func(ctx *cli.Context) error {
			if err := e.common(ctx); err != nil {
				return err
			}
			return run(ctx)
		}
	}
}

// commonFlags may stand before or after the verb.
func (e *env) commonFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "node-directory", Aliases: []string{"d"}, Usage: "the node directory `DIR` (default: ~/.warren)"},
		&cli.BoolFlag{Name: "json", Usage: "results as JSON"},
		&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "results only"},
	}
}

// common reads the common flags wherever they stand.
func (e *env) common(c *cli.Context) error {
	dir := ""
	for _, level := range c.Lineage() {
		if dir == "" && level.IsSet("node-directory") {
			dir = level.String("node-directory")
		}
		e.ui.JSON = e.ui.JSON || level.Bool("json")
		e.ui.Quiet = e.ui.Quiet || level.Bool("quiet")
	}
	e.dirSet = dir != ""
	return e.setDir(dir)
}

// setDir makes the node directory absolute; "" is the default one.
func (e *env) setDir(dir string) error {
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return ui.Fail(ui.ExitUsage, "name a node directory with -d", err)
		}
		dir = filepath.Join(home, ".warren")
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	e.dir = abs
	return nil
}

// positionalDir lets a verb take the node directory as Tahoe's do: "run DIR".
func (e *env) positionalDir(c *cli.Context) error {
	switch {
	case c.Args().Len() > 1:
		return ui.Usage("%s takes one directory", c.Command.Name)
	case c.Args().Len() == 1 && e.dirSet:
		return ui.Usage("the node directory is named twice: -d and %q", c.Args().First())
	case c.Args().Len() == 1:
		e.dirSet = true
		return e.setDir(c.Args().First())
	}
	return nil
}

// wantArgs checks the number of arguments.
func wantArgs(c *cli.Context, least, most int) error {
	if n := c.Args().Len(); n < least || n > most {
		return ui.Usage("usage: warren %s %s", c.Command.FullName(), c.Command.ArgsUsage)
	}
	return nil
}

func plural(n int, one, many string) string {
	if n == 1 {
		return fmt.Sprintf("%d %s", n, one)
	}
	return fmt.Sprintf("%d %s", n, many)
}
