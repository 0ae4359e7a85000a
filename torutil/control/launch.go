package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Launch says how to start a tor of our own.
type Launch struct {
	// Executable is tor's path or name; empty means "tor" on the PATH.
	Executable string

	// DataDir is tor's own directory (0700), made if it is not there. One
	// process at a time.
	DataDir string

	// TorrcFile, when not empty, is a file of more torrc lines (bridges). It is
	// read at each launch.
	TorrcFile string

	// Torrc are more torrc lines still.
	Torrc []string
}

// Names in the data directory.
const (
	torrcName    = "warren.torrc"
	defaultsName = "warren.torrc-defaults" // empty: the system's must not apply
	portFileName = "control-port"
)

const (
	startTimeout = 30 * time.Second // for the control port to open
	lockTimeout  = 40 * time.Second // for a predecessor to notice that we died (it looks each 15 s)
	endTimeout   = 5 * time.Second  // for tor to stop when asked
)

// errLocked: another tor still has the data directory.
var errLocked = errors.New("another tor has the data directory")

// process is a launched tor.
type process struct {
	cmd     *exec.Cmd
	control Address
	log     *tail
	done    chan struct{} // closed when it has exited
	result  error         // set before done is closed
}

// launch starts tor and waits for its control port. While a predecessor is still
// on its way out, it waits for that too.
func launch(ctx context.Context, l Launch) (*process, error) {
	exe := l.Executable
	if exe == "" {
		exe = "tor"
	}
	path, err := exec.LookPath(exe)
	if err != nil {
		return nil, fmt.Errorf("%w: %w (install it: `apt install tor`, `brew install tor`; or name it in tahoe.cfg's [tor] tor.executable)", ErrNoTor, err)
	}
	if err := os.MkdirAll(l.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("launch tor: %w", err)
	}
	if err := os.Chmod(l.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("launch tor: %w", err)
	}
	giveUp := time.Now().Add(lockTimeout)
	for {
		p, err := launchOnce(ctx, path, l)
		if !errors.Is(err, errLocked) || time.Now().After(giveUp) || !pause(ctx, time.Second) {
			return p, err
		}
	}
}

func launchOnce(ctx context.Context, path string, l Launch) (_ *process, err error) {
	torrc, err := l.torrc()
	if err != nil {
		return nil, fmt.Errorf("launch tor: %w", err)
	}
	at := func(name string) string { return filepath.Join(l.DataDir, name) }
	if err := os.WriteFile(at(torrcName), torrc, 0o600); err != nil {
		return nil, fmt.Errorf("launch tor: %w", err)
	}
	if err := os.WriteFile(at(defaultsName), nil, 0o600); err != nil {
		return nil, fmt.Errorf("launch tor: %w", err)
	}
	if err := os.Remove(at(portFileName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("launch tor: %w", err)
	}
	p := &process{log: &tail{}, done: make(chan struct{})}
	p.cmd = exec.Command(path, "-f", at(torrcName), "--defaults-torrc", at(defaultsName),
		"__OwningControllerProcess", strconv.Itoa(os.Getpid()))
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	// A pluggable transport may hold tor's output open after a kill.
	p.cmd.WaitDelay = endTimeout
	// In a group of its own: an interrupt at the terminal is for us, and we end
	// tor when we no longer need it.
	ownGroup(p.cmd)
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("launch tor: %w", err)
	}
	go func() {
		p.result = p.cmd.Wait()
		close(p.done)
	}()
	defer func() {
		if err != nil {
			p.kill()
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-p.done:
			if p.log.contains("another Tor process is running") {
				return nil, fmt.Errorf("launch tor: %w", errLocked)
			}
			return nil, fmt.Errorf("launch tor: it exited: %v%s", p.result, p.lastWords())
		case <-ctx.Done():
			return nil, fmt.Errorf("launch tor: no control port: %w%s", ctx.Err(), p.lastWords())
		case <-tick.C:
			text, err := os.ReadFile(at(portFileName))
			if err != nil {
				continue
			}
			if p.control, err = parsePortFile(string(text)); err == nil {
				return p, nil
			}
		}
	}
}

// torrc is the whole configuration. Ports are tor's choice, on loopback; the
// control port wants the cookie, which only our user can read.
func (l Launch) torrc() ([]byte, error) {
	var b bytes.Buffer
	dir, err := filepath.Abs(l.DataDir)
	if err != nil {
		return nil, err
	}
	for _, line := range [][2]string{{"DataDirectory", dir}, {"ControlPortWriteToFile", filepath.Join(dir, portFileName)}} {
		quoted, err := quote(line[1])
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "%s %s\n", line[0], quoted)
	}
	b.WriteString("SocksPort 127.0.0.1:auto ExtendedErrors\n" +
		"ControlPort 127.0.0.1:auto\n" +
		"CookieAuthentication 1\n" +
		"ClientOnly 1\n" +
		"AvoidDiskWrites 1\n" +
		// A tor that slept when it was stopped must not sleep on.
		"DormantCanceledByStartup 1\n" +
		"Log notice stdout\n")
	if l.TorrcFile != "" {
		extra, err := os.ReadFile(l.TorrcFile)
		if err != nil {
			return nil, fmt.Errorf("tor.torrc: %w", err)
		}
		b.Write(extra)
		b.WriteByte('\n')
	}
	for _, line := range l.Torrc {
		b.WriteString(line + "\n")
	}
	return b.Bytes(), nil
}

// quote writes a path as torrc wants it.
func quote(path string) (string, error) {
	if strings.ContainsFunc(path, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", fmt.Errorf("the path %q has a control character", path)
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(path) + `"`, nil
}

// parsePortFile reads ControlPortWriteToFile's file: a line for each control
// port, PORT=127.0.0.1:9051 or UNIX_PORT=/path. The first is ours.
func parsePortFile(text string) (Address, error) {
	line, _, whole := strings.Cut(text, "\n")
	if !whole {
		return Address{}, errors.New("not written whole yet")
	}
	if at, ok := strings.CutPrefix(line, "PORT="); ok {
		return Address{"tcp", at}, nil
	}
	if path, ok := strings.CutPrefix(line, "UNIX_PORT="); ok {
		return Address{"unix", path}, nil
	}
	return Address{}, fmt.Errorf("control port file: unknown line %q", line)
}

// end waits for a tor that was asked to stop, then makes it.
func (p *process) end() {
	select {
	case <-p.done:
	case <-time.After(endTimeout):
		p.kill()
	}
}

func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// lastWords are the last lines of tor's log, for an error.
func (p *process) lastWords() string {
	text := p.log.text()
	if text == "" {
		return ""
	}
	return "\ntor's last words:\n" + text
}

// tail is the end of a log: the last lines, bounded.
type tail struct {
	mu      sync.Mutex // guards lines and partial
	lines   []string
	partial []byte
}

const (
	tailLines = 12
	tailWidth = 400
)

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range p {
		if c != '\n' {
			if len(t.partial) < tailWidth {
				t.partial = append(t.partial, c)
			}
			continue
		}
		if len(t.lines) == tailLines {
			t.lines = t.lines[:copy(t.lines, t.lines[1:])]
		}
		t.lines = append(t.lines, printable(string(t.partial)))
		t.partial = t.partial[:0]
	}
	return len(p), nil
}

func (t *tail) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.lines, "\n")
}

func (t *tail) contains(s string) bool { return strings.Contains(t.text(), s) }
