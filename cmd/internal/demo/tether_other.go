//go:build !linux

package demo

import (
	"os"
	"os/exec"
	"runtime"
)

func tether(*exec.Cmd) {}

func terminate(p *os.Process) {
	if runtime.GOOS == "windows" {
		p.Kill()
		return
	}
	p.Signal(os.Interrupt)
}
