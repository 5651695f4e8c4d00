package api

// The kinds of volumes, networks, nodes and policies.
var (
	Bindings          = Resource{Version: "v1", Name: "bindings", Singular: "binding", Kind: "Binding", Namespaced: true, Verbs: []string{"create"}}
	ComponentStatuses = Resource{Version: "v1", Name: "componentstatuses", Singular: "componentstatus", Kind: "ComponentStatus",
		Deprecation: "v1 ComponentStatus is deprecated in v1.19+",
		ShortNames:  []string{"cs"}, Verbs: []string{"get", "list"}}
	LimitRanges = Resource{Version: "v1", Name: "limitranges", Singular: "limitrange", Kind: "LimitRange", Namespaced: true,
		ShortNames: []string{"limits"}}
	ResourceQuotas = Resource{Version: "v1", Name: "resourcequotas", Singular: "resourcequota", Kind: "ResourceQuota", Namespaced: true,
		ShortNames: []string{"quota"}, Subresources: []Subresource{status}}
	PersistentVolumes = Resource{Version: "v1", Name: "persistentvolumes", Singular: "persistentvolume", Kind: "PersistentVolume",
		ShortNames: []string{"pv"}, Subresources: []Subresource{status}}
	PersistentVolumeClaims = Resource{Version: "v1", Name: "persistentvolumeclaims", Singular: "persistentvolumeclaim",
		Kind: "PersistentVolumeClaim", Namespaced: true, ShortNames: []string{"pvc"}, Subresources: []Subresource{status}}

	Ingresses = Resource{Group: "networking.k8s.io", Version: "v1", Name: "ingresses", Singular: "ingress", Kind: "Ingress",
		Namespaced: true, ShortNames: []string{"ing"}, Subresources: []Subresource{status}}
	IngressClasses = Resource{Group: "networking.k8s.io", Version: "v1", Name: "ingressclasses", Singular: "ingressclass",
		Kind: "IngressClass"}
	NetworkPolicies = Resource{Group: "networking.k8s.io", Version: "v1", Name: "networkpolicies", Singular: "networkpolicy",
		Kind: "NetworkPolicy", Namespaced: true, ShortNames: []string{"netpol"}}
	IPAddresses = Resource{Group: "networking.k8s.io", Version: "v1", Name: "ipaddresses", Singular: "ipaddress", Kind: "IPAddress",
		ShortNames: []string{"ip"}}
	ServiceCIDRs = Resource{Group: "networking.k8s.io", Version: "v1", Name: "servicecidrs", Singular: "servicecidr", Kind: "ServiceCIDR",
		Subresources: []Subresource{status}}

	RuntimeClasses = Resource{Group: "node.k8s.io", Version: "v1", Name: "runtimeclasses", Singular: "runtimeclass", Kind: "RuntimeClass"}

	StorageClasses = Resource{Group: "storage.k8s.io", Version: "v1", Name: "storageclasses", Singular: "storageclass",
		Kind: "StorageClass", ShortNames: []string{"sc"}}
	VolumeAttachments = Resource{Group: "storage.k8s.io", Version: "v1", Name: "volumeattachments", Singular: "volumeattachment",
		Kind: "VolumeAttachment", Subresources: []Subresource{status}}
	CSIDrivers = Resource{Group: "storage.k8s.io", Version: "v1", Name: "csidrivers", Singular: "csidriver", Kind: "CSIDriver"}
	CSINodes   = Resource{Group: "storage.k8s.io", Version: "v1", Name: "csinodes", Singular: "csinode", Kind: "CSINode"}

	CSIStorageCapacities = Resource{Group: "storage.k8s.io", Version: "v1", Name: "csistoragecapacities", Singular: "csistoragecapacity",
		Kind: "CSIStorageCapacity", Namespaced: true}
	VolumeAttributesClasses = Resource{Group: "storage.k8s.io", Version: "v1", Name: "volumeattributesclasses",
		Singular: "volumeattributesclass", Kind: "VolumeAttributesClass", ShortNames: []string{"vac"}}
)
