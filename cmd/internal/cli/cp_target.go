package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"unicode/utf8"

	"warren/magicfolder/fsys"
	"warren/node/caps"
	"warren/node/durable"
)

// directory is one that is copied into. Names come from elsewhere: takes is asked
// before put and enter are called.
type directory interface {
	// takes says why a file, or a directory, cannot come under that name; "" when it
	// can.
	takes(name string, dir bool) string
	put(ctx context.Context, s source) error
	// enter opens the directory of that name, or makes it.
	enter(ctx context.Context, name string) (directory, error)
	// close makes lasting what came, and is called once.
	close(ctx context.Context) error
	identity() identity
}

// inTheWay is why something stays as it is.
const (
	dirInTheWay  = "there is a directory of that name in the way"
	fileInTheWay = "there is a file of that name in the way"
)

// enter opens the target directory of a copy, or makes it.
func (c *copier) enter(ctx context.Context, t target) (directory, error) {
	if t.local != "" {
		if err := os.MkdirAll(t.local, 0o777); err != nil {
			return nil, err
		}
		root, err := os.OpenRoot(t.local)
		if err != nil {
			return nil, err
		}
		return newLocalDir(c, root, t.local)
	}
	if t.is == missing {
		return c.makeGridDir(ctx, t.at)
	}
	return c.gridDir(t.node)
}

// localDir is a directory of this machine. Whatever the names say and whatever links
// are there, nothing leaves the root.
type localDir struct {
	*copier
	root *os.Root
	path string
	self identity
}

func newLocalDir(c *copier, root *os.Root, path string) (directory, error) {
	info, err := root.Stat(".")
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return &localDir{c, root, path, identity{info: info}}, nil
}

func (d *localDir) identity() identity { return d.self }

func (d *localDir) takes(name string, dir bool) string {
	if why := badName(name, runtime.GOOS == "windows"); why != "" {
		return why
	}
	info, err := d.root.Stat(name)
	switch {
	case dir && err == nil && !info.IsDir():
		return fileInTheWay
	case !dir && err == nil && info.IsDir():
		return dirInTheWay
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		// A link that leads elsewhere: a file replaces it, a directory is not looked for
		// behind it.
		if link, lerr := d.root.Lstat(name); dir || lerr != nil || link.Mode().Type() != fs.ModeSymlink {
			return "what is there cannot be looked at from here"
		}
	}
	return ""
}

// badName says why a name cannot be one on this machine.
func badName(name string, windows bool) string {
	switch {
	case name == "", name == ".", name == "..", strings.ContainsAny(name, "/\x00"), windows && !filepath.IsLocal(name):
		return "that cannot be a file's name on this machine"
	case windows:
		return fsys.WindowsProblem(name)
	}
	return ""
}

func (d *localDir) put(ctx context.Context, s source) error {
	_, err := replaceIn(d.root, s.name, d.content(ctx, s))
	return err
}

func (d *localDir) enter(_ context.Context, name string) (directory, error) {
	if err := d.root.Mkdir(name, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	sub, err := d.root.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	return newLocalDir(d.copier, sub, filepath.Join(d.path, name))
}

func (d *localDir) close(context.Context) error {
	return errors.Join(durable.SyncDir(d.path), d.root.Close())
}

// gridDir is a directory of the grid. New files get their names together: each change
// writes the whole directory.
type gridDir struct {
	*copier
	node  remoteNode
	fresh map[string]string // name -> capability, not linked yet
}

// maxFresh is how many new names are kept back at most: an hour's uploads should be
// seen before its end.
const maxFresh = 1000

func (c *copier) gridDir(n remoteNode) (directory, error) {
	if n.Write == "" {
		return nil, errors.New("the directory cannot be changed with this capability: it only reads, or the directory is immutable")
	}
	if n.Children == nil {
		n.Children = map[string]remoteNode{}
	}
	return &gridDir{copier: c, node: n, fresh: map[string]string{}}, nil
}

// makeGridDir makes a directory at a path of the web API.
func (c *copier) makeGridDir(ctx context.Context, at string) (directory, error) {
	text, err := c.node.text(ctx, "POST", at+"?t=mkdir", nil)
	if err != nil {
		return nil, err
	}
	cap, err := caps.Parse(strings.TrimSpace(text))
	if err != nil || !caps.IsDir(cap) {
		return nil, errors.New("the node's answer makes no sense: it is no directory's capability")
	}
	return c.gridDir(remoteNode{Kind: "dirnode", Write: cap.Text(), Read: caps.ReadOnly(cap).Text()})
}

func (d *gridDir) identity() identity { return identity{cap: d.node.Read} }

// child is what stands under a name already.
func (d *gridDir) child(name string) remoteNode { return d.node.Children[d.fold(name)] }

func (d *gridDir) takes(name string, dir bool) string {
	child := d.child(name)
	switch {
	case name == "" || !utf8.ValidString(name):
		return "its name is not UTF-8: no name on the grid"
	case dir && child.Kind != "" && child.Kind != "dirnode":
		return fileInTheWay
	case !dir && child.Kind == "dirnode":
		return dirInTheWay
	case !dir && child.Kind == "filenode" && child.Mutable && child.Write == "":
		return "there is a mutable file of that name that cannot be changed from here"
	}
	return ""
}

func (d *gridDir) put(ctx context.Context, s source) error {
	child := d.child(s.name)
	if child.Mutable { // changed in place, so that who holds its capability sees it
		_, err := d.upload(ctx, s, capPath(child.Write))
		return err
	}
	cap := s.node.cap()
	if !s.linkable() {
		var err error
		if cap, err = d.upload(ctx, s, "/uri"); err != nil {
			return err
		}
	}
	d.fresh[s.name] = cap
	if len(d.fresh) < maxFresh {
		return nil
	}
	return d.link(ctx)
}

func (d *gridDir) enter(ctx context.Context, name string) (directory, error) {
	child := d.child(name)
	if child.Kind == "" {
		return d.makeGridDir(ctx, capPath(d.node.Write)+"/"+url.PathEscape(name))
	}
	n, err := d.copier.node.stat(ctx, capPath(child.cap()))
	if err != nil {
		return nil, err
	}
	return d.gridDir(n)
}

// link gives what is new its names.
func (d *gridDir) link(ctx context.Context) error {
	if len(d.fresh) == 0 {
		return nil
	}
	entries := map[string]any{}
	for name, text := range d.fresh {
		right := "rw_uri"
		if c, err := caps.Parse(text); err != nil || caps.IsReadOnly(c) {
			right = "ro_uri"
		}
		entries[name] = []any{"filenode", map[string]string{right: text}}
	}
	body, err := json.Marshal(entries)
	if err != nil {
		return err
	}
	if _, err := d.copier.node.text(ctx, "POST", capPath(d.node.Write)+"?t=set_children", bytes.NewReader(body)); err != nil {
		return err
	}
	clear(d.fresh)
	return nil
}

func (d *gridDir) close(ctx context.Context) error {
	if ctx.Err() != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), flushTime)
		defer cancel()
	}
	return d.link(ctx)
}
