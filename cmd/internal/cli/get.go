package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	cli "github.com/urfave/cli/v2"

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
	node, err := openNode(e.dir)
	if err != nil {
		return err
	}
	path, err := capPath(o.remote)
	if err != nil {
		return err
	}
	return e.download(ctx, node, path, o.local)
}

// download writes what the web API serves at path to a local file.
func (e *env) download(ctx context.Context, node *nodeClient, path, local string) error {
	resp, err := node.do(ctx, "GET", path, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	bar := e.ui.Progress("get", resp.ContentLength)
	defer bar.Finish()
	if local == "" || local == "-" {
		_, err := io.Copy(e.ui.Out, bar.Reader(resp.Body))
		return cutShort(err)
	}
	f, err := os.CreateTemp(filepath.Dir(local), ".warren-get-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already when the rename went through
	defer f.Close()
	if _, err := io.Copy(f, bar.Reader(resp.Body)); err != nil {
		return cutShort(err)
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Chmod(f.Name(), 0o644); err != nil {
		return err
	}
	return durable.Rename(f.Name(), local)
}

// cutShort says what a connection that ends early means: the node had begun to
// send and then could not read more of the file.
func cutShort(err error) error {
	if err == nil {
		return nil
	}
	return statusError(503, fmt.Sprintf("the download ended early: %v", err))
}
