// Command serve holds a private Tor network open for programs that are no Go
// tests: make demo-tor, and hands.
//
//	serve DIR
//
// It prints one line, {"ready":true,"torrc":PATH}, when clients can use the
// network: PATH is for warren.cfg's tor.torrc. It runs until its standard input
// is closed or it is interrupted. No tor outlives it, however it ends.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"warren/tests/tornet"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "tornet:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 2 {
		return fmt.Errorf("usage: serve DIR")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		// The reader ends with the process.
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	n, err := tornet.Start(ctx, os.Args[1], os.Stderr)
	if err != nil {
		return err
	}
	defer n.Close()
	ready := struct {
		Ready bool   `json:"ready"`
		Torrc string `json:"torrc"`
	}{true, n.TorrcFile()}
	if err := json.NewEncoder(os.Stdout).Encode(ready); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}
