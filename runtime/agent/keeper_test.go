package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestLostRacesAreQuietAtFirst(t *testing.T) {
	nodes := schema.GroupResource{Resource: "nodes"}
	conflict := fmt.Errorf("update: %w", apierrors.NewConflict(nodes, "n", errors.New("changed")))
	for _, tt := range []struct {
		name string
		err  error
		wait time.Duration
		want slog.Level
	}{
		{"conflict", conflict, 20 * time.Millisecond, slog.LevelDebug},
		{"exists", apierrors.NewAlreadyExists(nodes, "n"), 200 * time.Millisecond, slog.LevelDebug},
		{"gone", apierrors.NewNotFound(nodes, "n"), 20 * time.Millisecond, slog.LevelDebug},
		{"conflict without end", conflict, 2 * time.Second, slog.LevelWarn},
		{"anything else", errors.New("no space left"), 20 * time.Millisecond, slog.LevelWarn},
	} {
		if got := levelOf(tt.err, tt.wait); got != tt.want {
			t.Errorf("%s: level %v, want %v", tt.name, got, tt.want)
		}
	}
}
