package cli

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	cli "github.com/urfave/cli/v2"

	"warren/cmd/internal/daemon"
	"warren/cmd/internal/ui"
	"warren/magicfolder"
)

func (e *env) memberCommands() []*cli.Command {
	return []*cli.Command{
		{
			Name: "invite", Usage: "make a code with which somebody on the grid joins a folder", ArgsUsage: "FOLDER NAME",
			Description: "NAME is what the newcomer is called in the folder. It may run warren or magic-folder 24.3. For somebody\n" +
				"who is not on the grid yet: warren invite.\n\n" + ui.ExitCodes,
			Flags: []cli.Flag{
				&cli.BoolFlag{Name: "read-only", Usage: "the newcomer gets the files and shares none"},
				&cli.BoolFlag{Name: "again", Usage: "somebody of that name is in the folder and comes again: the newcomer takes the place, with a new key"},
				&cli.StringFlag{Name: "expires", Value: "1h", Usage: "how long the invite lives: 30m, 12h, 7d"},
				&cli.StringFlag{Name: "mailbox", Usage: "the mailbox `URL` where the two meet"},
			},
			Action: func(c *cli.Context) error {
				if err := wantArgs(c, 2, 2); err != nil {
					return err
				}
				life, err := lifetime(c.String("expires"))
				if err != nil {
					return err
				}
				if err := checkMailbox(c.String("mailbox")); err != nil {
					return err
				}
				return e.folderInvite(c.Context, c.Args().Get(0), daemon.FolderInviteRequest{
					Name: c.Args().Get(1), ReadOnly: c.Bool("read-only"), Again: c.Bool("again"), Mailbox: c.String("mailbox"), Seconds: int64(life / time.Second),
				})
			},
		},
		{
			Name: "join", Usage: "join a folder on this node's grid with a code", ArgsUsage: "CODE|LINK DIR",
			Description: "The code is from warren folder invite or from magic-folder invite; the inviter gives you your name. DIR is\n" +
				"missing or empty. It waits for the inviter; ended and run again, it goes on.\n\n" + ui.ExitCodes,
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "name", Aliases: []string{"n"}, Usage: "the folder's name here (default: the inviter's)"},
				&cli.StringFlag{Name: "mailbox", Usage: "the mailbox `URL` where the inviter waits"},
			},
			Action: func(c *cli.Context) error {
				if err := wantArgs(c, 2, 2); err != nil {
					return err
				}
				if err := checkCode(c.Args().Get(0)); err != nil {
					return err
				}
				if err := checkMailbox(c.String("mailbox")); err != nil {
					return err
				}
				return e.folderJoin(c.Context, daemon.JoinRequest{Code: c.Args().Get(0), Dir: c.Args().Get(1), Name: c.String("name"), Mailbox: c.String("mailbox")})
			},
		},
		{
			Name: "members", Usage: "show who is in a folder", ArgsUsage: "FOLDER",
			Description: "The key is what a participant signs with; compare it over the phone. One who signs with another key than\n" +
				"before is ignored until that key is accepted.\n\n" + ui.ExitCodes,
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "accept-key", Usage: "believe the new key of the participant `NAME`, after a question"},
				&cli.StringFlag{Name: "fingerprint", Usage: "with --accept-key: only when the new key is `KEY`, without a question"},
				&cli.BoolFlag{Name: "yes", Usage: "with --accept-key: whatever the new key is, without a question"},
			},
			Action: func(c *cli.Context) error {
				if err := wantArgs(c, 1, 1); err != nil {
					return err
				}
				if name := c.String("accept-key"); name != "" {
					return e.folderAcceptKey(c.Context, c.Args().First(), name, c.String("fingerprint"), c.Bool("yes"))
				}
				if c.IsSet("fingerprint") || c.IsSet("yes") {
					return ui.Fail(ui.ExitUsage, "", errors.New("--fingerprint and --yes belong to --accept-key"))
				}
				return e.folderMembers(c.Context, c.Args().First())
			},
		},
		{
			Name: "remove-member", Usage: "remove somebody from a folder", ArgsUsage: "FOLDER NAME",
			Description: "Only the node that made the folder can do it: the others follow no other.\n" +
				"The folder moves to a new place on the grid that NAME does not learn of. Those who run warren follow by\n" +
				"themselves; the others are listed and must be invited again. What NAME has fetched, and what was in the folder\n" +
				"until now, stays readable for NAME; new versions are not, once their authors have followed.\n\n" + ui.ExitCodes,
			Action: func(c *cli.Context) error {
				if err := wantArgs(c, 2, 2); err != nil {
					return err
				}
				return e.folderRemoveMember(c.Context, c.Args().Get(0), c.Args().Get(1))
			},
		},
	}
}

func (e *env) folderInvite(ctx context.Context, folder string, q daemon.FolderInviteRequest) error {
	node, err := openNode(ctx, e.dir)
	if err != nil {
		return err
	}
	var is daemon.Issued
	if err := node.control(ctx, "POST", "folders/"+pathEscape(folder)+"/invites", q, &is); err != nil {
		return err
	}
	if e.ui.JSON {
		return e.ui.Data(is)
	}
	e.ui.Result("%s", is.Code)
	if is.CodeAlone {
		e.ui.Say("%s types:  warren folder join %s DIR", ui.Clean(q.Name), is.Code)
	} else {
		e.ui.Say("%s types:  warren folder join '%s' DIR", ui.Clean(q.Name), is.Link)
	}
	_, mailbox, _ := strings.Cut(is.Link, "@")
	e.ui.Say("or, on magic-folder 24.3 with the mailbox %s:  magic-folder join --author %s %s DIR", mailbox, ui.Clean(q.Name), is.Code)
	e.ui.Say("It lives until %s, works once, and is as good as a key: hand it over where nobody listens.", is.Expires.Local().Format("2006-01-02 15:04"))
	if !is.Own {
		e.ui.Say("Keep the node running: this mailbox forgets an invite when the node is away for more than ten minutes.")
	}
	return nil
}

func (e *env) folderJoin(ctx context.Context, q daemon.JoinRequest) error {
	node, err := openNode(ctx, e.dir)
	if err != nil {
		return err
	}
	if q.Dir, err = filepath.Abs(q.Dir); err != nil {
		return err
	}
	e.ui.Say("waiting for the inviter; if you end this, the same command goes on from here")
	var st magicfolder.Status
	if err := node.control(ctx, "POST", "folders/join", q, &st); err != nil {
		return err
	}
	if e.ui.JSON {
		return e.ui.Data(st)
	}
	e.ui.Result("folder %s: %s, where you are %s", ui.Clean(st.Name), ui.Clean(st.Dir), ui.Clean(st.Participant))
	if st.ReadOnly {
		e.ui.Say("you only read: what is changed here stays here")
	}
	return nil
}

func (e *env) folderMembers(ctx context.Context, folder string) error {
	node, err := openNode(ctx, e.dir)
	if err != nil {
		return err
	}
	var list []magicfolder.Member
	if err := node.control(ctx, "GET", "folders/"+pathEscape(folder)+"/members", nil, &list); err != nil {
		return hinted(err, "warren folder list shows those that there are")
	}
	if e.ui.JSON {
		return e.ui.Data(list)
	}
	for _, m := range list {
		e.memberLine(m)
	}
	return nil
}

func (e *env) memberLine(m magicfolder.Member) {
	var said []string
	add := func(yes bool, format string, args ...any) {
		if yes {
			said = append(said, fmt.Sprintf(format, args...))
		}
	}
	add(m.Self, "this node")
	add(m.Admin, "the admin")
	add(m.ReadOnly, "only reads")
	add(m.Program != "", "runs %s", m.Program)
	add(m.Program == "" && !m.ReadOnly, "runs magic-folder or was not read yet")
	add(!m.ReadOnly, "%s", plural(m.Files, "file", "files"))
	add(!m.Last.IsZero(), "last version of %s", m.Last.Local().Format("2006-01-02 15:04"))
	add(!m.Since.IsZero(), "since %s", m.Since.Local().Format("2006-01-02"))
	add(m.Key != "", "key %s", m.Key)
	add(m.Key == "" && !m.ReadOnly, "key unknown yet")
	e.ui.Result("%s: %s", ui.Clean(m.Name), strings.Join(said, ", "))
	if m.Error != "" {
		e.ui.Result("  %s", ui.Clean(m.Error))
	}
	if m.NewKey != "" {
		e.ui.Result("  ALARM: signs with another key now, %s, and is ignored; --accept-key %s believes it", m.NewKey, ui.Clean(m.Name))
	}
}

// folderAcceptKey accepts the key of that fingerprint; "": the one that is shown, when
// it is confirmed.
func (e *env) folderAcceptKey(ctx context.Context, folder, name, fingerprint string, yes bool) error {
	node, err := openNode(ctx, e.dir)
	if err != nil {
		return err
	}
	if fingerprint == "" {
		if fingerprint, err = e.confirmKey(ctx, node, folder, name, yes); err != nil {
			return err
		}
	}
	var k daemon.AcceptedKey
	if err := node.control(ctx, "POST", "folders/"+pathEscape(folder)+"/members/"+pathEscape(name)+"/accept-key?fingerprint="+url.QueryEscape(fingerprint), nil, &k); err != nil {
		return err
	}
	if e.ui.JSON {
		return e.ui.Data(k)
	}
	e.ui.Result("%s stands for the key %s now", ui.Clean(name), k.Key)
	return nil
}

// confirmKey shows a participant's new key and asks whether it is right. Where there is
// none it gives what is no key's fingerprint: the node then says what is the matter, and
// accepts none that nobody was shown.
func (e *env) confirmKey(ctx context.Context, node *nodeClient, folder, name string, yes bool) (string, error) {
	var list []magicfolder.Member
	if err := node.control(ctx, "GET", "folders/"+pathEscape(folder)+"/members", nil, &list); err != nil {
		return "", hinted(err, "warren folder list shows those that there are")
	}
	for _, m := range list {
		if m.Name != name || m.NewKey == "" {
			continue
		}
		e.ui.Say("%s signs with %s now; the key known so far is %s", ui.Clean(name), m.NewKey, m.Key)
		if yes {
			return m.NewKey, nil
		}
		const hint = "compare it with what warren folder members shows for that participant's own node, over the phone; then --fingerprint KEY"
		if !e.ui.Interactive() {
			return "", ui.Fail(ui.ExitUsage, hint, errors.New("the new key is not confirmed"))
		}
		answer, err := e.ui.Ask(ctx, "Is that the key that "+ui.Clean(name)+"'s own node shows? yes or no", "no")
		if err != nil {
			return "", err
		}
		if answer != "yes" {
			return "", ui.Fail(ui.ExitUsage, hint, errors.New("the new key is not accepted"))
		}
		return m.NewKey, nil
	}
	return "none", nil
}

func (e *env) folderRemoveMember(ctx context.Context, folder, name string) error {
	node, err := openNode(ctx, e.dir)
	if err != nil {
		return err
	}
	var out magicfolder.Removal
	if err := node.control(ctx, "DELETE", "folders/"+pathEscape(folder)+"/members/"+pathEscape(name), nil, &out); err != nil {
		return err
	}
	if e.ui.JSON {
		return e.ui.Data(out)
	}
	e.ui.Result("%s is removed", ui.Clean(out.Removed))
	if len(out.Follow) > 0 {
		e.ui.Say("these follow by themselves: %s", ui.Clean(strings.Join(out.Follow, ", ")))
	}
	for _, n := range out.Again {
		e.ui.Result("invite again: %s", ui.Clean(n))
		e.ui.Say("  warren folder invite --again %s %s", ui.Clean(folder), ui.Clean(n))
	}
	if out.Waits != "" {
		e.ui.Say("it goes on by itself: %s", ui.Clean(out.Waits))
	}
	e.ui.Say("What was in the folder until now, %s may have, and can still fetch. Of new versions it sees those of members\nwho have not followed yet.", ui.Clean(out.Removed))
	return nil
}
