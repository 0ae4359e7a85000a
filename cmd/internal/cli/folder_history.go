package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"

	cli "github.com/urfave/cli/v2"

	"warren/cmd/internal/daemon"
	"warren/cmd/internal/ui"
	"warren/magicfolder"
)

// remadeHint is said when a deleted file is there again.
const remadeHint = "participants on magic-folder 24.3 get a file that is made again as a conflict file beside its place"

// restoreOptions of `warren folder restore`.
type restoreOptions struct {
	folder, path, version, to string
}

func (e *env) historyCommands() []*cli.Command {
	var limit int
	var o restoreOptions
	return []*cli.Command{
		{
			Name: "history", Usage: "list a file's versions, newest first", ArgsUsage: "NAME PATH",
			Description: "PATH is in the folder, or on this machine. Each line has the version's number, time, author, size and id;\n" +
				"numbers count from the newest, and shift when another comes, ids stay.\n\n" + ui.ExitCodes,
			Flags: []cli.Flag{&cli.IntFlag{Name: "limit", Usage: "list at most `N` versions", Value: 50, Destination: &limit}},
			Action: func(c *cli.Context) error {
				if err := wantArgs(c, 2, 2); err != nil {
					return err
				}
				if limit < 1 || limit > magicfolder.MaxHistory {
					return ui.Usage("--limit is from 1 to %d", magicfolder.MaxHistory)
				}
				return e.folderHistory(c.Context, c.Args().Get(0), c.Args().Get(1), limit)
			},
		},
		{
			Name: "restore", Usage: "make an earlier version of a file the newest", ArgsUsage: "NAME PATH",
			Description: "Nothing is lost: what the file holds now stays in the history, and what the others wrote too.\n\n" + ui.ExitCodes,
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "version", Usage: "the number or id of the version, from history", Destination: &o.version},
				&cli.StringFlag{Name: "to", Usage: "write it to `FILE` instead, and leave the folder as it is", Destination: &o.to},
			},
			Action: func(c *cli.Context) error {
				if err := wantArgs(c, 2, 2); err != nil {
					return err
				}
				if o.version == "" {
					return ui.Usage("say which with --version; warren folder history NAME PATH lists them")
				}
				o.folder, o.path = c.Args().Get(0), c.Args().Get(1)
				return e.folderRestore(c.Context, o)
			},
		},
		{
			Name: "undelete", Usage: "bring back a deleted file, or all below a directory; without PATH, list those that there are", ArgsUsage: "NAME [PATH]",
			Description: "Of each file the last version before it was deleted. A PATH that ends in / is a directory's.\n" +
				"Note that " + remadeHint + ".\n\n" + ui.ExitCodes,
			Action: func(c *cli.Context) error {
				if err := wantArgs(c, 1, 2); err != nil {
					return err
				}
				if c.Args().Len() == 1 {
					return e.folderDeleted(c.Context, c.Args().First())
				}
				return e.folderUndelete(c.Context, c.Args().Get(0), c.Args().Get(1))
			},
		},
	}
}

func fileQuery(path string) url.Values {
	return url.Values{"path": {path}, "from": {here()}}
}

const historyHint = "warren folder list shows the folders, warren folder undelete NAME the deleted files"

func (e *env) folderHistory(ctx context.Context, folder, path string, limit int) error {
	node, err := openNode(ctx, e.dir)
	if err != nil {
		return err
	}
	q := fileQuery(path)
	q.Set("limit", strconv.Itoa(limit))
	resp, err := node.do(ctx, "GET", "/private/warren/v1/folders/"+pathEscape(folder)+"/history?"+q.Encode(), nil)
	if err != nil {
		return hinted(err, historyHint)
	}
	defer resp.Body.Close()
	all := []magicfolder.FileVersion{}
	for dec := json.NewDecoder(resp.Body); ; {
		var line daemon.HistoryLine
		if err := dec.Decode(&line); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return fmt.Errorf("reading the history: %w", err)
		}
		if line.Error != "" {
			return statusError(line.Status, line.Error)
		}
		if line.FileVersion == nil {
			return errors.New("reading the history: a line that is no version")
		}
		if e.ui.JSON {
			all = append(all, *line.FileVersion)
			continue
		}
		e.ui.Result("%s", versionLine(*line.FileVersion))
	}
	if e.ui.JSON {
		return e.ui.Data(all)
	}
	return nil
}

func versionLine(v magicfolder.FileVersion) string {
	if v.Problem != "" {
		return fmt.Sprintf("%4d  %s  %s", v.Number, v.ID, ui.Clean(v.Problem))
	}
	size := bytesText(v.Size)
	switch {
	case v.Deleted:
		size = "deleted"
	case v.Link:
		size = "a symbolic link"
	}
	var notes []string
	for _, n := range []struct {
		is   bool
		text string
	}{
		{v.Current, "current"}, {v.Waiting, "to be uploaded"}, {v.Merge, "merge"}, {v.Apart, "in conflict"},
		{v.Unproven, "NOT PROVEN to be of that author"},
	} {
		if n.is {
			notes = append(notes, n.text)
		}
	}
	if len(v.Holders) > 0 {
		notes = append(notes, "newest of "+ui.Clean(strings.Join(v.Holders, ", ")))
	}
	line := fmt.Sprintf("%4d  %s  %s  %s  %s", v.Number, local(v.Time), ui.Clean(v.Author), size, v.ID)
	if len(notes) > 0 {
		line += "  (" + strings.Join(notes, "; ") + ")"
	}
	return line
}

func (e *env) folderRestore(ctx context.Context, o restoreOptions) error {
	node, err := openNode(ctx, e.dir)
	if err != nil {
		return err
	}
	at := "folders/" + pathEscape(o.folder)
	if o.to != "" {
		if e.ui.JSON && o.to == "-" {
			return ui.Usage("--json needs a file to write: standard output cannot hold both")
		}
		q := fileQuery(o.path)
		q.Set("version", o.version)
		size, err := e.download(ctx, node, "/private/warren/v1/"+at+"/version?"+q.Encode(), o.to)
		if err != nil {
			return hinted(err, "warren folder history NAME PATH lists the versions")
		}
		if e.ui.JSON {
			return e.ui.Data(map[string]any{"file": o.to, "size": size})
		}
		if o.to != "-" {
			e.ui.Say("%s written to %s", bytesText(size), o.to)
		}
		return nil
	}
	var out magicfolder.Restored
	err = e.during(ctx, node, o.folder, "restore", func() error {
		return node.control(ctx, "POST", at+"/restore", daemon.RestoreRequest{Path: o.path, From: here(), Version: o.version}, &out)
	})
	if err != nil {
		return hinted(err, "warren folder history NAME PATH lists the versions")
	}
	return e.restored(out)
}

// restored tells what was brought back.
func (e *env) restored(out magicfolder.Restored) error {
	if e.ui.JSON {
		return e.ui.Data(out)
	}
	v := out.Version
	if out.Same {
		e.ui.Result("%s holds that version already", ui.Clean(out.Path))
		return nil
	}
	size := bytesText(v.Size)
	if v.Link {
		size = "a symbolic link"
	}
	e.ui.Result("%s: the version of %s by %s is the newest now (%s)", ui.Clean(out.Path), local(v.Time), ui.Clean(v.Author), size)
	if out.Remade {
		e.ui.Say("%s", remadeHint)
	}
	return nil
}

func (e *env) folderDeleted(ctx context.Context, folder string) error {
	node, err := openNode(ctx, e.dir)
	if err != nil {
		return err
	}
	var list []magicfolder.DeletedFile
	if err := node.control(ctx, "GET", "folders/"+pathEscape(folder)+"/deleted", nil, &list); err != nil {
		return hinted(err, noFolder)
	}
	if e.ui.JSON {
		return e.ui.Data(list)
	}
	for _, f := range list {
		e.ui.Result("%s  %s  %s", local(f.Time), ui.Clean(f.Author), ui.Clean(f.Path))
	}
	if len(list) == 0 {
		e.ui.Say("no deleted files")
	}
	return nil
}

func (e *env) folderUndelete(ctx context.Context, folder, path string) error {
	node, err := openNode(ctx, e.dir)
	if err != nil {
		return err
	}
	var out daemon.Undeleted
	err = e.during(ctx, node, folder, "undelete", func() error {
		return node.control(ctx, "POST", "folders/"+pathEscape(folder)+"/undelete", daemon.RestoreRequest{Path: path, From: here()}, &out)
	})
	switch {
	case err != nil:
		return hinted(err, historyHint)
	case out.Below != nil:
		return e.restoredBelow(*out.Below)
	case out.Restored == nil:
		return errors.New("the node's answer tells of nothing")
	}
	return e.restored(*out.Restored)
}

// restoredBelow tells what was brought back below a directory. An error says that not
// all was.
func (e *env) restoredBelow(out magicfolder.Below) error {
	var err error
	if n := len(out.Failed); n > 0 {
		err = ui.Fail(ui.ExitFailed, "repeat the command for the rest", fmt.Errorf("%s could not be brought back", plural(n, "file", "files")))
	}
	if e.ui.JSON {
		return cmp.Or(e.ui.Data(out), err)
	}
	for _, f := range out.Files {
		what := "(" + bytesText(f.Version.Size) + ")"
		switch {
		case strings.HasSuffix(f.Path, "/"):
			what = "(an empty directory)"
		case f.Version.Link:
			what = "(a symbolic link)"
		}
		e.ui.Result("%s: the version of %s by %s %s", ui.Clean(f.Path), local(f.Version.Time), ui.Clean(f.Version.Author), what)
	}
	for _, f := range out.Failed {
		e.ui.Say("%s: %s", ui.Clean(f.Path), ui.Clean(f.Message))
	}
	if n := len(out.Files); n > 0 {
		e.ui.Say("%s back below %s", plural(n, "file is", "files are"), ui.Clean(out.Path))
		e.ui.Say("%s", remadeHint)
	}
	return err
}
