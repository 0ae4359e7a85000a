package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	cli "github.com/urfave/cli/v2"

	"warren/cmd/internal/ui"
)

type cpOptions struct {
	from, to  string // either side may be a path on the grid: it begins with URI:
	recursive bool
}

func (e *env) cpCommand() *cli.Command {
	return &cli.Command{
		Name: "cp", Usage: "copy files between this machine and the grid, or within the grid",
		ArgsUsage: "FROM TO",
		Flags:     []cli.Flag{&cli.BoolFlag{Name: "recursive", Aliases: []string{"r"}, Usage: "copy a directory with all that it holds"}},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 2, 2); err != nil {
				return err
			}
			return e.cp(c.Context, cpOptions{from: c.Args().Get(0), to: c.Args().Get(1), recursive: c.Bool("recursive")})
		},
	}
}

func remote(s string) bool { return strings.HasPrefix(s, "URI:") }

func (e *env) cp(ctx context.Context, o cpOptions) error {
	node, err := openNode(ctx, e.dir)
	if err != nil {
		return err
	}
	switch {
	case remote(o.from) && remote(o.to):
		return e.cpWithin(ctx, node, o)
	case remote(o.from):
		return e.cpDown(ctx, node, o)
	case remote(o.to):
		return e.cpUp(ctx, node, o)
	}
	return ui.Usage("neither side is on the grid: capabilities begin with URI:")
}

// cpWithin links: the same capability under another name, nothing is moved.
func (e *env) cpWithin(ctx context.Context, node *nodeClient, o cpOptions) error {
	from, err := capPath(o.from)
	if err != nil {
		return err
	}
	to, err := capPath(o.to)
	if err != nil {
		return err
	}
	n, err := node.stat(ctx, from)
	if err != nil {
		return err
	}
	if n.Kind == "dirnode" && !o.recursive {
		return ui.Usage("that is a directory: add -r to link the whole of it")
	}
	_, err = node.text(ctx, "PUT", to+"?t=uri", strings.NewReader(n.cap()))
	return err
}

// cpDown copies from the grid to this machine.
func (e *env) cpDown(ctx context.Context, node *nodeClient, o cpOptions) error {
	from, err := capPath(o.from)
	if err != nil {
		return err
	}
	n, err := node.stat(ctx, from)
	if err != nil {
		return err
	}
	if n.Kind == "dirnode" && !o.recursive {
		return ui.Usage("that is a directory: add -r")
	}
	if n.Kind != "dirnode" {
		if info, err := os.Stat(o.to); err == nil && info.IsDir() {
			name, err := url.PathUnescape(from[strings.LastIndex(from, "/")+1:])
			if err != nil || !filepath.IsLocal(name) || remote(name) {
				return ui.Usage("name the file to write")
			}
			o.to = filepath.Join(o.to, name)
		}
		_, err := e.download(ctx, node, from, o.to)
		return err
	}
	if err := os.MkdirAll(o.to, 0o755); err != nil {
		return err
	}
	// Names came from elsewhere: whatever they say, they stay below this root.
	root, err := os.OpenRoot(o.to)
	if err != nil {
		return err
	}
	defer root.Close()
	return e.downTree(ctx, node, root, o.to, n, []string{n.Read})
}

// downTree copies a directory. above are the readcaps of the directories on the way
// here: one that holds itself has no end.
func (e *env) downTree(ctx context.Context, node *nodeClient, root *os.Root, dir string, n remoteNode, above []string) error {
	for name, child := range n.Children {
		if !filepath.IsLocal(name) || strings.ContainsAny(name, `/\`) {
			return fmt.Errorf("the name %q cannot be a file's name on this machine", ui.Clean(name))
		}
		at, err := capPath(child.cap())
		if err != nil {
			e.ui.Say("left out %s: of a kind that this version does not know", ui.Clean(name))
			continue
		}
		switch child.Kind {
		case "dirnode":
			if slices.Contains(above, child.Read) {
				return fmt.Errorf("the directory %q holds itself: it cannot be copied as a whole", ui.Clean(name))
			}
			if err := root.Mkdir(name, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
			sub, err := root.OpenRoot(name)
			if err != nil {
				return err
			}
			listed, err := node.stat(ctx, at)
			if err == nil {
				err = e.downTree(ctx, node, sub, filepath.Join(dir, name), listed, append(slices.Clip(above), child.Read))
			}
			sub.Close()
			if err != nil {
				return err
			}
		case "filenode":
			if _, err := e.replace(ctx, node, at, filepath.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// cpUp copies from this machine to the grid.
func (e *env) cpUp(ctx context.Context, node *nodeClient, o cpOptions) error {
	info, err := os.Stat(o.from)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return e.put(ctx, putOptions{local: o.from, remote: o.to})
	}
	if !o.recursive {
		return ui.Usage("%s is a directory: add -r", o.from)
	}
	base, err := capPath(o.to)
	if err != nil {
		return err
	}
	if _, err := node.text(ctx, "POST", base+"?t=mkdir", nil); err != nil {
		return err
	}
	return filepath.WalkDir(o.from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(o.from, path)
		if err != nil || rel == "." {
			return err
		}
		at := base
		for _, part := range strings.Split(filepath.ToSlash(rel), "/") {
			at += "/" + url.PathEscape(part)
		}
		switch {
		case d.IsDir():
			_, err := node.text(ctx, "POST", at+"?t=mkdir", nil)
			return err
		case !d.Type().IsRegular():
			e.ui.Say("left out %s: not a regular file", path)
			return nil
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return err
		}
		resp, err := node.doLength(ctx, "PUT", at, f, info.Size())
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		return resp.Body.Close()
	})
}
