package cli

import (
	"context"
	"fmt"
	"os"
	"time"

	cli "github.com/urfave/cli/v2"

	"warren/cmd/internal/daemon"
	"warren/cmd/internal/ui"
	"warren/magicfolder"
)

// stuckHint is what there is to know about participants who stay in a conflict.
const stuckHint = "a participant on magic-folder 24.3 that was in the conflict itself never gets out of it: it uploads this file\n" +
	"no more, until it moves the file away by hand; any other follows when it is there"

// resolveOptions of `warren folder resolve`.
type resolveOptions struct {
	folder, path, participant string
	mine, theirs, both        bool
}

func (o resolveOptions) keep() (magicfolder.Keep, error) {
	n, keep := 0, magicfolder.Keep("")
	for k, said := range map[magicfolder.Keep]bool{magicfolder.KeepMine: o.mine, magicfolder.KeepTheirs: o.theirs, magicfolder.KeepBoth: o.both} {
		if said {
			n, keep = n+1, k
		}
	}
	if n != 1 {
		return "", ui.Usage("say one of --mine, --theirs and --keep-both")
	}
	if o.participant != "" && keep == magicfolder.KeepMine {
		return "", ui.Usage("--participant goes with --theirs and --keep-both")
	}
	return keep, nil
}

func (e *env) conflictCommands() []*cli.Command {
	var o resolveOptions
	return []*cli.Command{
		{
			Name: "conflicts", Usage: "list the files in conflict", ArgsUsage: "[NAME]",
			Description: "A conflict file, FILE.conflict-PARTICIPANT, holds the bytes of that participant; yours stay in FILE.\n" +
				"warren folder resolve ends a conflict, and so does editing FILE and deleting the conflict file.\n\n" +
				"Listed too are participants whose version is still the one in conflict: " + stuckHint + ".\n\n" + ui.ExitCodes,
			Action: func(c *cli.Context) error {
				if err := wantArgs(c, 0, 1); err != nil {
					return err
				}
				return e.folderConflicts(c.Context, c.Args().First())
			},
		},
		{
			Name: "resolve", Usage: "end a conflict", ArgsUsage: "NAME PATH",
			Description: "PATH is in the folder, or on this machine; it may be that of a conflict file. What was edited and not\n" +
				"looked at yet is captured first, and every version stays in the history (warren folder history).\n\n" + ui.ExitCodes,
			Flags: []cli.Flag{
				&cli.BoolFlag{Name: "mine", Usage: "your bytes are the file's; the conflict files go", Destination: &o.mine},
				&cli.BoolFlag{Name: "theirs", Usage: "the other participant's bytes are", Destination: &o.theirs},
				&cli.BoolFlag{Name: "keep-both", Usage: "yours are, and the conflict files become files of their own, which sync: NAME (PARTICIPANT).ext", Destination: &o.both},
				&cli.StringFlag{Name: "participant", Aliases: []string{"p"}, Usage: "whose version is meant, where there are several", Destination: &o.participant},
			},
			Action: func(c *cli.Context) error {
				if err := wantArgs(c, 2, 2); err != nil {
					return err
				}
				o.folder, o.path = c.Args().Get(0), c.Args().Get(1)
				return e.folderResolve(c.Context, o)
			},
		},
		{
			Name: "scan", Usage: "look for changes in the directory now, and upload them", ArgsUsage: "NAME",
			Action: func(c *cli.Context) error {
				if err := wantArgs(c, 1, 1); err != nil {
					return err
				}
				return e.folderNow(c.Context, c.Args().First(), "scan")
			},
		},
		{
			Name: "poll", Usage: "ask the grid for the others' changes now, and fetch them", ArgsUsage: "NAME",
			Action: func(c *cli.Context) error {
				if err := wantArgs(c, 1, 1); err != nil {
					return err
				}
				return e.folderNow(c.Context, c.Args().First(), "poll")
			},
		},
	}
}

// noFolder is what to do when there is no folder of a name.
const noFolder = "warren folder list shows those that there are"

func (e *env) folderConflicts(ctx context.Context, name string) error {
	node, list, err := e.folders(ctx)
	if err != nil {
		return err
	}
	all := []magicfolder.Conflicts{}
	for _, f := range list {
		if name != "" && f.Name != name {
			continue
		}
		var c magicfolder.Conflicts
		if err := node.control(ctx, "GET", "folders/"+pathEscape(f.Name)+"/conflicts", nil, &c); err != nil {
			return err
		}
		all = append(all, c)
	}
	if name != "" && len(all) == 0 {
		return ui.Fail(ui.ExitNotFound, noFolder, fmt.Errorf("no folder %q", name))
	}
	if e.ui.JSON {
		return e.ui.Data(all)
	}
	files, behind, stuck := 0, 0, 0
	for _, c := range all {
		for _, x := range c.Files {
			note := ""
			if x.Own {
				note += ", your own bytes: another's are in the file"
			}
			if x.Edited {
				note += ", edited since"
			}
			e.ui.Result("%s: %s beside %s (%s, %s%s)", ui.Clean(c.Folder), ui.Clean(x.File), ui.Clean(x.Path), bytesText(x.Size), local(x.Modified), note)
		}
		for _, s := range c.Stuck {
			if !s.Warren {
				stuck++
			}
			e.ui.Result("%s: %s: %s still has the version that was in conflict", ui.Clean(c.Folder), ui.Clean(s.Path), ui.Clean(s.Participant))
		}
		files, behind = files+len(c.Files), behind+len(c.Stuck)
	}
	if files > 0 {
		e.ui.Say("warren folder resolve NAME PATH --mine, --theirs or --keep-both ends a conflict")
	}
	if stuck > 0 {
		e.ui.Say("%s", stuckHint)
	}
	if files+behind == 0 {
		e.ui.Say("no conflicts")
	}
	return nil
}

func bytesText(n int64) string { return plural(int(n), "byte", "bytes") }

func (e *env) folderResolve(ctx context.Context, o resolveOptions) error {
	keep, err := o.keep()
	if err != nil {
		return err
	}
	node, err := openNode(ctx, e.dir)
	if err != nil {
		return err
	}
	var out magicfolder.Resolved
	q := daemon.ResolveRequest{Path: o.path, From: here(), Keep: keep, Participant: o.participant}
	if err := node.control(ctx, "POST", "folders/"+pathEscape(o.folder)+"/resolve", q, &out); err != nil {
		return hinted(err, "warren folder conflicts shows those that there are")
	}
	if e.ui.JSON {
		return e.ui.Data(out)
	}
	whose := "your version"
	if out.From != "" {
		whose = "the version of " + ui.Clean(out.From)
	}
	e.ui.Result("%s: %s stands", ui.Clean(out.Path), whose)
	for _, p := range out.Removed {
		e.ui.Result("  removed %s; its bytes are in the history", ui.Clean(p))
	}
	for _, p := range out.Made {
		e.ui.Result("  made %s, which syncs", ui.Clean(p))
	}
	return nil
}

// here is the directory that paths on the command line are relative to.
func here() string {
	dir, err := os.Getwd()
	if err != nil {
		return ""
	}
	return dir
}

// folderNow has a folder scanned or polled, and shows how it stands then.
func (e *env) folderNow(ctx context.Context, name, verb string) error {
	node, err := openNode(ctx, e.dir)
	if err != nil {
		return err
	}
	var st magicfolder.Status
	err = e.during(ctx, node, name, verb, func() error {
		return node.control(ctx, "POST", "folders/"+pathEscape(name)+"/"+verb, nil, &st)
	})
	if err != nil {
		return hinted(err, noFolder)
	}
	if e.ui.JSON {
		return e.ui.Data(st)
	}
	e.folderLine(st)
	return nil
}

// during shows what a folder sends and receives while run goes on.
func (e *env) during(ctx context.Context, node *nodeClient, name, what string, run func() error) error {
	done := make(chan error, 1)
	go func() { done <- run() }()
	bar := e.ui.Progress(what, -1)
	defer bar.Finish()
	var before *magicfolder.Status
	for tick := time.NewTicker(500 * time.Millisecond); ; {
		select {
		case err := <-done:
			tick.Stop()
			return err
		case <-tick.C:
		}
		var list []magicfolder.Status
		if node.control(ctx, "GET", "folders", nil, &list) != nil {
			continue // run will tell
		}
		for _, f := range list {
			if f.Name != name {
				continue
			}
			if before == nil {
				before = &f
			}
			moved := f.Sent - before.Sent + f.Received - before.Received
			total := int64(-1) // what is restored counts as no file to fetch
			if left := f.ToUpload.Bytes + f.ToDownload.Bytes; left > 0 {
				total = moved + left
			}
			bar.Set(moved, total)
		}
	}
}
