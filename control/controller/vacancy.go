package controller

import (
	"sync"
	"time"

	"wherry.dev/wherry/control/api"
)

// vacancyRest is how long a name stays free after somebody else than its set
// has deleted a pod. kubectl delete asks whether it is the same pod and then,
// a tenth of a second later, whether there is one of that name: a successor that
// comes in between looks like a pod that does not go.
const vacancyRest = 300 * time.Millisecond

// vacancies are the names that pods have left not long ago. The zero value is
// ready; it is safe for concurrent use.
type vacancies struct {
	mu   sync.Mutex
	left []vacancy // the oldest first
}

type vacancy struct {
	key api.Key
	at  time.Time
}

// add notes that a pod is gone.
func (v *vacancies) add(key api.Key, now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.forget(now)
	v.left = append(v.left, vacancy{key, now})
}

// rest is how long the name is to stay free yet.
func (v *vacancies) rest(key api.Key, now time.Time) time.Duration {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.forget(now)
	for _, one := range v.left {
		if one.key == key {
			return vacancyRest - now.Sub(one.at)
		}
	}
	return 0
}

// forget drops what is over; v.mu is held.
func (v *vacancies) forget(now time.Time) {
	over := 0
	for over < len(v.left) && now.Sub(v.left[over].at) >= vacancyRest {
		over++
	}
	v.left = v.left[over:]
}
