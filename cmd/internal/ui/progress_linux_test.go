package ui

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/creack/pty"
)

// terminal opens a pseudo-terminal; what is written to it can be read from the other.
func terminal(t *testing.T) (tty, other *os.File) {
	t.Helper()
	other, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Close(); tty.Close() })
	return tty, other
}

// Somebody watches: what takes longer than a second gets a bar, of known length or
// not, and it is gone at the end. Nobody who asked for silence or JSON gets one.
func TestSomebodyWatches(t *testing.T) {
	shown := func(u UI, total int64) string {
		tty, other := terminal(t)
		u.Err = tty
		p := u.Progress("to the servers", total)
		if _, err := p.Write(make([]byte, 1<<20)); err != nil || p.bar != nil {
			t.Errorf("a bar in the first second (%v)", err)
		}
		p.start = p.start.AddDate(-1, 0, 0)
		if _, err := p.Write(make([]byte, 1<<20)); err != nil || p.Done() != 2<<20 {
			t.Error(p.Done(), err)
		}
		if total > 0 {
			p.Set(3<<20, 5<<20) // a server failed: there is less to do
		}
		p.Finish()
		p.Set(5<<20, 5<<20) // comes late
		if _, err := tty.WriteString("the end\n"); err != nil {
			t.Fatal(err)
		}
		var all bytes.Buffer
		for b := make([]byte, 4096); !strings.Contains(all.String(), "the end"); {
			n, err := other.Read(b)
			if err != nil {
				t.Fatal(err)
			}
			all.Write(b[:n])
		}
		return all.String()
	}
	if got := shown(UI{}, 6<<20); !strings.Contains(got, "to the servers") || !strings.Contains(got, "2.1/6.3 MB") || !strings.HasSuffix(got, " \rthe end\r\n") {
		t.Errorf("%q", got)
	}
	if got := shown(UI{}, -1); !strings.Contains(got, "to the servers") || strings.Contains(got, "%") || !strings.HasSuffix(got, " \rthe end\r\n") {
		t.Errorf("of unknown length: %q", got)
	}
	for name, u := range map[string]UI{"--json": {JSON: true}, "--quiet": {Quiet: true}} {
		if got := shown(u, 6<<20); got != "the end\r\n" {
			t.Errorf("%s: %q", name, got)
		}
	}
	tty, _ := terminal(t)
	if u := (UI{Out: tty}); !u.ShowsResults() {
		t.Error("standard output is no terminal")
	}
	if u := (UI{Out: new(bytes.Buffer)}); u.ShowsResults() {
		t.Error("a buffer is a terminal")
	}
}
