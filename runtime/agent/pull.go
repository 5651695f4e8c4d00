package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"wherry.dev/wherry/runtime/image"
	"wherry.dev/wherry/runtime/sandbox"
)

// pull is a container's way to its image: at most one attempt at a time, made
// beside the worker, which is woken at its end.
type pull struct {
	attempt *attempt
	backoff backoff
	failure *failure // of the last attempt
	failed  time.Time
}

// attempt is one pull and preparation. result is valid after done.
type attempt struct {
	ref    string
	cancel context.CancelFunc
	done   chan struct{}
	image  sandbox.Image
	err    *failure
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
	ref := c.spec(pod).Image
	p := &c.pull
	if p.attempt != nil && p.attempt.ref != ref {
		p.abandon()
	}
	if p.attempt == nil {
		if p.failure != nil {
			if wait := time.Until(p.backoff.until(p.failed)); wait > 0 {
				return img, min(wait, w.waitForPull(pod, c, ref)), false
			}
			p.backoff.next(p.failed, time.Now())
		}
		w.begin(ctx, pod, c, ref)
	}
	select {
	case <-p.attempt.done:
	default:
		return img, 0, false // still waiting as before: ContainerCreating, ErrImagePull, …
	}
	done := p.attempt
	p.attempt = nil
	if done.err == nil {
		p.failure, p.backoff = nil, backoff{}
		return done.image, 0, true
	}
	p.failure, p.failed = done.err, time.Now()
	if p.backoff.delay == 0 { // pulls wait before the first retry already
		p.backoff.next(p.failed, p.failed)
	}
	if done.err.never {
		p.backoff.delay = backoffMax
	}
	c.waiting = &corev1.ContainerStateWaiting{Reason: done.err.reason, Message: done.err.message}
	return img, min(shownFor, time.Until(p.backoff.until(p.failed))), false
}

// shownFor is how long a failed pull is shown as such before it is shown as
// waiting for the next one.
const shownFor = time.Second

// waitForPull shows that the next attempt is not due yet, and returns when
// there is something to show at the latest.
func (w *worker) waitForPull(pod *corev1.Pod, c *container, ref string) time.Duration {
	f := c.pull.failure
	if f.reason != image.ReasonPull || c.announced.Equal(c.pull.backoff.until(c.pull.failed)) {
		return backoffMax
	}
	if wait := shownFor - time.Since(c.pull.failed); wait > 0 {
		return wait
	}
	c.announced = c.pull.backoff.until(c.pull.failed)
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

func (w *worker) begin(ctx context.Context, pod *corev1.Pod, c *container, ref string) {
	ctx, cancel := context.WithCancel(ctx)
	a := &attempt{ref: ref, cancel: cancel, done: make(chan struct{})}
	c.pull.attempt = a
	policy := c.spec(pod).ImagePullPolicy
	if policy == "" {
		policy = corev1.PullIfNotPresent
	}
	if !w.agent.tasks.run(func() {
		defer w.poke()
		defer close(a.done)
		defer cancel()
		a.image, a.err = w.obtain(ctx, pod, c, ref, policy)
	}) {
		cancel()
	}
}

// obtain pulls and prepares an image and tells the user about it in events.
func (w *worker) obtain(ctx context.Context, pod *corev1.Pod, c *container, ref string, policy corev1.PullPolicy) (sandbox.Image, *failure) {
	pulled, err := w.present(ctx, ref, policy)
	began := time.Now()
	if err != nil && policy != corev1.PullNever && reasonOf(err) == image.ReasonNeverPull {
		w.event(pod, c, corev1.EventTypeNormal, "Pulling", "Pulling image %q", ref)
		pulled, err = w.agent.cfg.Images.Pull(ctx, ref, policy)
	}
	if err != nil {
		if ctx.Err() == nil {
			w.pullFailed(pod, c, ref, err)
		}
		return sandbox.Image{}, &failure{reason: reasonOf(err), message: err.Error()}
	}
	took := time.Since(began).Round(time.Millisecond)
	if pulled.Present && policy != corev1.PullAlways {
		w.event(pod, c, corev1.EventTypeNormal, "Pulled", "Container image %q already present on machine and can be accessed by the pod", ref)
	} else {
		w.event(pod, c, corev1.EventTypeNormal, "Pulled", "Successfully pulled image %q in %v (%v including waiting). Image size: %v bytes.",
			ref, took, took, sizeOf(pulled.Image.Module))
	}
	if pod.Annotations[AnnotationSnapshot] == c.name {
		pulled.Image.Snapshot = true
	}
	if err := w.agent.cfg.Runtime.Prepare(ctx, pulled.Image); err != nil {
		invalid := (*sandbox.InvalidImageError)(nil)
		never := errors.As(err, &invalid)
		if ctx.Err() == nil {
			w.event(pod, c, corev1.EventTypeWarning, "Failed", "Error: %v", err)
		}
		return sandbox.Image{}, &failure{reason: "CreateContainerError", message: err.Error(), never: never}
	}
	w.agent.images.add(ref, pulled.Image)
	return pulled.Image, nil
}

// present asks for what is on the node, without a registry, unless the policy
// is to ask always.
func (w *worker) present(ctx context.Context, ref string, policy corev1.PullPolicy) (image.Pulled, error) {
	if policy == corev1.PullAlways {
		return image.Pulled{}, notPresent{}
	}
	return w.agent.cfg.Images.Pull(ctx, ref, corev1.PullNever)
}

// notPresent makes PullAlways take the way of an image that is not here.
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

// imageList remembers the images that pods have used, for the node's status.
type imageList struct {
	mu     sync.Mutex
	byName map[string]sandbox.Image
}

func (l *imageList) add(ref string, img sandbox.Image) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byName == nil {
		l.byName = make(map[string]sandbox.Image)
	}
	l.byName[ref] = img
}

// list returns at most 50 images, as kubelet reports by default.
func (l *imageList) list() []corev1.ContainerImage {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []corev1.ContainerImage
	for _, ref := range sortedKeys(l.byName) {
		if len(out) == 50 {
			break
		}
		img := l.byName[ref]
		names := []string{ref}
		if img.Digest != "" && !strings.Contains(ref, "@") {
			names = []string{repository(ref) + "@" + img.Digest, ref}
		}
		out = append(out, corev1.ContainerImage{Names: names, SizeBytes: sizeOf(img.Module)})
	}
	return out
}

// repository cuts the tag off an image reference.
func repository(ref string) string {
	slash := strings.LastIndexByte(ref, '/')
	if colon := strings.LastIndexByte(ref, ':'); colon > slash {
		return ref[:colon]
	}
	return ref
}
