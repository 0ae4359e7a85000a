package cli

import (
	"slices"
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
			parts := unbundle(flags, a)
			moved = append(moved, parts...)
			last := parts[len(parts)-1]
			if strings.HasPrefix(last, "-") && !strings.Contains(last, "=") && wantsValue(flags, strings.TrimLeft(last, "-")) && i+1 < len(rest) {
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

// unbundle takes "-rv" apart, as Tahoe does, and "-dDIR"; what is no bundle of known
// short flags stays as it is.
func unbundle(flags []cli.Flag, a string) []string {
	if len(a) < 3 || a[1] == '-' || strings.Contains(a, "=") || known(flags, a[1:]) {
		return []string{a}
	}
	var parts []string
	for i, letter := range a[1:] {
		name := string(letter)
		if !known(flags, name) {
			return []string{a}
		}
		parts = append(parts, "-"+name)
		if value := a[1+i+len(name):]; wantsValue(flags, name) && value != "" {
			// Together, or a value that begins with a dash would be a flag.
			parts[len(parts)-1] += "=" + value
			break
		}
	}
	return parts
}

func known(flags []cli.Flag, name string) bool {
	return slices.ContainsFunc(flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), name) })
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
