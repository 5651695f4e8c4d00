package controller

import (
	"net/netip"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/quota"
)

// kindsOf finds resources by what owner and target references call them.
func kindsOf(resources []api.Resource) map[schema.GroupKind]api.Resource {
	kinds := map[schema.GroupKind]api.Resource{}
	for _, r := range resources {
		kinds[r.GVK().GroupKind()] = r
	}
	return kinds
}

// setDefaults fills in what concerns nodes, resources and autoscaling.
func (cfg *Config) setDefaults() {
	if cfg.Resources == nil {
		cfg.Resources = []api.Resource{
			api.Namespaces, api.Nodes, api.Pods, api.Services, api.Endpoints, api.ConfigMaps, api.Secrets, api.ServiceAccounts,
			api.Events, api.EndpointSlices, api.Leases, api.Deployments, api.ReplicaSets, api.ReplicationControllers,
			api.StatefulSets, api.DaemonSets, api.ControllerRevisions, api.Jobs, api.CronJobs, api.PersistentVolumeClaims, api.PersistentVolumes,
			api.Roles, api.ClusterRoles, api.RoleBindings, api.ClusterRoleBindings,
			api.CertificateSigningRequests,
		}
	}
	if !cfg.PodCIDR.IsValid() {
		cfg.PodCIDR = netip.MustParsePrefix("127.64.0.0/10")
	}
	if cfg.NodeBlockBits == 0 {
		cfg.NodeBlockBits = 18
	}
	if cfg.Quotas == nil {
		cfg.Quotas = quota.NewLedger(cfg.Clock)
	}
	cfg.Autoscaling = cfg.Autoscaling.WithDefaults()
	if cfg.Usage == nil {
		cfg.Usage = cfg.Client
	}
	if cfg.NodeGrace == 0 {
		cfg.NodeGrace = 40 * time.Second
	}
	if cfg.EndedPodsKept == 0 {
		cfg.EndedPodsKept = endedPodsKept
	}
}
