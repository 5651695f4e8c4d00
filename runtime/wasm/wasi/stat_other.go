//go:build !linux

package wasi

import "io/fs"

// fromHost adds nothing here: one link and the time of modification are what
// every system has.
func (s *filestat) fromHost(fs.FileInfo) {}
