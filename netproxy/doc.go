// Package netproxy turns Services into connections, in user space. Build makes
// an immutable Table out of Services and EndpointSlices; a Proxy listens on
// the addresses of a Table, picks an endpoint for each connection and copies
// bytes both ways. Guests that dial a Service take the same pick without the
// listener. Addresses are IPv4, protocols TCP.
//
// The rules of choice are those of kube-proxy
// (https://kubernetes.io/docs/reference/networking/virtual-ips/): only ready
// endpoints, or terminating ones that still serve when there is no ready one;
// session affinity by client address; traffic policy Local; hints of zones and
// nodes.
package netproxy
