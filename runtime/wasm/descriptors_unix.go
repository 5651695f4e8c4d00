//go:build unix

package wasm

import "golang.org/x/sys/unix"

// hostDescriptors is how many the process may have open; 0: not known.
func hostDescriptors() int64 {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	return int64(min(uint64(limit.Cur), 1<<40)) // the field's type differs from system to system
}
