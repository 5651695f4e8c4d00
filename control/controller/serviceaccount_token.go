package controller

import (
	"bytes"
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/reconcile"
)

// TokenIssuer issues the tokens that live in Secrets. *tokens.Issuer is one.
type TokenIssuer interface {
	LegacyToken(account *corev1.ServiceAccount, secret string) (string, error)
}

const (
	rootCAMap = "kube-root-ca.crt"
	rootCAKey = "ca.crt"
)

// newRootCA keeps the ConfigMap kube-root-ca.crt with the cluster's authority
// in every namespace that is not going. Its keys are namespaces.
func newRootCA(cfg Config) runner {
	namespaces, maps := cfg.Informers.For(api.Namespaces), cfg.Informers.For(api.ConfigMaps)
	loop := cfg.loop("root-ca", 2, reconcile.Func(func(ctx context.Context, key api.Key) (time.Duration, error) {
		obj, _ := namespaces.Get(key)
		ns, ok := obj.(*corev1.Namespace)
		if !ok || !needsServiceAccount(ns) || len(cfg.RootCA) == 0 {
			return 0, nil
		}
		at := api.ConfigMaps.Key(key.Name, rootCAMap)
		wanted := &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: key.Name, Name: rootCAMap, Annotations: map[string]string{
				"kubernetes.io/description": "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. " +
					"No other usage is guaranteed across distributions of Kubernetes clusters."}},
			Data: map[string]string{rootCAKey: string(cfg.RootCA)},
		}
		old, _ := maps.Get(at)
		var err error
		if have, ok := old.(*corev1.ConfigMap); !ok {
			_, err = cfg.Client.Create(ctx, at, wanted, api.CreateOptions{})
		} else if len(have.Data) != 1 || have.Data[rootCAKey] != string(cfg.RootCA) {
			_, err = cfg.Client.Update(ctx, at, wanted, api.UpdateOptions{})
		}
		if err == nil || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) || namespaceGoing(err) {
			return 0, nil
		}
		return 0, fmt.Errorf("publish %s: %w", at, err)
	}))
	namespaces.OnChange(func(_, new api.Object) {
		if new != nil {
			loop.Enqueue(api.Namespaces.KeyOf(new))
		}
	})
	maps.OnChange(func(old, new api.Object) {
		for _, obj := range []api.Object{old, new} {
			if obj != nil && obj.GetName() == rootCAMap {
				loop.Enqueue(api.Namespaces.Key("", obj.GetNamespace()))
			}
		}
	})
	return loop
}

// newTokenSecrets fills Secrets of type kubernetes.io/service-account-token
// and removes those whose account is gone. Its keys are Secrets.
func newTokenSecrets(cfg Config) runner {
	secrets, accounts := cfg.Informers.For(api.Secrets), cfg.Informers.For(api.ServiceAccounts)
	isToken := func(obj api.Object) bool {
		s, ok := obj.(*corev1.Secret)
		return ok && s.Type == corev1.SecretTypeServiceAccountToken
	}
	loop := cfg.loop("token-secrets", 2, reconcile.Func(func(ctx context.Context, key api.Key) (time.Duration, error) {
		obj, _ := secrets.Get(key)
		if obj == nil || !isToken(obj) || obj.GetDeletionTimestamp() != nil || cfg.Tokens == nil {
			return 0, nil
		}
		return 0, cfg.fillToken(ctx, key, obj.(*corev1.Secret), accounts)
	}))
	secrets.OnChange(func(_, new api.Object) {
		if new != nil && isToken(new) {
			loop.Enqueue(api.Secrets.KeyOf(new))
		}
	})
	accounts.OnChange(func(old, new api.Object) {
		changed := new
		if changed == nil {
			changed = old
		}
		for _, obj := range secrets.List(changed.GetNamespace()) {
			if isToken(obj) && obj.GetAnnotations()[corev1.ServiceAccountNameKey] == changed.GetName() {
				loop.Enqueue(api.Secrets.KeyOf(obj))
			}
		}
	})
	return loop
}

// fillToken brings one Secret in line with its account.
func (cfg Config) fillToken(ctx context.Context, key api.Key, s *corev1.Secret, accounts *reconcile.Informer) error {
	obj, _ := accounts.Get(api.ServiceAccounts.Key(s.Namespace, s.Annotations[corev1.ServiceAccountNameKey]))
	account, ok := obj.(*corev1.ServiceAccount)
	uid := s.Annotations[corev1.ServiceAccountUIDKey]
	if !ok || uid != "" && uid != string(account.UID) {
		// The Secret may be younger than what is known of accounts: look again.
		live, err := api.Get[*corev1.ServiceAccount](ctx, cfg.Client, api.ServiceAccounts.Key(s.Namespace, s.Annotations[corev1.ServiceAccountNameKey]))
		if err == nil && (uid == "" || uid == string(live.UID)) {
			account = live
		} else if err != nil && !apierrors.IsNotFound(err) {
			return err
		} else {
			return ignoreRaces(cfg.deleteSecret(ctx, key, s.UID))
		}
	}
	changed := s.DeepCopy()
	if changed.Annotations == nil {
		changed.Annotations = map[string]string{}
	}
	changed.Annotations[corev1.ServiceAccountUIDKey] = string(account.UID)
	if changed.Data == nil {
		changed.Data = map[string][]byte{}
	}
	if len(changed.Data[corev1.ServiceAccountTokenKey]) == 0 {
		token, err := cfg.Tokens.LegacyToken(account, s.Name)
		if err != nil {
			return fmt.Errorf("fill %s: %w", key, err)
		}
		changed.Data[corev1.ServiceAccountTokenKey] = []byte(token)
	}
	changed.Data[corev1.ServiceAccountRootCAKey] = bytes.Clone(cfg.RootCA)
	changed.Data[corev1.ServiceAccountNamespaceKey] = []byte(s.Namespace)
	_, err := cfg.Client.Update(ctx, key, changed, api.UpdateOptions{})
	return ignoreRaces(err)
}

func (cfg Config) deleteSecret(ctx context.Context, key api.Key, uid types.UID) error {
	_, err := cfg.Client.Delete(ctx, key, api.DeleteOptions{UID: &uid})
	return err
}

// ignoreRaces drops the errors after which an event comes that leads back here.
func ignoreRaces(err error) error {
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
