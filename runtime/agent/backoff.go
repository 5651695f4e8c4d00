package agent

import "time"

const (
	backoffBase = 10 * time.Second
	backoffMax  = 5 * time.Minute
)

// backoff is the delay before something that failed is tried again: the first
// retry is immediate or after base, each further one waits twice as long up to
// backoffMax. It forgets what happened when nothing failed for twice that
// long (client-go's flowcontrol.Backoff, which kubelet uses with these
// figures). The zero value has seen no failure.
type backoff struct {
	delay  time.Duration
	update time.Time
}

// until returns when a retry of what failed at that time is due.
func (b *backoff) until(failed time.Time) time.Time {
	if b.delay == 0 || b.expired(failed) {
		return failed
	}
	return failed.Add(b.delay)
}

// next records that a retry is made now of what failed at that time.
func (b *backoff) next(failed, now time.Time) {
	if b.delay == 0 || b.expired(failed) {
		b.delay = backoffBase
	} else {
		b.delay = min(2*b.delay, backoffMax)
	}
	b.update = now
}

func (b *backoff) expired(failed time.Time) bool {
	return failed.Sub(b.update) > 2*backoffMax
}
