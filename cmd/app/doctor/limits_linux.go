package doctor

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// memoryMaps: an instance of a big module takes two mappings or more.
func memoryMaps(context.Context, Machine) Finding {
	const enough = 262144
	f := Finding{Check: "memory maps", State: OK}
	text, err := os.ReadFile("/proc/sys/vm/max_map_count")
	if err != nil {
		return Finding{}
	}
	limit, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return Finding{}
	}
	f.Found = fmt.Sprintf("up to %d (vm.max_map_count)", limit)
	if limit < enough {
		f.State = Warning
		f.Found += fmt.Sprintf(", enough for some %d pods with big modules", limit/3)
		f.Fix = fmt.Sprintf("sudo sysctl vm.max_map_count=%d", enough)
	}
	return f
}

// clockSynced asks the kernel whether a time service keeps its clock.
func clockSynced() (synced, known bool) {
	state, err := unix.Adjtimex(&unix.Timex{})
	return state != unix.TIME_ERROR, err == nil
}
