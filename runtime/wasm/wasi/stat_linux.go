package wasi

import (
	"io/fs"
	"syscall"
)

// fromHost adds what only the host's own structure tells.
func (s *filestat) fromHost(info fs.FileInfo) {
	host, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return
	}
	s.inode, s.links = host.Ino, uint64(host.Nlink)
	s.accessed = uint64(host.Atim.Nano())
	s.change = uint64(host.Ctim.Nano())
}
