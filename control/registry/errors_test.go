package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/store"
)

// TestFail: what the store says, as the API answers it.
func TestFail(t *testing.T) {
	r := newRegistry(t)
	key := api.Key{Resource: "configmaps", Namespace: "default", Name: "c"}
	for _, test := range []struct {
		name   string
		err    error
		code   int32
		reason metav1.StatusReason
		text   string
	}{
		{"gone", store.ErrNotFound, http.StatusNotFound, metav1.StatusReasonNotFound, `configmaps "c" not found`},
		{"race", store.ErrConflict, http.StatusConflict, metav1.StatusReasonConflict, "please apply your changes"},
		{"history", store.ErrCompacted, http.StatusGone, metav1.StatusReasonExpired, "too old"},
		{"future", store.ErrFutureRevision, http.StatusGatewayTimeout, metav1.StatusReasonTimeout, "Too large resource version"},
		{"large", store.ErrTooLarge, http.StatusRequestEntityTooLarge, metav1.StatusReasonRequestEntityTooLarge, "split it"},
		{"full", store.ErrNoSpace, http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable, "Free space in the server's data directory"},
		{"full and late", fmt.Errorf("%w (%w)", store.ErrNoSpace, context.DeadlineExceeded),
			http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable, "Free space in the server's data directory"},
		{"ended", store.ErrClosed, http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable, "shutting down: try again"},
		{"anything", errors.New("disk on fire"), http.StatusInternalServerError, metav1.StatusReasonInternalError, "disk on fire"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := r.fail(t.Context(), key, fmt.Errorf("put: %w", test.err))
			var status apierrors.APIStatus
			if !errors.As(err, &status) {
				t.Fatalf("not a status: %v", err)
			}
			got := status.Status()
			if got.Code != test.code || got.Reason != test.reason || !strings.Contains(got.Message, test.text) {
				t.Errorf("got %d %s %q", got.Code, got.Reason, got.Message)
			}
		})
	}
	full, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.fail(full, key, fmt.Errorf("put: %w", context.Canceled)); !errors.Is(err, context.Canceled) {
		t.Errorf("a request that was given up: %v", err)
	}
}
