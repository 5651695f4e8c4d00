package agent

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// The limits below which the node reports pressure: kubelet's default for
// memory, and for disks what a node of modules needs, not a share of a disk.
const (
	minMemory = 100 << 20
	minDisk   = 256 << 20
	// minInodes is kubelet's share in hundredths of a file system's inodes.
	minInodes = 5
	// minThreads is a share in hundredths of the threads that the system allows.
	minThreads = 2
)

// meminfo reads one line of /proc/meminfo, in bytes; 0 when it is not there.
func meminfo(name string) int64 {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		rest, ok := strings.CutPrefix(lines.Text(), name+":")
		if !ok {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		if err != nil {
			return 0
		}
		return kib << 10
	}
	return 0
}

func totalMemory() int64 {
	if total := meminfo("MemTotal"); total > 0 {
		return total
	}
	return 1 << 30
}

func (a *Agent) machineHealth() health {
	var h health
	if h.memory = meminfo("MemAvailable"); h.memory > 0 {
		h.lowMemory = h.memory < minMemory
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(a.cfg.Dir, &fs); err == nil {
		h.disk = int64(fs.Bavail) * int64(fs.Bsize)
		h.diskSize = (int64(fs.Blocks)-int64(fs.Bfree))*int64(fs.Bsize) + h.disk // without what is root's alone, as df counts
		h.inodes, h.minInodes = int64(fs.Ffree), int64(fs.Files)*minInodes/100   // both 0 where there is no such bound
		h.fewInodes = h.inodes < h.minInodes
		h.lowDisk = h.disk < minDisk || h.fewInodes
	}
	if most, running := threads(); most > 0 {
		h.fewThreads = most-running < most*minThreads/100
	}
	return h
}

// threads returns how many threads the machine may have and has; 0 when that
// is not known.
func threads() (most, running int64) {
	limit, err := os.ReadFile("/proc/sys/kernel/pid_max")
	if err != nil {
		return 0, 0
	}
	load, err := os.ReadFile("/proc/loadavg") // "0.20 0.18 0.12 1/80 11206"
	if err != nil {
		return 0, 0
	}
	fields := strings.Fields(string(load))
	if len(fields) < 4 {
		return 0, 0
	}
	_, total, _ := strings.Cut(fields[3], "/")
	if most, err = strconv.ParseInt(strings.TrimSpace(string(limit)), 10, 64); err != nil {
		return 0, 0
	}
	if running, err = strconv.ParseInt(total, 10, 64); err != nil {
		return 0, 0
	}
	return most, running
}

// diskSize is the size of the disk that a directory is on; 0: not known.
func diskSize(dir string) int64 {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return 0
	}
	return int64(fs.Blocks) * int64(fs.Bsize)
}

// busyTime is the time for which the machine's processors have worked since
// its start, all together.
func busyTime() time.Duration {
	const tick = time.Second / 100 // USER_HZ, the same on all architectures
	const idle, iowait, steal = 4, 5, 8
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(data), "\n")
	var sum time.Duration
	for i, text := range strings.Fields(first) {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || i == idle || i == iowait || i > steal {
			continue // the first is the line's name; guest time is in user's
		}
		sum += time.Duration(n) * tick
	}
	return sum
}

func describeMachine(info *corev1.NodeSystemInfo) {
	read := func(path string) string {
		data, err := os.ReadFile(path)
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(data))
	}
	info.KernelVersion = read("/proc/sys/kernel/osrelease")
	info.BootID = read("/proc/sys/kernel/random/boot_id")
	info.MachineID = read("/etc/machine-id")
	info.SystemUUID = info.MachineID
	info.OSImage = "Linux"
	for line := range strings.SplitSeq(read("/etc/os-release"), "\n") {
		if name, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
			info.OSImage = strings.Trim(name, `"`)
		}
	}
}
