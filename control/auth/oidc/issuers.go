package oidc

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/apis/apiserver/install"
	"k8s.io/apiserver/pkg/apis/apiserver/validation"
	"k8s.io/apiserver/pkg/authentication/cel"
	"k8s.io/apiserver/plugin/pkg/authenticator/token/oidc"

	"wherry.dev/wherry/control/auth"
)

// Config says which issuers there are: by Settings or by File, not by both.
type Config struct {
	Settings Settings
	// File has an AuthenticationConfiguration of apiserver.config.k8s.io. It may
	// change while the server runs.
	File string
	// Reserved are issuers that nobody else may be: the cluster's own.
	Reserved []string
	Log      *slog.Logger // nil: nothing is logged
	// Dial connects to issuers; nil: as the machine does.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// LookEvery is how often the file is looked at; zero: every ten seconds.
	LookEvery time.Duration
}

// settleFor is how long issuers of a changed file may take to be reached before
// those of the old one are given up for them.
const settleFor = time.Minute

// Issuers are the issuers whose tokens are good. It implements
// auth.TokenAuthenticator; before Run it knows no token.
type Issuers struct {
	cfg      Config
	compiler cel.Compiler
	text     []byte // of the file, as it is in force
	first    *apiserver.AuthenticationConfiguration
	now      atomic.Pointer[state]
}

// state is one configuration in force. It is immutable.
type state struct {
	anonymous *apiserver.AnonymousAuthConfig
	issuers   []issuer
	end       func() // ends what the issuers do in the background
}

// issuer is one of them.
type issuer struct {
	oidc.AuthenticatorTokenWithHealthCheck
	transport *http.Transport
}

// New reads and checks the configuration. It asks no issuer. nil: none is
// configured.
func New(cfg Config) (*Issuers, error) {
	cfg.LookEvery = cmp.Or(cfg.LookEvery, 10*time.Second)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Dial == nil {
		cfg.Dial = (&net.Dialer{Timeout: 30 * time.Second}).DialContext
	}
	i := &Issuers{cfg: cfg}
	var err error
	switch {
	case cfg.File != "" && cfg.Settings.set():
		return nil, errors.New("--authentication-config and the --oidc flags are mutually exclusive: write the issuer into the file")
	case cfg.File != "":
		i.compiler = cel.NewDefaultCompiler()
		if i.text, err = os.ReadFile(cfg.File); err != nil {
			return nil, fmt.Errorf("--authentication-config: %w", err)
		}
		if i.first, err = i.parse(i.text); err != nil {
			return nil, fmt.Errorf("--authentication-config: %s: %w", cfg.File, err)
		}
	case cfg.Settings.set():
		i.compiler = cel.NewDefaultCompiler()
		if i.first, err = cfg.Settings.configuration(); err == nil {
			err = i.check(i.first)
		}
		if err != nil {
			return nil, fmt.Errorf("OpenID Connect issuer: %w", err)
		}
	default:
		return nil, nil
	}
	i.now.Store(&state{anonymous: i.first.Anonymous, end: func() {}})
	return i, nil
}

// parse reads a file strictly.
func (i *Issuers) parse(text []byte) (*apiserver.AuthenticationConfiguration, error) {
	scheme := runtime.NewScheme()
	install.Install(scheme)
	obj, err := runtime.Decode(serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDecoder(), text)
	if err != nil {
		return nil, err
	}
	config, ok := obj.(*apiserver.AuthenticationConfiguration)
	if !ok {
		return nil, fmt.Errorf("expected AuthenticationConfiguration, got %T", obj)
	}
	return config, i.check(config)
}

func (i *Issuers) check(config *apiserver.AuthenticationConfiguration) error {
	return validation.ValidateAuthenticationConfiguration(i.compiler, config, i.cfg.Reserved).ToAggregate()
}

// Run asks the issuers for their keys and follows the file, until ctx ends. An
// issuer that cannot be reached is asked again every ten seconds; until then its
// tokens are refused.
func (i *Issuers) Run(ctx context.Context) error {
	first, err := i.make(ctx, i.first)
	if err != nil {
		return err
	}
	i.now.Store(first)
	defer func() { i.now.Load().end() }()
	if i.cfg.File == "" {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(i.cfg.LookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := i.look(ctx); err != nil && ctx.Err() == nil {
				i.cfg.Log.Warn("--authentication-config was changed but is not in force", "file", i.cfg.File, "error", err)
			}
		}
	}
}

// look takes over the file when it has changed. A file that was refused is not
// looked at again before it changes.
func (i *Issuers) look(ctx context.Context) error {
	text, err := os.ReadFile(i.cfg.File)
	if err != nil {
		return err
	}
	if bytes.Equal(text, i.text) {
		return nil
	}
	i.text = text
	config, err := i.parse(text)
	if err != nil {
		return err
	}
	next, err := i.make(ctx, config)
	if err != nil {
		return err
	}
	if err := next.settle(ctx); err != nil {
		next.end()
		i.text = nil // the issuer may be there next time
		return err
	}
	old := i.now.Swap(next)
	old.end()
	i.cfg.Log.Info("--authentication-config is in force as changed", "file", i.cfg.File)
	return nil
}

// make makes the authenticators of a configuration.
func (i *Issuers) make(ctx context.Context, config *apiserver.AuthenticationConfiguration) (*state, error) {
	ctx, cancel := context.WithCancel(ctx)
	s := &state{anonymous: config.Anonymous}
	s.end = func() {
		cancel()
		for _, one := range s.issuers {
			one.transport.CloseIdleConnections()
		}
	}
	algorithms := oidc.AllValidSigningAlgorithms()
	if i.cfg.File == "" {
		algorithms = i.cfg.Settings.SigningAlgs // none: as the library, RS256
	}
	for _, each := range config.JWT {
		transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: 10 * time.Second, IdleConnTimeout: time.Minute,
			DialContext: i.cfg.Dial, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}
		if bundle := each.Issuer.CertificateAuthority; bundle != "" {
			transport.TLSClientConfig.RootCAs = x509.NewCertPool()
			transport.TLSClientConfig.RootCAs.AppendCertsFromPEM([]byte(bundle)) // which check has read
		}
		one, err := oidc.New(ctx, oidc.Options{JWTAuthenticator: each, Compiler: i.compiler, SupportedSigningAlgs: algorithms,
			DisallowedIssuers: i.cfg.Reserved, Client: &http.Client{Transport: transport, Timeout: 30 * time.Second}})
		if err != nil {
			s.end()
			return nil, fmt.Errorf("issuer %s: %w", each.Issuer.URL, err)
		}
		s.issuers = append(s.issuers, issuer{one, transport})
	}
	return s, nil
}

// settle waits until all issuers were reached, but not for long.
func (s *state) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleFor)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := s.health()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

func (s *state) health() error {
	var all error
	for _, one := range s.issuers {
		all = errors.Join(all, one.HealthCheck())
	}
	return all
}

// Health is nil when the keys of all issuers are known, and says otherwise
// which issuer does not answer.
func (i *Issuers) Health() error { return i.now.Load().health() }

// AuthenticateToken implements auth.TokenAuthenticator. Tokens of issuers are
// meant for this server, whatever their own audience is called.
func (i *Issuers) AuthenticateToken(ctx context.Context, token string, audiences []string) (auth.User, []string, bool, error) {
	if len(audiences) > 0 {
		if !slices.Contains(audiences, auth.ServerAudience) {
			return auth.User{}, nil, false, nil
		}
		audiences = []string{auth.ServerAudience}
	}
	var failed error
	for _, one := range i.now.Load().issuers {
		said, ok, err := one.AuthenticateToken(ctx, token)
		if ok && err == nil {
			u := said.User
			return auth.User{Name: u.GetName(), UID: u.GetUID(), Groups: u.GetGroups(), Extra: u.GetExtra()}, audiences, true, nil
		}
		failed = errors.Join(failed, err)
	}
	return auth.User{}, nil, false, failed
}

// Anonymous tells whether requests without credentials are let in to a path, as
// the file says.
func (i *Issuers) Anonymous(path string) bool {
	a := i.now.Load().anonymous
	if a == nil {
		return true
	}
	return a.Enabled && (len(a.Conditions) == 0 || slices.ContainsFunc(a.Conditions, func(c apiserver.AnonymousAuthCondition) bool { return c.Path == path }))
}
