package cli

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
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
	"warren/node/caps"
	"warren/node/webapi"
)

type putOptions struct {
	local, remote string // local "-" is standard input; remote "" stores without a name
	format        string
	key           string // of a mutable file: the file that holds its RSA key, "" for a new one
}

func (e *env) putCommand() *cli.Command {
	return e.onGrid(&cli.Command{
		Name: "put", Usage: "store a file on the grid and print its capability",
		ArgsUsage: "[LOCAL|-] [PATH]",
		Description: "Without a file, or with -, standard input is stored. The capability is printed when enough servers hold\n" +
			"shares durably, not before. A mutable file that is there\n" +
			"already is changed in place, whatever --format says. One that was interrupted and is run again sends only what is not there yet.\n\n" +
			"--json prints one object: cap, created, seconds and, of an immutable file, size, happiness, shares_pushed,\n" +
			"shares_existing (were there already) and resumed_bytes (were there from a try that broke off).\n\n" + places + "\n\n" + ui.ExitCodes,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "format", Usage: "CHK (immutable, the default), SDMF or MDMF (mutable)"},
			&cli.BoolFlag{Name: "mutable", Aliases: []string{"m"}, Usage: "like --format=SDMF"},
			&cli.StringFlag{Name: "private-key-path", Usage: "the signature key of a new mutable file: a `FILE` with an RSA key of 2048 bits in PEM.\n" +
				"One key for two files destroys one of them; who has the key has the file"},
		},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 0, 2); err != nil {
				return err
			}
			format, err := format(c.String("format"), "CHK", "SDMF", "MDMF")
			if err != nil {
				return err
			}
			o := putOptions{local: c.Args().Get(0), remote: c.Args().Get(1), format: format, key: c.String("private-key-path")}
			if o.local == "" {
				o.local = "-"
			}
			if c.Bool("mutable") && o.format == "" {
				o.format = "SDMF"
			}
			return e.put(c.Context, o)
		},
	})
}

// put stores a file. A mutable file's cap, or a path below a directory, says
// where; without one the file has only its cap.
func (e *env) put(ctx context.Context, o putOptions) error {
	node, err := e.open(ctx)
	if err != nil {
		return err
	}
	path := "/uri"
	if o.remote != "" {
		if path, err = e.putPath(o); err != nil {
			return err
		}
	}
	query := url.Values{}
	if o.format != "" {
		query.Set("format", o.format)
	}
	if o.key != "" {
		if o.format != "SDMF" && o.format != "MDMF" {
			return ui.Usage("a private key is for a mutable file: add --mutable or --format")
		}
		key, err := privateKey(o.key)
		if err != nil {
			return err
		}
		query.Set("mutable", "true")
		query.Set("private-key", key)
	}
	if len(query) > 0 {
		path += "?" + query.Encode()
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

// putPath is where a file goes: below a directory, or into a mutable file.
func (e *env) putPath(o putOptions) (string, error) {
	at, err := e.find(o.remote)
	switch {
	case err != nil:
		return "", err
	case strings.HasPrefix(at.Path, "/"):
		return "", ui.Usage("the remote filename must not start with a slash")
	case at.Path == "" && !strings.HasSuffix(o.remote, "/"):
		if c, err := caps.Parse(at.Cap); err != nil || !caps.IsDir(c) {
			return webPath(at), nil
		}
	case !strings.HasSuffix(at.Path, "/") && at.Path != "":
		return webPath(at), nil
	}
	// It names a directory: the file keeps its name.
	if o.local == "-" {
		return "", ui.Usage("name the file: ALIAS:NAME or DIRCAP/NAME")
	}
	return below(webPath(at), filepath.Base(o.local)), nil
}

// privateKey reads a mutable file's key as the web API wants it.
func privateKey(file string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	bad := ui.Usage("%s holds no RSA key of 2048 bits in PEM, without a password", file)
	block, _ := pem.Decode(text)
	if block == nil {
		return "", bad
	}
	var key any
	if block.Type == "RSA PRIVATE KEY" {
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	} else {
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	if key, ok := key.(*rsa.PrivateKey); err != nil || !ok || key.N.BitLen() != 2048 {
		return "", bad
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", bad
	}
	return base64.URLEncoding.EncodeToString(der), nil
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
