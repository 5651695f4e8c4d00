//go:build !linux

package natskv

import (
	"os"
	"runtime"
)

// datasync puts a file's content on disk. Go's Sync asks for a full flush on
// macOS and for FlushFileBuffers on Windows.
func datasync(f *os.File) error { return f.Sync() }

// syncDir puts a directory's entries on disk. Windows cannot, and journals
// them itself.
func syncDir(path string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
