package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	cli "github.com/urfave/cli/v2"

	"warren/cmd/internal/ui"
	"warren/node/durable"
)

type getOptions struct {
	remote, local string // local "" or "-" is standard output
}

func (e *env) getCommand() *cli.Command {
	return &cli.Command{
		Name: "get", Usage: "fetch a file from the grid",
		ArgsUsage: "CAP|DIRCAP/PATH [LOCAL|-]",
		Description: "Without a file to write, or with -, the bytes go to standard output; what has gone there has been proven,\n" +
			"also when the command fails later. A file appears whole or not at all.\n\n" +
			"--json needs a file to write, and prints one object: cap, file, size, seconds.\n\n" + ui.ExitCodes,
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 1, 2); err != nil {
				return err
			}
			return e.get(c.Context, getOptions{remote: c.Args().Get(0), local: c.Args().Get(1)})
		},
	}
}

// get fetches a file. A local file appears whole or not at all.
func (e *env) get(ctx context.Context, o getOptions) error {
	node, err := openNode(ctx, e.dir)
	if err != nil {
		return err
	}
	path, err := capPath(o.remote)
	if err != nil {
		return err
	}
	if e.ui.JSON && (o.local == "" || o.local == "-") {
		return ui.Usage("--json needs a file to write: standard output cannot hold both")
	}
	began := time.Now()
	size, err := e.download(ctx, node, path, o.local)
	if err != nil && ctx.Err() != nil {
		hint := "no file was written, and none was changed"
		if o.local == "" || o.local == "-" {
			hint = "what went to standard output is the beginning of the file"
		}
		return ui.Fail(ui.ExitFailed, hint, ctx.Err())
	}
	if err != nil || !e.ui.JSON {
		return err
	}
	cap, err := node.text(ctx, "GET", path+"?t=uri", nil)
	if err != nil {
		return err
	}
	return e.ui.Data(map[string]any{"cap": strings.TrimSpace(cap), "file": o.local, "size": size, "seconds": seconds(began)})
}

// download writes what the web API serves at path to a local file, a device, or
// standard output ("" and "-"), and returns its size. Symbolic links to files stay
// and are followed.
func (e *env) download(ctx context.Context, node *nodeClient, path, local string) (int64, error) {
	if local == "" || local == "-" {
		return e.stream(ctx, node, path, e.ui.Out)
	}
	info, err := os.Stat(local)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return e.replace(ctx, node, path, local)
	case err != nil:
		return 0, err
	case info.IsDir():
		return 0, ui.Usage("%s is a directory: name the file to write", local)
	case !info.Mode().IsRegular():
		// A device or a pipe is written to; a file in its place would be no use.
		f, err := os.OpenFile(local, os.O_WRONLY, 0)
		if err != nil {
			return 0, err
		}
		n, err := e.stream(ctx, node, path, f)
		return n, errors.Join(err, f.Close())
	}
	if local, err = filepath.EvalSymlinks(local); err != nil {
		return 0, err
	}
	return e.replace(ctx, node, path, local)
}

// stream writes what the web API serves at path to w, and returns how much.
func (e *env) stream(ctx context.Context, node *nodeClient, path string, w io.Writer) (int64, error) {
	resp, err := node.do(ctx, "GET", path, nil)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	bar := e.ui.Progress("get", resp.ContentLength)
	defer bar.Finish()
	if w == e.ui.Out && e.ui.ShowsResults() {
		bar.Finish() // it would run through the text
	}
	var n int64
	copied := make(chan error, 1)
	go func() { // ends with the process, should whoever reads w have stopped
		var err error
		n, err = io.Copy(w, bar.Reader(resp.Body))
		copied <- err
	}()
	select {
	case err = <-copied:
		if err != nil && ctx.Err() != nil {
			return n, ctx.Err()
		}
		return n, cutShort(err)
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// replace fetches a file and puts it in the place of target, whole or not at all;
// what stands there, a symbolic link too, is replaced.
func (e *env) replace(ctx context.Context, node *nodeClient, path, target string) (int64, error) {
	f, err := newBeside(target)
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name()) // gone already when the rename went through
	defer f.Close()
	n, err := e.stream(ctx, node, path, f)
	if err != nil {
		return 0, err
	}
	if err := f.Sync(); err != nil {
		return 0, err
	}
	if err := f.Close(); err != nil {
		return 0, err
	}
	return n, durable.Rename(f.Name(), target)
}

// newBeside opens a new file beside target, with the rights of the file that is
// there, or, when there is none, with those that the user's umask leaves.
func newBeside(target string) (*os.File, error) {
	name := filepath.Join(filepath.Dir(target), ".warren-get-"+strings.ToLower(rand.Text()))
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
	if err != nil {
		return nil, err
	}
	if info, err := os.Lstat(target); err == nil && info.Mode().IsRegular() {
		if err := os.Chmod(name, info.Mode().Perm()); err != nil {
			return nil, errors.Join(err, f.Close(), os.Remove(name))
		}
	}
	return f, nil
}

// cutShort says what a connection that ends early means: the node had begun to
// send and then could not read more of the file.
func cutShort(err error) error {
	var file *fs.PathError
	if err == nil || errors.As(err, &file) { // it is our side that cannot be written
		return err
	}
	return statusError(503, fmt.Sprintf("the download ended early: %v", err))
}
