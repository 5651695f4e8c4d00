package kinds

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// countedResources are amounts of things, not of something divisible.
var countedResources = []corev1.ResourceName{corev1.ResourcePods, corev1.ResourceQuotas, corev1.ResourceServices,
	corev1.ResourceReplicationControllers, corev1.ResourceSecrets, corev1.ResourceConfigMaps, corev1.ResourcePersistentVolumeClaims,
	corev1.ResourceServicesNodePorts, corev1.ResourceServicesLoadBalancers}

// quotaResources are the names without a domain that a quota may bound beside
// the counted ones.
var quotaResources = []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage,
	corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory, corev1.ResourceRequestsStorage, corev1.ResourceRequestsEphemeralStorage,
	corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory, corev1.ResourceLimitsEphemeralStorage}

// hugePages says whether a resource is one of the sizes of huge pages.
func hugePages(name string) bool { return strings.HasPrefix(name, corev1.ResourceHugePagesPrefix) }

// extended says whether a resource is somebody else's, named with a domain.
func extended(name string) bool {
	return strings.Contains(name, "/") && !strings.Contains(name, corev1.ResourceDefaultNamespacePrefix)
}

// overcommits says whether more of a resource may be promised than there is.
func overcommits(name corev1.ResourceName) bool {
	return !strings.Contains(string(name), "/") && !hugePages(string(name))
}

// validateResourceName checks the name of a resource of anything.
func validateResourceName(name string, at *field.Path) field.ErrorList {
	if !plainKey(name) {
		if texts := validation.IsQualifiedName(name); len(texts) > 0 {
			return invalid(at, name, texts)
		}
	}
	r := corev1.ResourceName(name)
	if strings.Contains(name, "/") || hugePages(strings.TrimPrefix(name, corev1.DefaultResourceRequestsPrefix)) || r == corev1.ResourceStorage || slices.Contains(standardResources, r) ||
		slices.Contains(quotaResources, r) || slices.Contains(countedResources, r) {
		return nil
	}
	return field.ErrorList{field.Invalid(at, name, "must be a standard resource type or fully qualified")}
}

// validateContainerResource checks the name of a resource of containers.
func validateContainerResource(name string, at *field.Path) field.ErrorList {
	errs := validateResourceName(name, at)
	switch {
	case !strings.Contains(name, "/") && !hugePages(name) && !slices.Contains(standardResources, corev1.ResourceName(name)):
		errs = append(errs, field.Invalid(at, name, "must be a standard resource for containers"))
	case extended(name) && (strings.HasPrefix(name, corev1.DefaultResourceRequestsPrefix) ||
		len(validation.IsQualifiedName(corev1.DefaultResourceRequestsPrefix+name)) > 0):
		errs = append(errs, field.Invalid(at, name, "doesn't follow extended resource name standard"))
	}
	return errs
}

// validateQuotaName checks the name of something that a quota bounds.
func validateQuotaName(name string, at *field.Path) field.ErrorList {
	errs := validateResourceName(name, at)
	known := slices.Contains(quotaResources, corev1.ResourceName(name)) || slices.Contains(countedResources, corev1.ResourceName(name))
	if !strings.Contains(name, "/") && !known && !hugePages(strings.TrimPrefix(name, corev1.DefaultResourceRequestsPrefix)) {
		errs = append(errs, field.Invalid(at, name, "must be a standard resource for quota"))
	}
	return errs
}

// validateAmount checks the amount of a resource.
func validateAmount(name corev1.ResourceName, q resource.Quantity, at *field.Path) (errs field.ErrorList) {
	if q.Sign() < 0 {
		errs = append(errs, field.Invalid(at, q.String(), "must be greater than or equal to 0"))
	}
	whole := slices.Contains(countedResources, name) || extended(string(name)) && !strings.HasPrefix(string(name), corev1.DefaultResourceRequestsPrefix)
	if whole && q.MilliValue()%1000 != 0 {
		errs = append(errs, field.Invalid(at, q.String(), "must be an integer"))
	}
	return errs
}
