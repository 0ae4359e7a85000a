package main

import (
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// tether has the kernel end the command when we die, however we die.
func tether(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} }

// follow has the kernel end us when what started us dies.
func follow() error { return unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(syscall.SIGTERM), 0, 0, 0) }
