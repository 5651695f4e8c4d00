package client

import (
	"context"
	"fmt"
	"time"

	"wherry.dev/wherry/control/api"
)

// WithWatchTimeout returns a client whose single streams last no longer than d,
// in whole seconds.
func WithWatchTimeout(c *Client, d time.Duration) *Client {
	short := *c
	short.streamSeconds = int64(d / time.Second)
	return &short
}

// WaitStreams reads until the watch has opened n streams.
func WaitStreams(ctx context.Context, w api.Watch, n int) error {
	watching := w.(*watching)
	for watching.streams < n {
		event, open := <-watching.stream.ResultChan()
		if open {
			if _, wanted, err := watching.event(event); wanted || err != nil {
				return fmt.Errorf("got %v, %w", event, err)
			}
			continue
		}
		if err := watching.resume(ctx); err != nil {
			return err
		}
	}
	return nil
}
