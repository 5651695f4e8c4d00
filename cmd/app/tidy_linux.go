package app

import (
	"bufio"
	"bytes"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// processorTime is what the process has used so far; 0 when that is not known.
func processorTime() time.Duration {
	var usage unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// dropProgramPages unmaps the resident pages of the program's code and
// constants. Whoever touches one gets it again from its file.
func dropProgramPages() {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	text, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return
	}
	for _, m := range mappingsOf(text, program) {
		if m.clean() {
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, m.from, m.to-m.from, unix.MADV_DONTNEED) // an advice
		}
	}
}

// mapping is a part of the address space (proc_pid_smaps(5)).
type mapping struct {
	from, to    uintptr
	permissions string
	resident    uint64 // KiB
	changed     uint64 // KiB of pages that are not the file's any more, swapped out ones included
}

// clean says that nobody has written to the mapping or can do so: whatever is
// dropped of it is in the file. What the dynamic linker has filled in and then
// protected is not clean.
func (m mapping) clean() bool {
	return m.changed == 0 && (m.permissions == "r--p" || m.permissions == "r-xp")
}

// mappingsOf reads the mappings of a file out of smaps.
func mappingsOf(smaps []byte, file string) []mapping {
	var all []mapping
	ours := false
	for lines := bufio.NewScanner(bytes.NewReader(smaps)); lines.Scan(); {
		line := lines.Text()
		name, value, ok := strings.Cut(line, ": ")
		if !ok || strings.Contains(name, " ") {
			var m mapping
			if m, ours = header(line, file); ours {
				all = append(all, m)
			}
			continue
		}
		if !ours {
			continue
		}
		size, _, _ := strings.Cut(strings.TrimSpace(value), " ")
		kib, _ := strconv.ParseUint(size, 10, 64) // VmFlags: 0
		switch m := &all[len(all)-1]; name {
		case "Rss":
			m.resident = kib
		case "Anonymous", "Swap":
			m.changed += kib
		}
	}
	return all
}

// header reads the line that a mapping begins with: addresses, permissions,
// offset, device, inode and, behind spaces, the file's name, which may have some.
func header(line, file string) (m mapping, ok bool) {
	fields := strings.Fields(line)
	if len(fields) < 6 || !strings.HasSuffix(line, " "+file) || fields[5] != strings.Fields(file)[0] {
		return m, false
	}
	first, last, _ := strings.Cut(fields[0], "-")
	from, err := strconv.ParseUint(first, 16, 64)
	if err != nil {
		return m, false
	}
	to, err := strconv.ParseUint(last, 16, 64)
	if err != nil || to <= from {
		return m, false
	}
	return mapping{from: uintptr(from), to: uintptr(to), permissions: fields[1]}, true
}
