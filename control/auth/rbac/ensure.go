package rbac

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sync/errgroup"
	rbacv1 "k8s.io/api/rbac/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/component-helpers/auth/rbac/validation"

	"wherry.dev/wherry/control/api"
)

// ensureWorkers is how many objects are written at the same time: the store
// syncs the disk once for all that wait.
const ensureWorkers = 32

// Ensure gives a cluster the roles and bindings that every cluster has. What
// is there already keeps what users have added; what they have taken away comes
// back, unless the object's annotation
// rbac.authorization.kubernetes.io/autoupdate is "false". A binding whose role
// is another one is made anew, because that cannot be changed.
func Ensure(ctx context.Context, c api.Client) error {
	roles, err := clusterRoles()
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(ensureWorkers)
	do := func(res api.Resource, wanted api.Object) {
		group.Go(func() error {
			if err := ensure(ctx, c, res, wanted); err != nil {
				return fmt.Errorf("default %s %s: %w", res.Kind, wanted.GetName(), err)
			}
			return nil
		})
	}
	for _, role := range roles {
		do(api.ClusterRoles, role)
	}
	for _, bindings := range [][]*rbacv1.ClusterRoleBinding{systemBindings(), controllerBindings(roles)} {
		for _, binding := range bindings {
			do(api.ClusterRoleBindings, binding)
		}
	}
	for _, role := range namespaceRoles() {
		do(api.Roles, role)
	}
	for _, binding := range namespaceBindings() {
		do(api.RoleBindings, binding)
	}
	return group.Wait()
}

func ensure(ctx context.Context, c api.Client, res api.Resource, wanted api.Object) error {
	key := res.KeyOf(wanted)
	for {
		old, err := c.Get(ctx, key, api.GetOptions{})
		if apierrors.IsNotFound(err) {
			_, err = c.Create(ctx, key, wanted, api.CreateOptions{})
			if apierrors.IsAlreadyExists(err) {
				continue
			}
			return err
		}
		if err != nil || old.GetAnnotations()[autoupdate] == "false" {
			return err
		}
		restored, again := restore(old, wanted)
		if again {
			uid := old.GetUID()
			if _, err := c.Delete(ctx, key, api.DeleteOptions{UID: &uid}); err != nil && !apierrors.IsNotFound(err) {
				return err
			}
			continue
		}
		if restored == nil {
			return nil
		}
		if _, err = c.Update(ctx, key, restored, api.UpdateOptions{}); !apierrors.IsConflict(err) {
			return err
		}
	}
}

// restore returns old with what it lacks of wanted, nil when it lacks nothing.
// again says that old cannot become what is wanted.
func restore(old, wanted api.Object) (restored api.Object, again bool) {
	out := old.DeepCopyObject().(api.Object)
	out.SetLabels(merge(old.GetLabels(), wanted.GetLabels()))
	out.SetAnnotations(merge(old.GetAnnotations(), wanted.GetAnnotations()))
	switch want := wanted.(type) {
	case *rbacv1.ClusterRole:
		role := out.(*rbacv1.ClusterRole)
		if want.AggregationRule != nil {
			role.AggregationRule = want.AggregationRule.DeepCopy()
			break // the rules are the aggregation's
		}
		role.Rules = addRules(role.Rules, want.Rules)
	case *rbacv1.Role:
		role := out.(*rbacv1.Role)
		role.Rules = addRules(role.Rules, want.Rules)
	case *rbacv1.ClusterRoleBinding:
		binding := out.(*rbacv1.ClusterRoleBinding)
		again = binding.RoleRef != want.RoleRef
		binding.Subjects = addSubjects(binding.Subjects, want.Subjects)
	case *rbacv1.RoleBinding:
		binding := out.(*rbacv1.RoleBinding)
		again = binding.RoleRef != want.RoleRef
		binding.Subjects = addSubjects(binding.Subjects, want.Subjects)
	}
	if again || apiequality.Semantic.DeepEqual(old, out) {
		return nil, again
	}
	return out, false
}

// merge adds to what is there; what a user has set stays.
func merge(have, want map[string]string) map[string]string {
	out := maps.Clone(want)
	maps.Copy(out, have)
	return out
}

func addRules(have, want []rbacv1.PolicyRule) []rbacv1.PolicyRule {
	if covered, missing := validation.Covers(have, want); !covered {
		return append(slices.Clip(have), missing...)
	}
	return have
}

func addSubjects(have, want []rbacv1.Subject) []rbacv1.Subject {
	for _, subject := range want {
		if !slices.Contains(have, subject) {
			have = append(slices.Clip(have), subject)
		}
	}
	return have
}
