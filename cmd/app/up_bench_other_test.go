//go:build !linux

package app_test

import "testing"

// forgetCached is for systems that tell how much memory a program takes.
func forgetCached(testing.TB, string) {}
