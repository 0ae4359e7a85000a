package bench

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"warren/tests/interop"
)

// ticks is how Linux counts CPU time in /proc, on every platform that Go knows.
const ticks = 100

// sample is one case of one system in one round.
type sample struct {
	Seconds   float64 `json:"seconds"`
	ClientCPU float64 `json:"clientCPU"` // seconds
	ServerCPU float64 `json:"serverCPU"` // of all servers together
	// OthersCPU is what neither the system nor this test used: other people's work.
	OthersCPU float64 `json:"othersCPU"`
	ClientRSS int64   `json:"clientRSS"` // peak, bytes
	ServerRSS int64   `json:"serverRSS"` // of the server that took most
	Failed    int     `json:"failed"`    // attempts before the one that this is of
}

// measure runs one case of a system. What lies unwritten from before goes to the
// disk first: it is not this system's.
func measure(t testing.TB, s *system, run func() error) (out sample, err error) {
	t.Helper()
	syscall.Sync()
	for _, p := range s.processes() {
		// Makes the peak what is used now. Not every kernel has it.
		if err := os.WriteFile(proc(p, "clear_refs"), []byte("5"), 0); err != nil {
			t.Logf("%s: its peaks are those since its start: %v", s.name, err)
		}
	}
	before, started := cpuOf(t, s), time.Now()
	if err := run(); err != nil {
		return out, err
	}
	out.Seconds = time.Since(started).Seconds()
	used := cpuOf(t, s).minus(before)
	out.ClientCPU, out.ServerCPU = used.client, used.servers
	out.OthersCPU = max(0, used.machine-used.client-used.servers-used.self)
	out.ClientRSS = peak(t, s.client.Process)
	for _, p := range s.servers {
		out.ServerRSS = max(out.ServerRSS, peak(t, p))
	}
	return out, nil
}

func proc(p *interop.Process, name string) string {
	return filepath.Join("/proc", strconv.Itoa(p.Pid()), name)
}

// used are CPU seconds.
type used struct{ client, servers, self, machine float64 }

func (u used) minus(o used) used {
	return used{u.client - o.client, u.servers - o.servers, u.self - o.self, u.machine - o.machine}
}

func cpuOf(t testing.TB, s *system) used {
	t.Helper()
	u := used{client: cpu(t, proc(s.client.Process, "stat")), self: cpu(t, "/proc/self/stat")}
	for _, p := range s.servers {
		u.servers += cpu(t, proc(p, "stat"))
	}
	all, err := os.ReadFile("/proc/stat")
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(all), "\n")
	for i, field := range strings.Fields(line)[1:] {
		// user nice system idle iowait irq softirq steal; guests are in user.
		if i != 3 && i != 4 && i < 8 {
			u.machine += number(t, field) / ticks
		}
	}
	return u
}

// cpu is what a process has used in user and kernel mode, in seconds.
func cpu(t testing.TB, stat string) float64 {
	t.Helper()
	b, err := os.ReadFile(stat)
	if err != nil {
		t.Fatal(err)
	}
	// The second field, in parentheses, may hold anything.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	return (number(t, fields[11]) + number(t, fields[12])) / ticks
}

func number(t testing.TB, s string) float64 {
	t.Helper()
	n, err := strconv.ParseFloat(s, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// peak is the most memory that a process had since it was last cleared.
func peak(t testing.TB, p *interop.Process) int64 {
	t.Helper()
	b, err := os.ReadFile(proc(p, "status"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmHWM:" {
			return int64(number(t, f[1])) << 10
		}
	}
	t.Fatalf("%s shows no VmHWM", proc(p, "status"))
	return 0
}

// yardsticks are what the machine can do, at this time and with what else it has to
// do, by programs that do nothing else; rates in MiB/s.
type yardsticks struct {
	SHA256    float64 `json:"sha256"`    // on one core
	Loopback  float64 `json:"loopback"`  // TCP, one connection
	WriteSync float64 `json:"writeSync"` // a file of 256 MiB, and fsync
	SmallSync float64 `json:"smallSync"` // files of 10 KiB made and synced, per second
	Load      float64 `json:"load"`      // average of the last minute
}

func measureMachine(t testing.TB) yardsticks {
	t.Helper()
	y := yardsticks{SHA256: yardstick(), Loopback: loopback(t)}
	y.WriteSync, y.SmallSync = diskRates(t)
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		t.Fatal(err)
	}
	y.Load = number(t, strings.Fields(string(b))[0])
	return y
}

func loopback(t testing.TB) float64 {
	t.Helper()
	const size = 512 * mebibyte
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	sent := make(chan error, 1)
	started := time.Now()
	go func() {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			sent <- err
			return
		}
		defer c.Close()
		piece := make([]byte, 256<<10)
		for n := 0; n < size && err == nil; n += len(piece) {
			_, err = c.Write(piece)
		}
		sent <- err
	}()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c}, make([]byte, 256<<10))
	if err = errors.Join(err, <-sent); err != nil || n != size {
		t.Fatalf("loopback: %d bytes (%v)", n, err)
	}
	return size / mebibyte / time.Since(started).Seconds()
}

func diskRates(t testing.TB) (writeSync, smallSync float64) {
	t.Helper()
	const size, files = 256, 50
	dir := t.TempDir()
	write := func(name string, pieces int, piece []byte) {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		for range pieces {
			if _, err := f.Write(piece); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(f.Sync(), f.Close(), os.Remove(f.Name())); err != nil {
			t.Fatal(err)
		}
	}
	data := random(98, mebibyte)
	started := time.Now()
	write("large", size, data)
	writeSync = size / time.Since(started).Seconds()
	started = time.Now()
	for i := range files {
		write(fmt.Sprint(i), 1, data[:10<<10])
	}
	return writeSync, files / time.Since(started).Seconds()
}

// filesystems that are met, by their numbers in statfs.
func filesystemOf(t testing.TB, dir string) string {
	t.Helper()
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		t.Fatal(err)
	}
	switch s.Type {
	case unix.EXT4_SUPER_MAGIC:
		return "ext4"
	case unix.XFS_SUPER_MAGIC:
		return "xfs"
	case unix.BTRFS_SUPER_MAGIC:
		return "btrfs"
	case unix.TMPFS_MAGIC:
		return "tmpfs"
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlay"
	}
	return fmt.Sprintf("%#x", s.Type)
}

// needRoom ends the benchmark where its medium is not what it is to be.
func needRoom(t testing.TB, dir string, memory bool, p plan) {
	t.Helper()
	if is := filesystemOf(t, dir); memory != (is == "tmpfs") {
		t.Fatalf("%s is %s: set TMPDIR to a directory on a disk, and have tmpfs on /dev/shm", dir, is)
	}
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		t.Fatal(err)
	}
	// Shares, the body while it is spooled (twice, by Tahoe), and Tahoe's reserve of
	// 1 GB a server.
	need := uint64(p.Size)*uint64(p.Total)/uint64(p.Needed) + 2*uint64(p.Size) + 2<<30
	if have := s.Bavail * uint64(s.Bsize); have < need {
		t.Fatalf("%s has %d MiB free and %d are needed: free some, or set WARREN_BENCH_SIZE (MiB) below %d",
			dir, have>>20, need>>20, p.Size>>20)
	}
}

// machine describes where and of what the figures are.
func machine(t testing.TB) map[string]string {
	t.Helper()
	out := map[string]string{"time": time.Now().UTC().Format(time.RFC3339), "cores": strconv.Itoa(runtime.NumCPU()), "go": runtime.Version()}
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		out["kernel"] = strings.TrimSpace(string(b))
	}
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				out["cpu"] = strings.TrimSpace(value)
				break
			}
		}
	}
	cmd := exec.Command("git", "describe", "--always", "--dirty", "--tags")
	cmd.Dir = interop.Root(t)
	if b, err := cmd.Output(); err == nil { // not from a tarball
		out["version"] = strings.TrimSpace(string(b))
	}
	return out
}
