package quota

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"

	"wherry.dev/wherry/control/api"
)

func serviceMeter() Meter {
	m := counter(api.Services.GroupResource())
	m.updates = []string{""}
	m.covers = func(name corev1.ResourceName) bool {
		return name == corev1.ResourceServices || name == corev1.ResourceServicesNodePorts || name == corev1.ResourceServicesLoadBalancers
	}
	m.usage = func(obj api.Object, _ time.Time) corev1.ResourceList {
		spec := &obj.(*corev1.Service).Spec
		var ports, balancers int64
		switch spec.Type {
		case corev1.ServiceTypeNodePort:
			ports = int64(len(spec.Ports))
		case corev1.ServiceTypeLoadBalancer:
			balancers = 1
			for i := range spec.Ports {
				// Without allocation only the ports that somebody has chosen count.
				if spec.AllocateLoadBalancerNodePorts == nil || *spec.AllocateLoadBalancerNodePorts || spec.Ports[i].NodePort != 0 {
					ports++
				}
			}
		}
		return corev1.ResourceList{m.name: one(), corev1.ResourceServices: one(),
			corev1.ResourceServicesNodePorts: number(ports), corev1.ResourceServicesLoadBalancers: number(balancers)}
	}
	return m
}

// classSuffix is between a storage class' name and what a quota bounds of it.
const classSuffix = ".storageclass.storage.k8s.io/"

func claimMeter() Meter {
	m := counter(api.PersistentVolumeClaims.GroupResource())
	m.updates = []string{""}
	m.covers = func(name corev1.ResourceName) bool {
		return name == corev1.ResourcePersistentVolumeClaims || name == corev1.ResourceRequestsStorage ||
			strings.HasSuffix(string(name), classSuffix+string(corev1.ResourcePersistentVolumeClaims)) ||
			strings.HasSuffix(string(name), classSuffix+string(corev1.ResourceRequestsStorage))
	}
	m.usage = func(obj api.Object, _ time.Time) corev1.ResourceList {
		claim := obj.(*corev1.PersistentVolumeClaim)
		out := corev1.ResourceList{m.name: one(), corev1.ResourcePersistentVolumeClaims: one()}
		var ofClass corev1.ResourceName
		if class := storageClass(claim); class != "" {
			ofClass = corev1.ResourceName(class + classSuffix)
			out[ofClass+corev1.ResourcePersistentVolumeClaims] = one()
		}
		size, ok := claim.Spec.Resources.Requests[corev1.ResourceStorage]
		if !ok {
			return out
		}
		// A claim whose expansion was taken back still has what was allocated.
		if given := claim.Status.AllocatedResources[corev1.ResourceStorage]; given.Cmp(size) > 0 {
			size = given
		}
		out[corev1.ResourceRequestsStorage] = size
		if ofClass != "" {
			out[ofClass+corev1.ResourceRequestsStorage] = size
		}
		return out
	}
	m.inScope = func(scope corev1.ScopedResourceSelectorRequirement, obj api.Object) bool {
		return scope.ScopeName == corev1.ResourceQuotaScopeVolumeAttributesClass &&
			selects(scope, attributeClasses(obj.(*corev1.PersistentVolumeClaim))...)
	}
	return m
}

func storageClass(claim *corev1.PersistentVolumeClaim) string {
	if class, ok := claim.Annotations[corev1.BetaStorageClassAnnotation]; ok {
		return class
	}
	if claim.Spec.StorageClassName == nil {
		return ""
	}
	return *claim.Spec.StorageClassName
}

// attributeClasses are the classes that a claim has, shall have, and is on its
// way to.
func attributeClasses(claim *corev1.PersistentVolumeClaim) (out []string) {
	for _, class := range []*string{claim.Spec.VolumeAttributesClassName, claim.Status.CurrentVolumeAttributesClassName} {
		if class != nil {
			out = append(out, *class)
		}
	}
	if claim.Status.ModifyVolumeStatus != nil {
		out = append(out, claim.Status.ModifyVolumeStatus.TargetVolumeAttributesClassName)
	}
	return out
}

// deviceSuffix follows a device class' name in what a quota bounds of it.
const deviceSuffix = ".deviceclass.resource.k8s.io/devices"

func deviceMeter() Meter {
	m := counter(api.ResourceClaims.GroupResource())
	m.covers = func(name corev1.ResourceName) bool { return strings.HasSuffix(string(name), deviceSuffix) }
	m.usage = func(obj api.Object, _ time.Time) corev1.ResourceList {
		out := corev1.ResourceList{m.name: one()}
		claim, ok := obj.(*resourcev1.ResourceClaim)
		if !ok {
			return out
		}
		for _, request := range claim.Spec.Devices.Requests {
			wanted := map[string]int64{}
			if exact := request.Exactly; exact != nil {
				wanted[exact.DeviceClassName] = devices(exact.AllocationMode, exact.Count)
			}
			// Of alternatives only one comes true; the largest number of each class counts.
			for _, alternative := range request.FirstAvailable {
				class := alternative.DeviceClassName
				wanted[class] = max(wanted[class], devices(alternative.AllocationMode, alternative.Count))
			}
			for class, n := range wanted {
				name := corev1.ResourceName(class + deviceSuffix)
				sum := out[name]
				sum.Add(number(n))
				out[name] = sum
			}
		}
		return out
	}
	return m
}

// devices is how many devices a request can get: all of them means as many as
// one claim may have.
func devices(mode resourcev1.DeviceAllocationMode, count int64) int64 {
	if mode == resourcev1.DeviceAllocationModeAll {
		return resourcev1.AllocationResultsMaxSize
	}
	return count
}
