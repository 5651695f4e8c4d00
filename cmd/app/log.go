package app

import (
	"fmt"
	"io"
	"log/slog"

	"k8s.io/klog/v2"
)

// newLog makes the log of a process: lines of key=value pairs of the level
// (debug, info, warn or error) and above.
func newLog(w io.Writer, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level %q: want debug, info, warn or error", level)
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: l})), nil
}

// logLibraries sends what the Kubernetes libraries have to say to the log of
// the process. Their logger is one for all, so only a command does this, before
// it starts anything.
func logLibraries(log *slog.Logger) {
	klog.SetSlogLogger(log.With("part", "library"))
	logTraces(log.With("part", "traces"))
}
