//go:build race

package natskv

// raced: the race detector makes everything slower, so there is less of it.
const raced = true
