package apiserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/apiserver/openapi"
	"wherry.dev/wherry/control/auth"
	"wherry.dev/wherry/control/recent"
)

// Tables renders objects as kubectl prints them: column definitions and one row
// of cells per object, in order. The server fills in the rows' objects and the
// list metadata.
type Tables interface {
	Table(ctx context.Context, res api.Resource, objs []api.Object) (*metav1.Table, error)
}

// Custom tells what only the definitions of custom resources know.
type Custom interface {
	openapi.Documents
	// Coerce drops the fields of an object, sent as one of the kind want, that
	// its definition does not have, and returns their paths. An error is that its
	// metadata cannot be read.
	Coerce(want schema.GroupKind, obj api.Object) (unknown []string, err error)
}

// Connects judges streams to pods, nodes and services before they are opened:
// options are the subresource's own, such as *corev1.PodExecOptions. An error
// is a StatusError to answer with.
type Connects interface {
	AdmitConnect(ctx context.Context, key api.Key, subresource string, options runtime.Object) error
}

// NodeTransport reaches the HTTP API of a node's agent (the paths of a
// kubelet), whichever way the node is connected. The host of the request's URL is the node's name.
type NodeTransport func(ctx context.Context, node string) (http.RoundTripper, error)

// Check is one named condition of readiness. A nil error is healthy.
type Check struct {
	Name  string
	Check func(ctx context.Context) error
}

// Config is what a Server needs. Client, Types, Kinds, Tables,
// Authenticator and Authorizer are required.
type Config struct {
	Client        api.Client
	Types         *api.Types
	Kinds         api.Kinds // those that Types does not know are unstructured
	Tables        Tables
	Custom        Custom // nil: there are no custom resources
	Authenticator auth.Authenticator
	Authorizer    auth.Authorizer
	Aggregated    Aggregated    // nil: everything is served here
	Connects      Connects      // nil: whoever may connect is let
	Nodes         NodeTransport // nil: no node can be reached
	// Dial connects the proxies to pods and to ports of nodes; nil: as the
	// machine does.
	Dial    func(ctx context.Context, network, address string) (net.Conn, error)
	Extra   map[string]http.Handler // by path prefix, authenticated and authorized as paths
	Checks  []Check                 // of /readyz
	Version string                  // gitVersion of /version; "" is DefaultVersion
	Log     *slog.Logger
	Audit   Auditor      // nil: nothing is audited
	Tracer  trace.Tracer // nil: no traces

	// Bounds; zero takes the default.
	RequestTimeout time.Duration // of everything but streams: 60 s
	MaxInFlight    int           // reads at work, streams apart: 400
	MaxMutating    int           // writes at work: 200
	MaxBody        int64         // bytes: 3 MiB
}

// DefaultVersion makes kubectl of the same minor version see no skew.
const DefaultVersion = "v1.37.2+wherry"

// Server serves the API. It implements http.Handler; Serve adds the listener.
type Server struct {
	cfg      Config
	log      *slog.Logger
	codecs   codecs
	derived  atomic.Pointer[kinds]
	openapi  *openapi.Handler
	metrics  *metrics
	levels   *levels
	handlers sync.WaitGroup // running ServeHTTP calls
	gzips    sync.Pool      // of *gzip.Writer
	chunks   sync.Pool      // of *bufio.Writer
	frames   frames
	extra    []string                     // prefixes of cfg.Extra, longest first
	lastWay  recent.Values[*atomic.Int32] // of impersonation, by sender
}

// New checks the configuration and prepares what seldom changes: routes,
// discovery documents, codecs.
func New(cfg Config) (*Server, error) {
	if cfg.Client == nil || cfg.Types == nil || cfg.Kinds == nil || cfg.Tables == nil || cfg.Authenticator == nil || cfg.Authorizer == nil {
		return nil, errors.New("apiserver: Client, Types, Kinds, Tables, Authenticator and Authorizer are required")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Version == "" {
		cfg.Version = DefaultVersion
	}
	if cfg.RequestTimeout == 0 {
		cfg.RequestTimeout = time.Minute
	}
	if cfg.MaxInFlight == 0 {
		cfg.MaxInFlight = 400
	}
	if cfg.MaxMutating == 0 {
		cfg.MaxMutating = 200
	}
	if cfg.MaxBody == 0 {
		cfg.MaxBody = 3 << 20
	}
	s := &Server{
		cfg: cfg, log: cfg.Log, codecs: newCodecs(cfg.Types),
		levels:  newLevels(cfg.Client, cfg.MaxInFlight, cfg.MaxMutating, cfg.Log),
		lastWay: recent.Values[*atomic.Int32]{Limit: maxSenders},
	}
	_, err := s.kinds()
	if err != nil {
		return nil, err
	}
	var documents []openapi.Documents
	if cfg.Custom != nil {
		documents = append(documents, cfg.Custom)
	}
	if cfg.Aggregated != nil {
		documents = append(documents, cfg.Aggregated)
	}
	if s.openapi, err = openapi.NewHandler(documents...); err != nil {
		return nil, err
	}
	s.metrics = newMetrics(cfg.Version)
	for prefix := range cfg.Extra {
		if !strings.HasPrefix(prefix, "/") {
			return nil, fmt.Errorf("apiserver: path %q does not begin with a slash", prefix)
		}
		s.extra = append(s.extra, prefix)
	}
	slices.SortFunc(s.extra, func(a, b string) int { return len(b) - len(a) })
	return s, nil
}
