package doctor

import (
	"context"

	"golang.org/x/sys/windows"
)

// freeSpace is what the user has left, in bytes.
func freeSpace(dir string) (int64, bool) {
	path, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, false
	}
	var free, total, all uint64
	if err := windows.GetDiskFreeSpaceEx(path, &free, &total, &all); err != nil {
		return 0, false
	}
	return int64(free), true
}

// openFiles has no limit worth naming on Windows.
func openFiles(context.Context, Machine) Finding { return Finding{} }
