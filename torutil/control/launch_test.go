package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// needTor skips, saying so, where the system has no tor; in CI, which installs
// one, that is a failure.
func needTor(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("tor"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("no tor here, which CI does not allow (apt install tor)")
		}
		t.Skip("SKIP: no tor here, so nothing about a real tor was tested (apt install tor)")
	}
}

// offline keeps a tor from talking to anybody: these tests are about its control.
func offline(dir string, extra ...string) *Launch {
	return &Launch{DataDir: dir, Torrc: append([]string{"DisableNetwork 1"}, extra...)}
}

// recorder keeps progress reports and waits for some.
type recorder struct {
	mu    sync.Mutex // guards seen
	seen  []Progress
	moved chan struct{}
}

func newRecorder() *recorder { return &recorder{moved: make(chan struct{}, 1)} }

func (r *recorder) tell(p Progress) {
	r.mu.Lock()
	r.seen = append(r.seen, p)
	r.mu.Unlock()
	select {
	case r.moved <- struct{}{}:
	default:
	}
}

// wait waits until the stage was reported n times.
func (r *recorder) wait(t *testing.T, stage Stage, n int) {
	t.Helper()
	timeout := time.After(2 * time.Minute)
	for {
		r.mu.Lock()
		found := 0
		for _, p := range r.seen {
			if p.Stage == stage {
				found++
			}
		}
		r.mu.Unlock()
		if found >= n {
			return
		}
		select {
		case <-r.moved:
		case <-timeout:
			t.Fatalf("%s was reported %d times, not %d: %v", stage, found, n, r.seen)
		}
	}
}

func start(t *testing.T, cfg Config) *Tor {
	t.Helper()
	var d net.Dialer
	cfg.Dial = d.DialContext
	tor, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tor.Close() })
	return tor
}

func TestLaunch(t *testing.T) {
	needTor(t)
	dir := filepath.Join(t.TempDir(), "a dir", "tor-statedir")
	extra := filepath.Join(t.TempDir(), "torrc")
	if err := os.WriteFile(extra, []byte("Nickname fromTorrcFile"), 0o600); err != nil {
		t.Fatal(err)
	}
	launch := offline(dir)
	launch.TorrcFile = extra
	r := newRecorder()
	tor := start(t, Config{Launch: launch, Progress: r.tell})
	r.wait(t, StageAttach, 1)
	ups := 0
	release := tor.Keep(Keeper{Up: func(s *Session) error {
		ups++
		if ups == 1 {
			return errors.New("not yet") // must be tried again
		}
		return nil
	}})
	status := tor.Status()
	// (DisableNetwork closes the SOCKS ports; tests/tornet has them open.)
	if !status.Attached || !status.Launched || status.PID == 0 || status.Version == "" || status.Sessions != 1 {
		t.Errorf("status %+v", status)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("data directory: %v, %v", info, err)
	}
	if _, err := tor.SOCKS(); err != nil && !errors.Is(err, ErrNotReady) {
		t.Errorf("SOCKS: %v", err)
	}
	// Killed, it is launched again, and the keeper's thing is made again.
	kill(t, status.PID)
	r.wait(t, StageLost, 1)
	r.wait(t, StageAttach, 2)
	if again := tor.Status(); again.PID == status.PID || again.PID == 0 {
		t.Errorf("after the kill: %+v", again)
	}
	release()
	// Closed, it is gone, and the directory is free.
	pid := tor.Status().PID
	tor.Close()
	gone(t, pid)
	second := start(t, Config{Launch: offline(dir)})
	second.Close()
}

func kill(t *testing.T, pid int) {
	t.Helper()
	p, err := os.FindProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
}

// gone waits until a process has ended; what is a zombie of somebody else's has.
func gone(t *testing.T, pid int) {
	t.Helper()
	if runtime.GOOS != "linux" {
		return // the lock on the data directory is the test there
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d lives on: %s", pid, stat)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func TestLaunchRefused(t *testing.T) {
	var d net.Dialer
	if _, err := Start(t.Context(), Config{Dial: d.DialContext, Launch: &Launch{Executable: "no-such-tor", DataDir: t.TempDir()}}); !errors.Is(err, ErrNoTor) {
		t.Errorf("no tor: %v", err)
	}
	if _, err := Start(t.Context(), Config{Dial: d.DialContext}); err == nil {
		t.Error("neither control nor launch")
	}
	needTor(t)
	_, err := Start(t.Context(), Config{Dial: d.DialContext, Launch: offline(t.TempDir(), "NoSuchOption 1")})
	if err == nil || !strings.Contains(err.Error(), "NoSuchOption") {
		t.Errorf("a bad torrc: %v; want tor's own words", err)
	}
	missing := offline(t.TempDir())
	missing.TorrcFile = filepath.Join(t.TempDir(), "gone")
	if _, err := Start(t.Context(), Config{Dial: d.DialContext, Launch: missing}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing tor.torrc: %v", err)
	}
}

// The ways to authenticate, each with a tor that offers it.
func TestAttach(t *testing.T) {
	needTor(t)
	out, err := exec.Command("tor", "--quiet", "--hash-password", "foo").Output()
	if err != nil {
		t.Fatal(err)
	}
	hashed := strings.TrimSpace(string(out))
	private := t.TempDir()
	if err := os.Chmod(private, 0o700); err != nil { // tor wants it so
		t.Fatal(err)
	}
	socket := filepath.Join(private, "control")
	for name, c := range map[string]struct {
		torrc    []string
		unix     bool
		password string
		err      error
	}{
		"cookie":         {torrc: []string{"CookieAuthentication 1"}},
		"unix socket":    {torrc: []string{"CookieAuthentication 1", "ControlPort unix:" + socket}, unix: true},
		"password":       {torrc: []string{"CookieAuthentication 0", "HashedControlPassword " + hashed}, password: "foo"},
		"none":           {torrc: []string{"CookieAuthentication 0"}},
		"wrong password": {torrc: []string{"CookieAuthentication 0", "HashedControlPassword " + hashed}, password: "bar", err: ErrAuth},
		"no password":    {torrc: []string{"CookieAuthentication 0", "HashedControlPassword " + hashed}, err: ErrAuth},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := launch(t.Context(), *offline(t.TempDir(), c.torrc...))
			if err != nil {
				t.Fatal(err)
			}
			defer p.kill()
			at := p.control
			if c.unix {
				at = Address{"unix", socket}
			}
			failed := make(chan error, 1)
			tor := start(t, Config{Control: []Address{{"tcp", "127.0.0.1:1"}, at}, Password: c.password, Progress: func(p Progress) {
				if p.Stage == StageLost {
					select {
					case failed <- p.Err:
					default:
					}
				}
			}})
			for {
				tor.mu.Lock()
				attached, changed := tor.status.Attached, tor.changed
				tor.mu.Unlock()
				if attached {
					if c.err != nil {
						t.Error("attached all the same")
					}
					return
				}
				select {
				case <-changed:
				case err := <-failed:
					if c.err == nil || !errors.Is(err, c.err) {
						t.Errorf("%v", err)
					}
					return
				}
			}
		})
	}
}

// TestOwner is the process of TestKilled: it launches, says so, and waits.
func TestOwner(t *testing.T) {
	dir := os.Getenv("WARREN_TEST_OWNER")
	if dir == "" {
		t.Skip("part of TestKilled")
	}
	tor := start(t, Config{Launch: offline(dir)})
	fmt.Printf("pid=%d\n", tor.Status().PID)
	select {}
}

// A process that launched tor is killed with -9: tor goes too, and the next
// process starts on the same directory at once.
func TestKilled(t *testing.T) {
	needTor(t)
	dir := t.TempDir()
	owner := exec.Command(os.Args[0], "-test.run=^TestOwner$")
	owner.Env = append(os.Environ(), "WARREN_TEST_OWNER="+dir)
	out, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscanf(out, "pid=%d\n", &pid); err != nil || pid == 0 {
		t.Errorf("no tor: %v", err)
	}
	owner.Process.Kill()
	owner.Wait()
	began := time.Now()
	tor := start(t, Config{Launch: offline(dir)})
	t.Logf("started again after %v", time.Since(began))
	gone(t, pid)
	if tor.Status().PID == pid {
		t.Error("that is the first tor")
	}
}

func TestWaitReady(t *testing.T) {
	needTor(t)
	tor := start(t, Config{Launch: offline(t.TempDir())})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := tor.WaitReady(ctx); !errors.Is(err, ErrNotReady) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	tor.Close()
	if err := tor.WaitReady(t.Context()); !errors.Is(err, ErrNotReady) || !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}
