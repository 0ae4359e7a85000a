package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	cli "github.com/urfave/cli/v2"

	"warren/cmd/internal/daemon"
	"warren/cmd/internal/ui"
	"warren/invite"
	"warren/invite/code"
)

type inviteOptions struct {
	name, folder, mailbox string
	expires               time.Duration
}

func (e *env) inviteCommand() *cli.Command {
	return &cli.Command{
		Name: "invite", Usage: "make a code with which a newcomer joins the grid and a folder", ArgsUsage: "NAME",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "folder", Aliases: []string{"f"}, Usage: "the folder to share (default: the only one there is)"},
			&cli.StringFlag{Name: "expires", Value: "1h", Usage: "how long the invite lives: 30m, 12h, 7d"},
			&cli.StringFlag{Name: "mailbox", Usage: "the mailbox `URL` where the two meet"},
		},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 1, 1); err != nil {
				return err
			}
			life, err := lifetime(c.String("expires"))
			if err != nil {
				return err
			}
			if err := checkMailbox(c.String("mailbox")); err != nil {
				return err
			}
			return e.invite(c.Context, inviteOptions{name: c.Args().First(), folder: c.String("folder"), mailbox: c.String("mailbox"), expires: life})
		},
		Subcommands: []*cli.Command{
			{Name: "list", Usage: "list the invites", Action: func(c *cli.Context) error { return e.inviteList(c.Context) }},
			{Name: "cancel", Usage: "cancel an invite, by its id or the newcomer's name", ArgsUsage: "ID|NAME", Action: func(c *cli.Context) error {
				if err := wantArgs(c, 1, 1); err != nil {
					return err
				}
				return e.inviteCancel(c.Context, c.Args().First())
			}},
		},
	}
}

// lifetime reads a duration that may be in days.
func lifetime(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n < 1 || n > 31 {
			return 0, ui.Usage("--expires=%s: days are 1d to 31d", s)
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return 0, ui.Usage("--expires=%s: write 30m, 12h or 7d", s)
	}
	return d, nil
}

// checkMailbox refuses what is no mailbox's address; "" leaves it to the node.
func checkMailbox(url string) error {
	if url == "" {
		return nil
	}
	if err := code.CheckMailbox(url); err != nil {
		return ui.Fail(ui.ExitUsage, mailboxHint, err)
	}
	return nil
}

// mailboxHint ends an error about a mailbox's address.
const mailboxHint = "an address looks like ws://HOST:PORT/v1"

// invite asks the running node for an invite: it belongs to the node, and lives on
// when this command has ended.
func (e *env) invite(ctx context.Context, o inviteOptions) error {
	node, err := openNode(ctx, e.dir)
	if err != nil {
		return err
	}
	if o.folder == "" {
		var s daemon.Status
		if err := node.control(ctx, "GET", "status", nil, &s); err != nil {
			return err
		}
		switch len(s.Folders) {
		case 0:
			e.ui.Say("this node shares no folder: the invite is to the grid alone (warren folder add DIR makes one)")
		case 1:
			if f := s.Folders[0]; f.AdminOnly {
				e.ui.Say("the invite is to the grid alone; when %s is there: warren folder invite %s %s", ui.Clean(o.name), ui.Clean(f.Name), ui.Clean(o.name))
			} else {
				o.folder = f.Name
			}
		default:
			return ui.Usage("there are several folders: name one with --folder")
		}
	}
	var is daemon.Issued
	if err := node.control(ctx, "POST", "invites", daemon.InviteRequest{
		Name: o.name, Folder: o.folder, Seconds: int64(o.expires / time.Second), Mailbox: o.mailbox,
	}, &is); err != nil {
		return err
	}
	if e.ui.JSON {
		return e.ui.Data(is)
	}
	e.ui.Result("%s", is.Code)
	if is.CodeAlone {
		e.ui.Say("%s types:  warren join %s", ui.Clean(o.name), is.Code)
	} else {
		e.ui.Say("%s types:  warren join '%s'", ui.Clean(o.name), is.Link)
		e.ui.Say("The code alone is not enough: this mailbox is not one that every program tries. The link names it.")
	}
	e.ui.Say("link: %s", is.Link)
	e.ui.Say("It lives until %s, works once, and is as good as a key: hand it over where nobody listens.", is.Expires.Local().Format("2006-01-02 15:04"))
	if !is.Own {
		e.ui.Say("Keep the node running: this mailbox forgets an invite when the node is away for more than ten minutes.")
	}
	return nil
}

func (e *env) inviteList(ctx context.Context) error {
	node, err := openNode(ctx, e.dir)
	if err != nil {
		return err
	}
	var list []invite.Invite
	if err := node.control(ctx, "GET", "invites", nil, &list); err != nil {
		return err
	}
	if e.ui.JSON {
		return e.ui.Data(list)
	}
	for _, v := range list {
		e.inviteLine(v)
	}
	return nil
}

func (e *env) inviteLine(v invite.Invite) {
	line := fmt.Sprintf("invite %s for %s: %s", v.ID, ui.Clean(v.Name), v.State)
	if v.Folder != "" {
		line += ", folder " + ui.Clean(v.Folder)
	}
	if v.Reason != "" {
		line += " (" + ui.Clean(v.Reason) + ")"
	}
	if !v.State.Final() {
		line += ", until " + v.Expires.Local().Format("2006-01-02 15:04")
		if !v.Online {
			line += ", the mailbox is not connected now"
		}
	}
	e.ui.Result("%s", line)
}

func (e *env) inviteCancel(ctx context.Context, id string) error {
	node, err := openNode(ctx, e.dir)
	if err != nil {
		return err
	}
	return hinted(node.control(ctx, "DELETE", "invites/"+pathEscape(id), nil, nil), "warren invite list shows those that there are")
}
