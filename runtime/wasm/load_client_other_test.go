//go:build !linux

package wasm

// runClient is for the benchmarks of Linux.
func runClient() bool { return false }
