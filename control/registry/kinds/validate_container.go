package kinds

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var protocols = []corev1.Protocol{corev1.ProtocolSCTP, corev1.ProtocolTCP, corev1.ProtocolUDP}

// validateProtocol checks a protocol that has been defaulted.
func validateProtocol(p corev1.Protocol, at *field.Path) field.ErrorList {
	if p == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	if !slices.Contains(protocols, p) {
		return field.ErrorList{field.NotSupported(at, p, protocols)}
	}
	return nil
}

func validatePorts(ports []corev1.ContainerPort, at *field.Path) (errs field.ErrorList) {
	names := sets.New[string]()
	for i, p := range ports {
		at := at.Index(i)
		if p.Name != "" {
			if texts := validation.IsValidPortName(p.Name); len(texts) > 0 {
				errs = append(errs, invalid(at.Child("name"), p.Name, texts)...)
			} else if names.Has(p.Name) {
				errs = append(errs, field.Duplicate(at.Child("name"), p.Name))
			}
			names.Insert(p.Name)
		}
		if p.ContainerPort == 0 {
			errs = append(errs, field.Required(at.Child("containerPort"), ""))
		} else {
			errs = append(errs, invalid(at.Child("containerPort"), p.ContainerPort, validation.IsValidPortNum(int(p.ContainerPort)))...)
		}
		if p.HostPort != 0 {
			errs = append(errs, invalid(at.Child("hostPort"), p.HostPort, validation.IsValidPortNum(int(p.HostPort)))...)
		}
		if p.HostIP != "" {
			errs = append(errs, validation.IsValidIP(at.Child("hostIP"), p.HostIP)...)
		}
		errs = append(errs, validateProtocol(p.Protocol, at.Child("protocol"))...)
	}
	return errs
}

// envFields are what fieldRef of an environment variable may name, beside
// metadata.annotations['x'] and metadata.labels['x'].
var envFields = []string{"metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
	"status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"}

func validateEnv(vars []corev1.EnvVar, at *field.Path) (errs field.ErrorList) {
	for i, v := range vars {
		at := at.Index(i)
		if v.Name == "" {
			errs = append(errs, field.Required(at.Child("name"), ""))
		} else {
			errs = append(errs, invalid(at.Child("name"), v.Name, validation.IsRelaxedEnvVarName(v.Name))...)
		}
		if v.ValueFrom != nil {
			errs = append(errs, validateEnvSource(&v, at.Child("valueFrom"))...)
		}
	}
	return errs
}

func validateEnvSource(v *corev1.EnvVar, at *field.Path) (errs field.ErrorList) {
	from, n := v.ValueFrom, 0
	if from.FieldRef != nil {
		n++
		errs = append(errs, validateFieldRef(from.FieldRef, envFields, at.Child("fieldRef"))...)
	}
	if from.ResourceFieldRef != nil {
		n++
		errs = append(errs, validateResourceRef(from.ResourceFieldRef, false, at.Child("resourceFieldRef"))...)
	}
	if ref := from.ConfigMapKeyRef; ref != nil {
		n++
		errs = append(errs, validateKeyRef(ref.Name, ref.Key, at.Child("configMapKeyRef"))...)
	}
	if ref := from.SecretKeyRef; ref != nil {
		n++
		errs = append(errs, validateKeyRef(ref.Name, ref.Key, at.Child("secretKeyRef"))...)
	}
	if from.FileKeyRef != nil {
		n++
	}
	switch {
	case n == 0:
		errs = append(errs, field.Invalid(at, "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"))
	case v.Value != "":
		errs = append(errs, field.Invalid(at, "", "may not be specified when `value` is not empty"))
	case n > 1:
		errs = append(errs, field.Invalid(at, "", "may not have more than one field specified at a time"))
	}
	return errs
}

func validateKeyRef(name, key string, at *field.Path) (errs field.ErrorList) {
	if name == "" {
		errs = append(errs, field.Required(at.Child("name"), ""))
	}
	if key == "" {
		return append(errs, field.Required(at.Child("key"), ""))
	}
	return append(errs, invalid(at.Child("key"), key, validation.IsConfigMapKey(key))...)
}

// podPaths are the fields of a pod that have a name for selectors and for the
// downward API.
var podPaths = []string{"metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName",
	"spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.phase", "status.podIP",
	"status.podIPs"}

// validateFieldRef checks a path into the pod's own object.
func validateFieldRef(f *corev1.ObjectFieldSelector, allowed []string, at *field.Path) field.ErrorList {
	if f.APIVersion == "" {
		return field.ErrorList{field.Required(at.Child("apiVersion"), "")}
	}
	if f.APIVersion != "v1" {
		return field.ErrorList{field.Invalid(at.Child("fieldPath"), f.FieldPath, "error converting fieldPath: unsupported pod version: "+f.APIVersion)}
	}
	if f.FieldPath == "" {
		return field.ErrorList{field.Required(at.Child("fieldPath"), "")}
	}
	if base, key, ok := subscript(f.FieldPath); ok {
		if base != "metadata.annotations" && base != "metadata.labels" {
			return field.ErrorList{field.Invalid(at, base, "does not support subscript")}
		}
		if base == "metadata.annotations" {
			key = strings.ToLower(key)
		}
		return invalid(at, key, validation.IsQualifiedName(key))
	}
	if !slices.Contains(podPaths, f.FieldPath) {
		return field.ErrorList{field.Invalid(at.Child("fieldPath"), f.FieldPath, "error converting fieldPath: field label not supported: "+f.FieldPath)}
	}
	if !slices.Contains(allowed, f.FieldPath) {
		return field.ErrorList{field.NotSupported(at.Child("fieldPath"), f.FieldPath, slices.Sorted(slices.Values(allowed)))}
	}
	return nil
}

// subscript splits metadata.labels['x'] into metadata.labels and x.
func subscript(path string) (base, key string, ok bool) {
	base, rest, found := strings.Cut(path, "['")
	if !found || !strings.HasSuffix(rest, "']") {
		return "", "", false
	}
	return base, strings.TrimSuffix(rest, "']"), true
}

// containerResources are what resourceFieldRef may name.
var containerResources = []string{"limits.cpu", "limits.memory", "limits.ephemeral-storage",
	"requests.cpu", "requests.memory", "requests.ephemeral-storage"}

func validateResourceRef(f *corev1.ResourceFieldSelector, volume bool, at *field.Path) (errs field.ErrorList) {
	if volume && f.ContainerName == "" {
		return field.ErrorList{field.Required(at.Child("containerName"), "")}
	}
	if f.Resource == "" {
		return field.ErrorList{field.Required(at.Child("resource"), "")}
	}
	huge := strings.HasPrefix(f.Resource, "limits.hugepages-") || strings.HasPrefix(f.Resource, "requests.hugepages-")
	if !huge && !slices.Contains(containerResources, f.Resource) {
		return field.ErrorList{field.NotSupported(at.Child("resource"), f.Resource, slices.Sorted(slices.Values(containerResources)))}
	}
	divisors := []string{"0", "1"}
	switch {
	case strings.HasSuffix(f.Resource, ".cpu"):
		divisors = append(divisors, "1m")
	default:
		divisors = append(divisors, "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei")
	}
	if !slices.Contains(divisors, f.Divisor.String()) {
		errs = append(errs, field.Invalid(at.Child("divisor"), f.Resource, fmt.Sprintf("only divisor's values %s are supported with this resource", strings.Join(divisors[1:], ", "))))
	}
	return errs
}

func validateEnvFrom(sources []corev1.EnvFromSource, at *field.Path) (errs field.ErrorList) {
	for i, s := range sources {
		at := at.Index(i)
		if s.Prefix != "" {
			errs = append(errs, invalid(at.Child("prefix"), s.Prefix, validation.IsRelaxedEnvVarName(s.Prefix))...)
		}
		n := 0
		if s.ConfigMapRef != nil {
			n++
			if s.ConfigMapRef.Name == "" {
				errs = append(errs, field.Required(at.Child("configMapRef", "name"), ""))
			}
		}
		if s.SecretRef != nil {
			n++
			if s.SecretRef.Name == "" {
				errs = append(errs, field.Required(at.Child("secretRef", "name"), ""))
			}
		}
		switch n {
		case 0:
			errs = append(errs, field.Invalid(at, "", "must specify one of: `configMapRef` or `secretRef`"))
		case 2:
			errs = append(errs, field.Invalid(at, "", "may not have more than one field specified at a time"))
		}
	}
	return errs
}

func validateProbe(p *corev1.Probe, at *field.Path, onceOnly bool) (errs field.ErrorList) {
	if p == nil {
		return nil
	}
	errs = append(errs, validateHandler(handler{p.Exec, p.HTTPGet, p.TCPSocket, p.GRPC, nil}, at)...)
	for _, n := range []count{{"initialDelaySeconds", p.InitialDelaySeconds}, {"timeoutSeconds", p.TimeoutSeconds},
		{"periodSeconds", p.PeriodSeconds}, {"successThreshold", p.SuccessThreshold}, {"failureThreshold", p.FailureThreshold}} {
		errs = append(errs, notNegative(n.n, at.Child(n.name))...)
	}
	if onceOnly && p.SuccessThreshold != 1 {
		errs = append(errs, field.Invalid(at.Child("successThreshold"), p.SuccessThreshold, "must be 1"))
	}
	if s := p.TerminationGracePeriodSeconds; s != nil {
		if !onceOnly {
			errs = append(errs, field.Invalid(at.Child("terminationGracePeriodSeconds"), *s, "must not be set for readinessProbes"))
		} else if *s <= 0 {
			errs = append(errs, field.Invalid(at.Child("terminationGracePeriodSeconds"), *s, "must be greater than 0"))
		}
	}
	return errs
}

// handler is what probes and hooks can do.
type handler struct {
	exec  *corev1.ExecAction
	http  *corev1.HTTPGetAction
	tcp   *corev1.TCPSocketAction
	grpc  *corev1.GRPCAction
	sleep *corev1.SleepAction
}

func validateHook(h *corev1.LifecycleHandler, grace int64, at *field.Path) field.ErrorList {
	if h == nil {
		return nil
	}
	errs := validateHandler(handler{h.Exec, h.HTTPGet, h.TCPSocket, nil, h.Sleep}, at)
	if s := h.Sleep; s != nil && (s.Seconds < 0 || s.Seconds > grace) {
		errs = append(errs, field.Invalid(at.Child("sleep"), s.Seconds,
			fmt.Sprintf("must be non-negative and less than terminationGracePeriodSeconds (%d)", grace)))
	}
	return errs
}

func validateHandler(h handler, at *field.Path) (errs field.ErrorList) {
	n := 0
	one := func(name string) *field.Path {
		if n++; n > 1 {
			errs = append(errs, field.Forbidden(at.Child(name), "may not specify more than 1 handler type"))
		}
		return at.Child(name)
	}
	if h.exec != nil {
		if at := one("exec"); len(h.exec.Command) == 0 {
			errs = append(errs, field.Required(at.Child("command"), ""))
		}
	}
	if h.http != nil {
		errs = append(errs, validateHTTPGet(h.http, one("httpGet"))...)
	}
	if h.tcp != nil {
		errs = append(errs, validatePortRef(h.tcp.Port, one("tcpSocket").Child("port"))...)
	}
	if h.grpc != nil {
		errs = append(errs, invalid(one("grpc").Child("port"), h.grpc.Port, validation.IsValidPortNum(int(h.grpc.Port)))...)
	}
	if h.sleep != nil {
		one("sleep")
	}
	if n == 0 {
		errs = append(errs, field.Required(at, "must specify a handler type"))
	}
	return errs
}

func validateHTTPGet(a *corev1.HTTPGetAction, at *field.Path) (errs field.ErrorList) {
	if a.Path == "" {
		errs = append(errs, field.Required(at.Child("path"), ""))
	}
	errs = append(errs, validatePortRef(a.Port, at.Child("port"))...)
	if a.Scheme != corev1.URISchemeHTTP && a.Scheme != corev1.URISchemeHTTPS {
		errs = append(errs, field.NotSupported(at.Child("scheme"), a.Scheme, []corev1.URIScheme{corev1.URISchemeHTTP, corev1.URISchemeHTTPS}))
	}
	for _, header := range a.HTTPHeaders {
		errs = append(errs, invalid(at.Child("httpHeaders"), header.Name, validation.IsHTTPHeaderName(header.Name))...)
	}
	return errs
}

// validatePortRef checks a port's number or name.
func validatePortRef(port intstr.IntOrString, at *field.Path) field.ErrorList {
	if port.Type == intstr.Int {
		return invalid(at, port.IntValue(), validation.IsValidPortNum(port.IntValue()))
	}
	return invalid(at, port.StrVal, validation.IsValidPortName(port.StrVal))
}

// validateQuantities wants names of resources and no negative amounts.
func validateQuantities(list corev1.ResourceList, at *field.Path) (errs field.ErrorList) {
	for _, name := range slices.Sorted(maps.Keys(list)) {
		errs = append(errs, invalid(at.Key(string(name)), string(name), validation.IsQualifiedName(string(name)))...)
		if q := list[name]; q.Sign() < 0 {
			errs = append(errs, field.Invalid(at.Key(string(name)), q.String(), "must be greater than or equal to 0"))
		}
	}
	return errs
}

// standardResources are the resources without a domain that containers may
// ask for.
var standardResources = []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceEphemeralStorage, corev1.ResourceMemory}

// validateResources checks what a container asks for: known resources, no
// request above its limit, and both the same for what cannot be promised twice.
func validateResources(r *corev1.ResourceRequirements, at *field.Path) (errs field.ErrorList) {
	huge, plain := false, false
	for _, side := range []struct {
		name string
		list corev1.ResourceList
	}{{"limits", r.Limits}, {"requests", r.Requests}} {
		at := at.Child(side.name)
		for _, name := range slices.Sorted(maps.Keys(side.list)) {
			errs = append(errs, validateResourceName(string(name), true, at.Key(string(name)))...)
			errs = append(errs, validateAmount(name, side.list[name], at.Key(string(name)))...)
			huge = huge || hugePages(string(name))
			plain = plain || name == corev1.ResourceCPU || name == corev1.ResourceMemory
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Requests)) {
		request := r.Requests[name]
		limit, ok := r.Limits[name]
		switch {
		case ok && !overcommits(name) && request.Cmp(limit) != 0:
			errs = append(errs, field.Invalid(at.Child("requests"), request.String(), fmt.Sprintf("must be equal to %s limit of %s", name, limit.String())))
		case ok && request.Cmp(limit) > 0:
			errs = append(errs, field.Invalid(at.Child("requests"), request.String(), fmt.Sprintf("must be less than or equal to %s limit of %s", name, limit.String())))
		case !ok && !overcommits(name):
			errs = append(errs, field.Required(at.Child("limits"), "Limit must be set for non overcommitable resources"))
		}
	}
	if huge && !plain {
		errs = append(errs, field.Forbidden(at, "HugePages require cpu or memory"))
	}
	return errs
}
