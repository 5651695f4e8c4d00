package controller

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// expectationLife bounds how long a controller waits for the informer to show
// what it has done; after that it believes what it sees.
const expectationLife = 5 * time.Minute

// expectations remember, per owner, which creations and deletions have been
// asked for and not been seen by the informer. While there are any, what the
// informer shows is older than what was done, and counting it again would
// create too many objects or delete too many.
type expectations struct {
	now func() time.Time

	mu     sync.Mutex
	owners map[types.UID]*expected
}

type expected struct {
	creations int
	deletions map[types.UID]bool
	at        time.Time
}

func newExpectations(now func() time.Time) *expectations {
	return &expectations{now: now, owners: map[types.UID]*expected{}}
}

// satisfied says that everything was seen, or that it took too long.
func (e *expectations) satisfied(owner types.UID) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	x := e.owners[owner]
	return x == nil || (x.creations <= 0 && len(x.deletions) == 0) || e.now().Sub(x.at) > expectationLife
}

// expectCreations starts a round in which n objects are created. Call it
// before the first of them.
func (e *expectations) expectCreations(owner types.UID, n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.owners[owner] = &expected{creations: n, at: e.now()}
}

// expectDeletions starts a round in which the objects are deleted.
func (e *expectations) expectDeletions(owner types.UID, objects []types.UID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	x := &expected{deletions: make(map[types.UID]bool, len(objects)), at: e.now()}
	for _, uid := range objects {
		x.deletions[uid] = true
	}
	e.owners[owner] = x
}

// created notes that n objects were seen, or will never come.
func (e *expectations) created(owner types.UID, n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if x := e.owners[owner]; x != nil {
		x.creations -= n
	}
}

// deleted notes that an object is going, or will not go.
func (e *expectations) deleted(owner, object types.UID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if x := e.owners[owner]; x != nil {
		delete(x.deletions, object)
	}
}

// forget drops what was expected of an owner that is gone.
func (e *expectations) forget(owner types.UID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.owners, owner)
}
