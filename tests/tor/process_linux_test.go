package tor

import (
	"os"
	"os/exec"
	"syscall"
)

// tether has the kernel end a program when the test dies, however it dies.
func tether(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

func terminate(p *os.Process) { p.Signal(syscall.SIGTERM) }
