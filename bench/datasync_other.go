//go:build !linux

package bench

import "os"

// datasync waits until the file's data is on disk.
func datasync(f *os.File) error { return f.Sync() }
