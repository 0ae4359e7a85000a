package config

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"time"
)

// startTime is when a process started, in seconds since 1970, computed as psutil
// does: the time of boot and the clock ticks from there. 0 when it cannot be read.
func startTime(pid int) float64 {
	const ticks = 100 // USER_HZ, the same on every Linux of ours
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The name, in parentheses, may hold anything.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	const starttime = 22 - 3
	if len(fields) <= starttime {
		return 0
	}
	since, err := strconv.ParseUint(fields[starttime], 10, 63)
	if err != nil {
		return 0
	}
	system, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(system)) {
		if boot, ok := strings.CutPrefix(line, "btime "); ok {
			if b, err := strconv.ParseUint(strings.TrimSpace(boot), 10, 63); err == nil {
				return float64(b) + float64(since)/ticks
			}
		}
	}
	return 0
}

// recycled says that the process is surely not the Tahoe node that was recorded: it
// started at another time and runs no Python. The time alone proves nothing, because
// the time of boot moves when a clock is set.
func recycled(pid int, start float64) bool {
	if math.Abs(startTime(pid)-start) < time.Minute.Seconds() {
		return false
	}
	cmd, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && !bytes.Contains(cmd, []byte("python")) && !bytes.Contains(cmd, []byte("tahoe"))
}
