package interop

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
)

// answers runs one of the node's commands on a terminal. When prompt appears there,
// answer is typed. It gives what the terminal showed, and how the command ended.
func (m *ourMember) answers(t testing.TB, prompt, answer string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(within(t, time.Minute), Warren(t), append([]string{"-d", m.dir}, args...)...)
	tty, err := pty.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	var shown bytes.Buffer
	for b, asked := make([]byte, 4096), false; ; {
		n, err := tty.Read(b)
		shown.Write(b[:n])
		if err != nil {
			break // nobody holds the other end any more
		}
		if !asked && strings.Contains(shown.String(), prompt) {
			asked = true
			if _, err := tty.WriteString(answer + "\n"); err != nil {
				t.Fatal(err)
			}
		}
	}
	return shown.String(), cmd.Wait()
}
