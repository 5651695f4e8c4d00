package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"wherry.dev/wherry/control/api"
)

// manifests reads a directory of pods again and again, each file once per
// change. It belongs to one goroutine.
type manifests struct {
	node   string
	source StaticPods
	log    *slog.Logger
	files  map[string]manifest // by path
	said   string              // the last complaint about the directory
}

// manifest is a file as it was read last. One that cannot be used any more
// keeps its last good pod: an editor writes in several steps.
type manifest struct {
	size     int64
	modified time.Time
	sum      [sha256.Size]byte
	pod      *corev1.Pod
}

// maxManifest bounds what is read of a file, as the API server bounds a request.
const maxManifest = 3 << 20

// read returns the pods of the directory by their uids. Two files with one
// pod's name are a mistake: the first by name counts.
func (m *manifests) read() map[types.UID]*corev1.Pod {
	wanted := make(map[types.UID]*corev1.Pod)
	if m.source.Dir == "" {
		return wanted
	}
	entries, err := os.ReadDir(m.source.Dir)
	m.complain(err)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		for _, file := range m.files { // it is there, but cannot be read just now
			if file.pod != nil {
				wanted[file.pod.UID] = file.pod
			}
		}
		return wanted
	}
	seen := make(map[string]manifest, len(entries))
	names := make(map[api.Key]string, len(entries))
	for _, e := range entries {
		if e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		path := filepath.Join(m.source.Dir, e.Name())
		file, ok := m.look(path)
		if !ok {
			continue
		}
		seen[path] = file
		if file.pod == nil {
			continue
		}
		key := api.Pods.KeyOf(file.pod)
		if first, taken := names[key]; taken {
			if _, known := m.files[path]; !known {
				m.log.Error("two manifests have one pod's name, the second is not used", "first", first, "second", path)
			}
			continue
		}
		names[key] = path
		wanted[file.pod.UID] = file.pod
	}
	m.files = seen
	return wanted
}

// complain says once what is wrong with the directory.
func (m *manifests) complain(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != m.said && text != "" {
		m.log.Error("cannot read the directory of static pods, will try again", "err", err)
	}
	m.said = text
}

// look reads a file unless it is as it was. The clock of a file system is
// coarse, so that a file which has just been written is always read.
func (m *manifests) look(path string) (manifest, bool) {
	info, err := os.Stat(path)
	if err != nil || info.IsDir() {
		return manifest{}, false // it went away meanwhile
	}
	known, ok := m.files[path]
	if ok && known.size == info.Size() && known.modified.Equal(info.ModTime()) && time.Since(info.ModTime()) > 2*staticPeriod {
		return known, true
	}
	next := manifest{size: info.Size(), modified: info.ModTime(), pod: known.pod}
	if info.Size() > maxManifest {
		err = fmt.Errorf("the file has %d bytes, more than %d", info.Size(), maxManifest)
	}
	var data []byte
	if err == nil {
		data, err = os.ReadFile(path)
	}
	next.sum = sha256.Sum256(data)
	if ok && next.sum == known.sum && known.size == next.size {
		return next, true
	}
	var pod *corev1.Pod
	if err == nil {
		pod, err = m.parse(path, data, info.ModTime())
	}
	if err != nil {
		m.log.Error("cannot use the manifest of a static pod", "err", fmt.Errorf("%s: %w", path, err))
		return next, true
	}
	next.pod = pod
	return next, true
}

// parse makes a manifest a pod of this node. Its uid follows from what the
// file says, so that a change makes it another pod.
func (m *manifests) parse(path string, data []byte, modified time.Time) (*corev1.Pod, error) {
	pod := &corev1.Pod{}
	if err := yaml.Unmarshal(data, pod); err != nil {
		return nil, fmt.Errorf("want a v1 Pod: %w", err)
	}
	if pod.Kind != "Pod" || pod.APIVersion != "v1" {
		return nil, fmt.Errorf("want a v1 Pod, not apiVersion %q, kind %q", pod.APIVersion, pod.Kind)
	}
	if err := checkStatic(pod); err != nil {
		return nil, err
	}
	said, err := json.Marshal(pod)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(append([]byte(m.node+"\x00"+path+"\x00"), said...))
	uid := hex.EncodeToString(sum[:16])
	pod.ObjectMeta = metav1.ObjectMeta{Namespace: pod.Namespace, Name: staticName(pod.Name, m.node), UID: types.UID(uid),
		Labels: pod.Labels, Annotations: maps.Clone(pod.Annotations), Generation: 1, CreationTimestamp: metav1.NewTime(modified.Truncate(time.Second))}
	if pod.Namespace == "" {
		pod.Namespace = metav1.NamespaceDefault
	}
	if pod.Annotations == nil {
		pod.Annotations = make(map[string]string)
	}
	pod.Annotations[configHash], pod.Annotations[configSource] = uid, "file"
	pod.Annotations[configSeen] = time.Now().UTC().Format(time.RFC3339Nano)
	delete(pod.Annotations, corev1.MirrorPodAnnotationKey)
	pod.Spec.NodeName = m.node
	pod.Status = corev1.PodStatus{}
	// No taint sends away what its node runs by itself.
	pod.Spec.Tolerations = append(pod.Spec.Tolerations, corev1.Toleration{Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute})
	return pod, m.source.Complete(pod)
}

// checkStatic refuses what a pod without the API cannot have. kubelet says it
// in the same words.
func checkStatic(pod *corev1.Pod) error {
	refuse := func(what string) error { return fmt.Errorf("static pods can not reference %q", what) }
	switch {
	case pod.Spec.ServiceAccountName != "":
		return refuse("serviceaccounts")
	case len(pod.Spec.ImagePullSecrets) > 0:
		return refuse("secrets")
	case len(pod.Spec.ResourceClaims) > 0:
		return refuse("resourceclaims")
	case len(pod.Spec.EphemeralContainers) > 0:
		return errors.New("static pods cannot have ephemeral containers")
	}
	for i := range pod.Spec.Volumes {
		if what := referenceOf(&pod.Spec.Volumes[i]); what != "" {
			return refuse(what)
		}
	}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			for _, from := range list[i].EnvFrom {
				if from.ConfigMapRef != nil {
					return refuse("configmaps")
				}
				if from.SecretRef != nil {
					return refuse("secrets")
				}
			}
			for _, env := range list[i].Env {
				if env.ValueFrom != nil && env.ValueFrom.ConfigMapKeyRef != nil {
					return refuse("configmaps")
				}
				if env.ValueFrom != nil && env.ValueFrom.SecretKeyRef != nil {
					return refuse("secrets")
				}
			}
		}
	}
	return nil
}

// referenceOf names the kind of object that a volume is made of.
func referenceOf(v *corev1.Volume) string {
	switch {
	case v.ConfigMap != nil:
		return "configmaps"
	case v.Secret != nil:
		return "secrets"
	case v.PersistentVolumeClaim != nil, v.Ephemeral != nil:
		return "persistentvolumeclaims"
	case v.Projected == nil:
		return ""
	}
	for _, source := range v.Projected.Sources {
		switch {
		case source.ConfigMap != nil:
			return "configmaps"
		case source.Secret != nil:
			return "secrets"
		case source.ServiceAccountToken != nil:
			return "serviceaccounts"
		case source.ClusterTrustBundle != nil:
			return "clustertrustbundles"
		}
	}
	return ""
}

// staticName is the name of a static pod in the API.
func staticName(name, node string) string { return name + "-" + strings.ToLower(node) }
