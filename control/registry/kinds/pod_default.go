package kinds

import (
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Defaults as documented in k8s.io/api/core/v1 and set by Kubernetes.
const (
	defaultGraceSeconds int64 = 30
	defaultTokenSeconds int64 = 3600
	defaultVolumeMode   int32 = 0o644
	defaultTolerateFor  int64 = 300
)

// DefaultServiceAccount is the account of pods that name none.
const DefaultServiceAccount = "default"

// or sets *p to a value if it is the zero value.
func or[T comparable](p *T, value T) {
	var zero T
	if *p == zero {
		*p = value
	}
}

// orPtr makes *p point at a value if it is nil.
func orPtr[T any](p **T, value T) {
	if *p == nil {
		*p = &value
	}
}

// defaultPod fills what a pod has and a pod template has not, then what both
// have.
func defaultPod(pod *corev1.Pod) {
	defaultPodSpec(&pod.Spec)
	orPtr(&pod.Spec.EnableServiceLinks, true)
	for c := range eachContainer(&pod.Spec) {
		for name, limit := range c.Resources.Limits {
			if _, ok := c.Resources.Requests[name]; ok {
				continue
			}
			if c.Resources.Requests == nil {
				c.Resources.Requests = corev1.ResourceList{}
			}
			c.Resources.Requests[name] = limit.DeepCopy()
		}
	}
	if g := pod.Spec.TerminationGracePeriodSeconds; g != nil && *g < 0 {
		pod.Spec.TerminationGracePeriodSeconds = new(int64)
		*pod.Spec.TerminationGracePeriodSeconds = 1
	}
	for i := range pod.Spec.EphemeralContainers {
		defaultContainer((*corev1.Container)(&pod.Spec.EphemeralContainers[i].EphemeralContainerCommon))
	}
}

// defaultTemplate fills a pod template.
func defaultTemplate(t *corev1.PodTemplateSpec) { defaultPodSpec(&t.Spec) }

// eachContainer yields init containers and containers.
func eachContainer(spec *corev1.PodSpec) func(yield func(*corev1.Container) bool) {
	return func(yield func(*corev1.Container) bool) {
		for i := range spec.InitContainers {
			if !yield(&spec.InitContainers[i]) {
				return
			}
		}
		for i := range spec.Containers {
			if !yield(&spec.Containers[i]) {
				return
			}
		}
	}
}

func defaultPodSpec(spec *corev1.PodSpec) {
	or(&spec.RestartPolicy, corev1.RestartPolicyAlways)
	or(&spec.DNSPolicy, corev1.DNSClusterFirst)
	or(&spec.SchedulerName, corev1.DefaultSchedulerName)
	orPtr(&spec.TerminationGracePeriodSeconds, defaultGraceSeconds)
	orPtr(&spec.SecurityContext, corev1.PodSecurityContext{})
	or(&spec.ServiceAccountName, spec.DeprecatedServiceAccount)
	spec.DeprecatedServiceAccount = spec.ServiceAccountName
	for i := range spec.Volumes {
		defaultVolume(&spec.Volumes[i])
	}
	for c := range eachContainer(spec) {
		defaultContainer(c)
		if spec.HostNetwork {
			for i := range c.Ports {
				or(&c.Ports[i].HostPort, c.Ports[i].ContainerPort)
			}
		}
	}
	defaultPodResources(spec)
	roundResources(spec.Overhead)
}

func defaultContainer(c *corev1.Container) {
	or(&c.TerminationMessagePath, corev1.TerminationMessagePathDefault)
	or(&c.TerminationMessagePolicy, corev1.TerminationMessageReadFile)
	or(&c.ImagePullPolicy, pullPolicy(c.Image))
	for i := range c.Ports {
		or(&c.Ports[i].Protocol, corev1.ProtocolTCP)
	}
	for i := range c.Env {
		if from := c.Env[i].ValueFrom; from != nil {
			defaultFieldRef(from.FieldRef)
		}
	}
	for _, probe := range []*corev1.Probe{c.LivenessProbe, c.ReadinessProbe, c.StartupProbe} {
		defaultProbe(probe)
	}
	if c.Lifecycle != nil {
		for _, handler := range []*corev1.LifecycleHandler{c.Lifecycle.PostStart, c.Lifecycle.PreStop} {
			if handler != nil {
				defaultHTTPGet(handler.HTTPGet)
			}
		}
	}
	roundResources(c.Resources.Limits)
	roundResources(c.Resources.Requests)
}

// imageName is the form of an image's name: a host, a path, a tag and a digest,
// all but the path optional
// (https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pull).
var imageName = regexp.MustCompile(`^(?:(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?|\[[a-fA-F0-9:]+\])(?::[0-9]+)?/)?` + imagePart + `(?:/` + imagePart + `)*` +
	`(?::\w[\w.-]{0,127})?(?:@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9A-Fa-f]{32,})?$`)

const imagePart = `[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*`

// pullPolicy is Always for images whose tag is latest, given or implied; what is
// no name of an image is not asked for again.
func pullPolicy(image string) corev1.PullPolicy {
	if !imageName.MatchString(image) {
		return corev1.PullIfNotPresent
	}
	name, digest, _ := strings.Cut(image, "@")
	_, tag, tagged := strings.Cut(name[strings.LastIndexByte(name, '/')+1:], ":")
	if tag == "latest" || !tagged && digest == "" {
		return corev1.PullAlways
	}
	return corev1.PullIfNotPresent
}

func defaultProbe(p *corev1.Probe) {
	if p == nil {
		return
	}
	or(&p.TimeoutSeconds, 1)
	or(&p.PeriodSeconds, 10)
	or(&p.SuccessThreshold, 1)
	or(&p.FailureThreshold, 3)
	defaultHTTPGet(p.HTTPGet)
	if p.GRPC != nil {
		orPtr(&p.GRPC.Service, "")
	}
}

func defaultHTTPGet(a *corev1.HTTPGetAction) {
	if a == nil {
		return
	}
	or(&a.Path, "/")
	or(&a.Scheme, corev1.URISchemeHTTP)
}

func defaultFieldRef(f *corev1.ObjectFieldSelector) {
	if f != nil {
		or(&f.APIVersion, "v1")
	}
}

func defaultVolume(v *corev1.Volume) {
	if v.VolumeSource == (corev1.VolumeSource{}) {
		v.EmptyDir = &corev1.EmptyDirVolumeSource{}
	}
	if v.Secret != nil {
		orPtr(&v.Secret.DefaultMode, defaultVolumeMode)
	}
	if v.ConfigMap != nil {
		orPtr(&v.ConfigMap.DefaultMode, defaultVolumeMode)
	}
	if v.HostPath != nil {
		orPtr(&v.HostPath.Type, corev1.HostPathUnset)
	}
	if v.DownwardAPI != nil {
		orPtr(&v.DownwardAPI.DefaultMode, defaultVolumeMode)
		defaultDownward(v.DownwardAPI.Items)
	}
	if v.ISCSI != nil {
		or(&v.ISCSI.ISCSIInterface, defaultISCSIInterface)
	}
	if v.RBD != nil {
		or(&v.RBD.RBDPool, defaultRBDPool)
		or(&v.RBD.RadosUser, defaultRBDUser)
		or(&v.RBD.Keyring, defaultRBDKeyring)
	}
	if v.ScaleIO != nil {
		or(&v.ScaleIO.StorageMode, "ThinProvisioned")
		or(&v.ScaleIO.FSType, "xfs")
	}
	if v.AzureDisk != nil {
		defaultAzureDisk(v.AzureDisk)
	}
	if v.Ephemeral != nil && v.Ephemeral.VolumeClaimTemplate != nil {
		defaultClaim(&v.Ephemeral.VolumeClaimTemplate.Spec)
	}
	if v.Image != nil {
		or(&v.Image.PullPolicy, pullPolicy(v.Image.Reference))
	}
	if v.Projected == nil {
		return
	}
	orPtr(&v.Projected.DefaultMode, defaultVolumeMode)
	for _, source := range v.Projected.Sources {
		if source.ServiceAccountToken != nil {
			orPtr(&source.ServiceAccountToken.ExpirationSeconds, defaultTokenSeconds)
		}
		if source.DownwardAPI != nil {
			defaultDownward(source.DownwardAPI.Items)
		}
	}
}

func defaultDownward(items []corev1.DownwardAPIVolumeFile) {
	for i := range items {
		defaultFieldRef(items[i].FieldRef)
	}
}

// roundResources keeps quantities to thousandths, as Kubernetes does.
func roundResources(list corev1.ResourceList) {
	for name, q := range list {
		if q.RoundUp(resource.Milli) {
			continue
		}
		list[name] = q
	}
}

// createPod sets what Kubernetes' admission and pod strategy set on creation:
// service account, priority, tolerations of a node's short failures, and the
// first status.
func createPod(pod *corev1.Pod) {
	spec := &pod.Spec
	if _, mirror := pod.Annotations[mirrorAnnotation]; !mirror { // a mirror may not have one
		or(&spec.ServiceAccountName, DefaultServiceAccount)
	}
	spec.DeprecatedServiceAccount = spec.ServiceAccountName
	orPtr(&spec.Priority, 0)
	orPtr(&spec.PreemptionPolicy, corev1.PreemptLowerPriority)
	tolerate(spec, corev1.TaintNodeNotReady)
	tolerate(spec, corev1.TaintNodeUnreachable)
	pod.Status = corev1.PodStatus{Phase: corev1.PodPending, QOSClass: qosClass(spec)}
	if len(spec.SchedulingGates) > 0 {
		pod.Status.Conditions = []corev1.PodCondition{{
			Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonSchedulingGated,
			Message: "Scheduling is blocked due to non-empty scheduling gates", LastTransitionTime: pod.CreationTimestamp}}
	}
}

// tolerate adds the toleration of DefaultTolerationSeconds unless there is one
// already.
func tolerate(spec *corev1.PodSpec, taint string) {
	tolerated := slices.ContainsFunc(spec.Tolerations, func(t corev1.Toleration) bool {
		return (t.Key == taint || t.Key == "") && (t.Effect == corev1.TaintEffectNoExecute || t.Effect == "")
	})
	if tolerated {
		return
	}
	seconds := defaultTolerateFor
	spec.Tolerations = append(spec.Tolerations, corev1.Toleration{
		Key: taint, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &seconds})
}
