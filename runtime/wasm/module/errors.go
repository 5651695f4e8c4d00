package module

import (
	"errors"
	"fmt"
)

// InvalidError says that a file can never run here, and why.
type InvalidError struct {
	Reason string // for people, with the next step where there is one
}

func (e *InvalidError) Error() string { return e.Reason }

func invalid(format string, args ...any) *InvalidError {
	return &InvalidError{Reason: fmt.Sprintf(format, args...)}
}

// MemoryLimitError says that a module cannot start within a memory limit.
type MemoryLimitError struct {
	Need  int64 // bytes of linear memory that the module declares as its minimum
	Limit int64 // bytes that the guest may have
}

func (e *MemoryLimitError) Error() string {
	return fmt.Sprintf("the module needs %d bytes of memory to start but its limit is %d bytes; raise the memory limit or link the module with a smaller initial memory",
		e.Need, e.Limit)
}

// ErrNotPrepared is Load's answer for a sum that Prepare has never completed.
var ErrNotPrepared = errors.New("module is not prepared; call Prepare first")

// errCorrupt marks a cache entry whose bytes are not those that were written.
var errCorrupt = errors.New("cache entry is corrupt")
