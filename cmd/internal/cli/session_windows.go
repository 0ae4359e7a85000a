package cli

import (
	"os/exec"
	"syscall"
)

// ownSession frees a process from our console.
func ownSession(cmd *exec.Cmd) {
	const detached = 0x00000008
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: detached}
}
