//go:build !linux

package natskv

import (
	"fmt"
	"os"
	"runtime"
)

// syncFile puts a file's content on disk. Go's Sync asks for a full flush on
// macOS and for FlushFileBuffers on Windows, which wants the file open for
// writing.
func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("sync blocks: %w", err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	return nil
}

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
