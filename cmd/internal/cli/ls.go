package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sort"

	cli "github.com/urfave/cli/v2"

	"warren/cmd/internal/ui"
)

type lsOptions struct {
	remote     string
	long, caps bool
}

// remoteNode is what ?t=json says of a file or directory.
type remoteNode struct {
	Kind     string
	Size     *int64
	Mutable  bool
	Read     string
	Write    string
	Children map[string]remoteNode
}

// UnmarshalJSON reads Tahoe's [kind, properties] pair.
func (n *remoteNode) UnmarshalJSON(b []byte) error {
	var pair [2]json.RawMessage
	if err := json.Unmarshal(b, &pair); err != nil {
		return err
	}
	var p struct {
		Size     *int64                `json:"size"`
		Mutable  bool                  `json:"mutable"`
		Read     string                `json:"ro_uri"`
		Write    string                `json:"rw_uri"`
		Children map[string]remoteNode `json:"children"`
	}
	if err := json.Unmarshal(pair[0], &n.Kind); err != nil {
		return err
	}
	if err := json.Unmarshal(pair[1], &p); err != nil {
		return err
	}
	n.Size, n.Mutable, n.Read, n.Write, n.Children = p.Size, p.Mutable, p.Read, p.Write, p.Children
	return nil
}

// cap is the strongest capability given.
func (n remoteNode) cap() string {
	if n.Write != "" {
		return n.Write
	}
	return n.Read
}

// stat asks the node what stands at a path of the web API.
func (c *nodeClient) stat(ctx context.Context, path string) (remoteNode, error) {
	var n remoteNode
	resp, err := c.do(ctx, "GET", path+"?t=json", nil)
	if err != nil {
		return n, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return n, err
	}
	return n, json.Unmarshal(b, &n)
}

func (e *env) lsCommand() *cli.Command {
	return &cli.Command{
		Name: "ls", Usage: "list a directory of the grid", ArgsUsage: "DIRCAP[/PATH]",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "long", Aliases: []string{"l"}, Usage: "kind and size too"},
			&cli.BoolFlag{Name: "uri", Aliases: []string{"u"}, Usage: "capabilities too"},
		},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 1, 1); err != nil {
				return err
			}
			return e.ls(c.Context, lsOptions{remote: c.Args().First(), long: c.Bool("long"), caps: c.Bool("uri")})
		},
	}
}

func (e *env) ls(ctx context.Context, o lsOptions) error {
	node, err := openNode(ctx, e.dir)
	if err != nil {
		return err
	}
	path, err := capPath(o.remote)
	if err != nil {
		return err
	}
	if e.ui.JSON {
		text, err := node.text(ctx, "GET", path+"?t=json", nil)
		if err != nil {
			return err
		}
		_, err = io.WriteString(e.ui.Out, text)
		return err
	}
	n, err := node.stat(ctx, path)
	if err != nil {
		return err
	}
	if n.Kind != "dirnode" {
		e.line("", n, o)
		return nil
	}
	names := make([]string, 0, len(n.Children))
	for name := range n.Children {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		e.line(name, n.Children[name], o)
	}
	return nil
}

func (e *env) line(name string, n remoteNode, o lsOptions) {
	text := ui.Clean(name)
	if o.long {
		size := "-"
		if n.Size != nil {
			size = fmt.Sprint(*n.Size)
		}
		mode := map[string]string{"dirnode": "d", "filenode": "-", "unknown": "?"}[n.Kind] + "r"
		if n.Write != "" {
			mode += "w"
		} else {
			mode += "-"
		}
		text = fmt.Sprintf("%s %12s %s", mode, size, text)
	}
	if o.caps {
		text += " " + n.cap()
	}
	e.ui.Result("%s", text)
}
