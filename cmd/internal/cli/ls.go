package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	cli "github.com/urfave/cli/v2"

	"warren/cmd/internal/ui"
)

type lsOptions struct {
	where                         string
	long, caps, readOnly, classes bool
}

// remoteNode is what ?t=json says of a file or directory.
type remoteNode struct {
	Kind     string
	Size     *int64
	Mutable  bool
	Read     string
	Write    string
	Children map[string]remoteNode

	// When the link to it was made and last changed, in seconds since 1970; 0: not told.
	Made, Changed float64
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
		Metadata struct {
			// Of what Tahoe's old versions or a backup wrote, when the former is not there.
			Ctime, Mtime any
			Tahoe        struct {
				Made    any `json:"linkcrtime"`
				Changed any `json:"linkmotime"`
			} `json:"tahoe"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(pair[0], &n.Kind); err != nil {
		return err
	}
	if err := json.Unmarshal(pair[1], &p); err != nil {
		return err
	}
	n.Size, n.Mutable, n.Read, n.Write, n.Children = p.Size, p.Mutable, p.Read, p.Write, p.Children
	n.Made = cmp.Or(number(p.Metadata.Tahoe.Made), number(p.Metadata.Ctime))
	n.Changed = cmp.Or(number(p.Metadata.Tahoe.Changed), number(p.Metadata.Mtime))
	return nil
}

// number is a number out of metadata, in which anybody may write anything.
func number(v any) float64 {
	f, _ := v.(float64)
	return f
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
	return e.onGrid(&cli.Command{
		Name: "ls", Usage: "list a directory of the grid", ArgsUsage: "[PATH]",
		Description: "With -l: kind and rights, size (? when not known), when the link was made, and the name.\n" +
			"--json prints what the node says, as Tahoe does.\n" + places,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "long", Aliases: []string{"l"}, Usage: "rights, sizes and times too"},
			&cli.BoolFlag{Name: "uri", Usage: "capabilities too"},
			&cli.BoolFlag{Name: "readonly-uri", Usage: "capabilities that only read too"},
			&cli.BoolFlag{Name: "classify", Aliases: []string{"F"}, Usage: "append / to directories and * to mutable files"},
		},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 0, 1); err != nil {
				return err
			}
			return e.ls(c.Context, lsOptions{c.Args().First(), c.Bool("long"), c.Bool("uri"), c.Bool("readonly-uri"), c.Bool("classify")})
		},
	})
}

func (e *env) ls(ctx context.Context, o lsOptions) error {
	node, err := e.open(ctx)
	if err != nil {
		return err
	}
	at, err := e.find(o.where)
	if err != nil {
		return err
	}
	path := webPath(at)
	if e.ui.JSON {
		text, err := node.text(ctx, "GET", path+"?t=json", nil)
		if err != nil {
			return err
		}
		e.ui.Result("%s", text)
		return nil
	}
	n, err := node.stat(ctx, path)
	if err != nil {
		return err
	}
	children := n.Children
	if n.Kind != "dirnode" {
		children = map[string]remoteNode{lastPart(at.Path): n}
	}
	var rows [][]string
	unknown := false
	now := time.Now()
	for _, name := range slices.Sorted(maps.Keys(children)) {
		n := children[name]
		rows = append(rows, o.row(ui.Clean(name), n, now))
		unknown = unknown || n.Kind != "dirnode" && n.Kind != "filenode"
	}
	for _, line := range columns(rows) {
		e.ui.Result("%s", line)
	}
	if unknown {
		e.ui.Say("\nThis listing included unknown objects. A node of a later version may know them.")
	}
	return nil
}

// row is a line of a listing, in Tahoe's columns.
func (o lsOptions) row(name string, n remoteNode, now time.Time) (row []string) {
	kind, size, class := "?", "?", "?"
	switch n.Kind {
	case "dirnode":
		kind, size, class = "d", "-", "/"
	case "filenode":
		kind, class = "-", ""
		if n.Size != nil {
			size = fmt.Sprint(*n.Size)
		}
		if n.Write != "" {
			class = "*"
		}
	}
	if o.long {
		right := func(have bool, letter string) string {
			if have {
				return letter
			}
			return "-"
		}
		made := "-"
		if n.Made != 0 {
			at := time.Unix(int64(n.Made), 0)
			made = at.Format("Jan 02 15:04")
			if now.Sub(at) > 6*30*24*time.Hour { // as GNU's ls
				made = at.Format("Jan 02  2006")
			}
		}
		row = append(row, kind+right(n.Read != "", "r")+right(n.Write != "", "w")+right(n.Kind == "dirnode", "x"), size, made)
	}
	if o.classes {
		name += class
	}
	row = append(row, name)
	if o.caps {
		row = append(row, ui.Clean(cmp.Or(n.cap(), "-")))
	}
	if o.readOnly {
		row = append(row, ui.Clean(cmp.Or(n.Read, "-")))
	}
	return row
}

// columns makes lines of rows: cells stand right in their columns, but capabilities
// and a single column stand left, as Tahoe has it.
func columns(rows [][]string) (lines []string) {
	var widths []int
	var left []bool
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths, left = append(widths, 0), append(left, len(row) == 1)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
			left[i] = left[i] || strings.HasPrefix(cell, "URI")
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			if i > 0 {
				line.WriteByte(' ')
			}
			width := widths[i]
			if left[i] {
				width = -width
			}
			fmt.Fprintf(&line, "%*s", width, cell)
		}
		lines = append(lines, strings.TrimRight(line.String(), " "))
	}
	return lines
}
