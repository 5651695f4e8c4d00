package aggregate

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"wherry.dev/wherry/control/api"
)

// service is an APIService of apiregistration.k8s.io/v1.
type service struct {
	metav1.ObjectMeta `json:"metadata"`
	Spec              serviceSpec `json:"spec"`
	Status            struct {
		Conditions []condition `json:"conditions,omitempty"`
	} `json:"status,omitempty"`
}

type serviceSpec struct {
	Service               *reference `json:"service,omitempty"` // nil: served here
	Group                 string     `json:"group,omitempty"`
	Version               string     `json:"version,omitempty"`
	InsecureSkipTLSVerify bool       `json:"insecureSkipTLSVerify,omitempty"`
	CABundle              []byte     `json:"caBundle,omitempty"`
	GroupPriorityMinimum  int32      `json:"groupPriorityMinimum"`
	VersionPriority       int32      `json:"versionPriority"`
}

type reference struct {
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	Port      int32  `json:"port,omitempty"`
}

type condition struct {
	Type               string      `json:"type"`
	Status             string      `json:"status"`
	LastTransitionTime metav1.Time `json:"lastTransitionTime,omitempty"`
	Reason             string      `json:"reason,omitempty"`
	Message            string      `json:"message,omitempty"`
}

func (s *service) gv() schema.GroupVersion {
	return schema.GroupVersion{Group: s.Spec.Group, Version: s.Spec.Version}
}

// parse reads a stored APIService.
func parse(obj api.Object) (*service, error) {
	u, ok := obj.(*unstructured.Unstructured)
	if !ok {
		return nil, fmt.Errorf("an APIService is a %T", obj)
	}
	s := &service{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, s); err != nil {
		return nil, fmt.Errorf("read APIService %s: %w", obj.GetName(), err)
	}
	return s, nil
}

// render makes the object of an APIService.
func (s *service) render() (*unstructured.Unstructured, error) {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(s)
	if err != nil {
		return nil, fmt.Errorf("render APIService %s: %w", s.Name, err)
	}
	u := &unstructured.Unstructured{Object: content}
	u.SetGroupVersionKind(api.APIServices.GVK())
	return u, nil
}

// available is the condition that says whether a server is there.
const available = "Available"

// setAvailable sets the condition and tells whether that changes anything.
func (s *service) setAvailable(next condition, now time.Time) bool {
	next.Type, next.LastTransitionTime = available, metav1.NewTime(now.UTC().Truncate(time.Second))
	for i := range s.Status.Conditions {
		c := &s.Status.Conditions[i]
		if c.Type != available {
			continue
		}
		if c.Status == next.Status {
			next.LastTransitionTime = c.LastTransitionTime
		}
		changed := c.Status != next.Status || c.Reason != next.Reason || c.Message != next.Message
		*c = next
		return changed
	}
	s.Status.Conditions = append(s.Status.Conditions, next)
	return true
}
