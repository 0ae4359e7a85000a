package config

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"warren/node/durable"
)

// How a node keeps another from running on its directory.
//
// Tahoe's way, which other programs read too: running.process holds the process's id
// and its start time; it is read and written under an exclusive lock (flock; on
// Windows the first byte by LockFileEx) on running.process.lock, which is let go at
// once. A node whose process is gone has left a stale file behind.
//
// That cannot tell a process from a later one with the same number, which is what a
// machine that lost power brings. So warren also holds a lock on warren.lock for as
// long as it runs, and keeps a copy of its record in warren.process: when
// running.process says the same, the lock says whether that node still runs.
const (
	pidFile  = "running.process"
	pidLock  = pidFile + ".lock"
	lifeFile = "warren.process"
	lifeLock = "warren.lock"
)

// lockWait is how long to wait for the short lock, as Tahoe does.
const lockWait = 2 * time.Second

// ErrRunning: a node runs on the directory already. See RunningError.
var ErrRunning = errors.New("config: a node is already running on this directory")

// RunningError is ErrRunning with the process's number, 0 when that is not known.
type RunningError struct{ PID int }

func (e *RunningError) Error() string {
	if e.PID == 0 {
		return ErrRunning.Error()
	}
	return fmt.Sprintf("%v: process %d", ErrRunning, e.PID)
}

func (e *RunningError) Unwrap() error { return ErrRunning }

// Lock is the right to run on a node directory.
type Lock struct {
	dir  string
	life *flock.Flock
}

// Lock takes the node's directory for this process. It fails with ErrRunning while
// another node, ours or Tahoe's, runs on it.
func (n *Node) Lock(ctx context.Context) (*Lock, error) {
	short, err := takeShort(ctx, n.Dir)
	if err != nil {
		return nil, err
	}
	defer short.Unlock()

	life := flock.New(filepath.Join(n.Dir, lifeLock), flock.SetPermissions(0o600))
	free, err := life.TryLock()
	if err != nil {
		return nil, fmt.Errorf("config: lock: %w", err)
	}
	if !free {
		pid, _, _ := readPID(n.Dir)
		return nil, &RunningError{pid}
	}
	keep := false
	defer func() {
		if !keep {
			life.Unlock()
		}
	}()

	pid, start, err := readPID(n.Dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		// Tahoe stops here as well: nobody knows whose it is.
		return nil, fmt.Errorf("%w; if no node runs on it, remove %s", err, filepath.Join(n.Dir, pidFile))
	case pid == os.Getpid():
		// A container gives the same number to every node.
	case !ours(n.Dir) && alive(pid) && !recycled(pid, start):
		return nil, &RunningError{pid}
	}
	// The copy before running.process: a crash in between must not leave a record
	// there that is taken for Tahoe's.
	line := fmt.Sprintf("%d %.2f\n", os.Getpid(), startTime(os.Getpid()))
	for _, name := range []string{lifeFile, pidFile} {
		if err := durable.WriteFile(filepath.Join(n.Dir, name), []byte(line), 0o644); err != nil {
			return nil, err
		}
	}
	keep = true
	return &Lock{dir: n.Dir, life: life}, nil
}

// Unlock lets the directory go.
func (l *Lock) Unlock() error {
	short, err := takeShort(context.Background(), l.dir)
	if err != nil {
		l.life.Unlock()
		return err
	}
	defer short.Unlock()
	err = durable.Remove(filepath.Join(l.dir, pidFile))
	return errors.Join(err, l.life.Unlock())
}

// Running says whether a node, ours or Tahoe's, runs on a directory, and its process.
func Running(ctx context.Context, dir string) (pid int, running bool, err error) {
	// Reading alone must not make a lock file where there is no node.
	if _, err := os.Stat(filepath.Join(dir, pidFile)); errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	short, err := takeShort(ctx, dir)
	if err != nil {
		return 0, false, err
	}
	defer short.Unlock()
	pid, start, err := readPID(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	if ours(dir) {
		life := flock.New(filepath.Join(dir, lifeLock), flock.SetPermissions(0o600))
		free, err := life.TryLock()
		if err != nil {
			return pid, false, fmt.Errorf("config: lock: %w", err)
		}
		if free {
			life.Unlock()
		}
		return pid, !free, nil
	}
	return pid, alive(pid) && !recycled(pid, start), nil
}

func takeShort(ctx context.Context, dir string) (*flock.Flock, error) {
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	l := flock.New(filepath.Join(dir, pidLock), flock.SetPermissions(0o644))
	if ok, err := l.TryLockContext(ctx, 20*time.Millisecond); !ok {
		if errors.Is(err, context.DeadlineExceeded) {
			return nil, fmt.Errorf("%w: another process holds %s", &RunningError{}, pidLock)
		}
		return nil, fmt.Errorf("config: lock: %w", err)
	}
	return l, nil
}

// readPID parses running.process: "PID START".
func readPID(dir string) (pid int, start float64, err error) {
	text, err := readText(filepath.Join(dir, pidFile))
	if err != nil {
		return 0, 0, err
	}
	return parsePID(text)
}

func parsePID(text string) (pid int, start float64, err error) {
	first, second, ok := strings.Cut(text, " ")
	pid, err1 := strconv.Atoi(first)
	start, err2 := strconv.ParseFloat(strings.TrimSpace(second), 64)
	if !ok || err1 != nil || err2 != nil || pid < 1 || start != start {
		return 0, 0, fmt.Errorf("%w: %s", ErrValue, pidFile)
	}
	return pid, start, nil
}

// ours says whether the process that running.process names was recorded by warren.
func ours(dir string) bool {
	copied, err1 := readText(filepath.Join(dir, lifeFile))
	recorded, err2 := readText(filepath.Join(dir, pidFile))
	return err1 == nil && err2 == nil && copied == recorded
}
