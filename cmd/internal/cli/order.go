package cli

import (
	"strings"

	cli "github.com/urfave/cli/v2"
)

// flagsFirst moves a command's flags before its arguments, so that both
// `invite bob --folder F` and `invite --folder F bob` work: the parser below us
// takes flags only before the first argument. What follows "--" stays as it is.
func flagsFirst(app *cli.App, args []string) []string {
	if len(args) == 0 {
		return args
	}
	out := args[:1:1]
	rest := args[1:]
	flags, commands := app.Flags, app.Commands
	for {
		var verb *cli.Command
		var moved, kept []string
		i := 0
		for ; i < len(rest) && verb == nil; i++ {
			a := rest[i]
			if a == "--" {
				break
			}
			if len(a) < 2 || a[0] != '-' {
				if len(kept) == 0 {
					if verb = find(commands, a); verb != nil {
						continue
					}
				}
				kept = append(kept, a)
				continue
			}
			moved = append(moved, a)
			if !strings.Contains(a, "=") && wantsValue(flags, strings.TrimLeft(a, "-")) && i+1 < len(rest) {
				i++
				moved = append(moved, rest[i])
			}
		}
		out = append(out, moved...)
		if verb == nil {
			return append(append(out, kept...), rest[i:]...)
		}
		out = append(out, verb.Name)
		rest, flags, commands = rest[i:], verb.Flags, verb.Subcommands
	}
}

func find(commands []*cli.Command, name string) *cli.Command {
	for _, c := range commands {
		if c.HasName(name) {
			return c
		}
	}
	return nil
}

// wantsValue says whether a flag of that name takes a value of its own.
func wantsValue(flags []cli.Flag, name string) bool {
	for _, f := range flags {
		for _, n := range f.Names() {
			if n != name {
				continue
			}
			d, ok := f.(cli.DocGenerationFlag)
			return ok && d.TakesValue()
		}
	}
	return false
}
