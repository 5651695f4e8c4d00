package kinds

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
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
		errs = append(errs, validateFileRef(from.FileKeyRef, at.Child("fileKeyRef"))...)
	}
	switch {
	case n == 0:
		errs = append(errs, field.Invalid(at, "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"))
	case v.Value != "":
		errs = append(errs, field.Invalid(at, "", "may not be specified when `value` is not empty"))
	case n > 1:
		errs = append(errs, field.Invalid(at, "", "may not have more than one field specified at a time"))
	}
	return errs
}

func validateKeyRef(name, key string, at *field.Path) (errs field.ErrorList) {
	errs = invalid(at.Child("name"), name, apivalidation.NameIsDNSSubdomain(name, false))
	if key == "" {
		return append(errs, field.Required(at.Child("key"), ""))
	}
	return append(errs, invalid(at.Child("key"), key, validation.IsConfigMapKey(key))...)
}

// validateFileRef checks a variable that is read from a file of a volume.
func validateFileRef(f *corev1.FileKeySelector, at *field.Path) (errs field.ErrorList) {
	if errs = required(f.Key, at.Child("key"), ""); len(errs) == 0 {
		errs = invalid(at.Child("key"), f.Key, validation.IsRelaxedEnvVarName(f.Key))
	}
	if f.VolumeName == "" {
		errs = append(errs, field.Required(at.Child("volumeName"), ""))
	} else {
		errs = append(errs, invalid(at.Child("volumeName"), f.VolumeName, validation.IsDNS1123Label(f.VolumeName))...)
	}
	if f.Path == "" {
		return append(errs, field.Required(at.Child("path"), ""))
	}
	return append(errs, noBackstep(f.Path, at.Child("path"))...)
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
	if f.FieldPath == "" {
		return field.ErrorList{field.Required(at.Child("fieldPath"), "")}
	}
	if f.APIVersion != "v1" {
		return field.ErrorList{field.Invalid(at.Child("fieldPath"), f.FieldPath, "error converting fieldPath: unsupported pod version: "+f.APIVersion)}
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
var containerResources = []string{"limits.cpu", "limits.ephemeral-storage", "limits.memory",
	"requests.cpu", "requests.ephemeral-storage", "requests.memory"}

func validateResourceRef(f *corev1.ResourceFieldSelector, volume bool, at *field.Path) (errs field.ErrorList) {
	huge := strings.HasPrefix(f.Resource, "limits.hugepages-") || strings.HasPrefix(f.Resource, "requests.hugepages-")
	switch {
	case volume && f.ContainerName == "":
		errs = append(errs, field.Required(at.Child("containerName"), ""))
	case f.Resource == "":
		errs = append(errs, field.Required(at.Child("resource"), ""))
	case !huge && !slices.Contains(containerResources, f.Resource):
		errs = append(errs, field.NotSupported(at.Child("resource"), f.Resource, containerResources))
	}
	if f.Divisor.IsZero() {
		return errs
	}
	divisors, what := byteDivisors, "the memory"
	switch {
	case strings.HasSuffix(f.Resource, ".cpu"):
		divisors, what = cpuDivisors, "the cpu"
	case strings.HasSuffix(f.Resource, ".ephemeral-storage"):
		what = "the local ephemeral storage"
	case huge:
		what = "the hugepages"
	case !strings.HasSuffix(f.Resource, ".memory"):
		return errs
	}
	if !slices.Contains(divisors, f.Divisor.String()) {
		text := strings.Join(divisors, ", ")
		if what == "the cpu" {
			text = strings.Join(divisors, " and ")
		}
		errs = append(errs, field.Invalid(at.Child("divisor"), f.Resource, fmt.Sprintf("only divisor's values %s are supported with %s resource", text, what)))
	}
	return errs
}

// What amounts may be divided by.
var (
	cpuDivisors  = []string{"1m", "1"}
	byteDivisors = []string{"1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"}
)

func validateEnvFrom(sources []corev1.EnvFromSource, whole *field.Path) (errs field.ErrorList) {
	for i, s := range sources {
		at := whole.Index(i)
		if s.Prefix != "" {
			errs = append(errs, invalid(at.Child("prefix"), s.Prefix, validation.IsRelaxedEnvVarName(s.Prefix))...)
		}
		n := 0
		if s.ConfigMapRef != nil {
			n++
			errs = append(errs, validateSourceName(s.ConfigMapRef.Name, at.Child("configMapRef", "name"))...)
		}
		if s.SecretRef != nil {
			n++
			errs = append(errs, validateSourceName(s.SecretRef.Name, at.Child("secretRef", "name"))...)
		}
		switch n {
		case 0:
			errs = append(errs, field.Invalid(whole, "", "must specify one of: `configMapRef` or `secretRef`"))
		case 2:
			errs = append(errs, field.Invalid(whole, "", "may not have more than one field specified at a time"))
		}
	}
	return errs
}

// validateSourceName checks the name of what variables come from. It may end
// in a dash, as the beginning of a generated name.
func validateSourceName(name string, at *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	return invalid(at, name, apivalidation.NameIsDNSSubdomain(name, true))
}

// validateProbe checks a probe. once says that a single success must be enough,
// as it is for all but readiness.
func validateProbe(p *corev1.Probe, grace *int64, at *field.Path, once bool) (errs field.ErrorList) {
	if p == nil {
		return nil
	}
	errs = append(errs, validateHandler(handler{p.Exec, p.HTTPGet, p.TCPSocket, p.GRPC, nil}, grace, at)...)
	for _, n := range []count{{"initialDelaySeconds", p.InitialDelaySeconds}, {"timeoutSeconds", p.TimeoutSeconds},
		{"periodSeconds", p.PeriodSeconds}, {"successThreshold", p.SuccessThreshold}, {"failureThreshold", p.FailureThreshold}} {
		errs = append(errs, notNegative(n.n, at.Child(n.name))...)
	}
	if s := p.TerminationGracePeriodSeconds; s != nil && *s <= 0 {
		errs = append(errs, field.Invalid(at.Child("terminationGracePeriodSeconds"), *s, "must be greater than 0"))
	}
	if once && p.SuccessThreshold != 1 {
		errs = append(errs, field.Invalid(at.Child("successThreshold"), p.SuccessThreshold, "must be 1"))
	}
	if s := p.TerminationGracePeriodSeconds; s != nil && !once {
		errs = append(errs, field.Invalid(at.Child("terminationGracePeriodSeconds"), s, "must not be set for readinessProbes"))
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

func validateHook(h *corev1.LifecycleHandler, grace *int64, at *field.Path) field.ErrorList {
	if h == nil {
		return nil
	}
	return validateHandler(handler{h.Exec, h.HTTPGet, h.TCPSocket, nil, h.Sleep}, grace, at)
}

// validateHandler wants one way to act and checks the first.
func validateHandler(h handler, grace *int64, at *field.Path) (errs field.ErrorList) {
	n := 0
	first := func(name string) bool {
		if n++; n > 1 {
			errs = append(errs, field.Forbidden(at.Child(name), "may not specify more than 1 handler type"))
		}
		return n == 1
	}
	if h.exec != nil && first("exec") && len(h.exec.Command) == 0 {
		errs = append(errs, field.Required(at.Child("exec", "command"), ""))
	}
	if h.http != nil && first("httpGet") {
		errs = append(errs, validateHTTPGet(h.http, at.Child("httpGet"))...)
	}
	if h.tcp != nil && first("tcpSocket") {
		errs = append(errs, validatePortRef(h.tcp.Port, at.Child("tcpSocket", "port"))...)
	}
	if h.grpc != nil && first("grpc") {
		errs = append(errs, validatePortRef(intstr.FromInt32(h.grpc.Port), at.Child("grpc", "port"))...)
	}
	if h.sleep != nil && first("sleep") && grace != nil && (h.sleep.Seconds < 0 || h.sleep.Seconds > *grace) {
		errs = append(errs, field.Invalid(at.Child("sleep"), h.sleep.Seconds,
			fmt.Sprintf("must be non-negative and less than terminationGracePeriodSeconds (%d)", *grace)))
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
