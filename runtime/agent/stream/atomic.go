package stream

import (
	"sync/atomic"

	"k8s.io/streaming/pkg/httpstream"
)

// atomicConnection is a connection that streams may use before the upgrade has
// returned it.
type atomicConnection struct {
	atomic.Pointer[httpstream.Connection]
}

func (a *atomicConnection) remove(streams ...httpstream.Stream) {
	if conn := a.Load(); conn != nil {
		(*conn).RemoveStreams(streams...)
	}
}
