package demo

import (
	"os"
	"os/exec"
	"syscall"
)

// tether has the kernel end a process when the demo dies, however it dies.
func tether(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
}

func terminate(p *os.Process) { p.Signal(syscall.SIGTERM) }
