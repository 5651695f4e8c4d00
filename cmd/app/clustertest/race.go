//go:build race

package clustertest

// raceEnabled: the test binary has the race detector in it.
const raceEnabled = true
