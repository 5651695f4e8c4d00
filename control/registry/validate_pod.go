package registry

import (
	appsv1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

type podValidator struct{ spec *appsv1.PodSpec }

func (v podValidator) all(at *field.Path) field.ErrorList                         { return nil }
func validateQuantities(l appsv1.ResourceList, at *field.Path) field.ErrorList    { return nil }
func templateWarnings(t *appsv1.PodTemplateSpec) []string                         { return nil }
func validatePod(p *appsv1.Pod) field.ErrorList                                   { return nil }
func validatePodUpdate(p, o *appsv1.Pod) field.ErrorList                          { return nil }
func validatePodStatus(p, o *appsv1.Pod) field.ErrorList                          { return nil }
func validateService(p *appsv1.Service) field.ErrorList                           { return nil }
func validateServiceUpdate(p, o *appsv1.Service) field.ErrorList                  { return nil }
func validateEndpoints(e *appsv1.Endpoints) field.ErrorList                       { return nil }
func validateEndpointSlice(e *discoveryv1.EndpointSlice) field.ErrorList          { return nil }
func validateEndpointSliceUpdate(e, o *discoveryv1.EndpointSlice) field.ErrorList { return nil }
