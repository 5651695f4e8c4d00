package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"wherry.dev/wherry/runtime/sandbox"
)

// probeResult is what one attempt of a probe says.
type probeResult int

const (
	probeUnknown probeResult = iota // the probe itself failed; it counts for nothing
	probeSuccess
	probeFailure
)

// outcome is a result and, unless it is a success, why.
type outcome struct {
	result probeResult
	text   string
}

// prober asks one container how it is, over connections in memory. It is
// immutable.
type prober struct {
	agent *Agent
	spec  *corev1.Container
	ref   *corev1.ObjectReference
	ip    netip.Addr
	box   sandbox.Sandbox
	run   sandbox.Container
}

func (w *worker) prober(pod *corev1.Pod, c *container) *prober {
	return &prober{agent: w.agent, spec: c.spec(pod), ip: w.ip, box: w.box, run: c.run, ref: &corev1.ObjectReference{
		APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, FieldPath: c.fieldPath()}}
}

// probe makes one attempt; ctx carries the timeout.
func (p *prober) probe(ctx context.Context, h *corev1.ProbeHandler) outcome {
	switch {
	case h.HTTPGet != nil:
		return p.httpGet(ctx, h.HTTPGet)
	case h.TCPSocket != nil:
		return p.tcp(ctx, h.TCPSocket)
	case h.GRPC != nil:
		return p.grpc(ctx, h.GRPC)
	case h.Exec != nil:
		return p.exec(ctx, expandStatic(p.spec, h.Exec.Command))
	}
	return outcome{probeUnknown, "missing probe handler: use exec, grpc, httpGet or tcpSocket"}
}

// port resolves a port number or name against the container's ports.
func (p *prober) port(port intstr.IntOrString) (uint16, error) {
	if port.Type == intstr.Int {
		if port.IntVal < 1 || port.IntVal > 65535 {
			return 0, fmt.Errorf("invalid port number: %v", port.IntVal)
		}
		return uint16(port.IntVal), nil
	}
	for _, known := range p.spec.Ports {
		if known.Name == port.StrVal {
			return uint16(known.ContainerPort), nil
		}
	}
	number, err := strconv.ParseUint(port.StrVal, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("couldn't find port: %q in container ports", port.StrVal)
	}
	return uint16(number), nil
}

// dial connects to the pod in memory, or to another host through the network.
func (p *prober) dial(ctx context.Context, host string, port uint16) (net.Conn, error) {
	if host != "" && host != p.ip.String() {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(int(port))))
	}
	conn, err := p.box.Dial(ctx, port, nil)
	if errors.Is(err, sandbox.ErrConnRefused) {
		// In the words of the network, which people search for.
		err = os.NewSyscallError("connect", syscall.ECONNREFUSED)
	}
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(p.ip, port)), Err: err}
	}
	return conn, nil
}

func (p *prober) tcp(ctx context.Context, action *corev1.TCPSocketAction) outcome {
	port, err := p.port(action.Port)
	if err != nil {
		return outcome{probeUnknown, err.Error()}
	}
	conn, err := p.dial(ctx, action.Host, port)
	if err != nil {
		return outcome{probeFailure, err.Error()}
	}
	_ = conn.Close() // being accepted is all that was asked for
	return outcome{result: probeSuccess}
}

// httpGet succeeds on a status from 200 to 399
// (https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#Probe).
func (p *prober) httpGet(ctx context.Context, action *corev1.HTTPGetAction) outcome {
	port, err := p.port(action.Port)
	if err != nil {
		return outcome{probeUnknown, err.Error()}
	}
	request, err := p.request(ctx, action, port)
	if err != nil {
		return outcome{probeUnknown, err.Error()}
	}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			return p.dialFor(ctx, action.Host, address)
		},
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // documented: probes do not verify certificates
		DisableKeepAlives: true, DisableCompression: true,
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, CheckRedirect: sameHost}
	response, err := client.Do(request)
	if err != nil {
		return outcome{probeFailure, err.Error()}
	}
	defer response.Body.Close()
	if _, err := io.CopyN(io.Discard, response.Body, 10<<10); err != nil && !errors.Is(err, io.EOF) {
		return outcome{probeFailure, err.Error()}
	}
	if response.StatusCode >= 200 && response.StatusCode < 400 {
		return outcome{result: probeSuccess}
	}
	return outcome{probeFailure, fmt.Sprintf("HTTP probe failed with statuscode: %d", response.StatusCode)}
}

func (p *prober) dialFor(ctx context.Context, host, address string) (net.Conn, error) {
	_, text, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return nil, err
	}
	return p.dial(ctx, host, uint16(port))
}

// sameHost follows redirects within the host only; one that leads elsewhere
// counts as the answer.
func sameHost(next *http.Request, via []*http.Request) error {
	if len(via) >= 10 {
		return errors.New("stopped after 10 redirects")
	}
	if next.URL.Hostname() != via[0].URL.Hostname() {
		return http.ErrUseLastResponse
	}
	return nil
}

func (p *prober) request(ctx context.Context, action *corev1.HTTPGetAction, port uint16) (*http.Request, error) {
	host := action.Host
	if host == "" {
		host = p.ip.String()
	}
	scheme := strings.ToLower(string(action.Scheme))
	if scheme == "" {
		scheme = "http"
	}
	at, err := url.Parse(action.Path)
	if err != nil { // kubelet takes it as a path then
		at = &url.URL{Path: action.Path}
	}
	at.Scheme, at.Host = scheme, net.JoinHostPort(host, strconv.Itoa(int(port)))
	if !strings.HasPrefix(at.Path, "/") {
		at.Path = "/" + at.Path
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("make probe request: %w", err)
	}
	for _, h := range action.HTTPHeaders {
		request.Header.Add(h.Name, h.Value)
		if strings.EqualFold(h.Name, "Host") {
			request.Host = h.Value
		}
	}
	if _, set := request.Header["User-Agent"]; !set {
		request.Header.Set("User-Agent", "kube-probe/1.37")
	}
	if _, set := request.Header["Accept"]; !set {
		request.Header.Set("Accept", "*/*")
	}
	return request, nil
}
