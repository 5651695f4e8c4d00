package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"wherry.dev/wherry/control/api"
)

// requestReplicas is how many pods answer. The small guest in C serves 64
// connections at a time; these have room for 256 wherever they land.
const requestReplicas = 8

// via is one way to the pods: it dials the n-th connection.
type via struct {
	name string
	dial func(ctx context.Context, n int) (net.Conn, error)
}

// requests measures HTTP/1.1 requests on kept connections by each way, and to a
// server of Go's standard library in this process, which is what the same
// client can do without Wherry.
func requests(ctx context.Context, env *Env, rec *Recorder) error {
	if err := env.pushAll(ctx); err != nil {
		return err
	}
	guest := env.Guests[0]
	served := Density{Client: env.Client, Namespace: env.Namespace, Name: uniqueName("requests"), Image: guest.Image, Port: guest.Port}
	ways, err := env.ways(ctx, rec, served)
	if err != nil {
		return err
	}
	direct, end, err := directServer()
	if err != nil {
		return err
	}
	defer end()
	ways = append(ways, direct)
	for _, way := range ways {
		if err := env.loads(ctx, rec, "via="+way.name, "connections", env.Connections, way.prepare); err != nil {
			return err
		}
	}
	if _, err := served.Scale(ctx, 0); err != nil {
		return err
	}
	return nil
}

// ways starts the pods and returns the ways to them that there are.
func (e *Env) ways(ctx context.Context, rec *Recorder, served Density) ([]via, error) {
	service, err := served.setup(ctx, corev1.ServiceTypeNodePort)
	if err != nil {
		return nil, err
	}
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if _, err := served.Scale(waiting, requestReplicas); err != nil {
		return nil, err
	}
	list, err := e.Client.List(ctx, api.Pods.Key(e.Namespace, ""), api.ListOptions{Labels: labels.SelectorFromSet(labels.Set{"bench": served.Name})})
	if err != nil {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	var pods []netip.AddrPort
	for _, obj := range list.Items {
		pod, ok := obj.(*corev1.Pod)
		if !ok {
			continue
		}
		at, err := addressOf(pod.Status.PodIP, served.Port)
		if err != nil {
			return nil, fmt.Errorf("pod %s: %w", pod.Name, err)
		}
		pods = append(pods, at)
	}
	ways := []via{{"pod-ip", func(ctx context.Context, n int) (net.Conn, error) { return dialTCP(ctx, pods[n%len(pods)]) }}}
	cluster, err := addressOf(service.Spec.ClusterIP, served.Port)
	if err != nil {
		return nil, fmt.Errorf("service %s: %w", service.Name, err)
	}
	ways = append(ways, via{"cluster-ip", func(ctx context.Context, _ int) (net.Conn, error) { return dialTCP(ctx, cluster) }})
	if e.NodePorts.IsValid() {
		port := netip.AddrPortFrom(e.NodePorts, uint16(service.Spec.Ports[0].NodePort))
		ways = append(ways, via{"node-port", func(ctx context.Context, _ int) (net.Conn, error) { return dialTCP(ctx, port) }})
	} else {
		rec.skip("via=node-port", "no node's address is known that this machine can dial")
	}
	if e.DialPod != nil {
		ways = append(ways, via{"memory", func(ctx context.Context, n int) (net.Conn, error) { return e.DialPod(ctx, pods[n%len(pods)]) }})
	} else {
		rec.skip("via=memory", "the cluster runs in another process")
	}
	return slices.DeleteFunc(ways, func(w via) bool {
		err := w.try(ctx)
		if err != nil {
			rec.skip("via="+w.name, "this machine cannot reach it: %v", err)
		}
		return err != nil
	}), nil
}

// try does one request.
func (v via) try(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	op, free, err := v.prepare(ctx, 1)
	if err != nil {
		return err
	}
	defer free()
	return op(ctx, 0)
}

func dialTCP(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	var dialer net.Dialer
	return dialer.DialContext(ctx, "tcp", to.String())
}

// directServer is an HTTP server of the standard library with an answer as long
// as the guest's.
func directServer() (via, func(), error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return via{}, nil, fmt.Errorf("listen for the direct server: %w", err)
	}
	var count atomic.Int64
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "Hello from nobody, request %d\n", count.Add(1))
	})}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(listener) // its only error is that it was closed
	}()
	dial := func(ctx context.Context, _ int) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, "tcp", listener.Addr().String())
	}
	return via{"direct", dial}, func() { _ = server.Close(); <-ended }, nil
}

// requestTimeout bounds one request; what takes longer has failed.
const requestTimeout = 10 * time.Second

// prepare opens n connections, on which requests follow each other. A connection
// that broke is replaced by the next request on it.
func (v via) prepare(ctx context.Context, n int) (operation, func(), error) {
	conns := make([]*httpConn, n)
	free := func() {
		for _, c := range conns {
			if c != nil {
				_ = c.conn.Close()
			}
		}
	}
	for i := range conns {
		conn, err := v.dial(ctx, i)
		if err != nil {
			free()
			return nil, nil, err
		}
		conns[i] = newHTTPConn(conn)
	}
	return func(ctx context.Context, worker int) error {
		if conns[worker] == nil {
			conn, err := v.dial(ctx, worker)
			if err != nil {
				return err
			}
			conns[worker] = newHTTPConn(conn)
		}
		err := conns[worker].get()
		if err != nil {
			_ = conns[worker].conn.Close()
			conns[worker] = nil
		}
		return err
	}, free, nil
}

// httpConn is a kept connection. net/http's client would cost more than what is
// measured.
type httpConn struct {
	conn net.Conn
	in   *bufio.Reader
	asks *http.Request
}

func newHTTPConn(conn net.Conn) *httpConn {
	return &httpConn{conn: conn, in: bufio.NewReader(conn), asks: &http.Request{Method: http.MethodGet}}
}

// errStatus is an answer other than 200.
var errStatus = errors.New("the answer is not 200 OK")

func (c *httpConn) get() error {
	if err := c.conn.SetDeadline(time.Now().Add(requestTimeout)); err != nil {
		return err
	}
	if _, err := io.WriteString(c.conn, "GET / HTTP/1.1\r\nHost: bench\r\n\r\n"); err != nil {
		return err
	}
	resp, err := http.ReadResponse(c.in, c.asks)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%w: %s", errStatus, resp.Status)
	}
	return nil
}
