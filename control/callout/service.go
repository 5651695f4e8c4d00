package callout

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"

	"wherry.dev/wherry/control/api"
)

// Resolve picks a ready endpoint (host:port) of a Service; port is a number or
// name of one of its ports, "" its only one. A Service of type ExternalName
// stands for the host that it names. Errors are StatusErrors.
func Resolve(ctx context.Context, c api.Client, namespace, name, port string) (string, error) {
	service, err := api.Get[*corev1.Service](ctx, c, api.Services.Key(namespace, name))
	if apierrors.IsNotFound(err) {
		return "", apierrors.NewNotFound(corev1.Resource("service"), name) // in Kubernetes' words
	}
	if err != nil {
		return "", err
	}
	if service.Spec.Type == corev1.ServiceTypeExternalName && service.Spec.ExternalName != "" {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return "", apierrors.NewServiceUnavailable(fmt.Sprintf("service %q is of type ExternalName: name its port by number", name))
		}
		return net.JoinHostPort(service.Spec.ExternalName, port), nil
	}
	portName, err := servicePort(service, port)
	if err != nil {
		return "", err
	}
	hosts, err := readyEndpoints(ctx, c, namespace, name, portName)
	if err != nil {
		return "", err
	}
	if len(hosts) == 0 {
		return "", apierrors.NewServiceUnavailable(fmt.Sprintf("no endpoints available for service %q", name))
	}
	return hosts[rand.IntN(len(hosts))], nil
}

// clusterDomain is what may follow the names of Services.
const clusterDomain = ".cluster.local"

// serviceIn reads the name of a Service in a host's.
func serviceIn(host string) (namespace, name string, ok bool) {
	host = strings.TrimSuffix(strings.TrimSuffix(strings.ToLower(host), "."), clusterDomain)
	host, ok = strings.CutSuffix(host, ".svc")
	if !ok {
		return "", "", false
	}
	name, namespace, ok = strings.Cut(host, ".")
	return namespace, name, ok && name != "" && namespace != "" && !strings.Contains(namespace, ".")
}

// servicePort returns the name of the port that a request means.
func servicePort(service *corev1.Service, port string) (string, error) {
	number, err := strconv.ParseInt(port, 10, 32)
	for _, p := range service.Spec.Ports {
		if port == "" && len(service.Spec.Ports) == 1 || port != "" && p.Name == port || err == nil && int64(p.Port) == number {
			return p.Name, nil
		}
	}
	return "", apierrors.NewServiceUnavailable(fmt.Sprintf("no service port %q found for service %q", port, service.Name))
}

func readyEndpoints(ctx context.Context, c api.Client, namespace, service, port string) ([]string, error) {
	list, err := c.List(ctx, api.EndpointSlices.Key(namespace, ""), api.ListOptions{
		Labels: labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: service})})
	if err != nil {
		return nil, err
	}
	slices, err := api.Items[*discoveryv1.EndpointSlice](list)
	if err != nil {
		return nil, err
	}
	var hosts []string
	for _, slice := range slices {
		for _, p := range slice.Ports {
			if p.Port == nil || p.Name != nil && *p.Name != port || p.Name == nil && port != "" {
				continue
			}
			for _, e := range slice.Endpoints {
				if len(e.Addresses) > 0 && (e.Conditions.Ready == nil || *e.Conditions.Ready) {
					hosts = append(hosts, net.JoinHostPort(e.Addresses[0], strconv.Itoa(int(*p.Port))))
				}
			}
		}
	}
	return hosts, nil
}
