// Package podlog keeps the output of containers as files in the format of the
// container runtime interface, one line per entry:
//
//	2026-01-02T15:04:05.123456789Z stdout F the text
//
// where F closes a line and P is a part of one. A Store knows the files that
// are being written, so that a follower is woken by the writer and never
// polls. Files are rotated by size; a guest that writes without end keeps a
// bounded amount of disk. Failing disks lose output, never block a guest.
package podlog
