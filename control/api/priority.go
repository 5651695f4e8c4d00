package api

import "k8s.io/apimachinery/pkg/runtime/schema"

// Priority is where a group and version stand among the others: groups of
// higher priority, and in a group versions of higher priority, come first for
// clients that have to choose.
type Priority struct{ Group, Version int32 }

// priorities are those of Kubernetes' own groups.
var priorities = map[string]Priority{
	"apiregistration.k8s.io":       {20000, 15}, // has no APIService; Kubernetes names it first
	"":                             {18000, 1},
	"apps":                         {17800, 15},
	"events.k8s.io":                {17750, 15},
	"authentication.k8s.io":        {17700, 15},
	"authorization.k8s.io":         {17600, 15},
	"autoscaling":                  {17500, 15},
	"batch":                        {17400, 15},
	"certificates.k8s.io":          {17300, 15},
	"networking.k8s.io":            {17200, 15},
	"policy":                       {17100, 15},
	"rbac.authorization.k8s.io":    {17000, 15},
	"storage.k8s.io":               {16800, 15},
	"apiextensions.k8s.io":         {16700, 15},
	"admissionregistration.k8s.io": {16700, 15},
	"scheduling.k8s.io":            {16600, 15},
	"coordination.k8s.io":          {16500, 15},
	"node.k8s.io":                  {16300, 15},
	"discovery.k8s.io":             {16200, 15},
	"flowcontrol.apiserver.k8s.io": {16100, 21},
	"resource.k8s.io":              {16200, 21},
	"metrics.k8s.io":               {100, 100},
}

// PriorityOf is the priority of a group and version that is served here: those
// of custom resources all have the same.
func PriorityOf(gv schema.GroupVersion) Priority {
	p, ok := priorities[gv.Group]
	if !ok {
		return Priority{Group: 1000, Version: 100}
	}
	if gv.Group == "autoscaling" && gv.Version == "v2" {
		p.Version = 30
	}
	return p
}
