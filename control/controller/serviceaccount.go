package controller

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/reconcile"
)

// defaultServiceAccount is what pods run as that name no other.
const defaultServiceAccount = "default"

// newServiceAccounts keeps a ServiceAccount "default" in every namespace that
// is not going. Its keys are namespaces.
func newServiceAccounts(cfg Config) runner {
	namespaces, accounts := cfg.Informers.For(api.Namespaces), cfg.Informers.For(api.ServiceAccounts)
	loop := cfg.loop("serviceaccount", 2, reconcile.Func(func(ctx context.Context, key api.Key) (time.Duration, error) {
		obj, ok := namespaces.Get(key)
		if ns, isNS := obj.(*corev1.Namespace); !ok || !isNS || !needsServiceAccount(ns) {
			return 0, nil
		}
		account := api.ServiceAccounts.Key(key.Name, defaultServiceAccount)
		if _, ok := accounts.Get(account); ok {
			return 0, nil
		}
		_, err := cfg.Client.Create(ctx, account, &corev1.ServiceAccount{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"},
			ObjectMeta: metav1.ObjectMeta{Name: defaultServiceAccount, Namespace: key.Name},
		}, api.CreateOptions{})
		if err == nil || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) || namespaceGoing(err) {
			return 0, nil
		}
		return 0, fmt.Errorf("create %s: %w", account, err)
	}))
	namespaces.OnChange(func(_, new api.Object) {
		if new != nil {
			loop.Enqueue(api.Namespaces.KeyOf(new))
		}
	})
	accounts.OnChange(func(old, new api.Object) {
		if new == nil && old.GetName() == defaultServiceAccount {
			loop.Enqueue(api.Namespaces.Key("", old.GetNamespace()))
		}
	})
	return loop
}

func needsServiceAccount(ns *corev1.Namespace) bool {
	return ns.DeletionTimestamp == nil && ns.Status.Phase != corev1.NamespaceTerminating
}
