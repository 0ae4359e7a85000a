// Command warren is a Tahoe-LAFS node with invites and a magic folder: one
// static binary for grid operators and for those whom they invite.
//
// Everything is in cmd/internal/cli; this is parse, run, exit.
package main

import (
	"os"

	"warren/cmd/internal/cli"
)

// version is set by the linker (see Makefile).
var version = "unknown"

func main() {
	os.Exit(cli.Main(version, os.Args, os.Stdin, os.Stdout, os.Stderr))
}
