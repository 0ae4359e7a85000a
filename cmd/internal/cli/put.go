package cli

import (
	"context"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	cli "github.com/urfave/cli/v2"

	"warren/cmd/internal/ui"
	"warren/node/webapi"
)

type putOptions struct {
	local, remote string // local "-" is standard input; remote "" stores without a name
	format        string
}

func (e *env) putCommand() *cli.Command {
	return &cli.Command{
		Name: "put", Usage: "store a file on the grid and print its capability",
		ArgsUsage: "[LOCAL|-] [CAP|DIRCAP/PATH]",
		Description: "Without a file, or with -, standard input is stored. The capability is printed when enough servers hold\n" +
			"shares durably, not before. One that was interrupted and is run again sends only what is not there yet.\n\n" +
			"--json prints one object: cap, created, seconds and, of an immutable file, size, happiness, shares_pushed,\n" +
			"shares_existing (were there already) and resumed_bytes (were there from a try that broke off).\n\n" + ui.ExitCodes,
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
	if size < 0 {
		body = giveUp(ctx, body)
	}
	began := time.Now()
	told, err := e.store(ctx, node, path, body, size)
	if err != nil && ctx.Err() != nil {
		return ui.Fail(ui.ExitFailed, "do not count on it being stored. What servers have taken of an immutable file waits there for half an hour:\n"+
			"  the same command, run again in that time, goes on from there", ctx.Err())
	}
	if err != nil {
		return err
	}
	if e.ui.JSON {
		return e.ui.Data(putResult{Cap: told.Text, Created: told.Status == http.StatusCreated, Seconds: seconds(began), Stored: told.Stored})
	}
	if s := told.Stored; s != nil && s.Existing > 0 {
		e.ui.Say("on the grid already and not sent again: %d of %s", s.Existing, plural(s.Existing+s.Pushed, "share", "shares"))
	}
	if s := told.Stored; s != nil && s.Resumed > 0 {
		e.ui.Say("kept from a try that broke off and not sent again: %d bytes of shares", s.Resumed)
	}
	e.ui.Result("%s", told.Text)
	return nil
}

// giveUp is r until ctx ends, also when r gives nothing then: a terminal, or a pipe
// that nobody writes to. A request does not end before its body does.
func giveUp(ctx context.Context, r io.Reader) io.Reader {
	out, in := io.Pipe()
	go func() { // ends with r or, when r never ends, with the process
		_, err := io.Copy(in, r)
		in.CloseWithError(err)
	}()
	context.AfterFunc(ctx, func() { out.CloseWithError(ctx.Err()) })
	return out
}

// putResult is what put says under --json. How the file was stored is known of
// immutable files, from our own node.
type putResult struct {
	Cap     string  `json:"cap"`
	Created bool    `json:"created"`
	Seconds float64 `json:"seconds"`
	*webapi.Stored
}

func seconds(began time.Time) float64 { return float64(time.Since(began).Milliseconds()) / 1000 }

// store sends a file to the node and follows it to the servers.
func (e *env) store(ctx context.Context, node *nodeClient, path string, body io.Reader, size int64) (webapi.Told, error) {
	bar := e.ui.Progress("to the node", size)
	resp, err := node.send(ctx, "PUT", path, bar.Reader(body), size, webapi.ToldType)
	bar.Finish()
	if err != nil {
		return webapi.Told{}, err
	}
	defer resp.Body.Close()
	if kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); kind != webapi.ToldType {
		text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // Tahoe's node
		return webapi.Told{Status: resp.StatusCode, Text: strings.TrimSpace(string(text))}, err
	}
	bar = e.ui.Progress("to the servers", -1)
	defer bar.Finish()
	for lines := json.NewDecoder(resp.Body); ; {
		var line webapi.Told
		if err := lines.Decode(&line); err != nil {
			return line, statusError(http.StatusInternalServerError, "the node ended before it said what became of the file: nothing is known to be stored")
		}
		switch {
		case line.Status == 0:
			bar.Set(int64(line.Written), int64(line.Total))
		case line.Status/100 != 2:
			return line, statusError(line.Status, line.Text)
		default:
			return line, nil
		}
	}
}
