//go:build !linux

package interop

import (
	"os"
	"os/exec"
)

func ownGroup(*exec.Cmd) {}

func killGroup(cmd *exec.Cmd) { _ = cmd.Process.Kill() }

func interrupt(cmd *exec.Cmd) { _ = cmd.Process.Signal(os.Interrupt) }

// PeakMemory is known on Linux only.
func (p *Process) PeakMemory() int { return 0 }
