//go:build !race

package natskv

const raced = false
