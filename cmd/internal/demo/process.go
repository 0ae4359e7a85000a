package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"warren/torutil"
)

// process is one running warren.
type process struct {
	name string
	cmd  *exec.Cmd
	log  string
	done chan struct{}
	err  error
	from int64           // where in the log this run begins
	last *torutil.Counts // asked before it was killed
}

// stage starts processes and ends them all.
type stage struct {
	exe, root string

	mu        sync.Mutex // guards processes
	processes []*process
}

// start runs "warren args..." until it is killed or the demo ends.
func (s *stage) start(name string, args ...string) (*process, error) {
	p := &process{name: name, log: filepath.Join(s.root, name+".log"), done: make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	info, err := log.Stat()
	if err != nil {
		return nil, err
	}
	p.from = info.Size()
	// Under --json it says at its end which connections it made.
	p.cmd = exec.Command(s.exe, append([]string{"--json"}, args...)...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.Env = s.environment()
	tether(p.cmd)
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { // ends with the process; kill and finish wait for it
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	s.mu.Lock()
	s.processes = append(s.processes, p)
	s.mu.Unlock()
	return p, nil
}

// environment is ours with a home below the demo's root: nothing of the person
// who runs the demo is touched.
func (s *stage) environment() []string {
	env := []string{"HOME=" + s.root, "USERPROFILE=" + s.root}
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "HOME=") && !strings.HasPrefix(kv, "USERPROFILE=") {
			env = append(env, kv)
		}
	}
	return env
}

// kill ends a process at once, as a power cut would.
func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// connections are those that an ended process said it made.
func (p *process) connections() (torutil.Counts, error) {
	if p.last != nil {
		return *p.last, nil
	}
	log, err := os.ReadFile(p.log)
	if err != nil {
		return torutil.Counts{}, err
	}
	for line := range bytes.Lines(log[min(p.from, int64(len(log))):]) {
		var ended struct {
			Connections *torutil.Counts `json:"connections"`
		}
		if json.Unmarshal(line, &ended) == nil && ended.Connections != nil {
			return *ended.Connections, nil
		}
	}
	return torutil.Counts{}, fmt.Errorf("%s did not say which connections it made\n%s", p.name, p.tail())
}

// stop asks a process to end and waits; one that does not is killed.
func (p *process) stop() {
	terminate(p.cmd.Process)
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		p.kill()
	}
}

// finish ends every process.
func (s *stage) finish() {
	s.mu.Lock()
	list := s.processes
	s.mu.Unlock()
	for _, p := range list {
		terminate(p.cmd.Process)
	}
	for _, p := range list {
		p.stop()
	}
}

// run runs one command of warren to its end and returns its standard output.
func (s *stage) run(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, s.exe, args...)
	cmd.Env = s.environment()
	tether(cmd)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("warren %s: %w\n%s", args[0], err, errOut.String())
	}
	return strings.TrimSpace(out.String()), nil
}

// ask runs a command with --json and decodes what it prints.
func (s *stage) ask(ctx context.Context, into any, args ...string) error {
	out, err := s.run(ctx, append(args, "--json")...)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(out), into)
}

// until polls another process's state until ready returns nil, its program ends,
// or ctx does; then the last reason is the error.
func until(ctx context.Context, p *process, what string, ready func() error) error {
	for {
		err := ready()
		if err == nil {
			return nil
		}
		var ended <-chan struct{}
		if p != nil {
			ended = p.done
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w (last: %w)", what, ctx.Err(), err)
		case <-ended:
			return fmt.Errorf("%s: %s ended: %v\n%s", what, p.name, p.err, p.tail())
		case <-time.After(150 * time.Millisecond):
		}
	}
}

// tail is the end of what a process printed.
func (p *process) tail() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	if len(b) > 2000 {
		b = b[len(b)-2000:]
	}
	return string(b)
}

// readWhole returns a file's content once it has some.
func readWhole(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	if text := strings.TrimSpace(string(b)); text != "" {
		return text, nil
	}
	return "", errors.New("still empty")
}
