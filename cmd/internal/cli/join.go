package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	cli "github.com/urfave/cli/v2"

	"warren/cmd/internal/daemon"
	"warren/cmd/internal/ui"
	"warren/invite"
	"warren/invite/code"
	"warren/invite/message"
	"warren/invite/wormhole"
	"warren/torutil"
)

type joinOptions struct {
	code, folder, mailbox string
	webPort               string
	direct, yes, detach   bool
	verbose               bool
	tor                   torOptions
}

func (e *env) joinCommand() *cli.Command {
	return &cli.Command{
		Name: "join", Usage: "join a grid and its shared folder with a code", ArgsUsage: "CODE|LINK [DIR]",
		Description: "Everything goes through Tor unless --direct is said. DIR is where the folder goes\n(default: ~/Warren/FOLDER); the node itself lives in the node directory (-d).",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "mailbox", Usage: "the mailbox `URL` where the inviter waits"},
			&cli.BoolFlag{Name: "direct", Usage: "do without Tor: mailbox and grid see this machine's address"},
			&cli.StringFlag{Name: "webport", Aliases: []string{"p"}, Usage: "the endpoint of the new node's local web API (default: port 3456, or any when that is taken)"},
			&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "ask nothing"},
			&cli.BoolFlag{Name: "detach", Usage: "leave the node running in the background"},
			&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, Usage: "log what happens to standard error"},
		}, torFlags()...),
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 1, 2); err != nil {
				return err
			}
			return e.join(c.Context, joinOptions{
				code: c.Args().Get(0), folder: c.Args().Get(1), mailbox: c.String("mailbox"), webPort: c.String("webport"),
				direct: c.Bool("direct"), yes: c.Bool("yes"), detach: c.Bool("detach"), verbose: c.Bool("verbose"), tor: readTorFlags(c),
			})
		},
	}
}

// join accepts an invite: it meets the inviter, makes the node directory and the
// folder, acknowledges, and runs the node.
func (e *env) join(ctx context.Context, o joinOptions) (err error) {
	if err := checkCode(o.code); err != nil {
		return err
	}
	if err := checkMailbox(o.mailbox); err != nil {
		return err
	}
	if o.folder != "" {
		// Before the code is spent.
		if err := daemon.CheckPlace(o.folder); err != nil {
			return ui.Fail(ui.ExitFailed, "name another directory: warren join CODE DIR (the code is still good)", err)
		}
	}
	j := &daemon.Newcomer{Dir: e.dir, Direct: o.direct, WebPort: o.webPort}
	if j.WebPort == "" {
		j.WebPort = webPort(ctx)
	}
	if err := j.Open(ctx); err != nil {
		return runError(e.dir, err)
	}
	if j.GoesDirect() && !o.direct {
		return ui.Fail(ui.ExitUsage, "add --direct, or join with a node directory of its own: warren -d DIR join CODE", errors.New("the node in "+e.dir+" goes without Tor, and so would this"))
	}
	if j.Exists() && !j.GoesDirect() && o.direct {
		return ui.Fail(ui.ExitUsage, "leave --direct away, or join with a node directory of its own: warren -d DIR join CODE", errors.New("the node in "+e.dir+" goes through Tor, and so would this"))
	}
	// Without Tor a tor is for onion services alone, and used when it is named.
	if !j.Exists() && (!o.direct || o.tor != torOptions{}) {
		if err := o.tor.into(ctx, &j.Tor); err != nil {
			return err
		}
	}
	if o.direct {
		e.ui.Say("without Tor (--direct): the mailbox and the grid see this machine's address")
	}
	network, handle, err := j.Network(ctx, func(p torutil.Progress) { e.sayClean("tor: %s", daemon.TorProgress(p)) })
	if err != nil {
		return torError(err)
	}
	// The tor that was launched for the exchange goes on serving the node.
	defer func() { err = errors.Join(err, handle.Close(), j.Close()) }()
	if !o.direct {
		if err := handle.WaitReady(ctx); err != nil {
			return torError(err)
		}
	}
	var settings message.Settings
	settings, err = invite.Accept(ctx, invite.AcceptOptions{
		CodeOrLink: o.code, Mailbox: o.mailbox, Dial: network.DialContext, StateFile: e.dir + ".join",
		Progress: func(s invite.Stage) { e.ui.Say("%s", s) },
		Reply: func(ctx context.Context, s message.Settings) (message.Acknowledgement, error) {
			e.describe(s)
			folder, err := e.folderPlace(ctx, s, o)
			if err != nil {
				return message.Acknowledgement{}, fmt.Errorf("%w: %w", err, invite.ErrNotNow)
			}
			return j.Accept(ctx, s, folder)
		},
	})
	if errors.Is(err, message.ErrRefused) {
		err = errors.Join(err, j.Abandon())
	}
	if err != nil {
		return joinError(err)
	}
	if err := e.joined(settings, j.Folder); err != nil {
		return err
	}
	e.ui.Say("start the node again later with:  warren -d %s run", e.dir)
	if o.direct {
		// No tor lives there: nothing shall be left if the node is killed.
		if err := j.Close(); err != nil {
			return err
		}
	}
	// Somebody may have taken the port that was free when we began.
	if o.detach {
		// A tor that this process launched for a node that was there before holds the
		// data directory that the node's own is about to take.
		if err := handle.Close(); err != nil {
			return err
		}
		return e.detach(ctx, o.webPort == "")
	}
	return e.run(ctx, runOptions{verbose: o.verbose, network: network, handle: handle, anyWebPort: o.webPort == ""})
}

// joined is join's result: the rest is talk.
func (e *env) joined(s message.Settings, folder string) error {
	if e.ui.JSON {
		return e.ui.Line(struct {
			Directory string `json:"directory"`
			Grid      string `json:"grid"`
			Folder    string `json:"folder,omitempty"`
		}{e.dir, s.Nickname, folder})
	}
	e.ui.Result("joined %s", ui.Clean(s.Nickname))
	if folder != "" {
		e.ui.Result("the folder is %s", ui.Clean(folder))
	}
	return nil
}

// checkCode refuses what cannot be a code before anything is dialled.
func checkCode(s string) error {
	var err error
	if code.IsLink(s) {
		_, err = code.ParseLink(s)
	} else {
		_, err = code.Parse(s)
	}
	if err == nil {
		return nil
	}
	return ui.Fail(ui.ExitInvite, "a code is a number and words, as in 7-crossover-clamshell; ask the inviter to read it again", err)
}

// webPort is Tahoe's usual endpoint for the web API, or, when that is taken, any.
func webPort(ctx context.Context) string {
	const usual = "tcp:3456:interface=127.0.0.1"
	l, err := torutil.NewLocal(&torutil.Ledger{}).Listen(ctx, usual)
	if err != nil {
		return anyWebPort
	}
	l.Close()
	return usual
}

// describe shows what was received, cleaned.
func (e *env) describe(s message.Settings) {
	e.ui.Say("grid: %s, encoding %d of %d", ui.Clean(s.Nickname), s.Encoding.Needed, s.Encoding.Total)
	if s.Ours != nil && s.Ours.Folder != "" {
		e.ui.Say("folder: %s, where you are %s", ui.Clean(s.Ours.Folder), ui.Clean(s.Ours.Participant))
	}
}

// folderPlace decides where the folder goes, with the one question that join asks.
func (e *env) folderPlace(ctx context.Context, s message.Settings, o joinOptions) (string, error) {
	if s.Ours == nil || s.Ours.Writecap == nil {
		return "", nil
	}
	if o.folder != "" {
		return filepath.Abs(o.folder)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	usual := freePlace(filepath.Join(home, "Warren", s.Ours.Folder))
	for !o.yes {
		answer, err := e.ui.Ask(ctx, "Where shall the folder go?", usual)
		if err != nil {
			return "", err
		}
		if answer == usual {
			break
		}
		place, err := filepath.Abs(fromHome(home, answer))
		if err != nil {
			return "", err
		}
		// The code is spent by a place that cannot be used: better asked again.
		if err = daemon.CheckPlace(place); err == nil {
			return place, nil
		}
		e.sayClean("%v", err)
	}
	return filepath.Abs(usual)
}

// fromHome is a path as a person types it where no shell reads it.
func fromHome(home, path string) string {
	if rest, ok := strings.CutPrefix(path, "~"); ok && (rest == "" || os.IsPathSeparator(rest[0])) {
		return filepath.Join(home, rest)
	}
	return path
}

// freePlace is place, or place with a number added, where nothing is yet.
func freePlace(place string) string {
	for n, free := 2, place; n < 100; n++ {
		if daemon.CheckPlace(free) == nil {
			return free
		}
		free = fmt.Sprintf("%s-%d", place, n)
	}
	return place
}

// joinError gives every failure that a newcomer can meet its hint.
func joinError(err error) error {
	const again, stillGood = "ask the inviter for a new code", "the code is still good on this machine"
	switch {
	case errors.Is(err, wormhole.ErrWrongCode), errors.Is(err, wormhole.ErrFailed):
		return ui.Fail(ui.ExitInvite, "it was mistyped, by you or by somebody else, and is spent by that: "+again, err)
	case errors.Is(err, wormhole.ErrUnknown):
		return ui.Fail(ui.ExitInvite, "is it typed right? else "+again+"; if the inviter gave a link (warren:...), use that", err)
	case errors.Is(err, wormhole.ErrUsed), errors.Is(err, wormhole.ErrExpired), errors.Is(err, wormhole.ErrCancelled), errors.Is(err, wormhole.ErrCrowded):
		return ui.Fail(ui.ExitInvite, again, err)
	case errors.Is(err, invite.ErrAmbiguous):
		return ui.Fail(ui.ExitInvite, "add --mailbox URL, or use the inviter's link", err)
	case errors.Is(err, invite.ErrUnconfirmed), errors.Is(err, context.Canceled):
		return ui.Fail(ui.ExitInvite, "run the same command again: it goes on from here", err)
	case errors.Is(err, torutil.ErrTorNotReady):
		return ui.Fail(ui.ExitTor, torHint, err)
	case errors.Is(err, wormhole.ErrUnreachable):
		return ui.Fail(ui.ExitFailed, "is the mailbox's address right, and is it running? nothing was spent: try again", err)
	case errors.Is(err, daemon.ErrNotEmpty):
		return ui.Fail(ui.ExitFailed, "name another directory: warren join CODE DIR ("+stillGood+")", err)
	case errors.Is(err, daemon.ErrOtherGrid):
		return ui.Fail(ui.ExitFailed, "this code is spent: "+again+", and join with a node directory of its own: warren -d DIR join CODE", err)
	case errors.Is(err, daemon.ErrTorOnly):
		return ui.Fail(ui.ExitTor, "leave --direct away ("+stillGood+")", err)
	case errors.Is(err, syscall.ENOSPC):
		return ui.Fail(ui.ExitFailed, "make room on that disk; this code is spent: "+again, err)
	case errors.Is(err, fs.ErrPermission):
		return ui.Fail(ui.ExitFailed, "name directories that you may write to ("+stillGood+")", err)
	case errors.Is(err, invite.ErrNotNow):
		return ui.Fail(ui.ExitFailed, "run the same command again: "+stillGood, err)
	}
	var field *message.FieldError
	if errors.As(err, &field) {
		return ui.Fail(ui.ExitInvite, "the inviter's program sent something that cannot be used; nothing was changed here", fmt.Errorf("the invite's settings: %w", err))
	}
	return ui.Fail(ui.ExitFailed, "", err)
}
