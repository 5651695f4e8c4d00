package app

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/scheduler"
	"wherry.dev/wherry/runtime/image"
)

// imageIndex tells the scheduler what images need. It answers from memory and
// looks up in the background what it does not know; what it could not find out
// is asked again for as long as somebody wants it.
type imageIndex struct {
	inspect func(ctx context.Context, ref string, secrets []api.Key) (image.Kind, error)
	log     *slog.Logger
	now     func() time.Time

	changed func(string) // set once, before Need
	wake    chan struct{}

	mu    sync.Mutex
	known map[string]*imageEntry
	asked []string // to be looked up now
}

type imageEntry struct {
	need   scheduler.Need
	answer bool      // need is the answer of a lookup
	flying bool      // a lookup is under way
	again  time.Time // when it is looked up again
	wanted time.Time // when it was asked for last
	// secrets are the pull secrets of those who asked.
	secrets []api.Key
}

const (
	imageFresh   = 10 * time.Minute // a tag may be moved to an image of another kind
	imageRetry   = 15 * time.Second // after a lookup that failed
	imageWanted  = 10 * time.Minute // what nobody asks for any more is forgotten
	imageLookup  = 20 * time.Second
	imageLookups = 8 // at a time
	imageSecrets = 16
)

func newImageIndex(inspect func(context.Context, string, []api.Key) (image.Kind, error), log *slog.Logger) *imageIndex {
	return &imageIndex{inspect: inspect, log: log, now: time.Now, wake: make(chan struct{}, 1),
		changed: func(string) {}, known: map[string]*imageEntry{}}
}

// Watch implements scheduler.Images.
func (x *imageIndex) Watch(changed func(string)) { x.changed = changed }

// Need implements scheduler.Images. An image that may not be fetched needs
// nothing: either it is on the node, or the node says that it is not.
func (x *imageIndex) Need(pod *corev1.Pod, ref string) (scheduler.Need, bool) {
	if neverPulled(pod, ref) {
		return scheduler.Need{Anywhere: true}, true
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	e, now := x.known[ref], x.now()
	if e == nil {
		e = &imageEntry{}
		x.known[ref] = e
	}
	e.wanted = now
	if e.learn(pod) && e.need.Unknown != "" {
		e.again = now
	}
	if !e.flying && !now.Before(e.again) {
		x.ask(ref, e)
	}
	return e.need, e.answer
}

// learn adds the pod's pull secrets to those that are known, and reports
// whether any is new.
func (e *imageEntry) learn(pod *corev1.Pod) (news bool) {
	for _, ref := range pod.Spec.ImagePullSecrets {
		if key := api.Secrets.Key(pod.Namespace, ref.Name); !slices.Contains(e.secrets, key) && len(e.secrets) < imageSecrets {
			e.secrets, news = append(e.secrets, key), true
		}
	}
	return news
}

// ask needs the lock.
func (x *imageIndex) ask(ref string, e *imageEntry) {
	e.flying = true
	x.asked = append(x.asked, ref)
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

func neverPulled(pod *corev1.Pod, ref string) bool {
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if list[i].Image == ref && list[i].ImagePullPolicy != corev1.PullNever {
				return false
			}
		}
	}
	return true
}

// Run looks images up until ctx ends.
func (x *imageIndex) Run(ctx context.Context) error {
	var lookups sync.WaitGroup
	defer lookups.Wait()
	slots := make(chan struct{}, imageLookups)
	ticker := time.NewTicker(imageRetry)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-x.wake:
		case <-ticker.C:
			x.review()
		}
		x.mu.Lock()
		asked := x.asked
		x.asked = nil
		x.mu.Unlock()
		for _, ref := range asked {
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return nil
			}
			lookups.Go(func() {
				defer func() { <-slots }()
				x.lookup(ctx, ref)
			})
		}
	}
}

// review forgets what nobody wants and asks again for what could not be found
// out.
func (x *imageIndex) review() {
	x.mu.Lock()
	defer x.mu.Unlock()
	now := x.now()
	for ref, e := range x.known {
		switch {
		case e.flying:
		case now.Sub(e.wanted) > imageWanted:
			delete(x.known, ref)
		case e.need.Unknown != "" && !now.Before(e.again):
			x.ask(ref, e)
		}
	}
}

func (x *imageIndex) lookup(ctx context.Context, ref string) {
	ctx, cancel := context.WithTimeout(ctx, imageLookup)
	defer cancel()
	x.mu.Lock()
	var secrets []api.Key
	if e := x.known[ref]; e != nil {
		secrets = slices.Clone(e.secrets)
	}
	x.mu.Unlock()
	kind, err := x.inspect(ctx, ref, secrets)
	fresh := imageFresh
	var need scheduler.Need
	switch {
	case err == nil:
		need = scheduler.Need{Wasm: kind.Wasm, Platforms: kind.Platforms}
	case errors.Is(err, image.ErrNotFound) || errors.Is(err, image.ErrName):
		need, fresh = scheduler.Need{Anywhere: true}, imageRetry // the node says what is wrong with it
	default:
		need, fresh = scheduler.Need{Unknown: err.Error()}, imageRetry
		x.log.Debug("image not inspected, will try again", "image", ref, "error", err)
	}
	x.mu.Lock()
	e := x.known[ref]
	if e == nil {
		x.mu.Unlock()
		return
	}
	news := !e.answer || !sameNeed(e.need, need)
	e.need, e.answer, e.flying, e.again = need, true, false, x.now().Add(fresh)
	x.mu.Unlock()
	if news {
		x.changed(ref)
	}
}

func sameNeed(a, b scheduler.Need) bool {
	return a.Wasm == b.Wasm && a.Anywhere == b.Anywhere && (a.Unknown == "") == (b.Unknown == "") && len(a.Platforms) == len(b.Platforms)
}

// pushed takes note that something was pushed to the cluster's registry: what
// was not known, and what has the name, is looked up again.
func (x *imageIndex) pushed(repository string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for ref, e := range x.known {
		if !e.flying && (!e.need.Wasm || strings.Contains(ref, repository)) {
			x.ask(ref, e)
		}
	}
}

// noticing tells the index about manifests that are pushed through next.
func (x *imageIndex) noticing(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r)
		repository, _, ok := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/manifests/")
		if ok && r.Method == http.MethodPut {
			x.pushed(repository)
		}
	})
}

// inspectImage looks an image up with the pull secrets of pods that want it.
// One that cannot be read leaves the others.
func (c *Cluster) inspectImage(ctx context.Context, ref string, keys []api.Key) (image.Kind, error) {
	var secrets []*corev1.Secret
	for _, key := range keys {
		if secret, err := api.Get[*corev1.Secret](ctx, c.registry, key); err == nil {
			secrets = append(secrets, secret)
		}
	}
	creds, err := image.CredentialsOf(secrets)
	if err != nil {
		c.log("images").Debug("a pull secret is not usable", "image", ref, "err", err)
	}
	return c.images.Inspect(ctx, ref, creds)
}
