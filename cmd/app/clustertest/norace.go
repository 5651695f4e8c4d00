//go:build !race

package clustertest

// Race: the test binary has the race detector in it, and takes several times as
// long for everything.
const Race = false
