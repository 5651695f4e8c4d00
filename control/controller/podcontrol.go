package controller

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/reconcile"
)

// The reasons of events about pods that controllers create and delete.
const (
	successfulCreate = "SuccessfulCreate"
	successfulDelete = "SuccessfulDelete"
	failedCreate     = "FailedCreate"
	failedDelete     = "FailedDelete"
)

// nameTries is how often a pod is given another name, as by the API server for
// a generateName.
const nameTries = 8

// podControl creates and deletes the pods of a controller, tells of it in
// events about their owner, and keeps the expectations. It is safe for
// concurrent use.
type podControl struct {
	client   api.Client
	recorder *reconcile.Recorder
	expect   *expectations
}

func newPodControl(cfg Config, component string) podControl {
	return podControl{client: cfg.Client, recorder: cfg.Recorder.For(component), expect: newExpectations(cfg.Clock)}
}

// podFrom makes a pod of a template that owner controls. Its name is chosen
// here and not by the server, so that a create can be repeated.
func podFrom(owner api.Object, r api.Resource, template *corev1.PodTemplateSpec, prefix string) *corev1.Pod {
	t := template.DeepCopy()
	return &corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: prefix, Name: generated(prefix), Namespace: owner.GetNamespace(),
			Labels: t.Labels, Annotations: t.Annotations, Finalizers: t.Finalizers,
			OwnerReferences: []metav1.OwnerReference{*controllerRef(owner, r)},
		},
		Spec: t.Spec,
	}
}

// generated appends five random characters to a prefix, as the API server does
// with a generateName: the prefix gives way when the whole is too long.
func generated(prefix string) string {
	const suffix, longest = 5, 63
	return prefix[:min(len(prefix), longest-suffix)] + rand.String(suffix)
}

// create makes pods, at first one, then twice as many at a time as long as
// all succeed: when all fail for the same reason (a quota, a bad template) one
// request finds it out instead of hundreds.
// made is how many of them there are now for sure.
func (c podControl) create(ctx context.Context, owner api.Object, pods []*corev1.Pod) (made int, err error) {
	always := func() bool { return true }
	return c.createWhile(ctx, owner, len(pods), func(i int) *corev1.Pod { return pods[i] }, always)
}

// createWhile is create for n pods that are made when they are needed, and that
// are wanted only while wanted says so: it is asked before each batch.
func (c podControl) createWhile(ctx context.Context, owner api.Object, n int, pod func(i int) *corev1.Pod, wanted func() bool) (made int, err error) {
	var done atomic.Int64
	for batch, from := 1, 0; from < n && wanted(); batch = min(2*batch, burstReplicas) {
		now := min(batch, n-from)
		err := each(now, func(i int) error {
			err := c.createNamed(ctx, owner, pod(from+i))
			if err == nil {
				done.Add(1)
			}
			return err
		})
		if namespaceGoing(err) {
			return int(done.Load()), nil // the owner goes with it
		}
		if err != nil {
			return int(done.Load()), err
		}
		from += now
	}
	return int(done.Load()), nil
}

// createNamed creates a pod, under another name of its prefix when the one that
// was chosen is taken: of tens of thousands some are.
func (c podControl) createNamed(ctx context.Context, owner api.Object, pod *corev1.Pod) error {
	for try := 1; ; try++ {
		c.expect.expectCreation(owner.GetUID(), pod.Name)
		err := c.createOne(ctx, owner, pod)
		if !apierrors.IsAlreadyExists(err) || pod.GenerateName == "" || try == nameTries {
			return err
		}
		pod.Name = generated(pod.GenerateName)
	}
}

func (c podControl) createOne(ctx context.Context, owner api.Object, pod *corev1.Pod) error {
	_, err := c.client.Create(ctx, api.Pods.KeyOf(pod), pod, api.CreateOptions{})
	if err == nil {
		c.expect.sureCreation(owner.GetUID(), pod.Name)
		c.recorder.Event(owner, corev1.EventTypeNormal, successfulCreate, "Created pod: %s", pod.Name)
		return nil
	}
	if decided(err) {
		c.expect.created(owner.GetUID(), pod.Name) // it will not come
	} else {
		c.expect.doubtCreation(owner.GetUID(), pod)
	}
	if !namespaceGoing(err) && !apierrors.IsAlreadyExists(err) && ctx.Err() == nil {
		c.recorder.Event(owner, corev1.EventTypeWarning, failedCreate, "Error creating: %v", err)
	}
	return err
}

// createAgain tries a doubtful creation again. Here no answer of the server
// says that the pod is not there: the first try may have made it.
func (c podControl) createAgain(ctx context.Context, owner api.Object, pod *corev1.Pod) error {
	have, err := api.Get[*corev1.Pod](ctx, c.client, api.Pods.KeyOf(pod))
	switch {
	case apierrors.IsNotFound(err):
		return c.createOne(ctx, owner, pod)
	case err != nil:
		return err
	case metav1.IsControlledBy(have, owner):
		c.expect.sureCreation(owner.GetUID(), pod.Name)
	default:
		c.expect.created(owner.GetUID(), pod.Name) // somebody else's
	}
	return nil
}

// remove deletes pods, all at the same time.
func (c podControl) remove(ctx context.Context, owner api.Object, pods []*corev1.Pod) error {
	return c.removeIf(ctx, owner, pods, func(*corev1.Pod) bool { return false })
}

// removeSurplus is remove for pods of which some were chosen because they are
// not ready: one that has become so meanwhile is not deleted but met again in
// the next round, or a rollout would take pods that it counts on.
func (c podControl) removeSurplus(ctx context.Context, owner api.Object, pods []*corev1.Pod) error {
	return c.removeIf(ctx, owner, pods, func(p *corev1.Pod) bool { return !isReady(p) })
}

// removeIf deletes pods; those for which unchanged holds only as they were
// seen.
func (c podControl) removeIf(ctx context.Context, owner api.Object, pods []*corev1.Pod, unchanged func(*corev1.Pod) bool) error {
	for _, p := range pods {
		c.expect.expectDeletion(owner.GetUID(), p.UID)
	}
	return each(len(pods), func(i int) error {
		opts := api.DeleteOptions{UID: &pods[i].UID}
		if unchanged(pods[i]) {
			opts.ResourceVersion = &pods[i].ResourceVersion
		}
		return c.removeOne(ctx, owner, pods[i], opts)
	})
}

func (c podControl) removeOne(ctx context.Context, owner api.Object, pod *corev1.Pod, opts api.DeleteOptions) error {
	_, err := c.client.Delete(ctx, api.Pods.KeyOf(pod), opts)
	switch {
	case err == nil:
		c.expect.sureDeletion(owner.GetUID(), pod.UID)
		c.recorder.Event(owner, corev1.EventTypeNormal, successfulDelete, "Deleted pod: %s", pod.Name)
		return nil
	case apierrors.IsNotFound(err):
		c.expect.deleted(owner.GetUID(), pod.UID)
		return nil
	case decided(err):
		c.expect.deleted(owner.GetUID(), pod.UID)
	default:
		c.expect.doubtDeletion(owner.GetUID(), pod)
	}
	if !apierrors.IsConflict(err) && ctx.Err() == nil {
		c.recorder.Event(owner, corev1.EventTypeWarning, failedDelete, "Error deleting: %v", err)
	}
	return err
}

// lookUp finds out what became of a doubtful deletion. One that was not done is
// decided anew: the pod may be needed by now.
func (c podControl) lookUp(ctx context.Context, owner api.Object, pod *corev1.Pod) error {
	have, err := api.Get[*corev1.Pod](ctx, c.client, api.Pods.KeyOf(pod))
	switch {
	case apierrors.IsNotFound(err) || err == nil && (have.UID != pod.UID || have.DeletionTimestamp != nil):
		c.expect.sureDeletion(owner.GetUID(), pod.UID)
	case err != nil:
		return err
	default:
		c.expect.deleted(owner.GetUID(), pod.UID)
	}
	return nil
}

// settle finds out about the writes that nobody knows the outcome of, and does
// again what has to be. It reports whether a creation was among what failed.
func (c podControl) settle(ctx context.Context, owner api.Object) (creating bool, err error) {
	creations, deletions := c.expect.doubtful(owner.GetUID())
	if err := each(len(creations), func(i int) error { return c.createAgain(ctx, owner, creations[i]) }); err != nil {
		if namespaceGoing(err) {
			return false, nil
		}
		return true, err
	}
	return false, each(len(deletions), func(i int) error { return c.lookUp(ctx, owner, deletions[i]) })
}

// decided says that an error is the server's answer to the request, which then
// had no effect. After any other error the request may have been carried out.
func decided(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return false
	}
	code := status.Status().Code
	return code >= 400 && code < 500 && code != http.StatusRequestTimeout
}

// namespaceGoing says that a create failed because its namespace is being
// deleted: nothing to report or to repeat.
func namespaceGoing(err error) bool {
	return apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause)
}

// each calls f(0) to f(n-1) at the same time, waits for all and returns one of
// the errors.
func each(n int, f func(i int) error) error {
	errs := make([]error, n)
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() { errs[i] = f(i) })
	}
	group.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
