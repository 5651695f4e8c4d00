package kinds

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/api"
)

// ingressClassNote is the annotation that was there before the field.
const ingressClassNote = "kubernetes.io/ingress.class"

// Ingresses is the kind Ingress of networking.k8s.io/v1.
func Ingresses() Strategy[*networkingv1.Ingress] {
	return Strategy[*networkingv1.Ingress]{
		Resource: api.Ingresses,
		Create:   func(i *networkingv1.Ingress) { i.Status = networkingv1.IngressStatus{} },
		Validate: func(i *networkingv1.Ingress) (errs field.ErrorList) {
			errs = validateIngress(&i.Spec, field.NewPath("spec"))
			if class, ok := i.Annotations[ingressClassNote]; ok && i.Spec.IngressClassName != nil && *i.Spec.IngressClassName != class {
				errs = append(errs, field.Invalid(field.NewPath("annotations", ingressClassNote), class,
					"must match `ingressClassName` when both are specified"))
			}
			return errs
		},
		ValidateUpdate: func(i, _ *networkingv1.Ingress) field.ErrorList {
			return validateIngress(&i.Spec, field.NewPath("spec"))
		},
		Spec:           func(i *networkingv1.Ingress) any { return &i.Spec },
		Status:         func(i *networkingv1.Ingress) any { return &i.Status },
		ValidateStatus: validateIngressStatus,
		Generation:     true,
		WarnChange: func(i, old *networkingv1.Ingress) []string {
			if _, ok := i.Annotations[ingressClassNote]; !ok || old != nil || i.Spec.IngressClassName != nil {
				return nil
			}
			return []string{fmt.Sprintf("annotation %q is deprecated, please use 'spec.ingressClassName' instead", ingressClassNote)}
		},
		Columns: columns("Name", "Class", "Hosts", "Address", "Ports", "Age"),
		Row:     ingressRow,
	}
}

// shownHosts is how many hosts a table cell holds.
const shownHosts = 3

func ingressRow(i *networkingv1.Ingress, now time.Time) []any {
	var hosts, addresses []string
	for _, rule := range i.Spec.Rules {
		if rule.Host != "" {
			hosts = append(hosts, rule.Host)
		}
	}
	for _, in := range i.Status.LoadBalancer.Ingress {
		if in.IP != "" {
			addresses = append(addresses, in.IP)
		} else if in.Hostname != "" {
			addresses = append(addresses, in.Hostname)
		}
	}
	shown, ports := "*", "80"
	if len(hosts) > 0 {
		shown = firstOf(hosts, shownHosts)
	}
	if len(i.Spec.TLS) > 0 {
		ports = "80, 443"
	}
	return []any{i.Name, none(deref(i.Spec.IngressClassName)), shown, strings.Join(addresses, ","), ports, age(i.CreationTimestamp, now)}
}

func validateIngress(spec *networkingv1.IngressSpec, at *field.Path) (errs field.ErrorList) {
	if len(spec.Rules) == 0 && spec.DefaultBackend == nil {
		errs = append(errs, field.Invalid(at, spec.Rules, "either `defaultBackend` or `rules` must be specified"))
	}
	if spec.DefaultBackend != nil {
		errs = append(errs, validateBackend(spec.DefaultBackend, at.Child("defaultBackend"))...)
	}
	for i, rule := range spec.Rules {
		at := at.Child("rules").Index(i)
		if rule.Host != "" {
			if _, err := netip.ParseAddr(rule.Host); err == nil {
				errs = append(errs, field.Invalid(at.Child("host"), rule.Host, "must be a DNS name, not an IP address"))
			}
			errs = append(errs, validateHost(rule.Host, at.Child("host"))...)
		}
		if rule.HTTP != nil {
			errs = append(errs, validateIngressPaths(rule.HTTP.Paths, at.Child("http", "paths"))...)
		}
	}
	for i, tls := range spec.TLS {
		at := at.Child("tls").Index(i)
		for j, host := range tls.Hosts {
			errs = append(errs, validateHost(host, at.Child("hosts").Index(j))...)
		}
		errs = append(errs, validateName(tls.SecretName, at.Child("secretName"))...)
	}
	if name := spec.IngressClassName; name != nil {
		errs = append(errs, invalid(at.Child("ingressClassName"), *name, validation.IsDNS1123Subdomain(*name))...)
	}
	return errs
}

// validateHost checks a name of a host, whose first label may be a wildcard.
func validateHost(host string, at *field.Path) field.ErrorList {
	if strings.Contains(host, "*") {
		return invalid(at, host, validation.IsWildcardDNS1123Subdomain(host))
	}
	return invalid(at, host, validation.IsDNS1123Subdomain(host))
}

// The sequences that have no place in the path of a URL.
var (
	badSequences = []string{"//", "/./", "/../", "%2f", "%2F"}
	badEndings   = []string{"/..", "/."}
)

func validateIngressPaths(paths []networkingv1.HTTPIngressPath, at *field.Path) (errs field.ErrorList) {
	if len(paths) == 0 {
		return field.ErrorList{field.Required(at, "")}
	}
	for i, p := range paths {
		at := at.Index(i)
		pathAt := at.Child("path")
		switch {
		case p.PathType == nil:
			errs = append(errs, field.Required(at.Child("pathType"), "pathType must be specified"))
			continue
		case *p.PathType == networkingv1.PathTypeImplementationSpecific:
			if p.Path != "" && !strings.HasPrefix(p.Path, "/") {
				errs = append(errs, field.Invalid(pathAt, p.Path, "must be an absolute path"))
			}
		case *p.PathType == networkingv1.PathTypeExact || *p.PathType == networkingv1.PathTypePrefix:
			if !strings.HasPrefix(p.Path, "/") {
				errs = append(errs, field.Invalid(pathAt, p.Path, "must be an absolute path"))
			}
			for _, bad := range badSequences {
				if strings.Contains(p.Path, bad) {
					errs = append(errs, field.Invalid(pathAt, p.Path, "must not contain '"+bad+"'"))
				}
			}
			for _, bad := range badEndings {
				if strings.HasSuffix(p.Path, bad) {
					errs = append(errs, field.Invalid(pathAt, p.Path, "cannot end with '"+bad+"'"))
				}
			}
		default:
			errs = append(errs, field.NotSupported(at.Child("pathType"), *p.PathType, []networkingv1.PathType{
				networkingv1.PathTypeExact, networkingv1.PathTypeImplementationSpecific, networkingv1.PathTypePrefix}))
		}
		errs = append(errs, validateBackend(&paths[i].Backend, at.Child("backend"))...)
	}
	return errs
}

func validateBackend(b *networkingv1.IngressBackend, at *field.Path) (errs field.ErrorList) {
	switch {
	case b.Resource != nil && b.Service != nil:
		return field.ErrorList{field.Invalid(at, "", "cannot set both resource and service backends")}
	case b.Resource != nil:
		return validateTypedRef(b.Resource, at.Child("resource"))
	case b.Service == nil:
		return field.ErrorList{field.Invalid(at, "", "resource or service backend is required")}
	}
	service := at.Child("service")
	if b.Service.Name == "" {
		errs = append(errs, field.Required(service.Child("name"), ""))
	} else {
		errs = append(errs, invalid(service.Child("name"), b.Service.Name, validation.IsDNS1123Label(b.Service.Name))...)
	}
	port := b.Service.Port
	switch {
	case port.Name != "" && port.Number != 0:
		errs = append(errs, field.Invalid(at, "", "cannot set both port name & port number"))
	case port.Name != "":
		errs = append(errs, invalid(service.Child("port", "name"), port.Name, validation.IsValidPortName(port.Name))...)
	case port.Number != 0:
		errs = append(errs, invalid(service.Child("port", "number"), port.Number, validation.IsValidPortNum(int(port.Number)))...)
	default:
		errs = append(errs, field.Required(at, "port name or number is required"))
	}
	return errs
}

// validateTypedRef checks a reference to an object of any kind.
func validateTypedRef(ref *corev1.TypedLocalObjectReference, at *field.Path) (errs field.ErrorList) {
	if ref.APIGroup != nil {
		errs = append(errs, invalid(at.Child("apiGroup"), *ref.APIGroup, validation.IsDNS1123Subdomain(*ref.APIGroup))...)
	}
	return append(errs, all(validateSegment(ref.Kind, at.Child("kind"), ""), validateSegment(ref.Name, at.Child("name"), ""))...)
}

func validateIngressStatus(i, _ *networkingv1.Ingress) (errs field.ErrorList) {
	at := field.NewPath("status", "loadBalancer", "ingress")
	for j, in := range i.Status.LoadBalancer.Ingress {
		at := at.Index(j)
		if in.IP != "" {
			errs = append(errs, validation.IsValidIP(at.Child("ip"), in.IP)...)
		}
		if in.Hostname != "" {
			errs = append(errs, invalid(at.Child("hostname"), in.Hostname, validation.IsDNS1123Subdomain(in.Hostname))...)
			if _, err := netip.ParseAddr(in.Hostname); err == nil {
				errs = append(errs, field.Invalid(at.Child("hostname"), in.Hostname, "must be a DNS name, not an IP address"))
			}
		}
	}
	return errs
}
