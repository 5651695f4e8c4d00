//go:build race

package module

// raceEnabled: the test binary has the race detector in it.
const raceEnabled = true
