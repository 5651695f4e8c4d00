// Package tunnel carries the API server's connections to nodes that only dial
// out. A node opens one connection to the API server and is reached over it:
// HTTP/2 with the roles exchanged, where each request is one connection to the
// node's agent or to a pod. A relay is the other direction: a node's
// connection to a pod of another node, by way of the API server.
package tunnel
