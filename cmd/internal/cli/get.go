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
	return e.download(ctx, node, path, o.local)
}

// download writes what the web API serves at path to a local file, a device, or
// standard output ("" and "-"). Symbolic links to files stay and are followed.
func (e *env) download(ctx context.Context, node *nodeClient, path, local string) error {
	if local == "" || local == "-" {
		return e.stream(ctx, node, path, e.ui.Out)
	}
	info, err := os.Stat(local)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return e.replace(ctx, node, path, local)
	case err != nil:
		return err
	case info.IsDir():
		return ui.Usage("%s is a directory: name the file to write", local)
	case !info.Mode().IsRegular():
		// A device or a pipe is written to; a file in its place would be no use.
		f, err := os.OpenFile(local, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(e.stream(ctx, node, path, f), f.Close())
	}
	if local, err = filepath.EvalSymlinks(local); err != nil {
		return err
	}
	return e.replace(ctx, node, path, local)
}

// stream writes what the web API serves at path to w.
func (e *env) stream(ctx context.Context, node *nodeClient, path string, w io.Writer) error {
	resp, err := node.do(ctx, "GET", path, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	bar := e.ui.Progress("get", resp.ContentLength)
	defer bar.Finish()
	_, err = io.Copy(w, bar.Reader(resp.Body))
	return cutShort(err)
}

// replace fetches a file and puts it in the place of target, whole or not at all;
// what stands there, a symbolic link too, is replaced.
func (e *env) replace(ctx context.Context, node *nodeClient, path, target string) error {
	f, err := newBeside(target)
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already when the rename went through
	defer f.Close()
	if err := e.stream(ctx, node, path, f); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return durable.Rename(f.Name(), target)
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
