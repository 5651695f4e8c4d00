package app

import (
	"context"
	"fmt"
	"net/url"

	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"wherry.dev/wherry/control/auth"
	"wherry.dev/wherry/control/controller"
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

// adapters reads the APIs of metrics adapters, which are aggregated, as anybody
// does: through the API server.
func (c *Cluster) adapters() (controller.Adapters, error) {
	credential, err := c.ca.Client(auth.PartUser(auth.ControllerUser))
	if err != nil {
		return nil, fmt.Errorf("issue the controllers' certificate: %w", err)
	}
	config, err := clientcmd.NewDefaultClientConfig(*auth.Kubeconfig(auth.ContextName, c.URL(), c.ca.PEM(), credential), nil).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("configure the controllers' client: %w", err)
	}
	config.NegotiatedSerializer = scheme.Codecs.WithoutConversion()
	client, err := rest.UnversionedRESTClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("configure the controllers' client: %w", err)
	}
	return func(ctx context.Context, path string, query url.Values) ([]byte, error) {
		request := client.Get().AbsPath(path)
		for name, values := range query {
			for _, value := range values {
				request = request.Param(name, value)
			}
		}
		return request.DoRaw(ctx)
	}, nil
}
