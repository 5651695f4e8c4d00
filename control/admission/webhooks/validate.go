package webhooks

import (
	"context"
	"fmt"
	"sync"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"wherry.dev/wherry/control/api"
)

// Validate asks the validating webhooks, all at once. When several refuse, the
// first one of the configurations' order is told.
func (w *Webhooks) Validate(ctx context.Context, r *api.AdmissionRequest) error {
	if err := w.check(r); err != nil {
		return err
	}
	hooks := w.validating.current(w.validatingHooks)
	if len(hooks) == 0 {
		return nil
	}
	asked := w.questions(ctx, hooks, r)
	if asked.err != nil || len(asked.calls) == 0 {
		return asked.err
	}
	if ctx.Err() != nil {
		return apierrors.NewTimeoutError("request did not complete within requested timeout", 0)
	}
	var work sync.WaitGroup
	for _, c := range asked.calls {
		work.Go(func() {
			began := time.Now()
			c.said, c.err = w.call(ctx, c.hook, r, c.question, false)
			c.took = time.Since(began)
		})
	}
	work.Wait()
	return w.judge(ctx, r, asked.calls)
}

// asking is one webhook that is asked, and then what it said.
type asking struct {
	*hook
	question *question
	said     *admissionv1.AdmissionResponse
	err      error
	took     time.Duration
}

type questions struct {
	calls []*asking
	err   error
}

// questions finds the webhooks to ask and makes the question, once for each
// version.
func (w *Webhooks) questions(ctx context.Context, hooks []*hook, r *api.AdmissionRequest) (out questions) {
	made := map[string]*question{}
	for _, h := range hooks {
		as, ok, err := w.wants(ctx, h, r)
		if err != nil {
			return questions{err: err}
		}
		if !ok {
			continue
		}
		version := as.GroupVersion()
		if made[version] == nil {
			if made[version], err = ask(ctx, r, as, false); err != nil {
				return questions{err: err}
			}
		}
		out.calls = append(out.calls, &asking{hook: h, question: made[version]})
	}
	return out
}

// judge reads the answers, in order.
func (w *Webhooks) judge(ctx context.Context, r *api.AdmissionRequest, calls []*asking) (refused error) {
	for i, c := range calls {
		err := c.err
		if err == nil {
			err = heed(ctx, c.hook, c.said)
		}
		w.metrics.observe(c.hook, validating, r.Operation, time.Now().Add(-c.took), err)
		if failed := w.outcome(ctx, c.hook, err); failed != nil {
			if refused == nil {
				refused = failed
			}
		} else if err != nil {
			w.metrics.passed(c.hook, validating)
			api.Annotate(ctx, fmt.Sprintf("failed-open.validating.webhook.admission.k8s.io/round_0_index_%d", i), c.name)
		}
	}
	return refused
}
