// Package stream speaks the protocols in which kubectl exec, attach and
// port-forward reach a node: channels of a WebSocket (v5.channel.k8s.io), SPDY
// streams (v4.channel.k8s.io, portforward.k8s.io) and SPDY within a WebSocket
// (SPDY/3.1+portforward.k8s.io). It knows nothing of pods: its callers say
// what is at the other end.
package stream
