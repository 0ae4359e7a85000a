package cli

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	cli "github.com/urfave/cli/v2"

	"warren/cmd/internal/alias"
	"warren/cmd/internal/ui"
)

// gridOptions are Tahoe's, of every command that asks the grid.
type gridOptions struct {
	url    string // of the node's web API, instead of what node.url says
	dirCap string // the default alias
}

// places says how what is on the grid is named, in every command's description.
const places = "A path on the grid is ALIAS:PATH, PATH below the alias tahoe:, CAP, or CAP/PATH. Aliases are those of the node\n" +
	"directory, shared with Tahoe: see create-alias, add-alias, list-aliases."

// onGrid gives a command the options of gridOptions.
func (e *env) onGrid(c *cli.Command) *cli.Command {
	c.Flags = append(c.Flags,
		&cli.StringFlag{Name: "node-url", Aliases: []string{"u"}, Usage: "ask the node with this `URL` (on this machine)"},
		&cli.StringFlag{Name: "dir-cap", Usage: "the directory `CAP` that is the alias tahoe:"})
	run := c.Action
	c.Action = func(ctx *cli.Context) error {
		e.grid = gridOptions{url: ctx.String("node-url"), dirCap: ctx.String("dir-cap")}
		return run(ctx)
	}
	return c
}

// open opens the node that the options name.
func (e *env) open(ctx context.Context) (*nodeClient, error) {
	if e.grid.url == "" {
		return openNode(ctx, e.dir)
	}
	u, err := url.Parse(e.grid.url)
	if err != nil || u.Scheme != "http" || u.Host == "" {
		return nil, ui.Usage("--node-url is the address of a node's web API, as http://127.0.0.1:3456")
	}
	if u.Hostname() == "localhost" { // no name is ever looked up
		u.Host = "127.0.0.1:" + u.Port()
	}
	return newNodeClient(e.dir, u.Scheme+"://"+u.Host), nil
}

// find reads an argument that names something on the grid.
func (e *env) find(arg string) (alias.Place, error) {
	known := map[string]string{}
	if !alias.IsCap(arg) {
		var err error
		if known, err = alias.Read(e.dir); err != nil {
			return alias.Place{}, err
		}
		if e.grid.dirCap != "" {
			known[alias.Default] = e.grid.dirCap
		}
	}
	at, err := alias.Find(known, arg)
	if errors.Is(err, alias.ErrUnknown) {
		return at, ui.Fail(ui.ExitNotFound, "warren create-alias makes a directory with a name, warren add-alias names one that is there", err)
	}
	return at, err
}

// at is the web API's path for an argument that names something on the grid.
func (e *env) at(arg string) (string, error) {
	place, err := e.find(arg)
	if err != nil {
		return "", err
	}
	return webPath(place), nil
}

// webPath is the web API's path of a place; empty parts mean nothing.
func webPath(at alias.Place) string {
	return below("/uri/"+url.PathEscape(at.Cap), at.Path)
}

// capPath is the web API's path of what a capability names.
func capPath(cap string) string { return webPath(alias.Place{Cap: cap}) }

// below appends a path on the grid to a path of the web API.
func below(base, path string) string {
	for part := range strings.SplitSeq(path, "/") {
		if part != "" {
			base += "/" + url.PathEscape(part)
		}
	}
	return base
}

// lastPart is the name at the end of a path, "" when it has none.
func lastPart(path string) string {
	path = strings.TrimRight(path, "/")
	return path[strings.LastIndex(path, "/")+1:]
}

// format checks an option --format against those that a command takes.
func format(given string, taken ...string) (string, error) {
	for _, f := range append(taken, "") {
		if strings.EqualFold(given, f) {
			return f, nil
		}
	}
	return "", ui.Usage("%q is an invalid format: %s", given, strings.Join(taken, " or "))
}

// shown is an argument as talk may show it: a capability is a secret.
func shown(arg string) string {
	if alias.IsCap(arg) {
		return "it"
	}
	return quoted(arg)
}

// quoted is text from elsewhere as Tahoe prints it (quote_output, without quotes
// where it needs none), made safe for a terminal.
func quoted(s string) string { return ui.Clean(quote(s, false)) }

// quote puts text between quotes: always, or (marks false) where a reader could take
// it for something else. Between single quotes all stands for itself; between double
// ones a backslash escapes.
func quote(s string, marks bool) string {
	plain := true
	for _, r := range s {
		plain = plain && r != '\'' && (r >= ' ' && r <= '~' || printable(r))
	}
	switch {
	case plain && (marks || strings.HasPrefix(s, `"`)):
		return "'" + s + "'"
	case plain:
		return s
	}
	var out strings.Builder
	out.WriteByte('"')
	for _, r := range s {
		switch {
		case strings.ContainsRune("\"$`\\", r):
			out.WriteString(`\` + string(r))
		case r >= ' ' && r <= '~' || printable(r):
			out.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(&out, `\U%08x`, r)
		case r > 0xff:
			fmt.Fprintf(&out, `\u%04x`, r)
		default:
			fmt.Fprintf(&out, `\x%02x`, r)
		}
	}
	out.WriteByte('"')
	return out.String()
}

// printable says whether Tahoe prints a character beyond ASCII as it is.
func printable(r rune) bool {
	return r >= 0xa0 && r <= 0xd7ff || r >= 0xe000 && r <= 0xfdcf || r >= 0xfdf0 && r <= 0xfffc
}
