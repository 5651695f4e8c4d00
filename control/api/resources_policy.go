package api

import "strings"

// The kinds that say what requests may do and how they are treated, and those
// of devices.
var (
	// EventsV1 are the Events of the core group under their newer group.
	EventsV1 = asVersion(Events, "events.k8s.io", "v1")

	ValidatingWebhookConfigurations = admissionKind("validatingwebhookconfigurations", "ValidatingWebhookConfiguration")
	MutatingWebhookConfigurations   = admissionKind("mutatingwebhookconfigurations", "MutatingWebhookConfiguration")

	ValidatingAdmissionPolicies = admissionKind("validatingadmissionpolicies", "ValidatingAdmissionPolicy", status)
	MutatingAdmissionPolicies   = admissionKind("mutatingadmissionpolicies", "MutatingAdmissionPolicy")

	ValidatingAdmissionPolicyBindings = admissionKind("validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding")
	MutatingAdmissionPolicyBindings   = admissionKind("mutatingadmissionpolicybindings", "MutatingAdmissionPolicyBinding")

	CustomResourceDefinitions = Resource{Group: "apiextensions.k8s.io", Version: "v1", Name: "customresourcedefinitions",
		Singular: "customresourcedefinition", Kind: "CustomResourceDefinition", ShortNames: []string{"crd", "crds"},
		Categories: []string{"api-extensions"}, Subresources: []Subresource{status}}

	FlowSchemas = Resource{Group: "flowcontrol.apiserver.k8s.io", Version: "v1", Name: "flowschemas", Singular: "flowschema",
		Kind: "FlowSchema", Subresources: []Subresource{status}}
	PriorityLevelConfigurations = Resource{Group: "flowcontrol.apiserver.k8s.io", Version: "v1", Name: "prioritylevelconfigurations",
		Singular: "prioritylevelconfiguration", Kind: "PriorityLevelConfiguration", Subresources: []Subresource{status}}

	ResourceClaims = Resource{Group: "resource.k8s.io", Version: "v1", Name: "resourceclaims", Singular: "resourceclaim",
		Kind: "ResourceClaim", Namespaced: true, Subresources: []Subresource{status}}
	ResourceClaimTemplates = Resource{Group: "resource.k8s.io", Version: "v1", Name: "resourceclaimtemplates",
		Singular: "resourceclaimtemplate", Kind: "ResourceClaimTemplate", Namespaced: true}
	DeviceClasses  = Resource{Group: "resource.k8s.io", Version: "v1", Name: "deviceclasses", Singular: "deviceclass", Kind: "DeviceClass"}
	ResourceSlices = Resource{Group: "resource.k8s.io", Version: "v1", Name: "resourceslices", Singular: "resourceslice", Kind: "ResourceSlice"}
	// DeviceTaintRules keep pods from devices.
	DeviceTaintRules = Resource{Group: "resource.k8s.io", Version: "v1", Name: "devicetaintrules", Singular: "devicetaintrule",
		Kind: "DeviceTaintRule", Subresources: []Subresource{status}}
)

func admissionKind(name, kind string, subresources ...Subresource) Resource {
	return Resource{Group: "admissionregistration.k8s.io", Version: "v1", Name: name, Singular: strings.ToLower(kind), Kind: kind,
		Categories: []string{"api-extensions"}, Subresources: subresources}
}

// APIServices say who serves a group and version.
var APIServices = Resource{Group: "apiregistration.k8s.io", Version: "v1", Name: "apiservices", Singular: "apiservice", Kind: "APIService",
	Categories: []string{"api-extensions"}, Subresources: []Subresource{status}}
