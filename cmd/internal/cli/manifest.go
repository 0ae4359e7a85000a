package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"

	cli "github.com/urfave/cli/v2"

	"warren/cmd/internal/ui"
)

type manifestOptions struct {
	where string
	show  string // the key of what is shown instead of capability and path, "" for these
	raw   bool
}

func (e *env) manifestCommand() *cli.Command {
	return e.onGrid(&cli.Command{
		Name: "manifest", Usage: "list all files and directories below a directory", ArgsUsage: "[PATH]",
		Description: "One line each: capability and path. --json is like --raw.\n" + places,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "storage-index", Aliases: []string{"s"}, Usage: "storage indexes instead"},
			&cli.BoolFlag{Name: "verify-cap", Usage: "verify capabilities instead"},
			&cli.BoolFlag{Name: "repair-cap", Usage: "capabilities that let one repair, instead"},
			&cli.BoolFlag{Name: "raw", Aliases: []string{"r"}, Usage: "what the node says: lines of JSON"},
		},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 0, 1); err != nil {
				return err
			}
			o := manifestOptions{where: c.Args().First(), raw: c.Bool("raw") || e.ui.JSON}
			switch {
			case c.Bool("storage-index"):
				o.show = "storage-index"
			case c.Bool("verify-cap"):
				o.show = "verifycap"
			case c.Bool("repair-cap"):
				o.show = "repaircap"
			}
			return e.manifest(c.Context, o)
		},
	})
}

func (e *env) manifest(ctx context.Context, o manifestOptions) error {
	at, err := e.at(o.where)
	if err != nil {
		return err
	}
	return e.walk(ctx, at+"?t=stream-manifest", o.raw, func(line []byte) error {
		var unit struct {
			Type, Cap string
			Path      []string
			Index     string `json:"storage-index"`
			Verify    string `json:"verifycap"`
			Repair    string `json:"repaircap"`
		}
		if err := json.Unmarshal(line, &unit); err != nil {
			return err
		}
		if o.raw || unit.Type != "file" && unit.Type != "directory" {
			return nil
		}
		text := quoted(unit.Cap) + " " + quoted(strings.Join(unit.Path, "/"))
		if o.show != "" {
			text = map[string]string{"storage-index": unit.Index, "verifycap": unit.Verify, "repaircap": unit.Repair}[o.show]
			if text == "" { // of what is in its capability
				return nil
			}
			text = quoted(text)
		}
		e.ui.Result("%s", text)
		return nil
	})
}

// maxUnit bounds a line of a walk: one file or directory, with its whole path.
const maxUnit = 16 << 20

// walk asks for one of the web API's long answers, of one line of JSON for each file
// and directory, and hands them on as they come; raw prints them as they are, before. An
// answer that ends with an error, or in a line, is one.
func (e *env) walk(ctx context.Context, path string, raw bool, each func(line []byte) error) error {
	node, err := e.open(ctx)
	if err != nil {
		return err
	}
	resp, err := node.do(ctx, "POST", path, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxUnit)
	var failed []string
	for lines.Scan() {
		line := lines.Bytes()
		failing := failed != nil || strings.HasPrefix(string(line), "ERROR:")
		if raw {
			if _, err := fmt.Fprintf(e.ui.Out, "%s\n", line); err != nil {
				return err
			}
		}
		if !failing && len(line) > 0 {
			if err := each(line); err != nil {
				return fmt.Errorf("the node's answer makes no sense: %w", err)
			}
		}
		if failing && len(failed) < 50 {
			failed = append(failed, string(line))
		}
	}
	switch err := lines.Err(); {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil && !errors.Is(err, bufio.ErrTooLong) && failed == nil:
		return statusError(503, fmt.Sprintf("the node's answer ended early: %v", err))
	case err != nil && failed == nil:
		return err
	case failed != nil:
		// What went wrong, without what the node's program was doing then.
		what, _, _ := strings.Cut(strings.Join(failed, "\n"), "\nTraceback")
		return ui.Fail(ui.ExitFailed, "what was said before that holds", errors.New(redactCaps(what)))
	}
	return nil
}

// aCap matches a capability in the midst of a text.
var aCap = regexp.MustCompile(`URI:[A-Za-z0-9:-]+`)

// redactCaps hides the capabilities in what the node says.
func redactCaps(s string) string { return aCap.ReplaceAllString(s, "URI:…") }
