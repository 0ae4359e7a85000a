package cli

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
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
	return e.onGrid(&cli.Command{
		Name: "get", Usage: "fetch a file from the grid",
		ArgsUsage: "PATH [LOCAL|-]",
		Description: "Without a file to write, or with -, the bytes go to standard output; what has gone there has been proven,\n" +
			"also when the command fails later. A file appears whole or not at all.\n\n" +
			"--json needs a file to write, and prints one object: cap, file, size, seconds.\n\n" + places + "\n\n" + ui.ExitCodes,
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 1, 2); err != nil {
				return err
			}
			return e.get(c.Context, getOptions{remote: c.Args().Get(0), local: c.Args().Get(1)})
		},
	})
}

// get fetches a file. A local file appears whole or not at all.
func (e *env) get(ctx context.Context, o getOptions) error {
	node, err := e.open(ctx)
	if err != nil {
		return err
	}
	path, err := e.at(o.remote)
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
	if err != nil {
		return err
	}
	if !e.ui.JSON {
		if o.local != "" && o.local != "-" {
			e.ui.Say("%s retrieved and written to %s", shown(o.remote), o.local)
		}
		return nil
	}
	cap, err := node.text(ctx, "GET", path+"?t=uri", nil)
	if err != nil {
		return err
	}
	return e.ui.Data(map[string]any{"cap": strings.TrimSpace(cap), "file": o.local, "size": size, "seconds": seconds(began)})
}

// download writes what the web API serves at path to a local file, a device, or
// standard output ("" and "-"), and returns its size.
func (e *env) download(ctx context.Context, node *nodeClient, path, local string) (int64, error) {
	if local == "" || local == "-" {
		return e.stream(ctx, node, path, e.ui.Out)
	}
	return writeLocal(local, func(w io.Writer) (int64, error) { return e.stream(ctx, node, path, w) })
}

// writeLocal has fill write to a local file or device, and returns how much.
// Symbolic links to files stay and are followed.
func writeLocal(local string, fill func(io.Writer) (int64, error)) (int64, error) {
	info, err := os.Stat(local)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return replace(local, fill)
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
		n, err := fill(f)
		return n, errors.Join(err, f.Close())
	}
	if local, err = filepath.EvalSymlinks(local); err != nil {
		return 0, err
	}
	return replace(local, fill)
}

// stream writes what the web API serves at path to w, and returns how much.
func (e *env) stream(ctx context.Context, node *nodeClient, path string, w io.Writer) (int64, error) {
	resp, err := node.do(ctx, "GET", path, nil)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); kind == "text/html" {
		// A file, or the page that a directory is to a browser.
		if n, err := node.stat(ctx, path); err != nil || n.Kind == "dirnode" {
			return 0, cmp.Or(err, ui.Usage("that is a directory: warren ls lists it, warren cp -r fetches it"))
		}
	}
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

// replace puts what fill writes in the place of target, whole or not at all; what
// stands there, a symbolic link too, is replaced.
func replace(target string, fill func(io.Writer) (int64, error)) (int64, error) {
	dir, err := os.OpenRoot(filepath.Dir(target))
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	n, err := replaceIn(dir, filepath.Base(target), fill)
	if err != nil {
		return 0, err
	}
	return n, durable.SyncDir(filepath.Dir(target))
}

// replaceIn is replace of a name in a directory, whose sync it leaves to the caller.
func replaceIn(dir *os.Root, name string, fill func(io.Writer) (int64, error)) (int64, error) {
	f, temporary, err := newBeside(dir, name)
	if err != nil {
		return 0, err
	}
	defer dir.Remove(temporary) // gone already when the rename went through
	defer f.Close()
	n, err := fill(f)
	if err != nil {
		return 0, err
	}
	if err := f.Sync(); err != nil {
		return 0, err
	}
	if err := f.Close(); err != nil {
		return 0, err
	}
	return n, dir.Rename(temporary, name)
}

// newBeside opens a new file in a directory that will become name, with the rights
// of the file that is there, or, when there is none, with those that the user's umask
// leaves.
func newBeside(dir *os.Root, name string) (*os.File, string, error) {
	temporary := ".warren-get-" + strings.ToLower(rand.Text())
	f, err := dir.OpenFile(temporary, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
	if err != nil {
		return nil, "", err
	}
	if info, err := dir.Lstat(name); err == nil && info.Mode().IsRegular() {
		if err := dir.Chmod(temporary, info.Mode().Perm()); err != nil {
			return nil, "", errors.Join(err, f.Close(), dir.Remove(temporary))
		}
	}
	return f, temporary, nil
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
