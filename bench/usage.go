package bench

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// clockTick is Linux' unit of processor time in /proc, on every architecture
// that Go runs on.
const clockTick = 10 * time.Millisecond

// since is what was used after before.
func (u Usage) since(before Usage) Usage {
	return Usage{Memory: u.Memory - before.Memory, CPU: u.CPU - before.CPU}
}

// cpuEach and kibEach are the use of each of so many pods, in microseconds and
// KiB.
func (u Usage) cpuEach(pods int) float64 { return float64(u.CPU.Microseconds()) / float64(pods) }
func (u Usage) kibEach(pods int) float64 { return float64(u.Memory) / 1024 / float64(pods) }

// ProcessUsage returns what a process of this machine uses (Linux' /proc).
func ProcessUsage(pid int) (Usage, error) {
	dir := fmt.Sprintf("/proc/%d/", pid)
	status, err := os.ReadFile(dir + "status")
	if err != nil {
		return Usage{}, fmt.Errorf("read the use of process %d: %w", pid, err)
	}
	var usage Usage
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				return Usage{}, fmt.Errorf("read the memory of process %d: %w", pid, err)
			}
			usage.Memory = kib << 10
		}
	}
	stat, err := os.ReadFile(dir + "stat")
	if err != nil {
		return Usage{}, fmt.Errorf("read the use of process %d: %w", pid, err)
	}
	// The command's name may hold spaces; what follows its parenthesis does not.
	_, rest, ok := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 13 {
		return Usage{}, errors.New("/proc/PID/stat has another form than expected")
	}
	for _, field := range fields[11:13] { // utime, stime
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return Usage{}, fmt.Errorf("read the processor time of process %d: %w", pid, err)
		}
		usage.CPU += time.Duration(ticks) * clockTick
	}
	return usage, nil
}
