//go:build !linux

package app

// localNetwork is not known here: pods of other processes are reached through
// the API server.
func localNetwork() string { return networkOf() }
