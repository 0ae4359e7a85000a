//go:build !linux

package tor

import (
	"os"
	"os/exec"
)

func tether(*exec.Cmd) {}

func terminate(p *os.Process) { p.Signal(os.Interrupt) }
