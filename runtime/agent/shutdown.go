package agent

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Shutdown is how pods end when the node does: those that are not critical
// first, then the critical ones
// (https://kubernetes.io/docs/concepts/cluster-administration/node-shutdown/#graceful-node-shutdown).
// The zero value leaves them as they are in the API, for the next run of the
// agent to find.
type Shutdown struct {
	// Grace is the time for all of it.
	Grace time.Duration
	// Critical is the part of Grace that belongs to critical pods.
	Critical time.Duration
}

func (s Shutdown) check() error {
	if s.Grace < 0 || s.Critical < 0 || s.Critical > s.Grace {
		return errors.New("the shutdown grace period of critical pods is part of the whole one, and neither is below 0")
	}
	return nil
}

// What the API says about pods that a shutdown has ended or kept away.
const (
	shutdownReason   = "Terminated"
	shutdownMessage  = "Pod was terminated in response to imminent node shutdown."
	shutdownRejected = "Pod was rejected as the node is shutting down."
)

// tellingTime is what may be spent beyond the grace period on telling the API,
// twice: at the beginning and at the end.
const tellingTime = 5 * time.Second

// shutDown ends the node's pods in order, if that was configured. It returns
// when all have ended and the API knows, or when their time is up.
func (a *Agent) shutDown(ctx context.Context) {
	grace := a.cfg.Shutdown
	if grace.Grace == 0 {
		return
	}
	a.ending.Store(true)
	a.recorder.EventFor(a.keeper.ref(), corev1.EventTypeNormal, "Shutdown", "Shutdown manager detected shutdown event")
	a.keeper.sayEnding(ctx) // before the pods end, so that nobody sends others here
	a.endPods(ctx, grace.Grace-grace.Critical, false)
	a.endPods(ctx, grace.Critical, true)
	ctx, cancel := context.WithTimeout(ctx, tellingTime)
	defer cancel()
	if err := a.publisher.flush(ctx); err != nil {
		a.log.Warn("the node ends before the API knows how its pods have ended", "err", err)
	}
}

// endPods ends the pods of one group and waits for them.
func (a *Agent) endPods(ctx context.Context, grace time.Duration, critically bool) {
	group := slices.DeleteFunc(a.workers.all(), func(w *worker) bool { return critical(w.last()) != critically })
	ctx, cancel := context.WithTimeout(ctx, grace+stopSlack)
	defer cancel()
	var waiting sync.WaitGroup
	for _, w := range group {
		w.condemn(&verdict{reason: shutdownReason, message: shutdownMessage, shutdown: &grace})
		waiting.Go(func() {
			select {
			case <-w.freed:
			case <-ctx.Done():
				w.log.Warn("the pod has not ended in the time that a shutdown has for it")
			}
		})
	}
	waiting.Wait()
}

// critical reports whether the pod's priority says that a node needs it.
func critical(pod *corev1.Pod) bool {
	return pod.Spec.Priority != nil && *pod.Spec.Priority >= criticalPriority
}
