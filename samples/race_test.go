//go:build race

package samples_test

// raceEnabled: the test binary has the race detector in it.
const raceEnabled = true
