//go:build !linux

package app

import "time"

// processorTime is not asked for here: nothing is given back.
func processorTime() time.Duration { return 0 }

func dropProgramPages() {}
