package apiserver

import (
	"bufio"
	"context"
	"net"
)

// boundedHijack is a hijackable whose connection is closed when ctx ends: the server
// does not know it any more.
type boundedHijack struct {
	hijackable
	ctx context.Context
}

// Hijack implements http.Hijacker.
func (h boundedHijack) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := h.hijackable.Hijack()
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(h.ctx, func() { conn.Close() })
	return &hijacked{conn, stop}, buffered, nil
}

type hijacked struct {
	net.Conn
	stop func() bool
}

func (h *hijacked) Close() error {
	h.stop()
	return h.Conn.Close()
}
