package app

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/certificate"

	"wherry.dev/wherry/control/auth"
)

// membership is what a node needs to speak with its cluster: whom it trusts
// and who it is. It is kept below the data directory, so that the token is
// needed once.
type membership struct {
	server   *url.URL
	ca       []byte // PEM
	pool     *x509.CertPool
	identity certificate.Manager // requests the certificate and renews it
}

const (
	caFile     = "ca.crt"
	joinTries  = time.Minute
	joinPause  = 500 * time.Millisecond
	joinQuiet  = 2 * time.Second // the signature of a token that was just made takes less
	identities = "kubelet-client"
)

// join makes sure that the node at name may speak with the server: the first
// time with the token, later with what it has kept.
func join(ctx context.Context, dir, name, server, token string, log *slog.Logger) (*membership, error) {
	at, err := url.Parse(server)
	if err != nil || at.Scheme != "https" || at.Host == "" {
		return nil, fmt.Errorf("--server %q is not like https://HOST:6443", server)
	}
	m := &membership{server: at}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the node's directory: %w", err)
	}
	var pass *joinToken
	if token != "" {
		parsed, err := parseJoinToken(token)
		if err != nil {
			return nil, err
		}
		pass = &parsed
	}
	if m.ca, err = os.ReadFile(filepath.Join(dir, caFile)); errors.Is(err, fs.ErrNotExist) {
		if pass == nil {
			return nil, errors.New("this node has not joined yet: --token is missing (make one with \"wherry token create\" at the server)")
		}
		if err = m.learnCA(ctx, *pass, log); err == nil {
			err = os.WriteFile(filepath.Join(dir, caFile), m.ca, 0o600)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("join %s: %w", server, err)
	}
	m.pool = x509.NewCertPool()
	if !m.pool.AppendCertsFromPEM(m.ca) {
		return nil, fmt.Errorf("%s is damaged: remove it and join again with --token", filepath.Join(dir, caFile))
	}
	return m, m.identify(dir, name, pass)
}

// learnCA reads the cluster's authority from somebody unknown and believes it
// if it has the hash of the token and was signed with it.
func (m *membership) learnCA(ctx context.Context, token joinToken, log *slog.Logger) error {
	set, err := kubernetes.NewForConfig(&rest.Config{Host: m.server.String(), TLSClientConfig: rest.TLSClientConfig{Insecure: true}})
	if err != nil {
		return err
	}
	var info *corev1.ConfigMap
	told := sync.OnceFunc(func() {
		log.Warn("the server does not answer as it should, trying for a minute", "server", m.server.String(), "err", err)
	})
	for deadline := time.Now().Add(joinTries); ; { // the signature of a fresh token takes a moment
		info, err = set.CoreV1().ConfigMaps(metav1.NamespacePublic).Get(ctx, auth.ClusterInfoName, metav1.GetOptions{})
		var text string
		if err == nil {
			if text, err = token.VerifyClusterInfo(info); err == nil {
				return m.believe(text, token)
			}
		}
		if time.Now().After(deadline) {
			return err
		}
		if time.Until(deadline) < joinTries-joinQuiet {
			told()
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(joinPause):
		}
	}
}

func (m *membership) believe(kubeconfig string, token joinToken) error {
	config, err := clientcmd.Load([]byte(kubeconfig))
	if err != nil {
		return fmt.Errorf("read the cluster's info: %w", err)
	}
	for _, cluster := range config.Clusters {
		m.ca = cluster.CertificateAuthorityData
	}
	hash, err := hashOfCA(m.ca)
	if err != nil {
		return err
	}
	if hash != token.caHash {
		return fmt.Errorf("the server's authority has the hash %s, the token says %s: this is not the cluster that made the token", hash, token.caHash)
	}
	return nil
}

// identify makes the manager of the node's certificate. Before the first one
// it asks with the token.
func (m *membership) identify(dir, name string, token *joinToken) error {
	store, err := certificate.NewFileStore(identities, filepath.Join(dir, "pki"), filepath.Join(dir, "pki"), "", "")
	if err != nil {
		return fmt.Errorf("open the node's certificates: %w", err)
	}
	user := auth.NodeUser(name)
	m.identity, err = certificate.NewManager(&certificate.Config{
		Name: "node", CertificateStore: store, SignerName: certificatesv1.KubeAPIServerClientKubeletSignerName,
		Template:  &x509.CertificateRequest{Subject: pkix.Name{CommonName: user.Name, Organization: user.Groups}},
		GetUsages: certificate.DefaultKubeletClientGetUsages,
		ClientsetFn: func(current *tls.Certificate) (kubernetes.Interface, error) {
			config := &rest.Config{Host: m.server.String(), TLSClientConfig: rest.TLSClientConfig{CAData: m.ca}}
			switch {
			case current != nil:
				config = &rest.Config{Host: m.server.String(), Transport: m.transport()}
			case token != nil:
				config.BearerToken = token.BootstrapToken.String()
			default:
				return nil, errors.New("the node's certificate is gone: join again with --token")
			}
			return kubernetes.NewForConfig(config)
		},
	})
	if err != nil {
		return fmt.Errorf("open the node's certificates: %w", err)
	}
	return nil
}

// run renews the certificate until ctx ends.
func (m *membership) run(ctx context.Context) error {
	m.identity.Start()
	<-ctx.Done()
	m.identity.Stop()
	return nil
}

// waitIdentity waits for the first certificate.
func (m *membership) waitIdentity(ctx context.Context) error {
	for m.identity.Current() == nil { // the manager tells nobody
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	return nil
}

// tls is the node's side of a handshake; the certificate is always the newest.
func (m *membership) tls(protocols ...string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: m.pool, NextProtos: protocols, ServerName: m.server.Hostname(),
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if cert := m.identity.Current(); cert != nil {
				return cert, nil
			}
			return &tls.Certificate{}, nil
		},
	}
}

// transport speaks HTTP with the server. A connection that is dead without a
// sign is noticed by pings.
func (m *membership) transport() *http.Transport {
	return &http.Transport{
		TLSClientConfig: m.tls("h2", "http/1.1"), ForceAttemptHTTP2: true, TLSHandshakeTimeout: 10 * time.Second,
		DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext, IdleConnTimeout: time.Minute,
		HTTP2: &http.HTTP2Config{SendPingTimeout: 10 * time.Second, PingTimeout: 10 * time.Second},
	}
}

// connect opens a bare connection to the server, for what is no HTTP/2.
func (m *membership) connect(ctx context.Context) (net.Conn, error) {
	dialer := tls.Dialer{Config: m.tls("http/1.1")}
	return dialer.DialContext(ctx, "tcp", m.address())
}

// address is the server's host and port, as this node reaches it.
func (m *membership) address() string {
	if m.server.Port() == "" {
		return net.JoinHostPort(m.server.Hostname(), "443")
	}
	return m.server.Host
}
