package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"wherry.dev/wherry/runtime/image"
	"wherry.dev/wherry/runtime/sandbox"
)

// pull is a container's way to an image, its own or that of a volume: at most
// one attempt at a time, made beside the worker, which is woken at its end.
type pull struct {
	attempt *attempt
	backoff backoff
	failure *failure // of the last attempt
	failed  time.Time
}

// wanted is what a pull is to bring.
type wanted struct {
	ref    string
	policy corev1.PullPolicy
	files  bool // to be mounted; else a module to be run
}

// attempt is one pull and preparation. Its results are valid after done.
type attempt struct {
	wanted wanted
	cancel context.CancelFunc
	done   chan struct{}
	image  sandbox.Image
	tree   image.Tree
	err    *failure
	// compiled is how long the runtime took to make the module ready.
	compiled time.Duration
}

// failure is why there is no container: the reason and message of a waiting
// state.
type failure struct {
	reason, message string
	never           bool // trying again makes no sense before long
}

// fetch returns the image once it is ready to start. Until then the container
// waits, and wait says when to look again at the latest (0: will be woken).
func (w *worker) fetch(ctx context.Context, pod *corev1.Pod, c *container) (img sandbox.Image, wait time.Duration, ok bool) {
	spec := c.spec(pod)
	done, wait, ok := w.obtained(ctx, pod, c, &c.pull, wanted{ref: spec.Image, policy: spec.ImagePullPolicy})
	if !ok {
		return img, wait, false
	}
	return done.image, 0, true
}

// fetchVolumes brings the images that the container mounts, as fetch does its
// own.
func (w *worker) fetchVolumes(ctx context.Context, pod *corev1.Pod, c *container) (wait time.Duration, ok bool) {
	for _, m := range c.spec(pod).VolumeMounts {
		i := slices.IndexFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name && v.Image != nil })
		if i < 0 {
			continue
		}
		if c.volumes == nil {
			c.volumes = make(map[string]*pull)
		}
		if c.volumes[m.Name] == nil {
			c.volumes[m.Name] = &pull{}
		}
		source := pod.Spec.Volumes[i].Image
		done, wait, ok := w.obtained(ctx, pod, c, c.volumes[m.Name], wanted{ref: source.Reference, policy: source.PullPolicy, files: true})
		if !ok {
			return wait, false
		}
		w.vols.Place(m.Name, done.tree.Dir)
	}
	return 0, true
}

// obtained returns a pull that has succeeded.
func (w *worker) obtained(ctx context.Context, pod *corev1.Pod, c *container, p *pull, want wanted) (done *attempt, wait time.Duration, ok bool) {
	ref := want.ref
	if p.attempt != nil && p.attempt.wanted.ref != ref {
		p.abandon()
	}
	if p.attempt == nil {
		if p.failure != nil {
			if wait := time.Until(p.backoff.until(p.failed)); wait > 0 {
				return nil, min(wait, w.waitForPull(pod, c, p, ref)), false
			}
			p.backoff.next(p.failed, time.Now())
		}
		w.begin(ctx, pod, c, p, want)
	}
	select {
	case <-p.attempt.done:
	default:
		return nil, 0, false // still waiting as before: ContainerCreating, ErrImagePull, …
	}
	done = p.attempt
	if done.err == nil { // it stands until the container starts, see landed
		p.failure, p.backoff = nil, backoff{}
		return done, 0, true
	}
	p.attempt = nil
	p.failure, p.failed = done.err, time.Now()
	if p.backoff.delay == 0 { // pulls wait before the first retry already
		p.backoff.next(p.failed, p.failed)
	}
	if done.err.never {
		p.backoff.delay = backoffMax
	}
	c.waiting = &corev1.ContainerStateWaiting{Reason: done.err.reason, Message: done.err.message}
	return nil, min(shownFor, time.Until(p.backoff.until(p.failed))), false
}

// shownFor is how long a failed pull is shown as such before it is shown as
// waiting for the next one.
const shownFor = time.Second

// waitForPull shows that the next attempt is not due yet, and returns when
// there is something to show at the latest.
func (w *worker) waitForPull(pod *corev1.Pod, c *container, p *pull, ref string) time.Duration {
	f := p.failure
	if f.reason != image.ReasonPull || c.announced.Equal(p.backoff.until(p.failed)) {
		return backoffMax
	}
	if wait := shownFor - time.Since(p.failed); wait > 0 {
		return wait
	}
	c.announced = p.backoff.until(p.failed)
	text := fmt.Sprintf("Back-off pulling image %q", ref)
	w.event(pod, c, corev1.EventTypeNormal, "BackOff", "%s", text)
	w.event(pod, c, corev1.EventTypeWarning, "Failed", "Error: ImagePullBackOff")
	c.waiting = &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: text + ": " + f.reason + ": " + f.message}
	return backoffMax
}

// abandon gives an attempt up; its end is nobody's business any more.
func (p *pull) abandon() {
	if p.attempt != nil {
		p.attempt.cancel()
		p.attempt = nil
	}
}

// flying reports whether an attempt is under way.
func (p *pull) flying() bool {
	if p.attempt == nil {
		return false
	}
	select {
	case <-p.attempt.done:
		return false
	default:
		return true
	}
}

// landed makes the next start ask anew for what this one has got: the image's
// name may mean another one then.
func (c *container) landed() {
	c.pull.attempt = nil
	for _, p := range c.volumes {
		p.attempt = nil
	}
}

// abandonPulls gives up whatever is on its way to the container.
func (c *container) abandonPulls() {
	c.pull.abandon()
	for _, p := range c.volumes {
		p.abandon()
	}
}

func (w *worker) begin(ctx context.Context, pod *corev1.Pod, c *container, p *pull, want wanted) {
	if want.policy == "" {
		want.policy = corev1.PullIfNotPresent
	}
	ctx, cancel := context.WithCancel(ctx)
	a := &attempt{wanted: want, cancel: cancel, done: make(chan struct{})}
	p.attempt = a
	if !w.agent.tasks.run(func() {
		defer w.poke()
		defer close(a.done)
		defer cancel()
		if a.err = w.obtain(ctx, pod, c, a); a.err == nil && !want.files {
			a.err = w.prepareImage(ctx, pod, c, a)
		}
	}) {
		cancel()
	}
}

// obtain pulls an image and tells the user about it in events.
func (w *worker) obtain(ctx context.Context, pod *corev1.Pod, c *container, a *attempt) *failure {
	ref, policy := a.wanted.ref, a.wanted.policy
	present, err := false, error(notPresent{}) // so PullAlways takes the way of an image that is not here
	if policy != corev1.PullAlways {
		present, err = w.pull(ctx, a, corev1.PullNever, image.Credentials{})
	}
	began := time.Now()
	if err != nil && policy != corev1.PullNever && reasonOf(err) == image.ReasonNeverPull {
		creds := w.pullCredentials(ctx, pod)
		w.event(pod, c, corev1.EventTypeNormal, "Pulling", "Pulling image %q", ref)
		present, err = w.pull(ctx, a, policy, creds)
	}
	if err != nil {
		if ctx.Err() == nil {
			w.pullFailed(pod, c, ref, err)
		}
		return &failure{reason: reasonOf(err), message: err.Error()}
	}
	took := time.Since(began).Round(time.Millisecond)
	if present && policy != corev1.PullAlways {
		w.event(pod, c, corev1.EventTypeNormal, "Pulled", "Container image %q already present on machine and can be accessed by the pod", ref)
		return nil
	}
	size := sizeOf(a.image.Module)
	if a.wanted.files {
		size = dirSize(a.tree.Dir)
	}
	w.event(pod, c, corev1.EventTypeNormal, "Pulled", "Successfully pulled image %q in %v (%v including waiting). Image size: %v bytes.", ref, took, took, size)
	return nil
}

// pull takes an image from where policy allows.
func (w *worker) pull(ctx context.Context, a *attempt, policy corev1.PullPolicy, creds image.Credentials) (present bool, err error) {
	if a.wanted.files {
		a.tree, err = w.agent.cfg.Images.Unpack(ctx, a.wanted.ref, policy, creds)
		return a.tree.Present, err
	}
	pulled, err := w.agent.cfg.Images.Pull(ctx, a.wanted.ref, policy, creds)
	a.image = pulled.Image
	return pulled.Present, err
}

// pullCredentials are those of the pod's pull secrets, which admission has
// given it from its service account too. What is missing or damaged is told,
// and the pull is tried all the same.
func (w *worker) pullCredentials(ctx context.Context, pod *corev1.Pod) image.Credentials {
	var secrets []*corev1.Secret
	var missing []string
	for _, ref := range pod.Spec.ImagePullSecrets {
		secret, err := reader{w.agent.cfg.Client}.Secret(ctx, pod.Namespace, ref.Name)
		if err != nil {
			missing = append(missing, ref.Name)
			continue
		}
		secrets = append(secrets, secret)
	}
	if len(missing) > 0 && ctx.Err() == nil {
		w.agent.recorder.Event(pod, corev1.EventTypeWarning, "FailedToRetrieveImagePullSecret",
			"Unable to retrieve some image pull secrets (%s); attempting to pull the image may not succeed.", strings.Join(missing, ", "))
	}
	creds, err := image.CredentialsOf(secrets)
	if err != nil {
		w.agent.recorder.Event(pod, corev1.EventTypeWarning, "InvalidImagePullSecret", "%v", err)
	}
	return creds
}

// prepareImage makes a pulled module ready to start.
func (w *worker) prepareImage(ctx context.Context, pod *corev1.Pod, c *container, a *attempt) *failure {
	if pod.Annotations[AnnotationSnapshot] == c.name {
		a.image.Snapshot = true
	}
	a.image.Interpret = pod.Annotations[AnnotationInterpret] == c.name
	began := time.Now()
	err := w.agent.cfg.Runtime.Prepare(ctx, a.image)
	a.compiled = time.Since(began)
	if err != nil {
		invalid := (*sandbox.InvalidImageError)(nil)
		never := errors.As(err, &invalid)
		if ctx.Err() == nil {
			w.event(pod, c, corev1.EventTypeWarning, "Failed", "Error: %v", err)
		}
		return &failure{reason: "CreateContainerError", message: err.Error(), never: never}
	}
	return nil
}

// notPresent is the answer about an image that was not looked for.
type notPresent struct{}

func (notPresent) Error() string  { return "not asked for" }
func (notPresent) Reason() string { return image.ReasonNeverPull }

func (w *worker) pullFailed(pod *corev1.Pod, c *container, ref string, err error) {
	reason := reasonOf(err)
	switch reason {
	case image.ReasonInvalidName:
		w.event(pod, c, corev1.EventTypeWarning, "InspectFailed", "Failed to apply default image tag %q: %v", ref, err)
	case image.ReasonNeverPull:
		w.event(pod, c, corev1.EventTypeWarning, image.ReasonNeverPull, "Container image %q is not present with pull policy of Never", ref)
	default:
		w.event(pod, c, corev1.EventTypeWarning, "Failed", "Failed to pull image %q: %v", ref, err)
	}
	w.event(pod, c, corev1.EventTypeWarning, "Failed", "Error: %s", reason)
}

// reasonOf returns the waiting reason of a failed pull.
func reasonOf(err error) string {
	var classified interface {
		error
		Reason() string
	}
	if errors.As(err, &classified) {
		return classified.Reason()
	}
	return image.ReasonPull
}

func sizeOf(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}
