package cli

import (
	"context"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	cli "github.com/urfave/cli/v2"

	"warren/cmd/internal/ui"
)

type putOptions struct {
	local, remote string // local "-" is standard input; remote "" stores without a name
	format        string
}

func (e *env) putCommand() *cli.Command {
	return &cli.Command{
		Name: "put", Usage: "store a file on the grid and print its capability",
		ArgsUsage: "[LOCAL|-] [CAP|DIRCAP/PATH]",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "format", Usage: "CHK (immutable) or SDMF (mutable)"},
			&cli.BoolFlag{Name: "mutable", Aliases: []string{"m"}, Usage: "like --format=SDMF"},
		},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 0, 2); err != nil {
				return err
			}
			o := putOptions{local: c.Args().Get(0), remote: c.Args().Get(1), format: c.String("format")}
			if o.local == "" {
				o.local = "-"
			}
			if c.Bool("mutable") && o.format == "" {
				o.format = "SDMF"
			}
			return e.put(c.Context, o)
		},
	}
}

// put stores a file. A mutable file's cap, or a path below a directory, says
// where; without one the file has only its cap.
func (e *env) put(ctx context.Context, o putOptions) error {
	node, err := openNode(ctx, e.dir)
	if err != nil {
		return err
	}
	path := "/uri"
	if o.remote != "" {
		if path, err = capPath(o.remote); err != nil {
			return err
		}
		if strings.HasSuffix(o.remote, "/") || strings.HasPrefix(o.remote, "URI:DIR2") && !strings.Contains(o.remote, "/") {
			if o.local == "-" {
				return ui.Usage("name the file: DIRCAP/NAME")
			}
			if path, err = capPath(strings.TrimSuffix(o.remote, "/") + "/" + filepath.Base(o.local)); err != nil {
				return err
			}
		}
	}
	if o.format != "" {
		path += "?format=" + url.QueryEscape(strings.ToUpper(o.format))
	}
	var body io.Reader = e.ui.In
	size := int64(-1)
	if o.local != "-" {
		f, err := os.Open(o.local)
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return err
		}
		if info.IsDir() {
			return ui.Usage("%s is a directory: warren cp -r stores directories", o.local)
		}
		if info.Mode().IsRegular() {
			size = info.Size()
		}
		body = f
	}
	bar := e.ui.Progress("put", size)
	resp, err := node.doLength(ctx, "PUT", path, bar.Reader(body), size)
	bar.Finish()
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	cap, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if e.ui.JSON {
		return e.ui.Data(map[string]any{"cap": string(cap), "created": resp.StatusCode == 201})
	}
	e.ui.Result("%s", cap)
	return nil
}
