package netproxy

import (
	"net/netip"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"
)

// counters count the connections of Services. Those of a Service that is gone
// are forgotten with it, so that there are never more than there are Services.
type counters map[types.NamespacedName]*atomic.Uint64

// renewed returns the counters for the Services of targets: those that there
// were, and new ones.
func (c counters) renewed(targets map[netip.AddrPort]*Target) counters {
	next := make(counters, len(targets))
	for _, target := range targets {
		key := serviceOf(target)
		if next[key] != nil {
			continue // another port's or address'
		}
		if next[key] = c[key]; next[key] == nil {
			next[key] = new(atomic.Uint64)
		}
	}
	return next
}

func serviceOf(t *Target) types.NamespacedName {
	return types.NamespacedName{Namespace: t.Service.Namespace, Name: t.Service.Name}
}

var _ prometheus.Collector = (*Proxy)(nil)

// connectionsTotal is what /metrics shows of a Service.
var connectionsTotal = prometheus.NewDesc("wherry_proxy_connections_total",
	"Connections that reached an endpoint of the Service, by its cluster address, its node ports or from a guest.", []string{"namespace", "service"}, nil)

// Describe implements prometheus.Collector.
func (p *Proxy) Describe(all chan<- *prometheus.Desc) { all <- connectionsTotal }

// Collect implements prometheus.Collector.
func (p *Proxy) Collect(all chan<- prometheus.Metric) {
	p.mu.Lock()
	counts := p.counts // replaced as a whole, never changed
	p.mu.Unlock()
	for key, count := range counts {
		all <- prometheus.MustNewConstMetric(connectionsTotal, prometheus.CounterValue, float64(count.Load()), key.Namespace, key.Name)
	}
}
