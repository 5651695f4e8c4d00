package admission

import (
	"context"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilrand "k8s.io/apimachinery/pkg/util/rand"

	"wherry.dev/wherry/control/api"
)

const (
	defaultAccount = "default"
	// tokenPath is where programs look for their token, the cluster's authority
	// and their namespace.
	tokenPath = "/var/run/secrets/kubernetes.io/serviceaccount"
	// tokenSeconds is what Kubernetes asks for: an hour, and something by which
	// these tokens are known.
	tokenSeconds int64 = 3607
	rootCA             = "kube-root-ca.crt"
	mirrorPod          = corev1.MirrorPodAnnotationKey
)

// serviceAccount gives a pod its service account, the account's pull secrets
// and, when mount says so, a volume with its token.
func serviceAccount(mount bool) Plugin {
	return Plugin{
		Name: "ServiceAccount",
		Mutate: func(ctx context.Context, r *api.AdmissionRequest) error {
			pod, ok := r.Object.(*corev1.Pod)
			if !ok || !r.Is(api.Pods, api.Create) {
				return nil
			}
			if _, mirror := pod.Annotations[mirrorPod]; mirror {
				return checkMirror(r.Key, pod)
			}
			if pod.Spec.ServiceAccountName == "" {
				pod.Spec.ServiceAccountName = defaultAccount
			}
			pod.Spec.DeprecatedServiceAccount = pod.Spec.ServiceAccountName
			account, err := accountOf(ctx, r, pod)
			if err != nil {
				return err
			}
			if mount && automount(pod, account) {
				mountToken(pod)
			}
			if len(pod.Spec.ImagePullSecrets) == 0 {
				pod.Spec.ImagePullSecrets = slices.Clone(account.ImagePullSecrets)
			}
			return nil
		},
		Validate: func(ctx context.Context, r *api.AdmissionRequest) error {
			pod, ok := r.Object.(*corev1.Pod)
			debugged := ok && r.Operation == api.Update && r.Subresource == "ephemeralcontainers"
			if !debugged && !r.Is(api.Pods, api.Create) {
				return nil
			}
			if _, mirror := pod.Annotations[mirrorPod]; mirror && !debugged {
				return checkMirror(r.Key, pod)
			}
			account, err := accountOf(ctx, r, pod)
			if err != nil {
				return err
			}
			if only, _ := strconv.ParseBool(account.Annotations[mountableOnly]); !only {
				return nil
			}
			if err := checkMountable(account, pod, debugged); err != nil {
				return apierrors.NewForbidden(r.Key.GroupResource(), r.Key.Name, err)
			}
			return nil
		},
	}
}

// checkMirror keeps the API's view of a static pod away from secrets.
func checkMirror(key api.Key, pod *corev1.Pod) error {
	refuse := func(text string) error {
		return apierrors.NewForbidden(key.GroupResource(), key.Name, fmt.Errorf("%s", text))
	}
	if pod.Spec.ServiceAccountName != "" {
		return refuse("a mirror pod may not reference service accounts")
	}
	for _, v := range pod.Spec.Volumes {
		if v.Secret != nil {
			return refuse("a mirror pod may not reference secrets")
		}
		if v.Projected == nil {
			continue
		}
		for _, source := range v.Projected.Sources {
			if source.ServiceAccountToken != nil {
				return refuse("a mirror pod may not use ServiceAccountToken volume projections")
			}
		}
	}
	return nil
}

// accountOf returns the pod's account. The account "default" may come later:
// its controller may not have seen the namespace yet, and only its name is
// needed.
func accountOf(ctx context.Context, r *api.AdmissionRequest, pod *corev1.Pod) (*corev1.ServiceAccount, error) {
	name := pod.Spec.ServiceAccountName
	account, err := api.Get[*corev1.ServiceAccount](ctx, r.Client, api.ServiceAccounts.Key(r.Key.Namespace, name))
	if apierrors.IsNotFound(err) {
		if name == defaultAccount {
			return &corev1.ServiceAccount{}, nil
		}
		return nil, apierrors.NewForbidden(r.Key.GroupResource(), r.Key.Name,
			fmt.Errorf("error looking up service account %s/%s: serviceaccount %q not found", r.Key.Namespace, name, name))
	}
	return account, err
}

func automount(pod *corev1.Pod, account *corev1.ServiceAccount) bool {
	if p := pod.Spec.AutomountServiceAccountToken; p != nil {
		return *p
	}
	return account.AutomountServiceAccountToken == nil || *account.AutomountServiceAccountToken
}

// tokenSuffix makes the volume's name as random as Kubernetes', but the same for
// all pods of one controller: they then say the same in their specs, which is
// kept once (api.Types).
func tokenSuffix(pod *corev1.Pod) string {
	owner := metav1.GetControllerOfNoCopy(pod)
	if owner == nil {
		return utilrand.String(tokenSuffixLength)
	}
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(owner.UID)) // cannot fail
	return utilrand.SafeEncodeString(fmt.Sprintf("%0*d", tokenSuffixLength, hash.Sum64()%1e5))
}

// tokenSuffixLength is Kubernetes'.
const tokenSuffixLength = 5

// mountToken adds the volume with token, authority and namespace to every
// container that has nothing of its own at that place.
func mountToken(pod *corev1.Pod) {
	name := ""
	for _, v := range pod.Spec.Volumes {
		if v.Projected != nil && len(v.Name) > len("kube-api-access-") && v.Name[:len("kube-api-access-")] == "kube-api-access-" {
			name = v.Name
		}
	}
	needed, exists := false, name != ""
	if !exists {
		name = "kube-api-access-" + tokenSuffix(pod)
	}
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			taken := slices.ContainsFunc(containers[i].VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == tokenPath })
			if !taken {
				needed = true
				containers[i].VolumeMounts = append(containers[i].VolumeMounts, corev1.VolumeMount{Name: name, ReadOnly: true, MountPath: tokenPath})
			}
		}
	}
	if needed && !exists {
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Projected: tokenVolume()}})
	}
}

func tokenVolume() *corev1.ProjectedVolumeSource {
	mode, seconds := corev1.ProjectedVolumeSourceDefaultMode, tokenSeconds
	return &corev1.ProjectedVolumeSource{DefaultMode: &mode, Sources: []corev1.VolumeProjection{
		{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: &seconds}},
		{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: rootCA},
			Items: []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}}}},
		{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{
			{Path: "namespace", FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.namespace"}}}}},
	}}
}
