package app

import (
	"fmt"

	"wherry.dev/wherry/control/metrics"
)

// withMetrics is the API with metrics.k8s.io in front of what the registry
// keeps; the nodes must be there.
func (c *Cluster) withMetrics() (*metrics.Client, error) {
	client, err := metrics.New(metrics.Config{
		Client: c.registry, Kinds: c.registry, Tables: c.registry, Nodes: c.nodes.transport, Log: c.log("metrics")})
	if err != nil {
		return nil, fmt.Errorf("serve metrics: %w", err)
	}
	return client, nil
}
