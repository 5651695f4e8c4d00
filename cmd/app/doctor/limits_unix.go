//go:build unix

package doctor

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"
)

// freeSpace is what an unprivileged writer has left, in bytes.
func freeSpace(dir string) (int64, bool) {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return 0, false
	}
	return int64(stat.Bavail) * int64(stat.Bsize), true
}

// openFiles: each connection to a pod takes a descriptor or two.
func openFiles(context.Context, Machine) Finding {
	const enough = 16384
	f := Finding{Check: "open files", State: OK}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return Finding{}
	}
	f.Found = fmt.Sprintf("up to %d", limit.Max) // Go raises the soft limit to the hard one
	if limit.Max < enough {
		f.State = Warning
		f.Fix = fmt.Sprintf("raise it before the start: ulimit -Hn %d", 1<<20)
	}
	return f
}
