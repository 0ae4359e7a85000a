package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	cli "github.com/urfave/cli/v2"
	"golang.org/x/text/unicode/norm"

	"warren/cmd/internal/alias"
	"warren/cmd/internal/ui"
)

type cpOptions struct {
	from                         []string
	to                           string
	recursive, verbose, capsOnly bool
}

func (e *env) cpCommand() *cli.Command {
	return e.onGrid(&cli.Command{
		Name: "cp", Usage: "copy files and directories between this machine and the grid, or within either",
		ArgsUsage: "FROM... TO",
		Description: "ALIAS:PATH, CAP and CAP/PATH are on the grid; an argument without a colon is on this machine (write ./a:b for\n" +
			"a file's name with one).\n" +
			"A directory with a name is copied as that directory: below TO, which is made when it is not there. One without\n" +
			"(a bare capability, or ALIAS:) stands for what is in it. Immutable files on the grid are linked, not moved;\n" +
			"mutable ones become immutable, but what is there and mutable is changed in place.\n" +
			"What cannot be copied, for its name or its kind, is left out and told of at the end, with exit code 1.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "recursive", Aliases: []string{"r"}, Usage: "copy directories with all that they hold"},
			&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, Usage: "say what is copied"},
			&cli.BoolFlag{Name: "caps-only", Usage: "to this machine: write files' capabilities into them instead of what they hold"},
		},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 2, 1<<20); err != nil {
				return err
			}
			args := c.Args().Slice()
			return e.cp(c.Context, cpOptions{args[:len(args)-1], args[len(args)-1], c.Bool("recursive"), c.Bool("verbose"), c.Bool("caps-only")})
		},
	})
}

// copier is one run of cp.
type copier struct {
	*env
	node *nodeClient
	o    cpOptions
	// fold makes names the same that are one name where they go.
	fold func(string) string

	left    []error // what was left out, the first of it
	leftOut int
}

// maxLeft is how many things left out are told one by one.
const maxLeft = 50

// cp copies by Tahoe's rules (allmydata/scripts/tahoe_cp.py): which combination of
// arguments means what, and which is refused. All of them are refused before
// anything is made. Unlike Tahoe's, it walks a directory at a time; what lies in the
// way of a thing of the other kind stays.
func (e *env) cp(ctx context.Context, o cpOptions) error {
	node, err := e.open(ctx)
	if err != nil {
		return err
	}
	c := &copier{env: e, node: node, o: o}
	to, err := c.target(ctx, o.to)
	if err != nil {
		return err
	}
	c.fold = func(name string) string { return name }
	switch {
	case to.local == "":
		c.fold = norm.NFC.String // as the grid's directories do
	case runtime.GOOS == "windows", runtime.GOOS == "darwin":
		c.fold = strings.ToLower
	}
	from := make([]source, len(o.from))
	directories := false
	for i, arg := range o.from {
		if from[i], err = c.source(ctx, arg); err != nil {
			return err
		}
		directories = directories || from[i].dir
	}
	toFile := to.is == file || to.is == missing && len(from) == 1 && !from[0].dir
	switch {
	case directories && !o.recursive:
		return ui.Usage("cannot copy directories without --recursive")
	case toFile && strings.HasSuffix(o.to, "/"):
		return ui.Usage("target is not a directory, but ends with a slash")
	case toFile && len(from) > 1:
		return ui.Usage("copying multiple things requires target be a directory")
	case toFile && from[0].dir:
		return ui.Usage("cannot copy directory into a file")
	case o.capsOnly && to.local == "":
		return ui.Usage("--caps-only is for copies to this machine")
	case toFile:
		if err := c.file(ctx, from[0], to); err != nil {
			return err
		}
		return c.success("file copied")
	}
	for i, s := range from {
		if !s.dir && s.name == "" {
			return ui.Usage("when copying into a directory, all source files must have names, but argument %d is unnamed", i+1)
		}
	}
	if len(from) > 1 {
		if err := c.collisions(ctx, from); err != nil {
			return err
		}
	}
	dir, err := c.enter(ctx, to)
	if err == nil {
		err = c.into(ctx, dir, from, nil)
	}
	if err != nil {
		return errors.Join(append([]error{err}, c.left...)...)
	}
	if c.leftOut > 0 {
		return ui.Fail(ui.ExitFailed, "all else was copied", errors.Join(append(c.left, fmt.Errorf("not copied: %d", c.leftOut))...))
	}
	return c.success("files copied")
}

// success says so, as Tahoe does.
func (c *copier) success(what string) error {
	if !c.ui.Quiet {
		c.done("Success: " + what)
	}
	return nil
}

// leave notes what is not copied while the rest is.
func (c *copier) leave(name, why string) {
	if c.leftOut++; len(c.left) < maxLeft {
		c.left = append(c.left, fmt.Errorf("left out %s: %s", quoted(name), why))
	}
}

// file copies one file to where none is, or in the place of one.
func (c *copier) file(ctx context.Context, s source, to target) error {
	switch {
	case to.local != "":
		_, err := writeLocal(to.local, c.content(ctx, s))
		return err
	case s.linkable() && !to.node.Mutable:
		_, err := c.node.link(ctx, to.at, s.node.cap(), "")
		return err
	}
	_, err := c.upload(ctx, s, to.at)
	return err
}

// into copies sources into a directory: named ones under their names, of unnamed
// directories what they hold. above are the directories that are copied into now,
// the last one dst's parent.
func (c *copier) into(ctx context.Context, dst directory, from []source, above []identity) (err error) {
	// Whatever happens, what has come there gets its name.
	defer func() { err = errors.Join(err, dst.close(ctx)) }()
	above = append(above[:len(above):len(above)], dst.identity())
	files, dirs, err := c.merge(ctx, from, func(name string) { c.leave(name, "there are several of that name") })
	if err != nil {
		return err
	}
	for _, s := range files {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if why := dst.takes(s.name, false); why != "" {
			c.leave(s.name, why)
			continue
		}
		if err := dst.put(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", quoted(s.name), err)
		}
		if c.o.verbose {
			c.ui.Say("copied %s", quoted(s.name))
		}
	}
	for _, group := range dirs {
		name := group[0].name
		if why := dst.takes(name, true); why != "" {
			c.leave(name, why)
			continue
		}
		var contents []source
		for _, s := range group {
			switch {
			case s.identity.in(s.above):
				c.leave(name, "that directory holds itself: it cannot be copied as a whole")
			case s.identity.in(above):
				c.leave(name, "a directory cannot be copied into itself")
			default:
				s.name = ""
				contents = append(contents, s)
			}
		}
		if contents == nil {
			continue
		}
		sub, err := dst.enter(ctx, name)
		if err == nil {
			if c.o.verbose {
				c.ui.Say("into %s", quoted(name))
			}
			err = c.into(ctx, sub, contents, above)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", quoted(name), err)
		}
	}
	return nil
}

// merge sorts what goes into one directory by name: files, and directories with all
// others of their name. A name that two files have, or a file and a directory, is
// told to twice, and the first stays.
func (c *copier) merge(ctx context.Context, from []source, twice func(name string)) (files []source, dirs [][]source, err error) {
	haveFile, haveDir := map[string]bool{}, map[string]int{}
	add := func(s source) {
		key := c.fold(s.name)
		at, isDir := haveDir[key]
		switch {
		case haveFile[key], isDir && !s.dir:
			twice(s.name)
		case isDir && dirs[at][0].name != s.name: // the same where it goes, not here
			twice(s.name)
		case isDir:
			dirs[at] = append(dirs[at], s)
		case s.dir:
			haveDir[key] = len(dirs)
			dirs = append(dirs, []source{s})
		default:
			haveFile[key] = true
			files = append(files, s)
		}
	}
	for _, s := range from {
		if s.name != "" {
			add(s)
			continue
		}
		held, err := c.children(ctx, s)
		if err != nil {
			return nil, nil, err
		}
		for _, child := range held {
			add(child)
		}
	}
	return files, dirs, nil
}

// collisions refuses sources of which two want one name, before anything is made.
func (c *copier) collisions(ctx context.Context, from []source) (err error) {
	left, out := c.left, c.leftOut
	_, dirs, merr := c.merge(ctx, from, func(string) {
		err = ui.Usage("cannot copy multiple files with the same name into the same target directory")
	})
	for _, group := range dirs {
		// One directory alone cannot hold a name twice.
		if err == nil && merr == nil && len(group) > 1 {
			contents := make([]source, len(group))
			for i, s := range group {
				s.name = ""
				contents[i] = s
			}
			err = c.collisions(ctx, contents)
		}
	}
	c.left, c.leftOut = left, out // it will be left out again
	return errors.Join(merr, err)
}

// drives says whether C: is a drive and no alias.
const drives = runtime.GOOS == "windows"

// remote reads an argument of cp: false for one that is on this machine.
func (c *copier) remote(arg string) (alias.Place, bool, error) {
	if _, _, named := alias.Split(arg, drives); !named {
		return alias.Place{}, false, nil
	}
	at, err := c.find(arg)
	return at, true, err
}

// is says what stands at a target.
type is int

const (
	missing is = iota
	file
	folder
)

// target is where a copy goes.
type target struct {
	is    is
	local string     // its path, "" on the grid
	at    string     // the web API's path, on the grid
	node  remoteNode // what stands there, on the grid
}

func (c *copier) target(ctx context.Context, arg string) (target, error) {
	at, remote, err := c.remote(arg)
	if err != nil {
		return target{}, err
	}
	if !remote {
		t := target{local: filepath.Clean(arg), is: file}
		info, err := os.Stat(t.local)
		switch {
		case errors.Is(err, os.ErrNotExist):
			t.is = missing
		case err != nil:
			return t, err
		case info.IsDir():
			t.is = folder
		}
		return t, nil
	}
	t := target{at: webPath(at), is: file}
	t.node, err = c.node.stat(ctx, t.at)
	var known *ui.Error
	switch {
	case errors.As(err, &known) && known.Code == ui.ExitNotFound:
		t.is = missing
	case err != nil:
		return t, err
	case t.node.Kind == "dirnode":
		t.is = folder
	}
	return t, nil
}

// flushTime is how long an interrupted copy takes to name what is on the grid.
const flushTime = 30 * time.Second
