package registry

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/registry/kinds"
	"wherry.dev/wherry/control/store"
)

// reservation is what one write of a Service takes and gives back.
type reservation struct {
	registry *Registry
	ctx      context.Context
	dry      bool
	holder   holder
	// Records by name with their revisions: taken by this write, and no longer
	// needed after it.
	taken, dropped map[string]uint64
}

// reserveService allocates the cluster IP and node ports that s needs and has
// not got from old.
func (r *Registry) reserveService(ctx context.Context, s, old *corev1.Service, dry bool) (func(bool), field.ErrorList) {
	res := &reservation{registry: r, ctx: ctx, dry: dry, taken: map[string]uint64{}, dropped: map[string]uint64{},
		holder: holder{Namespace: s.Namespace, Name: s.Name, UID: string(s.UID)}}
	errs := append(res.address(s, old), res.nodePorts(s, old)...)
	if len(errs) > 0 {
		res.settle(false)
		return nil, errs
	}
	return res.settle, nil
}

// settle gives back what turned out not to be needed. Two writers of one
// Service may have taken the same name for it: the one that lost gives it back
// only if the winner does not use it, and the winner makes sure that it holds.
func (res *reservation) settle(stored bool) {
	if res.dry {
		return
	}
	r := res.registry
	if !stored {
		for what, revision := range res.taken {
			if r.staleAllocation(context.WithoutCancel(res.ctx), res.holder, what) {
				r.ips.release(res.ctx, what, revision)
			}
		}
		return
	}
	for what, revision := range res.dropped {
		r.ips.release(res.ctx, what, revision)
	}
	for what := range res.taken {
		if !r.ips.free(res.ctx, what) {
			continue
		}
		if _, err := r.ips.take(context.WithoutCancel(res.ctx), what, res.holder); err != nil {
			r.log.Warn("allocation not recorded, it will be repaired later", "allocation", what, "error", err)
		}
	}
}

// drop marks a record as no longer needed once the write has succeeded.
func (res *reservation) drop(what string) {
	res.dropped[what] = res.registry.ips.revision(res.ctx, what, res.holder.UID)
}

// take records one name for this write.
func (res *reservation) take(what string) error {
	if res.dry {
		if !res.registry.ips.free(res.ctx, what) {
			return errTaken
		}
		return nil
	}
	revision, err := res.registry.ips.take(res.ctx, what, res.holder)
	if err == nil {
		res.taken[what] = revision
	}
	return err
}

func (res *reservation) address(s, old *corev1.Service) field.ErrorList {
	ips := res.registry.ips
	var had []netip.Addr
	if old != nil {
		had = kinds.ClusterIPs(old)
	}
	if !kinds.NeedsClusterIP(s) {
		for _, addr := range had {
			res.drop(ipRecord(addr))
		}
		return nil
	}
	at := field.NewPath("spec", "clusterIPs")
	if s.Spec.ClusterIP == "" {
		addr, revision, err := ips.any(res.ctx, res.holder, res.dry)
		if err != nil {
			return field.ErrorList{field.InternalError(at, fmt.Errorf("failed to allocate a serviceIP: %w", err))}
		}
		s.Spec.ClusterIP, s.Spec.ClusterIPs = addr.String(), []string{addr.String()}
		res.taken[ipRecord(addr)] = revision
		return nil
	}
	addr, err := netip.ParseAddr(s.Spec.ClusterIP)
	if err != nil || slices.Contains(had, addr) {
		return nil // validation has spoken, or nothing is new
	}
	if !ips.contains(addr) {
		return field.ErrorList{field.Invalid(at, s.Spec.ClusterIPs, fmt.Sprintf(
			"failed to allocate IP %s: the provided IP (%s) is not in the valid range. The range of valid IPs is %s", addr, addr, ips.prefix))}
	}
	if err := res.take(ipRecord(addr)); err != nil {
		if errors.Is(err, errTaken) {
			err = errors.New("provided IP is already allocated")
		}
		return field.ErrorList{field.Invalid(at, s.Spec.ClusterIPs, fmt.Sprintf("failed to allocate IP %s: %v", addr, err))}
	}
	return nil
}

// nodePorts allocates what is missing, asked-for ports first so that a random
// one does not take them.
func (res *reservation) nodePorts(s, old *corev1.Service) (errs field.ErrorList) {
	had, have := nodePortsOf(old), map[int32]bool{}
	at := field.NewPath("spec", "ports")
	for i := range s.Spec.Ports {
		port := s.Spec.Ports[i].NodePort
		if port == 0 || have[port] {
			continue
		}
		have[port] = true
		if !had[port] {
			errs = append(errs, res.port(port, at.Index(i).Child("nodePort"))...)
		}
	}
	if port := s.Spec.HealthCheckNodePort; port != 0 && !had[port] && !have[port] {
		errs = append(errs, res.port(port, field.NewPath("spec", "healthCheckNodePort"))...)
	}
	have[s.Spec.HealthCheckNodePort] = true
	if len(errs) > 0 {
		return errs
	}
	missing := []*int32{}
	if kinds.NeedsNodePorts(s) {
		for i := range s.Spec.Ports {
			if p := &s.Spec.Ports[i]; p.NodePort == 0 && !sharePort(s.Spec.Ports, i) {
				missing = append(missing, &p.NodePort)
			}
		}
	}
	if kinds.NeedsHealthPort(s) && s.Spec.HealthCheckNodePort == 0 {
		missing = append(missing, &s.Spec.HealthCheckNodePort)
	}
	for _, slot := range missing {
		port, revision, err := res.registry.ports.any(res.ctx, res.holder, res.dry, have)
		if err != nil {
			return field.ErrorList{field.InternalError(at, fmt.Errorf("failed to allocate a nodePort: %w", err))}
		}
		*slot = port
		have[port] = true
		res.taken[portRecord(port)] = revision
	}
	for port := range had {
		if !have[port] {
			res.drop(portRecord(port))
		}
	}
	return nil
}

// sharePort gives ports[i] the node port of an earlier port with the same
// number and another protocol, as DNS over UDP and TCP has it.
func sharePort(ports []corev1.ServicePort, i int) bool {
	for j := range ports {
		other := ports[j]
		if j != i && other.NodePort != 0 && other.Port == ports[i].Port && other.Protocol != ports[i].Protocol {
			ports[i].NodePort = other.NodePort
			return true
		}
	}
	return false
}

func (res *reservation) port(port int32, at *field.Path) field.ErrorList {
	if ports := res.registry.ports; !ports.contains(port) {
		return field.ErrorList{field.Invalid(at, port, fmt.Sprintf(
			"provided port is not in the valid range. The range of valid ports is %s", ports.ports))}
	}
	switch err := res.take(portRecord(port)); {
	case errors.Is(err, errTaken):
		return field.ErrorList{field.Invalid(at, port, "provided port is already allocated")}
	case err != nil:
		return field.ErrorList{field.InternalError(at, err)}
	}
	return nil
}

// nodePortsOf are all node ports of a service, of nil none.
func nodePortsOf(s *corev1.Service) map[int32]bool {
	ports := map[int32]bool{}
	if s == nil {
		return ports
	}
	for _, p := range s.Spec.Ports {
		if p.NodePort != 0 {
			ports[p.NodePort] = true
		}
	}
	if s.Spec.HealthCheckNodePort != 0 {
		ports[s.Spec.HealthCheckNodePort] = true
	}
	return ports
}

// releaseService gives back everything a service had.
func (r *Registry) releaseService(ctx context.Context, s *corev1.Service) {
	for _, addr := range kinds.ClusterIPs(s) {
		r.ips.release(ctx, ipRecord(addr), r.ips.revision(ctx, ipRecord(addr), string(s.UID)))
	}
	for port := range nodePortsOf(s) {
		r.ips.release(ctx, portRecord(port), r.ips.revision(ctx, portRecord(port), string(s.UID)))
	}
}

// staleAllocation says that the service which a record names is gone or does
// not use what is recorded.
func (r *Registry) staleAllocation(ctx context.Context, h holder, what string) bool {
	key := api.Services.Key(h.Namespace, h.Name)
	k, err := r.kindOf(key)
	if err != nil {
		return false
	}
	_, obj, err := r.load(ctx, k, key)
	if err != nil {
		return errors.Is(err, store.ErrNotFound)
	}
	s, ok := obj.(*corev1.Service)
	if !ok || string(s.UID) != h.UID {
		return ok
	}
	if text, isIP := strings.CutPrefix(what, "ip/"); isIP {
		return !slices.Contains(s.Spec.ClusterIPs, text)
	}
	port, err := strconv.ParseInt(strings.TrimPrefix(what, "port/"), 10, 32)
	return err == nil && !nodePortsOf(s)[int32(port)]
}
