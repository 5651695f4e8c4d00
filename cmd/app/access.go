package app

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"time"

	"github.com/google/uuid"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"wherry.dev/wherry/control/admission"
	"wherry.dev/wherry/control/admission/policy"
	"wherry.dev/wherry/control/admission/webhooks"
	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/auth"
	"wherry.dev/wherry/control/auth/oidc"
	"wherry.dev/wherry/control/auth/rbac"
	"wherry.dev/wherry/control/auth/tokens"
	"wherry.dev/wherry/control/quota"
	"wherry.dev/wherry/control/registry/sealed"
)

// access is what decides who somebody is and what they may do. It is made
// before the registry, which asks it, and given the registry's objects after.
type access struct {
	roles      *rbac.Authorizer
	reviews    *auth.Reviews
	authorizer auth.Authorizer
	nodes      *auth.Nodes
	tokens     *tokens.Issuer
	issuers    *oidc.Issuers // nil: there are none
	quotas     *quota.Ledger
	webhooks   *webhooks.Webhooks
	policies   *policy.Metrics
}

func (c *Cluster) newAccess() (*access, error) {
	keys, err := tokens.OpenKeys(filepath.Join(c.cfg.DataDir, "pki"))
	if err != nil {
		return nil, err
	}
	roles, issuer := rbac.New(c.log("access")), tokens.NewIssuer(keys, time.Now)
	a := &access{roles: roles, tokens: issuer, reviews: &auth.Reviews{Rules: roles}, quotas: quota.NewLedger(nil),
		policies: policy.NewMetrics()}
	if c.shared() {
		a.quotas = quota.NewShared(nil, uuid.NewString())
	}
	a.webhooks = c.newWebhooks(a)
	a.issuers, err = c.openIssuers()
	return a, err
}

// openKeyring reads the keys that Secrets are encrypted with: those of the file
// that was named, or of one in the data directory that is made at first.
func (c *Cluster) openKeyring() (*sealed.Keyring, error) {
	if c.cfg.EncryptionKeyFile != "" {
		return sealed.Open(c.cfg.EncryptionKeyFile, false)
	}
	return sealed.Open(filepath.Join(c.cfg.DataDir, "pki", "encryption.key"), true)
}

// admission makes the judges of writes; kinds are those of the registry that
// will ask them.
func (a *access) admission(kinds func() *api.Catalog) admission.Chain {
	return admission.New(admission.Config{Authorizer: a.roles, Roles: a.roles, MountTokens: true, TaintNodes: true, Quotas: a.quotas,
		Webhooks: a.webhooks, PolicyMetrics: a.policies,
		Kinds: func(gvk schema.GroupVersionKind) (api.Resource, bool) { return kinds().OfKind(gvk) }})
}

// startAccess gives the cluster its default roles and makes what decides
// follow the cluster.
func (c *Cluster) startAccess(ctx context.Context) error {
	a := c.access
	if err := rbac.Ensure(ctx, c.registry); err != nil {
		return fmt.Errorf("prepare the cluster's roles: %w", err)
	}
	a.roles.Follow(c.registry)
	c.actors.start("roles", a.roles.Run)
	if err := c.while(ctx, "read the cluster's roles", a.roles.WaitSynced); err != nil {
		return err
	}
	a.nodes = auth.NewNodes(c.registry)
	a.authorizer = auth.Any(auth.Masters{}, auth.Named("node", a.nodes), auth.Named("rbac", a.roles))
	a.tokens.Follow(c.registry)
	if a.issuers != nil {
		c.actors.start("issuers", a.issuers.Run)
	}
	a.reviews.Authorizer, a.reviews.Tokens = a.authorizer, c.tokenAuthenticators()
	return nil
}

// authenticator finds out who sends a request, by certificate or token.
func (c *Cluster) authenticator() auth.Authenticator {
	all := auth.Chain(auth.NewClientCertificates(c.ca.Pool(), time.Now),
		auth.Bearer(c.tokenAuthenticators()))
	if c.access.issuers == nil {
		return all
	}
	return auth.Restrict(all, c.access.issuers.Anonymous)
}

// tokenAuthenticators know the tokens that the cluster takes.
func (c *Cluster) tokenAuthenticators() auth.TokenAuthenticator {
	known := auth.Tokens{c.access.tokens, auth.BootstrapTokens{Client: c.registry, Now: time.Now}}
	if c.access.issuers != nil {
		known = append(known, c.access.issuers)
	}
	return known
}

// publishClusterInfo tells whoever wants to join where the cluster is: the
// controllers sign it with the bootstrap tokens, so that those who have one can
// trust what they read.
func (c *Cluster) publishClusterInfo(ctx context.Context) error {
	config := clientcmdapi.NewConfig()
	config.Clusters[""] = &clientcmdapi.Cluster{Server: c.URL(), CertificateAuthorityData: c.ca.PEM()}
	text, err := clientcmd.Write(*config)
	if err != nil {
		return fmt.Errorf("publish the cluster's address: %w", err)
	}
	known, err := json.Marshal(networks{Pods: c.cfg.PodCIDR, Services: c.cfg.ServiceCIDR})
	if err != nil {
		return fmt.Errorf("publish the cluster's networks: %w", err)
	}
	data := map[string]string{auth.ClusterInfoKubeconfig: string(text), networksKey: string(known)}
	key := api.ConfigMaps.Key(metav1.NamespacePublic, auth.ClusterInfoName)
	for {
		old, err := api.Get[*corev1.ConfigMap](ctx, c.registry, key)
		switch {
		case apierrors.IsNotFound(err):
			_, err = c.registry.Create(ctx, key, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name},
				Data: data}, api.CreateOptions{})
		case err == nil && (old.Data[auth.ClusterInfoKubeconfig] != string(text) || old.Data[networksKey] != string(known)):
			changed := old.DeepCopy()
			changed.Data = data
			_, err = c.registry.Update(ctx, key, changed, api.UpdateOptions{})
		}
		if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) {
			continue // another server was faster
		}
		if err != nil {
			return fmt.Errorf("publish the cluster's address: %w", err)
		}
		return nil
	}
}
