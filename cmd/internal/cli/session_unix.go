//go:build !windows

package cli

import (
	"os/exec"
	"syscall"
)

// ownSession frees a process from our terminal.
func ownSession(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} }
