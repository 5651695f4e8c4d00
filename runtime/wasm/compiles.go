package wasm

import (
	"runtime"
	"slices"
)

// Compiles says whether modules become machine code on this platform; wazero
// interprets them on all others, which is slower by far.
func Compiles() bool {
	return slices.Contains([]string{"amd64", "arm64"}, runtime.GOARCH) &&
		slices.Contains([]string{"linux", "darwin", "windows", "freebsd", "netbsd", "dragonfly", "solaris"}, runtime.GOOS)
}
