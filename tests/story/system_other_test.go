//go:build !linux

package story

import (
	"os/exec"
	"testing"

	"warren/tests/interop"
)

func mountSmall(t testing.TB, _, _ string) {
	t.Helper()
	interop.Skip(t, "a full disk is a small tmpfs here: Linux only")
}

func growSmall(testing.TB, string, string) {}

func nobody(t testing.TB, _ *exec.Cmd) {
	t.Helper()
	interop.Skip(t, "running a command as nobody: Linux only")
}
