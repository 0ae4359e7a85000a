package cli

import (
	"context"
	"fmt"
	"html"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	cli "github.com/urfave/cli/v2"

	"warren/cmd/internal/ui"
	"warren/node/durable"
)

type webopenOptions struct {
	where string
	info  bool
}

func (e *env) webopenCommand() *cli.Command {
	return e.onGrid(&cli.Command{
		Name: "webopen", Usage: "look at a file or directory of the grid in a browser", ArgsUsage: "[PATH]",
		Description: "Without a path it opens the node's own page. --json prints the address and opens nothing: for a browser that\n" +
			"may not read the node directory.\n" + places,
		Flags: []cli.Flag{&cli.BoolFlag{Name: "info", Aliases: []string{"i"}, Usage: "the page about the file or directory"}},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 0, 1); err != nil {
				return err
			}
			return e.webopen(c.Context, webopenOptions{c.Args().First(), c.Bool("info")})
		},
	})
}

// webopen opens a page of the node. Its address holds a capability, and what stands
// on a program's command line every user of the machine can read. (Tahoe puts it
// there.) So the browser is given the name of a file in private/ that sends it on,
// as readable as the aliases beside it: whoever could read it has the aliases. (An
// address with a word that is good once would not do: it is on the command line too,
// and who is faster than the browser has the capability.)
func (e *env) webopen(ctx context.Context, o webopenOptions) error {
	node, err := e.open(ctx)
	if err != nil {
		return err
	}
	address, secret := node.url+"/", false
	if o.where != "" {
		at, err := e.at(o.where)
		if err != nil {
			return err
		}
		address, secret = node.url+at, true
	}
	if o.info {
		address += "?t=info"
	}
	if e.ui.JSON {
		return e.ui.Data(map[string]string{"url": address})
	}
	if secret {
		page := filepath.Join(e.dir, "private", "webopen.html")
		text := "<!DOCTYPE html>\n<meta charset=\"utf-8\">\n<meta name=\"referrer\" content=\"no-referrer\">\n" +
			"<meta http-equiv=\"refresh\" content=\"0; url=" + html.EscapeString(address) + "\">\n<title>warren</title>\n" +
			"<a href=\"" + html.EscapeString(address) + "\">to the grid</a>\n"
		if err := durable.WriteFile(page, []byte(text), 0o600); err != nil {
			return err
		}
		address = page
	}
	return openBrowser(ctx, address)
}

// openBrowser has the system open a file or an address. The program that does it may
// become the browser itself: it is left alone when it does not end at once.
func openBrowser(ctx context.Context, what string) error {
	name, args := opener(runtime.GOOS, what)
	cmd := exec.Command(name, args...)
	ownSession(cmd) // Ctrl-C here is not for the browser
	failed := func(err error) error {
		return ui.Fail(ui.ExitFailed, "--json prints the address, for any browser on this machine", err)
	}
	if err := cmd.Start(); err != nil {
		return failed(fmt.Errorf("there is no %s here that could open a browser", name))
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // outlived by a browser
	select {
	case err := <-ended:
		if err != nil {
			return failed(fmt.Errorf("%s: %w", name, err))
		}
	case <-time.After(browserTime):
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// browserTime is how long the opening of a browser may take to fail.
const browserTime = 30 * time.Second

// opener is the command with which a system opens a file or an address.
func opener(system, what string) (string, []string) {
	switch system {
	case "windows":
		return "rundll32", []string{"url.dll,FileProtocolHandler", what}
	case "darwin":
		return "open", []string{what}
	}
	return "xdg-open", []string{what}
}
