package agent

import (
	"bufio"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// The limits below which the node reports pressure: kubelet's default for
// memory, and for disks what a node of modules needs, not a share of a disk.
const (
	minMemory = 100 << 20
	minDisk   = 256 << 20
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
	if free := meminfo("MemAvailable"); free > 0 {
		h.lowMemory = free < minMemory
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(a.cfg.Dir, &fs); err == nil {
		h.lowDisk = int64(fs.Bavail)*int64(fs.Bsize) < minDisk
	}
	return h
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
