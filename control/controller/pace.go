package controller

import (
	"context"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"wherry.dev/wherry/control/api"
)

const (
	// paceFree is how many endpoints a Service may have, and pods a ReplicaSet,
	// whose every change is taken at once.
	paceFree = 100
	// paceEach is the rest after a pass over a larger Service, per endpoint.
	// One pass costs time in proportion to the endpoints, and so does each
	// reader of what it writes: without a rest, n pods that start cost n*n.
	paceEach = 50 * time.Microsecond
	// paceReplica is that of a ReplicaSet, per pod, when a pass only counts:
	// about twice what the counting costs.
	paceReplica = 5 * time.Microsecond
	paceMost    = time.Second
)

// pace lets the first change to a large object pass at once and gathers those
// that follow closely. It is safe for concurrent use.
type pace struct {
	each time.Duration // the rest for each endpoint or pod

	mu   sync.Mutex
	next map[api.Key]time.Time
}

// wait is how long the object is to rest yet; 0: go on.
func (p *pace) wait(key api.Key, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return max(0, p.next[key].Sub(now))
}

// passed notes a pass over so many endpoints or pods; 0 forgets the object.
func (p *pace) passed(key api.Key, members int, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if members <= paceFree {
		delete(p.next, key)
		return
	}
	if p.next == nil {
		p.next = map[api.Key]time.Time{}
	}
	p.next[key] = now.Add(min(time.Duration(members)*p.each, paceMost))
}

// latest remembers what a loop has written until its informer shows it, so
// that the loop's next pass starts from there and does not conflict with
// itself. The zero value is ready; it is safe for concurrent use.
type latest struct {
	mu      sync.Mutex
	written map[api.Key]api.Object
	doubted map[api.Key]bool
}

// doubt notes that nobody knows whether a write was carried out: what the
// informer shows may be older than what this loop has done.
func (l *latest) doubt(key api.Key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.doubted == nil {
		l.doubted = map[api.Key]bool{}
	}
	l.doubted[key] = true
}

// doubtful says that an object must be read from the API before it is relied
// on.
func (l *latest) doubtful(key api.Key) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.doubted[key]
}

// add notes an object as a write has returned it.
func (l *latest) add(key api.Key, obj api.Object) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.written == nil {
		l.written = map[api.Key]api.Object{}
	}
	l.written[key] = obj
	delete(l.doubted, key)
}

// forget drops what is known of an object that is gone.
func (l *latest) forget(key api.Key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.written, key)
	delete(l.doubted, key)
}

// of is the newer one of what the informer shows and what was written. shown
// is nil when the informer has no such object: then there is none.
func (l *latest) of(key api.Key, shown api.Object) api.Object {
	l.mu.Lock()
	defer l.mu.Unlock()
	written, ok := l.written[key]
	if !ok {
		return shown
	}
	if shown == nil || shown.GetUID() != written.GetUID() || !older(shown, written) {
		delete(l.written, key)
		return shown
	}
	return written
}

// writeStatus stores an object with another status and notes what came of it.
// One that is gone needs none.
func (l *latest) writeStatus(ctx context.Context, client api.Client, key api.Key, changed api.Object) error {
	stored, err := client.Update(ctx, key, changed, api.UpdateOptions{Subresource: "status"})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("write the status of %s: %w", key, err)
	}
	l.add(key, stored)
	return nil
}
