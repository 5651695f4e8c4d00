package controller

import (
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// expectationLife bounds how long a controller waits for the informer to show
// what it has done; after that it believes what it sees.
const expectationLife = 5 * time.Minute

// expectations remember, per owner, which pods were created and deleted and
// have not been seen by the informer. While there are any, what the informer
// shows is older than what was done, and counting it again would create too
// many pods or delete too many.
//
// They go by name and uid, not by number: a write whose answer was lost is
// kept as doubtful and tried again with the same pod, so that it counts once
// however often it is tried.
type expectations struct {
	now func() time.Time

	mu     sync.Mutex
	owners map[types.UID]*expected
}

// expected are an owner's open writes. A pod that is not nil is doubtful.
type expected struct {
	creations map[string]*corev1.Pod    // by name
	deletions map[types.UID]*corev1.Pod // by uid
	at        time.Time                 // of the last one
}

func newExpectations(now func() time.Time) *expectations {
	return &expectations{now: now, owners: map[types.UID]*expected{}}
}

// satisfied says that everything was seen, or that it took too long.
func (e *expectations) satisfied(owner types.UID) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	x := e.owners[owner]
	return x == nil || len(x.creations)+len(x.deletions) == 0 || e.now().Sub(x.at) > expectationLife
}

// of needs the lock.
func (e *expectations) of(owner types.UID) *expected {
	x := e.owners[owner]
	if x == nil {
		x = &expected{creations: map[string]*corev1.Pod{}, deletions: map[types.UID]*corev1.Pod{}}
		e.owners[owner] = x
	}
	return x
}

// expectCreation notes that a pod of the name will come. Call it before it is
// created.
func (e *expectations) expectCreation(owner types.UID, name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	x := e.of(owner)
	x.creations[name], x.at = nil, e.now()
}

// expectDeletion notes that a pod will go. Call it before it is deleted.
func (e *expectations) expectDeletion(owner, pod types.UID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	x := e.of(owner)
	x.deletions[pod], x.at = nil, e.now()
}

// created notes that a pod was seen, or will never come.
func (e *expectations) created(owner types.UID, name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if x := e.owners[owner]; x != nil {
		delete(x.creations, name)
	}
}

// deleted notes that a pod is going, or will not go.
func (e *expectations) deleted(owner, pod types.UID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if x := e.owners[owner]; x != nil {
		delete(x.deletions, pod)
	}
}

// doubtCreation notes that nobody knows whether the pod was created.
func (e *expectations) doubtCreation(owner types.UID, pod *corev1.Pod) {
	e.mu.Lock()
	defer e.mu.Unlock()
	x := e.of(owner)
	if _, open := x.creations[pod.Name]; open { // else it was seen meanwhile
		x.creations[pod.Name] = pod
	}
}

// doubtDeletion notes that nobody knows whether the pod is being deleted.
func (e *expectations) doubtDeletion(owner types.UID, pod *corev1.Pod) {
	e.mu.Lock()
	defer e.mu.Unlock()
	x := e.of(owner)
	if _, open := x.deletions[pod.UID]; open {
		x.deletions[pod.UID] = pod
	}
}

// sureCreation ends the doubt about a creation: it will be seen.
func (e *expectations) sureCreation(owner types.UID, name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if x := e.owners[owner]; x != nil && x.creations[name] != nil {
		x.creations[name] = nil
	}
}

// sureDeletion ends the doubt about a deletion.
func (e *expectations) sureDeletion(owner, pod types.UID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if x := e.owners[owner]; x != nil && x.deletions[pod] != nil {
		x.deletions[pod] = nil
	}
}

// doubtful are the writes of an owner to try again.
func (e *expectations) doubtful(owner types.UID) (creations, deletions []*corev1.Pod) {
	e.mu.Lock()
	defer e.mu.Unlock()
	x := e.owners[owner]
	if x == nil {
		return nil, nil
	}
	for _, p := range x.creations {
		if p != nil {
			creations = append(creations, p)
		}
	}
	for _, p := range x.deletions {
		if p != nil {
			deletions = append(deletions, p)
		}
	}
	return creations, deletions
}

// open are an owner's writes that the informer has not shown.
type open struct {
	creations []string           // names of pods that exist, or may
	deletions map[types.UID]bool // true: going for sure; false: doubtful
}

// doubt says that it is not known of all deletions whether they happened.
func (o open) doubt() bool {
	for _, sure := range o.deletions {
		if !sure {
			return true
		}
	}
	return false
}

// open returns the owner's open writes. Read it before the informer: what is
// in both was seen in between.
func (e *expectations) open(owner types.UID) open {
	e.mu.Lock()
	defer e.mu.Unlock()
	var o open
	x := e.owners[owner]
	if x == nil {
		return o
	}
	o.creations = slices.Collect(maps.Keys(x.creations))
	o.deletions = make(map[types.UID]bool, len(x.deletions))
	for uid, doubtful := range x.deletions {
		o.deletions[uid] = doubtful == nil
	}
	return o
}

// forget drops what was expected of an owner that is gone.
func (e *expectations) forget(owner types.UID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.owners, owner)
}
