package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"warren/cmd/internal/ui"
)

// source is a file or directory that is copied.
type source struct {
	name  string // "" when it has none
	dir   bool
	local string     // its path on this machine, "" on the grid
	node  remoteNode // on the grid; a directory's with its children when listed
	// listed says that node holds the children.
	listed bool

	identity identity
	above    []identity // the directories on the way to it
}

// identity tells directories apart, whatever way leads to them.
type identity struct {
	cap  string      // the capability that reads it, on the grid
	info fs.FileInfo // on this machine
}

func (i identity) in(others []identity) bool {
	return slices.ContainsFunc(others, func(o identity) bool {
		return i.cap != "" && i.cap == o.cap || i.info != nil && o.info != nil && os.SameFile(i.info, o.info)
	})
}

// linkable says whether a link to it is a copy of it: it never changes.
func (s source) linkable() bool { return s.local == "" && !s.node.Mutable }

func (c *copier) source(ctx context.Context, arg string) (source, error) {
	at, remote, err := c.remote(arg)
	if err != nil {
		return source{}, err
	}
	slash := ui.Usage("source %s is not a directory, but ends with a slash", shown(arg))
	if !remote {
		path, err := filepath.Abs(arg)
		if err != nil {
			return source{}, err
		}
		s := source{local: path, name: filepath.Base(path)}
		if path == filepath.Dir(path) {
			s.name = "" // the root has none
		}
		info, err := os.Stat(path)
		switch {
		case err != nil:
			return s, err
		case info.IsDir():
			s.dir, s.identity = true, identity{info: info}
		case strings.HasSuffix(arg, "/"):
			return s, slash
		case !info.Mode().IsRegular():
			return s, ui.Usage("source %s is neither a file nor a directory", shown(arg))
		}
		return s, nil
	}
	s := source{name: lastPart(at.Path), listed: true}
	if s.node, err = c.node.stat(ctx, webPath(at)); err != nil {
		return s, err
	}
	switch s.node.Kind {
	case "dirnode":
		s.dir, s.identity = true, identity{cap: s.node.Read}
	case "filenode":
		if strings.HasSuffix(at.Path, "/") {
			return s, slash
		}
	default:
		return s, errors.New("that is of a kind that this version does not know")
	}
	return s, nil
}

// children lists a directory, by name.
func (c *copier) children(ctx context.Context, s source) ([]source, error) {
	above := append(s.above[:len(s.above):len(s.above)], s.identity)
	var held []source
	if s.local != "" {
		entries, err := os.ReadDir(s.local)
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			child := source{name: entry.Name(), local: filepath.Join(s.local, entry.Name()), above: above}
			info, err := os.Stat(child.local) // a link is what it leads to
			switch {
			case err == nil && info.IsDir():
				child.dir, child.identity = true, identity{info: info}
			case err != nil || !info.Mode().IsRegular():
				c.ui.Say("left out %s: neither a file nor a directory", quoted(child.name)) // Tahoe says nothing
				continue
			}
			held = append(held, child)
		}
		return held, nil
	}
	if !s.listed {
		var err error
		if s.node, err = c.node.stat(ctx, capPath(s.node.cap())); err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.node.Children)) {
		child := source{name: name, node: s.node.Children[name], above: above}
		switch child.node.Kind {
		case "dirnode":
			child.dir, child.identity = true, identity{cap: child.node.Read}
		case "filenode":
		default:
			c.leave(name, "of a kind that this version does not know")
			continue
		}
		held = append(held, child)
	}
	return held, nil
}

// content is what a file holds, as writeLocal and replaceIn want it.
func (c *copier) content(ctx context.Context, s source) func(io.Writer) (int64, error) {
	if s.local == "" && !c.o.capsOnly {
		return func(w io.Writer) (int64, error) { return c.stream(ctx, c.node, capPath(s.node.Read), w) }
	}
	return func(w io.Writer) (int64, error) {
		body, _, err := c.read(ctx, s)
		if err != nil {
			return 0, err
		}
		defer body.Close()
		return io.Copy(w, body)
	}
}

// read opens a file; its size is -1 when nobody said it.
func (c *copier) read(ctx context.Context, s source) (io.ReadCloser, int64, error) {
	switch {
	case s.local != "":
		f, err := os.Open(s.local)
		if err != nil {
			return nil, 0, err
		}
		info, err := f.Stat()
		if err != nil {
			return nil, 0, errors.Join(err, f.Close())
		}
		return f, info.Size(), nil
	case c.o.capsOnly:
		return io.NopCloser(bytes.NewReader([]byte(s.node.Read))), int64(len(s.node.Read)), nil
	}
	resp, err := c.node.do(ctx, "GET", capPath(s.node.Read), nil)
	if err != nil {
		return nil, 0, err
	}
	return resp.Body, resp.ContentLength, nil
}

// upload stores a file at a path of the web API and returns its capability.
func (c *copier) upload(ctx context.Context, s source, at string) (string, error) {
	body, size, err := c.read(ctx, s)
	if err != nil {
		return "", err
	}
	defer body.Close()
	source := &remembering{Reader: body}
	told, err := c.store(ctx, c.node, at, source, size)
	if err != nil && source.err != nil && s.local == "" && ctx.Err() == nil {
		return "", cutShort(source.err)
	}
	if err != nil {
		return "", err
	}
	return capOf(told.Text)
}

// remembering keeps the error with which a reader ended: a request that fails for it
// does not always say so.
type remembering struct {
	io.Reader
	err error
}

func (r *remembering) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}
