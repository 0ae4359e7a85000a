package cli

import (
	"context"
	"fmt"
	"net/url"
	"os/user"
	"path/filepath"
	"strings"

	"github.com/dustin/go-humanize"
	cli "github.com/urfave/cli/v2"

	"warren/cmd/internal/daemon"
	"warren/cmd/internal/ui"
	"warren/magicfolder"
)

func pathEscape(s string) string { return url.PathEscape(s) }

func (e *env) folderCommand() *cli.Command {
	c := &cli.Command{
		Name: "folder", Usage: "share folders, and see how they stand",
		Subcommands: []*cli.Command{
			{
				Name: "add", Usage: "make a directory a shared folder", ArgsUsage: "DIR",
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "name", Aliases: []string{"n"}, Usage: "the folder's name (default: the directory's)"},
					&cli.StringFlag{Name: "author", Aliases: []string{"A"}, Usage: "your name in it (default: your login name)"},
					&cli.BoolFlag{Name: "admin-only", Usage: "only you take newcomers in: nobody else can write to the list of members"},
				},
				Action: func(c *cli.Context) error {
					if err := wantArgs(c, 1, 1); err != nil {
						return err
					}
					return e.folderAdd(c.Context, c.Args().First(), c.String("name"), c.String("author"), c.Bool("admin-only"))
				},
			},
			{Name: "list", Usage: "list the folders", Action: func(c *cli.Context) error { return e.folderList(c.Context) }},
			{
				Name: "status", Usage: "show how the folders stand", ArgsUsage: "[NAME]",
				Flags: []cli.Flag{&cli.BoolFlag{Name: "scan", Usage: "look at the directory and at the grid first"}},
				Action: func(c *cli.Context) error {
					if err := wantArgs(c, 0, 1); err != nil {
						return err
					}
					return e.folderStatus(c.Context, c.Args().First(), c.Bool("scan"))
				},
			},
			{
				Name: "leave", Usage: "stop syncing a folder; the files stay where they are", ArgsUsage: "NAME",
				Flags: []cli.Flag{&cli.BoolFlag{Name: "withdraw", Usage: "also take our entry out, so that others no longer see our versions"}},
				Action: func(c *cli.Context) error {
					if err := wantArgs(c, 1, 1); err != nil {
						return err
					}
					return e.folderLeave(c.Context, c.Args().First(), c.Bool("withdraw"))
				},
			},
		},
	}
	c.Subcommands = append(c.Subcommands, e.conflictCommands()...)
	c.Subcommands = append(c.Subcommands, e.historyCommands()...)
	c.Subcommands = append(c.Subcommands, e.memberCommands()...)
	return c
}

func (e *env) folderAdd(ctx context.Context, dir, name, author string, adminOnly bool) error {
	node, err := openNode(ctx, e.dir)
	if err != nil {
		return err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	if name == "" {
		name = filepath.Base(dir)
	}
	if author == "" {
		author = loginName()
	}
	var st magicfolder.Status
	if err := node.control(ctx, "POST", "folders", daemon.FolderRequest{Name: name, Dir: dir, Author: author, AdminOnly: adminOnly}, &st); err != nil {
		return err
	}
	if e.ui.JSON {
		return e.ui.Data(st)
	}
	e.ui.Result("folder %s: %s is shared as %s", ui.Clean(st.Name), ui.Clean(st.Dir), ui.Clean(st.Participant))
	if adminOnly {
		e.ui.Say("invite somebody on this grid to it: warren folder invite %s NAME", ui.Clean(st.Name))
		return nil
	}
	e.ui.Say("invite somebody to it: warren invite NAME --folder %s", ui.Clean(st.Name))
	return nil
}

// loginName is a participant's name by default.
func loginName() string {
	if u, err := user.Current(); err == nil {
		name := u.Username[strings.LastIndexByte(u.Username, '\\')+1:]
		if good, err := magicfolder.CheckParticipant(name); err == nil {
			return good
		}
	}
	return "me"
}

func (e *env) folders(ctx context.Context) (*nodeClient, []magicfolder.Status, error) {
	node, err := openNode(ctx, e.dir)
	if err != nil {
		return nil, nil, err
	}
	var list []magicfolder.Status
	return node, list, node.control(ctx, "GET", "folders", nil, &list)
}

func (e *env) folderList(ctx context.Context) error {
	_, list, err := e.folders(ctx)
	if err != nil {
		return err
	}
	if e.ui.JSON {
		return e.ui.Data(list)
	}
	for _, f := range list {
		e.ui.Result("%s  %s", ui.Clean(f.Name), ui.Clean(f.Dir))
	}
	return nil
}

func (e *env) folderStatus(ctx context.Context, name string, scan bool) error {
	node, list, err := e.folders(ctx)
	if err != nil {
		return err
	}
	chosen := []magicfolder.Status{}
	for _, f := range list {
		if name != "" && f.Name != name {
			continue
		}
		if scan {
			if err := node.control(ctx, "POST", "folders/"+pathEscape(f.Name)+"/sync", nil, &f); err != nil {
				return err
			}
		}
		chosen = append(chosen, f)
	}
	if name != "" && len(chosen) == 0 {
		return ui.Fail(ui.ExitNotFound, "warren folder list shows those that there are", fmt.Errorf("no folder %q", name))
	}
	if e.ui.JSON {
		return e.ui.Data(chosen)
	}
	for _, f := range chosen {
		e.folderLine(f)
		for _, p := range f.Participants {
			line := "  with " + ui.Clean(p.Name)
			if p.Error != "" {
				line += ": " + ui.Clean(p.Error)
			}
			e.ui.Result("%s", line)
		}
		for _, c := range f.Conflicts {
			e.ui.Result("  conflict: %s beside %s", ui.Clean(c.File), ui.Clean(c.Path))
		}
		for _, list := range [][]magicfolder.FileStatus{f.Errors, f.Notes} {
			for _, s := range list {
				e.ui.Result("  %s: %s", ui.Clean(s.Path), ui.Clean(s.Message))
			}
		}
		if f.Withheld > 0 {
			e.ui.Result("  %s, made and deleted before anybody heard: in this device's history alone while a participant may be on magic-folder 24.3", plural(f.Withheld, "file", "files"))
		}
		for _, a := range f.Alarms {
			e.ui.Result("  ALARM: %s", ui.Clean(a))
		}
		for _, n := range f.Notices {
			e.ui.Result("  %s", ui.Clean(n))
		}
	}
	return nil
}

func (e *env) folderLine(f magicfolder.Status) {
	line := fmt.Sprintf("folder %s: %s", ui.Clean(f.Name), f.State)
	if f.Reason != "" {
		line += " (" + ui.Clean(f.Reason) + ")"
	}
	for _, left := range []struct {
		n         int
		bytes     int64
		one, many string
		what      string
	}{
		{f.ToUpload.Files, f.ToUpload.Bytes, "file", "files", " to upload"},
		{f.ToDownload.Files, f.ToDownload.Bytes, "file", "files", " to fetch"},
		{f.ToLink, 0, "version", "versions", " to publish"},
		{f.Changing, 0, "file", "files", " being written to"},
		{len(f.Conflicts), 0, "conflict", "conflicts", ""},
	} {
		if left.n == 0 {
			continue
		}
		line += ", " + plural(left.n, left.one, left.many) + left.what
		if left.bytes > 0 {
			line += " (" + humanize.Bytes(uint64(left.bytes)) + ")"
		}
	}
	e.ui.Result("%s, in %s", line, ui.Clean(f.Dir))
}

func (e *env) folderLeave(ctx context.Context, name string, withdraw bool) error {
	node, err := openNode(ctx, e.dir)
	if err != nil {
		return err
	}
	q := ""
	if withdraw {
		q = "?withdraw=true"
	}
	return hinted(node.control(ctx, "DELETE", "folders/"+pathEscape(name)+q, nil, nil), "warren folder list shows those that there are")
}
