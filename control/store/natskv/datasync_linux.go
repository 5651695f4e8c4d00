package natskv

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// syncFile puts a file's content on disk, and as much metadata as reading it
// needs. It goes past package os, which has five more calls of the kernel for
// a file that is opened: a block is synced after every few writes.
func syncFile(path string) error {
	fd, err := again(func() (int, error) { return unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return fmt.Errorf("sync blocks: %w", &os.PathError{Op: "open", Path: path, Err: err})
	}
	defer func() { _ = unix.Close(fd) }()
	if _, err := again(func() (int, error) { return 0, unix.Fdatasync(fd) }); err != nil {
		return fmt.Errorf("sync blocks: %w", &os.PathError{Op: "fdatasync", Path: path, Err: err})
	}
	return nil
}

// again repeats a call that a signal has interrupted.
func again(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != unix.EINTR {
			return n, err
		}
	}
}

// syncDir puts a directory's entries on disk.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
