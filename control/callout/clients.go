package callout

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	metajson "k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/client-go/rest"
	sigsjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// Target is a server to call: a URL or, with a Service, that Service.
type Target struct {
	URL      string   // "https://host[:port]/path"; "" for a Service
	Service  *Service // nil for a URL
	CABundle []byte   // PEM; empty: whom the machine trusts
}

// Service is a reference to a Service of the cluster.
type Service struct {
	Namespace, Name string
	Port            int32  // 0 is 443
	Path            string // "" is "/"
}

// ServerName is the name that the server's certificate must have.
func (s *Service) ServerName() string { return s.Name + "." + s.Namespace + ".svc" }

// Host is the name and port in URLs.
func (s *Service) Host() string { return net.JoinHostPort(s.ServerName(), s.port()) }

// port is the port's number, as text.
func (s *Service) port() string {
	if s.Port == 0 {
		return "443"
	}
	return strconv.Itoa(int(s.Port))
}

// Config is what Clients work with.
type Config struct {
	// Resolve finds an endpoint (host:port) of a Service, by one of its port's
	// numbers.
	Resolve func(ctx context.Context, namespace, service, port string) (string, error)
	// Dial connects to pods and to the rest of the world; nil: as the machine
	// does.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Clients make and keep one client per target. They are safe for concurrent
// use.
type Clients struct {
	cfg    Config
	codecs serializer.CodecFactory

	mu   sync.Mutex
	kept map[string]*kept
}

type kept struct {
	rest      *rest.RESTClient
	transport *http.Transport
}

const (
	// maxKept bounds the clients that are kept; beyond it all are made anew.
	maxKept = 200
	// maxAnswer bounds what a webhook may answer: an object, its patch, and the
	// base64 around it.
	maxAnswer = 16 << 20
	// idle connections are closed soon, so that a Service's endpoints that came
	// later get their share.
	idleTime = 30 * time.Second
	maxIdle  = 64
)

// NewClients makes Clients.
func NewClients(cfg Config) *Clients {
	statuses := runtime.NewScheme()
	metav1.AddToGroupVersion(statuses, schema.GroupVersion{Version: "v1"})
	return &Clients{cfg: cfg, codecs: serializer.NewCodecFactory(statuses), kept: map[string]*kept{}}
}

// userAgent is what webhooks know an API server by.
const userAgent = "kube-apiserver-admission"

// Close ends the connections that nobody uses.
func (c *Clients) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop()
}

// drop forgets all clients; c.mu is held. Calls under way go on.
func (c *Clients) drop() {
	for _, k := range c.kept {
		k.transport.CloseIdleConnections()
	}
	clear(c.kept)
}

// Post sends in to a target as JSON and reads the answer into out. The
// server is told how long it has when ctx has a deadline. An answer that is no
// success is a StatusError.
func (c *Clients) Post(ctx context.Context, to Target, in, out any) error {
	client, err := c.client(to)
	if err != nil {
		return err
	}
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("render the request: %w", err)
	}
	request := client.Post().SetHeader("User-Agent", userAgent).SetHeader("Content-Type", runtime.ContentTypeJSON).Body(body)
	if deadline, ok := ctx.Deadline(); ok {
		if left := time.Until(deadline); left > 0 {
			request.Timeout((left + time.Second - 1).Truncate(time.Second))
		}
	}
	result := request.Do(ctx)
	if err := result.Error(); err != nil {
		return err
	}
	// Whatever its Content-Type says: that of controller-runtime's webhooks is
	// left to Go's server, which takes JSON for plain text.
	answer, err := result.Raw()
	if err != nil {
		return err
	}
	if len(answer) == 0 {
		return result.Into(&metav1.Status{}) // words that there is nothing
	}
	if text, err := yaml.YAMLToJSON(answer); err == nil {
		if _, err := metajson.DefaultMetaFactory.Interpret(text); err != nil {
			return err
		}
	}
	return sigsjson.UnmarshalCaseSensitivePreserveInts(answer, out)
}

// client returns the client of a target.
func (c *Clients) client(to Target) (*rest.RESTClient, error) {
	key := to.URL + "\n" + string(to.CABundle)
	if s := to.Service; s != nil {
		key = s.Namespace + "/" + s.Name + ":" + s.port() + s.Path + "\n" + key
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if k, ok := c.kept[key]; ok {
		return k.rest, nil
	}
	k, err := c.make(to)
	if err != nil {
		return nil, err
	}
	if len(c.kept) >= maxKept {
		c.drop()
	}
	c.kept[key] = k
	return k.rest, nil
}

func (c *Clients) make(to Target) (*kept, error) {
	transport, base, err := c.transport(to)
	if err != nil {
		return nil, err
	}
	path := base.Path
	base.Path = ""
	client, err := rest.NewRESTClient(base, path, rest.ClientContentConfig{ContentType: runtime.ContentTypeJSON,
		Negotiator: runtime.NewClientNegotiator(c.codecs.WithoutConversion(), schema.GroupVersion{Version: "v1"})}, nil, &http.Client{Transport: bounded{transport}, CheckRedirect: noRedirect})
	if err != nil {
		return nil, fmt.Errorf("make a client of %s: %w", base, err)
	}
	return &kept{rest: client, transport: transport}, nil
}

// noRedirect keeps what is sent from going where nobody has said.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// transport makes the transport of a target, and the URL to call.
func (c *Clients) transport(to Target) (*http.Transport, *url.URL, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	var err error
	if config.RootCAs, err = Roots(to.CABundle); err != nil {
		return nil, nil, err
	}
	// One connection of HTTP/2 would lead all calls to one of a Service's pods.
	t := &http.Transport{TLSClientConfig: config, DialContext: c.dial, MaxIdleConnsPerHost: maxIdle, IdleConnTimeout: idleTime,
		TLSHandshakeTimeout: 10 * time.Second}
	if to.Service == nil {
		base, err := url.Parse(to.URL)
		if err != nil {
			return nil, nil, fmt.Errorf("url: %w", err)
		}
		t.Proxy = http.ProxyFromEnvironment
		return t, base, nil
	}
	service := *to.Service
	config.ServerName = service.ServerName()
	t.DialContext = c.DialService(service)
	return t, &url.URL{Scheme: "https", Host: service.Host(), Path: service.Path}, nil
}

// Transport makes a transport to a Service for a server that is known by a
// certificate of its own. Without a bundle the machine's authorities are
// trusted; insecure trusts everybody. Whoever asks for it closes it.
func (c *Clients) Transport(s Service, bundle []byte, insecure bool, certificate tls.Certificate) (*http.Transport, error) {
	roots, err := Roots(bundle)
	if err != nil {
		return nil, err
	}
	return &http.Transport{DialContext: c.DialService(s), MaxIdleConnsPerHost: maxIdle, IdleConnTimeout: idleTime, TLSHandshakeTimeout: 10 * time.Second,
		DisableCompression: true, // what clients negotiate goes through
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, ServerName: s.ServerName(), RootCAs: roots,
			InsecureSkipVerify: insecure, Certificates: []tls.Certificate{certificate}}}, nil //nolint:gosec // as the APIService says
}

// Roots are whom a caBundle trusts; nil, for an empty one, whom the machine
// does.
func Roots(bundle []byte) (*x509.CertPool, error) {
	if len(bundle) == 0 {
		return nil, nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(bundle) {
		return nil, errors.New("caBundle: unable to load root certificates: unable to parse bytes as PEM block")
	}
	return pool, nil
}

// DialService returns a function that connects to one of a Service's
// endpoints, whatever address it is given.
func (c *Clients) DialService(s Service) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		address, err := c.cfg.Resolve(ctx, s.Namespace, s.Name, s.port())
		if err != nil {
			return nil, err
		}
		return c.dial(ctx, network, address)
	}
}

// outside is how long a connection to somewhere else may take.
const outside = 30 * time.Second

// DialHost connects as the machine does, but for the names that Services have
// in the cluster ("name.namespace.svc", also with the cluster's domain behind
// it), which the machine does not know: those lead to one of the Service's
// endpoints.
func (c *Clients) DialHost(ctx context.Context, network, address string) (net.Conn, error) {
	if host, port, err := net.SplitHostPort(address); err == nil {
		if namespace, name, ok := serviceIn(host); ok {
			if address, err = c.cfg.Resolve(ctx, namespace, name, port); err != nil {
				return nil, err
			}
			return c.dial(ctx, network, address)
		}
	}
	d := net.Dialer{Timeout: outside}
	return d.DialContext(ctx, network, address)
}

func (c *Clients) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if c.cfg.Dial != nil {
		return c.cfg.Dial(ctx, network, address)
	}
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}

// bounded refuses answers that are too long to be true.
type bounded struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := b.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	answer.Body = &limited{ReadCloser: answer.Body, left: maxAnswer}
	return answer, nil
}

type limited struct {
	io.ReadCloser
	left int
}

// Read implements io.Reader.
func (l *limited) Read(p []byte) (int, error) {
	n, err := l.ReadCloser.Read(p)
	if l.left -= n; l.left < 0 {
		return 0, fmt.Errorf("the answer is longer than %d bytes", maxAnswer)
	}
	return n, err
}
