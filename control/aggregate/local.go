package aggregate

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"wherry.dev/wherry/control/api"
)

const (
	// manager owns the fields that are written here.
	manager = "wherry"
	// managedLabel marks the APIServices that are kept here.
	managedLabel = "kube-aggregator.kubernetes.io/automanaged"
)

// keepLocal makes an APIService for each group and version that is served
// here, and takes away those of what is served no more.
func (a *Aggregator) keepLocal(ctx context.Context, catalog *api.Catalog) error {
	wanted := map[string]schema.GroupVersion{}
	for _, r := range catalog.Resources() {
		gv := r.GVK().GroupVersion()
		if gv.Group != api.APIServices.Group { // Kubernetes has none for its own
			wanted[gv.Version+"."+gv.Group] = gv
		}
	}
	var errs []error
	for _, obj := range a.services.List("") {
		name := obj.GetName()
		if _, ok := wanted[name]; ok {
			delete(wanted, name) // somebody else's is left alone
			if s, err := parse(obj); err == nil && s.Spec.Service == nil && len(s.Status.Conditions) == 0 {
				errs = append(errs, a.markLocal(ctx, s)) // whoever made it has ended in between
			}
		} else if obj.GetLabels()[managedLabel] != "" {
			_, err := a.cfg.Client.Delete(ctx, api.APIServices.KeyOf(obj), api.DeleteOptions{})
			if err != nil && !apierrors.IsNotFound(err) {
				errs = append(errs, err)
			}
		}
	}
	for name, gv := range wanted {
		if err := a.createLocal(ctx, name, gv); err != nil && !apierrors.IsAlreadyExists(err) {
			errs = append(errs, fmt.Errorf("APIService %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

func (a *Aggregator) createLocal(ctx context.Context, name string, gv schema.GroupVersion) error {
	priority := api.PriorityOf(gv)
	s := &service{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{managedLabel: "onstart"}},
		Spec: serviceSpec{Group: gv.Group, Version: gv.Version, GroupPriorityMinimum: priority.Group, VersionPriority: priority.Version}}
	obj, err := s.render()
	if err != nil {
		return err
	}
	made, err := a.cfg.Client.Create(ctx, api.APIServices.Key("", name), obj, api.CreateOptions{FieldManager: manager})
	if err != nil {
		return err
	}
	s.ObjectMeta = metav1.ObjectMeta{Name: name, ResourceVersion: made.GetResourceVersion()}
	return a.markLocal(ctx, s)
}

// markLocal says of an APIService that it is available. Another server of the
// cluster may have been faster.
func (a *Aggregator) markLocal(ctx context.Context, s *service) error {
	s.setAvailable(condition{Status: "True", Reason: "Local", Message: "Local APIServices are always available"}, time.Now())
	obj, err := s.render()
	if err != nil {
		return err
	}
	_, err = a.cfg.Client.Update(ctx, api.APIServices.Key("", s.Name), obj, api.UpdateOptions{Subresource: "status", FieldManager: manager})
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
