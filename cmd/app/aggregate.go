package app

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/aggregate"
	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/auth"
)

// frontProxyUser is the name by which aggregated servers know this one.
const frontProxyUser = "front-proxy-client"

// newAggregator makes what knows the servers elsewhere, and tells them whom to
// believe. The authority is one of its own: with a certificate of the cluster's
// nobody can speak for others.
func (c *Cluster) newAggregator(ctx context.Context, served api.Kinds) (*aggregate.Aggregator, error) {
	ca, err := auth.OpenCA(filepath.Join(c.cfg.DataDir, "pki", "front-proxy"), time.Now)
	if err != nil {
		return nil, fmt.Errorf("open the authority for aggregated servers: %w", err)
	}
	credential, err := ca.Client(auth.User{Name: frontProxyUser})
	if err != nil {
		return nil, fmt.Errorf("issue the certificate for aggregated servers: %w", err)
	}
	certificate, err := credential.TLS()
	if err != nil {
		return nil, fmt.Errorf("read the certificate for aggregated servers: %w", err)
	}
	if err := publishAuthentication(ctx, c.registry, c.ca.PEM(), ca.PEM()); err != nil {
		return nil, err
	}
	return aggregate.New(aggregate.Config{Client: c.registry, Kinds: served, Clients: c.callouts, Certificate: certificate, Log: c.log("aggregation")}), nil
}

// runAggregator runs it once its kind is served.
func (c *Cluster) runAggregator(ctx context.Context, a *aggregate.Aggregator) error {
	for {
		catalog := c.registry.Catalog()
		if catalog.Find(api.APIServices.GVR()) != nil {
			return a.Run(ctx)
		}
		select {
		case <-catalog.Superseded():
		case <-ctx.Done():
			return nil
		}
	}
}

// authenticationMap is where aggregated servers read whom to believe.
const authenticationMap = "extension-apiserver-authentication"

// publishAuthentication writes that ConfigMap
// (https://kubernetes.io/docs/tasks/extend-kubernetes/configure-aggregation-layer/).
// Other servers of the cluster may have authorities of their own in it.
func publishAuthentication(ctx context.Context, client api.Client, clients, proxies []byte) error {
	list := func(names ...string) string {
		text, _ := json.Marshal(names) // strings always can
		return string(text)
	}
	key := api.ConfigMaps.Key(metav1.NamespaceSystem, authenticationMap)
	for {
		old, err := api.Get[*corev1.ConfigMap](ctx, client, key)
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("publish whom aggregated servers believe: %w", err)
		}
		next := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
		missing := err != nil
		if !missing {
			next = old.DeepCopy()
		}
		had := next.Data
		next.Data = map[string]string{
			"client-ca-file":                     with(had["client-ca-file"], clients),
			"requestheader-client-ca-file":       with(had["requestheader-client-ca-file"], proxies),
			"requestheader-allowed-names":        list(frontProxyUser),
			"requestheader-username-headers":     list("X-Remote-User"),
			"requestheader-uid-headers":          list("X-Remote-Uid"),
			"requestheader-group-headers":        list("X-Remote-Group"),
			"requestheader-extra-headers-prefix": list("X-Remote-Extra-"),
		}
		if missing {
			_, err = client.Create(ctx, key, next, api.CreateOptions{})
		} else {
			_, err = client.Update(ctx, key, next, api.UpdateOptions{})
		}
		if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) {
			continue // another server was faster
		}
		if err != nil {
			return fmt.Errorf("publish whom aggregated servers believe: %w", err)
		}
		return nil
	}
}

// with adds certificates to a bundle that has them not yet.
func with(bundle string, more []byte) string {
	if strings.Contains(bundle, strings.TrimSpace(string(more))) {
		return bundle
	}
	return bundle + string(more)
}
