// Command serve holds a private Tor network open for programs that are no Go
// tests: make demo-tor, and hands.
//
//	serve DIR
//	serve -- COMMAND [ARG...]
//
// The first makes the network in DIR and prints one line when clients can use it,
// {"ready":true,"torrc":PATH,"control":"tcp:ADDRESS"}: PATH is for warren.cfg's
// tor.torrc, for a tor that is launched; ADDRESS is the control port of a client
// that runs already. It runs until its standard input is closed or it is
// interrupted.
//
// The second makes the network in a temporary directory, runs the command with
// --tor-control-port=tcp:ADDRESS --tor-torrc=PATH added, ends when that ends, and
// exits as it did.
//
// No tor outlives it, however it ends. On Linux the command is told to end with
// it, and it ends with what started it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"warren/tests/tornet"
)

func main() {
	err := run(os.Args[1:])
	var exit *exec.ExitError
	switch {
	case err == nil:
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		os.Exit(exit.ExitCode())
	default:
		fmt.Fprintln(os.Stderr, "tornet:", err)
		os.Exit(1)
	}
}

func run(args []string) (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch {
	case len(args) == 1 && args[0] != "--":
		return hold(ctx, args[0])
	case len(args) < 2 || args[0] != "--":
		return errors.New("usage: serve DIR, or serve -- COMMAND [ARG...]")
	}
	if err := follow(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "tornet-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	return with(ctx, dir, func(torrc, control string) error {
		cmd := exec.CommandContext(ctx, args[1], append(args[2:], "--tor-control-port="+control, "--tor-torrc="+torrc)...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		// Asked to end, it has time to end what it started.
		cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
		cmd.WaitDelay = time.Minute
		tether(cmd)
		return cmd.Run()
	})
}

// hold serves until ctx or the standard input ends.
func hold(ctx context.Context, dir string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		// The reader ends with the process.
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	return with(ctx, dir, func(torrc, control string) error {
		ready := struct {
			Ready   bool   `json:"ready"`
			Torrc   string `json:"torrc"`
			Control string `json:"control"`
		}{true, torrc, control}
		if err := json.NewEncoder(os.Stdout).Encode(ready); err != nil {
			return err
		}
		<-ctx.Done()
		return nil
	})
}

// with calls use while a network with one client stands.
func with(ctx context.Context, dir string, use func(torrc, control string) error) error {
	n, err := tornet.Start(ctx, dir, os.Stderr)
	if err != nil {
		return err
	}
	defer n.Close()
	c, err := n.Client(ctx, "shared")
	if err != nil {
		return err
	}
	return use(n.TorrcFile(), "tcp:"+c.Control)
}
