package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/store"
)

// errModified is what Kubernetes says about a lost race.
var errModified = errors.New("the object has been modified; please apply your changes to the latest version and try again")

const expiredText = "The resourceVersion for the provided list is too old."

// fail turns an error of the store (or any other) into what the API answers.
// It is the only place that does; what it does not know becomes an
// InternalError and is logged here, once.
func (r *Registry) fail(ctx context.Context, key api.Key, err error) error {
	var status apierrors.APIStatus
	switch {
	case err == nil:
		return nil
	case errors.As(err, &status):
		return err
	case errors.Is(err, store.ErrNoSpace):
		// Kubernetes has no code for it. It passes, so it is not a 500.
		return apierrors.NewServiceUnavailable(fmt.Sprintf(
			"%s was not written: %v. Free space in the server's data directory, or delete objects; then try again", key, err))
	case ctx.Err() != nil && (errors.Is(err, ctx.Err()) || errors.Is(err, context.Cause(ctx))):
		return err
	case errors.Is(err, store.ErrNotFound):
		return apierrors.NewNotFound(key.GroupResource(), key.Name)
	case errors.Is(err, store.ErrConflict):
		return apierrors.NewConflict(key.GroupResource(), key.Name, errModified)
	case errors.Is(err, store.ErrCompacted):
		return apierrors.NewResourceExpired(expiredText)
	case errors.Is(err, store.ErrFutureRevision):
		return apierrors.NewTimeoutError("Too large resource version", 1)
	case errors.Is(err, store.ErrTooLarge):
		return apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("%s is larger than what the store accepts: make it smaller or split it", key))
	case errors.Is(err, store.ErrClosed):
		return apierrors.NewServiceUnavailable("the server is shutting down: try again")
	}
	r.log.Error("request failed", "key", key.String(), "error", err)
	return apierrors.NewInternalError(fmt.Errorf("%s: %w", key, err))
}

// parseVersion reads a resourceVersion of a request. Kubernetes answers with
// 500 where the parameter is no number, but for lists.
func parseVersion(version string) (uint64, error) {
	revision, err := api.ParseRevision(version)
	if err != nil {
		return 0, unexplained(fmt.Sprintf("resourceVersion: Invalid value: %s: %v", strconv.Quote(version), err))
	}
	return revision, nil
}

// unexplained is an error for which Kubernetes has neither code nor reason.
func unexplained(text string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: http.StatusInternalServerError, Message: text}}
}

// freshWait is how long a request waits for a revision that this server has
// not seen yet: another one may have given it out. As in Kubernetes.
const freshWait = 3 * time.Second

// notYet waits until a revision is visible, for a while. The error is the one
// after which Kubernetes' clients wait and ask again.
func (r *Registry) notYet(ctx context.Context, revision uint64) error {
	if revision <= r.store.Revision() {
		return nil
	}
	if r.shared {
		waiting, cancel := context.WithTimeout(ctx, freshWait)
		defer cancel()
		if r.store.WaitRevision(waiting, revision) == nil {
			return nil
		}
	}
	current := r.store.Revision()
	err := apierrors.NewTimeoutError(fmt.Sprintf("Too large resource version: %d, current: %d", revision, current), 1)
	err.ErrStatus.Details.Causes = []metav1.StatusCause{{
		Type: metav1.CauseTypeResourceVersionTooLarge, Message: "Too large resource version"}}
	return err
}
