package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"warren/cmd/internal/ui"
)

// detach starts the node as a process of its own and waits until it answers. Its
// output goes to logs/warren.log in the node directory.
func (e *env) detach(ctx context.Context, anyWebPort bool) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	path := filepath.Join(e.dir, "logs", "warren.log")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	log, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(exe, "-d", e.dir, "run")
	if anyWebPort {
		cmd.Args = append(cmd.Args, "--any-webport")
	}
	cmd.Stdout, cmd.Stderr = log, log
	ownSession(cmd)
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // outlived by the node when all is well
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			return ui.Fail(ui.ExitFailed, "its last words are in "+path, fmt.Errorf("the node ended: %w", err))
		case <-ctx.Done():
			return ui.Fail(ui.ExitFailed, "it may still be starting: warren -d "+e.dir+" status", errors.New("the node does not answer yet"))
		case <-tick.C:
		}
		if node, err := openNode(ctx, e.dir); err == nil && node.control(ctx, "GET", "status", nil, nil) == nil {
			e.ui.Say("the node runs in the background, process %d; its log is %s", cmd.Process.Pid, path)
			return nil
		}
	}
}
