package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	cli "github.com/urfave/cli/v2"

	"warren/cmd/internal/alias"
	"warren/cmd/internal/ui"
	"warren/node/caps"
)

const aliasFile = "Aliases are kept in private/aliases of the node directory, which Tahoe reads too."

func (e *env) createAliasCommand() *cli.Command {
	return e.onGrid(&cli.Command{
		Name: "create-alias", Usage: "make a directory on the grid and give it a name here", ArgsUsage: "ALIAS[:]", Description: aliasFile,
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 1, 1); err != nil {
				return err
			}
			return e.createAlias(c.Context, c.Args().First())
		},
	})
}

// newAlias checks a name before anything is made for it.
func (e *env) newAlias(name string) (string, error) {
	name = strings.TrimSuffix(name, ":")
	if err := alias.CheckName(name); err != nil {
		return "", ui.Usage("%q: %v", name, err)
	}
	if _, err := os.Stat(filepath.Dir(alias.File(e.dir))); err != nil {
		return "", ui.Fail(ui.ExitNoNode, "warren create-client makes one; -d names another directory", fmt.Errorf("there is no node in %s", e.dir))
	}
	known, err := alias.Read(e.dir)
	if err != nil {
		return "", err
	}
	if _, ok := known[name]; ok {
		return "", fmt.Errorf("alias %s already exists", quote(name, true))
	}
	return name, nil
}

func (e *env) createAlias(ctx context.Context, name string) error {
	name, err := e.newAlias(name)
	if err != nil {
		return err
	}
	node, err := e.open(ctx)
	if err != nil {
		return err
	}
	text, err := node.text(ctx, "POST", "/uri?t=mkdir", nil)
	if err != nil {
		return err
	}
	text = strings.TrimSpace(text)
	cap, err := alias.Cap(text)
	if err != nil {
		return errors.New("the node's answer makes no sense: it is no directory's capability")
	}
	if err := alias.Add(e.dir, name, cap); err != nil {
		e.ui.Result("%s", cap.Text()) // else nobody could ever find the directory
		return fmt.Errorf("the directory is made, and only its name could not be kept: %w", err)
	}
	return e.named(name, "created", cap)
}

func (e *env) addAliasCommand() *cli.Command {
	return e.onGrid(&cli.Command{
		Name: "add-alias", Usage: "give a directory of the grid a name here", ArgsUsage: "ALIAS[:] DIRCAP|@FILE",
		Description: aliasFile + "\n@FILE reads the capability from a file, so that other users of this machine do not see it.",
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 2, 2); err != nil {
				return err
			}
			return e.addAlias(c.Args().Get(0), c.Args().Get(1))
		},
	})
}

func (e *env) addAlias(name, text string) error {
	name, err := e.newAlias(name)
	if err != nil {
		return err
	}
	if file, ok := strings.CutPrefix(text, "@"); ok {
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		text = strings.TrimSpace(string(b))
	}
	cap, err := alias.Cap(text)
	if err != nil {
		return ui.Usage("an alias names a directory: that is no directory's capability (URI:DIR2:...)")
	}
	if err := alias.Add(e.dir, name, cap); err != nil {
		return err
	}
	return e.named(name, "added", cap)
}

func (e *env) named(name, what string, cap caps.Cap) error {
	if e.ui.JSON {
		return e.ui.Data(map[string]string{"alias": name, "cap": cap.Text()})
	}
	e.ui.Result("Alias %s %s", ui.Clean(quote(name, true)), what)
	return nil
}

func (e *env) listAliasesCommand() *cli.Command {
	return e.onGrid(&cli.Command{
		Name: "list-aliases", Usage: "show the names of directories, with their capabilities",
		Description: aliasFile + "\n--json prints {NAME: {\"readwrite\": CAP, \"readonly\": CAP}}, as Tahoe does.",
		Flags:       []cli.Flag{&cli.BoolFlag{Name: "readonly-uri", Usage: "the capabilities that only read"}},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 0, 0); err != nil {
				return err
			}
			return e.listAliases(c.Bool("readonly-uri"))
		},
	})
}

// listedAlias is an alias as Tahoe's --json tells it, the keys in Tahoe's order.
type listedAlias struct {
	ReadWrite string `json:"readwrite"`
	ReadOnly  string `json:"readonly"`
}

func (e *env) listAliases(readOnly bool) error {
	known, err := alias.Read(e.dir)
	if err != nil {
		return err
	}
	if e.grid.dirCap != "" {
		known[alias.Default] = e.grid.dirCap
	}
	var bad []error
	names := make([]string, 0, len(known))
	listed := map[string]listedAlias{}
	width := 0
	for name, text := range known {
		cap, err := alias.Cap(text)
		if err != nil {
			bad = append(bad, fmt.Errorf("alias %q: %w", name, err))
			continue
		}
		names = append(names, name)
		listed[name] = listedAlias{cap.Text(), caps.ReadOnly(cap).Text()}
		width = max(width, utf8.RuneCountInString(quote(name, true)))
	}
	slices.Sort(names)
	switch {
	case e.ui.JSON:
		// Tahoe indents by four and escapes what is not ASCII; a reader of JSON sees
		// no difference in the latter.
		var out bytes.Buffer
		enc := json.NewEncoder(&out)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "    ")
		if err := enc.Encode(listed); err != nil {
			return err
		}
		e.ui.Result("%s", bytes.TrimSpace(out.Bytes()))
	default:
		for _, name := range names {
			cap := listed[name].ReadWrite
			if readOnly {
				cap = listed[name].ReadOnly
			}
			e.ui.Result("%*s: %s", width, ui.Clean(name), cap)
		}
	}
	return errors.Join(bad...)
}
