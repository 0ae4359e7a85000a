package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	cli "github.com/urfave/cli/v2"

	"warren/cmd/internal/daemon"
	"warren/cmd/internal/ui"
	"warren/node"
	"warren/node/config"
	"warren/torutil"
)

type runOptions struct {
	verbose bool
	network torutil.Network // given by join, which has one already
	handle  *torutil.Handle
	// anyWebPort: when the web API's port is taken, the node gets another, for good.
	anyWebPort bool
}

func (e *env) runCommand() *cli.Command {
	return &cli.Command{
		Name: "run", Usage: "run the node in the foreground, until it is interrupted", ArgsUsage: "[DIR]",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, Usage: "log what happens to standard error"},
			&cli.BoolFlag{Name: "any-webport", Hidden: true, Usage: "another port for the web API when its own is taken"},
			&cli.BoolFlag{Name: "allow-stdin-close", Hidden: true, Usage: "as in tahoe; warren never stops for that"},
		},
		Action: func(c *cli.Context) error {
			if err := e.positionalDir(c); err != nil {
				return err
			}
			return e.run(c.Context, runOptions{verbose: c.Bool("verbose"), anyWebPort: c.Bool("any-webport")})
		},
	}
}

// run runs the node of the directory until ctx ends.
func (e *env) run(ctx context.Context, o runOptions) error {
	level := slog.LevelWarn
	if o.verbose {
		level = slog.LevelDebug
	}
	options := daemon.Options{
		Dir: e.dir, Version: e.version, Log: slog.New(slog.NewTextHandler(e.ui.Err, &slog.HandlerOptions{Level: level})), Say: e.sayClean,
		Network: o.network, Handle: o.handle,
		Ready: func(d *daemon.Daemon) {
			if url := d.Node.URL(); url != "" {
				e.ui.Say("node running in %s; web API at %s", e.dir, url)
				return
			}
			e.ui.Say("node running in %s", e.dir)
		},
		Ended: e.ended,
	}
	err := daemon.Run(ctx, options)
	if o.anyWebPort && errors.Is(err, node.ErrWebPort) {
		if err := setAnyWebPort(e.dir); err != nil {
			return runError(e.dir, err)
		}
		err = daemon.Run(ctx, options)
	}
	return runError(e.dir, err)
}

// sayClean says what may hold text from elsewhere: a mailbox's refusal, tor's words.
func (e *env) sayClean(format string, args ...any) {
	e.ui.Say("%s", ui.Clean(fmt.Sprintf(format, args...)))
}

// anyWebPort is the endpoint of a web API that takes any port; node.url says which.
const anyWebPort = "tcp:0:interface=127.0.0.1"

func setAnyWebPort(dir string) error {
	cfg, err := config.Open(dir)
	if err != nil {
		return err
	}
	return cfg.Set(config.Setting{Section: "node", Key: "web.port", Value: anyWebPort})
}

// ended says at a process's end which connections it made: one line, which
// `warren demo` reads under --json.
func (e *env) ended(c torutil.Counts) {
	if e.ui.JSON {
		if err := e.ui.Line(map[string]torutil.Counts{"connections": c}); err != nil {
			fmt.Fprintln(e.ui.Err, err)
		}
		return
	}
	var parts []string
	for _, via := range []torutil.Transport{torutil.ViaDirect, torutil.ViaTor, torutil.InProcess, torutil.ViaLocal} {
		if t := c.By[via]; t != (torutil.Tally{}) {
			parts = append(parts, fmt.Sprintf("%s %d made, %d failed", via, t.Made, t.Failed))
		}
	}
	if parts != nil {
		e.ui.Say("connections: %s", strings.Join(parts, "; "))
	}
}

// runError gives the errors of a start their hints.
func runError(dir string, err error) error {
	var running *config.RunningError
	switch {
	case err == nil, errors.Is(err, context.Canceled):
		return nil
	case errors.As(err, &running):
		return ui.Fail(ui.ExitFailed, "warren -d "+dir+" status shows it; stop it first to start it anew", err)
	case errors.Is(err, config.ErrNotNode):
		return ui.Fail(ui.ExitNoNode, "warren create-client makes one, warren join CODE joins a grid; -d names another directory", err)
	case errors.Is(err, torutil.ErrTorNotReady):
		return ui.Fail(ui.ExitTor, torHint, err)
	case errors.Is(err, daemon.ErrMailboxLocation):
		return ui.Fail(ui.ExitFailed, "say so in "+filepath.Join(dir, "warren.cfg")+": [mailbox] location = ws://HOST:PORT/v1", err)
	case errors.Is(err, os.ErrPermission):
		return ui.Fail(ui.ExitFailed, "is the node directory yours?", err)
	case errors.Is(err, syscall.ENOSPC):
		return ui.Fail(ui.ExitFailed, "make room on that disk, then: warren -d "+dir+" run", fmt.Errorf("the node in %s: %w", dir, err))
	case errors.Is(err, node.ErrWebPort), errors.Is(err, node.ErrTubPort):
		return ui.Fail(ui.ExitFailed, "does another program listen there? stop it, or name another endpoint in "+filepath.Join(dir, "tahoe.cfg"), fmt.Errorf("the node in %s: %w", dir, err))
	}
	return ui.Fail(ui.ExitFailed, "", fmt.Errorf("the node in %s: %w", dir, err))
}

// torHint ends every error about Tor.
const torHint = "install tor (sudo apt-get install tor; brew install tor) or start the one that tahoe.cfg's [tor] names"
