package app_test

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// forgetCached makes the system read a file anew, as after its boot. A file that
// has just been written can be cached in pieces of 2 MB, which newer kernels map
// as a whole where a byte of them is touched: all of a program looks resident.
func forgetCached(tb testing.TB, file string) {
	tb.Helper()
	f, err := os.Open(file)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil { // only what is on the disk can be forgotten
		tb.Fatal(err)
	}
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		tb.Fatal(err)
	}
}
