package controller

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/auth"
	"wherry.dev/wherry/control/reconcile"
)

// newBootstrapTokens removes bootstrap tokens past their time and signs
// kube-public/cluster-info with those that are for signing. All tokens are one
// key: the ConfigMap has all signatures.
func newBootstrapTokens(cfg Config) runner {
	secrets, configs := cfg.Informers.For(api.Secrets), cfg.Informers.For(api.ConfigMaps)
	info := api.ConfigMaps.Key(metav1.NamespacePublic, auth.ClusterInfoName)
	loop := cfg.loop("bootstrap-tokens", 1, reconcile.Func(func(ctx context.Context, _ api.Key) (time.Duration, error) {
		tokens, next, err := cfg.liveTokens(ctx, reconcile.As[*corev1.Secret](secrets.List(metav1.NamespaceSystem)))
		if err != nil {
			return 0, err
		}
		obj, _ := configs.Get(info)
		published, ok := obj.(*corev1.ConfigMap)
		if !ok {
			return next, nil
		}
		data := signed(published.Data, tokens)
		if maps.Equal(data, published.Data) {
			return next, nil
		}
		changed := published.DeepCopy()
		changed.Data = data
		_, err = cfg.Client.Update(ctx, info, changed, api.UpdateOptions{})
		if err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
			return 0, fmt.Errorf("sign %s: %w", info, err)
		}
		return next, nil
	}))
	secrets.OnChange(func(old, new api.Object) {
		for _, obj := range []api.Object{old, new} {
			if s, ok := obj.(*corev1.Secret); ok && s.Type == corev1.SecretTypeBootstrapToken && s.Namespace == metav1.NamespaceSystem {
				loop.Enqueue(info)
			}
		}
	})
	configs.OnChange(func(_, new api.Object) {
		if new != nil && api.ConfigMaps.KeyOf(new) == info {
			loop.Enqueue(info)
		}
	})
	return loop
}

// liveTokens returns the tokens that still hold, in order, removes the others
// and says when the next one ends; 0: never.
func (cfg Config) liveTokens(ctx context.Context, secrets []*corev1.Secret) (live []auth.BootstrapToken, next time.Duration, err error) {
	now := cfg.Clock()
	for _, s := range secrets {
		token, err := auth.BootstrapTokenOf(s)
		if err != nil {
			continue // no token, or one that nobody can use
		}
		if !token.Expired(now) {
			live = append(live, token)
			if left := token.Expires.Sub(now); !token.Expires.IsZero() && (next == 0 || left < next) {
				next = left
			}
			continue
		}
		_, err = cfg.Client.Delete(ctx, api.Secrets.KeyOf(s), api.DeleteOptions{UID: &s.UID})
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return nil, 0, fmt.Errorf("remove bootstrap token %s: %w", token.ID, err)
		}
	}
	slices.SortFunc(live, func(a, b auth.BootstrapToken) int { return strings.Compare(a.ID, b.ID) })
	return live, next, nil
}

// signed is the data of cluster-info with the signatures of these tokens and
// no others.
func signed(data map[string]string, tokens []auth.BootstrapToken) map[string]string {
	out := map[string]string{}
	for key, value := range data {
		if !strings.HasPrefix(key, auth.ClusterInfoSignature) {
			out[key] = value
		}
	}
	for _, token := range tokens {
		if slices.Contains(token.Usages, "signing") && out[auth.ClusterInfoKubeconfig] != "" {
			out[auth.ClusterInfoSignature+token.ID] = token.SignClusterInfo(out[auth.ClusterInfoKubeconfig])
		}
	}
	return out
}
