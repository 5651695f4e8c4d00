package app

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"wherry.dev/wherry/control/admission"
	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/tracing"
	"wherry.dev/wherry/control/tracing/otlp"
)

// openTraces makes what the spans of this process go to, and keeps it until all
// other parts have ended.
func openTraces(ctx context.Context, parts *actors, service, endpoint string) (trace.Tracer, error) {
	host, _ := os.Hostname() // only a hint
	exporter, err := otlp.Open(ctx, otlp.Config{Endpoint: endpoint, Service: service, Version: version, Instance: host})
	if err != nil || exporter == nil {
		return nil, err
	}
	parts.start("traces", exporter.Run)
	return exporter.Tracer(), nil
}

func (c *Cluster) openTraces(ctx context.Context) (err error) {
	c.tracer, err = openTraces(ctx, c.actors, "wherry", c.cfg.OTLPEndpoint)
	return err
}

// marking is the plugin of admission that lets traces go on; none without a
// tracer.
func marking(tracer trace.Tracer) admission.Chain {
	if tracer == nil {
		return nil
	}
	return admission.Chain{{Name: "TraceContext", Mutate: tracing.Mark}}
}

// logTraces has spans that could not be sent told in the log, once in a while.
// The library's handler is one for all, so only a command does this.
func logTraces(log *slog.Logger) {
	const seldom = time.Minute
	var last atomic.Int64
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		now := time.Now().UnixNano()
		if before := last.Load(); now-before > int64(seldom) && last.CompareAndSwap(before, now) {
			log.Warn("traces were not taken: is the collector at the OTLP endpoint up?", "err", err)
		}
	}))
}

// firstResponses draws when each traced pod answered first. A nil one does
// nothing.
type firstResponses struct {
	tracer  trace.Tracer
	waiting atomic.Int32 // len(pods), for those who dial while there are none

	mu   sync.Mutex
	pods map[netip.Addr]silent
}

// silent is a pod that is ready and has not answered yet.
type silent struct {
	uid types.UID
	ctx context.Context // within the pod's span
}

func newFirstResponses(tracer trace.Tracer) *firstResponses {
	if tracer == nil {
		return nil
	}
	return &firstResponses{tracer: tracer, pods: map[netip.Addr]silent{}}
}

// observe follows the pods: one that becomes ready is waited for.
func (f *firstResponses) observe(old, new api.Object) {
	before, _ := old.(*corev1.Pod)
	after, _ := new.(*corev1.Pod)
	f.mu.Lock()
	defer f.mu.Unlock()
	defer func() { f.waiting.Store(int32(len(f.pods))) }()
	if after == nil {
		if ip, err := netip.ParseAddr(before.Status.PodIP); err == nil && f.pods[ip].uid == before.UID {
			delete(f.pods, ip)
		}
		return
	}
	ip, err := netip.ParseAddr(after.Status.PodIP)
	if before == nil || podReady(before) || !podReady(after) || err != nil || after.Spec.HostNetwork {
		return
	}
	if ctx, ok := tracing.Parent(context.Background(), after); ok {
		f.pods[ip] = silent{after.UID, ctx}
	}
}

// through returns conn, which leads to a pod's port, or one that draws its first
// bytes when the pod has not been heard of before.
func (f *firstResponses) through(conn net.Conn, to netip.AddrPort, dialled time.Time) net.Conn {
	if f == nil || f.waiting.Load() == 0 {
		return conn
	}
	f.mu.Lock()
	pod, ok := f.pods[to.Addr().Unmap()]
	f.mu.Unlock()
	if !ok {
		return conn
	}
	return &listened{Conn: conn, heard: sync.OnceFunc(func() { f.draw(pod, to, dialled) })}
}

// draw draws the span, if nobody has.
func (f *firstResponses) draw(pod silent, to netip.AddrPort, dialled time.Time) {
	ip := to.Addr().Unmap()
	f.mu.Lock()
	first := f.pods[ip].uid == pod.uid
	if first {
		delete(f.pods, ip)
		f.waiting.Store(int32(len(f.pods)))
	}
	f.mu.Unlock()
	if first {
		tracing.Draw(pod.ctx, f.tracer, "first response", dialled, time.Now(),
			attribute.String("server.address", ip.String()), attribute.Int("server.port", int(to.Port())))
	}
}

// listened is a connection of which the first bytes are of interest.
type listened struct {
	net.Conn
	heard func()
}

func (l *listened) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	if n > 0 {
		l.heard()
	}
	return n, err
}

// CloseWrite passes a half-close on, as the proxy does.
func (l *listened) CloseWrite() error {
	if c, ok := l.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}

func podReady(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
