//go:build race

package wasm

// raceEnabled: the test binary has the race detector in it.
const raceEnabled = true
