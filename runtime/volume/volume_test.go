package volume

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// objects is a Source in memory.
type objects struct {
	Source  // what a test does not ask for
	maps    map[string]*corev1.ConfigMap
	secrets map[string]*corev1.Secret
}

func (o objects) ConfigMap(_ context.Context, _, name string) (*corev1.ConfigMap, error) {
	if cm, ok := o.maps[name]; ok {
		return cm, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "configmaps"}, name)
}

func (o objects) Secret(_ context.Context, _, name string) (*corev1.Secret, error) {
	if s, ok := o.secrets[name]; ok {
		return s, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "secrets"}, name)
}

func testObjects() objects {
	return objects{
		maps:    map[string]*corev1.ConfigMap{"cm": {Data: map[string]string{"a": "1", "b": "2"}, BinaryData: map[string][]byte{"bin": {0, 255}}}},
		secrets: map[string]*corev1.Secret{"sec": {Data: map[string][]byte{"key": []byte("hidden")}}},
	}
}

func testPod(sources map[string]corev1.VolumeSource, mounts ...corev1.VolumeMount) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "u1",
		Labels: map[string]string{"app": "web", "tier": "front"}, Annotations: map[string]string{"note": "a \"b\""}}}
	for name, source := range sources {
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: source})
	}
	pod.Spec.Containers = []corev1.Container{{Name: "c", VolumeMounts: mounts}}
	return pod
}

func ref(name string) corev1.LocalObjectReference { return corev1.LocalObjectReference{Name: name} }

func ptr[T any](v T) *T { return &v }

func content(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// look makes the files of all volumes, as a guest's first look at each does.
func look(t *testing.T, s *Set) {
	t.Helper()
	for name, b := range s.backed {
		if err := b.make(); err != nil {
			t.Fatalf("look at %s: %v", name, err)
		}
	}
}

func TestConfigMapIsWrittenAtomically(t *testing.T) {
	src := testObjects()
	dir := t.TempDir()
	s := NewSet(dir, src)
	pod := testPod(map[string]corev1.VolumeSource{"v": {ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: ref("cm")}}})
	sync := func() {
		t.Helper()
		if err := s.Sync(t.Context(), pod, Node{}); err != nil {
			t.Fatal(err)
		}
	}
	sync()
	look(t, s)
	at := filepath.Join(dir, "volumes", "configMap", "v")
	if content(t, filepath.Join(at, "a")) != "1" || content(t, filepath.Join(at, "bin")) != "\x00\xff" {
		t.Error("wrong content")
	}
	if to, err := os.Readlink(filepath.Join(at, "a")); err != nil || to != filepath.Join("..data", "a") {
		t.Errorf("a is %q, %v", to, err)
	}
	first, err := os.Readlink(filepath.Join(at, "..data"))
	if err != nil {
		t.Fatal(err)
	}
	sync() // nothing has changed
	if again, _ := os.Readlink(filepath.Join(at, "..data")); again != first {
		t.Error("the volume was written again without a reason")
	}
	src.maps["cm"] = &corev1.ConfigMap{Data: map[string]string{"b": "3", "c": "4"}}
	sync()
	if content(t, filepath.Join(at, "b")) != "3" || content(t, filepath.Join(at, "c")) != "4" {
		t.Error("wrong content after the change")
	}
	var names []string
	entries, err := os.ReadDir(at)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "..2") {
			names = append(names, e.Name())
		}
	}
	if got := strings.Join(names, " "); got != "..data b c" || len(entries) != 4 {
		t.Errorf("volume holds %q and %d entries", got, len(entries))
	}
	if err := s.Remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Error("something is left")
	}
}

func TestSources(t *testing.T) {
	keys := func(pairs ...string) (items []corev1.KeyToPath) {
		for i := 0; i < len(pairs); i += 2 {
			items = append(items, corev1.KeyToPath{Key: pairs[i], Path: pairs[i+1]})
		}
		return items
	}
	field := func(path, field string) corev1.DownwardAPIVolumeFile {
		return corev1.DownwardAPIVolumeFile{Path: path, FieldRef: &corev1.ObjectFieldSelector{FieldPath: field}}
	}
	for name, tt := range map[string]struct {
		source corev1.VolumeSource
		want   map[string]string // path to content
		err    string
	}{
		"items": {corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: ref("cm"), Items: keys("a", "deep/er/a.txt")}},
			map[string]string{"deep/er/a.txt": "1"}, ""},
		"missing key": {corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: ref("cm"), Items: keys("x", "x")}},
			nil, `MountVolume.SetUp failed for volume "v" : configmap references non-existent config key: x`},
		"missing map": {corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: ref("no")}},
			nil, `MountVolume.SetUp failed for volume "v" : configmap "no" not found`},
		"optional map": {corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: ref("no"), Optional: ptr(true)}},
			map[string]string{}, ""},
		"secret":         {corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "sec"}}, map[string]string{"key": "hidden"}, ""},
		"missing secret": {corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "no"}}, nil, `secret "no" not found`},
		"downward": {corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: []corev1.DownwardAPIVolumeFile{
			field("labels", "metadata.labels"), field("one", "metadata.labels['tier']"), field("notes", "metadata.annotations")}}},
			map[string]string{"labels": "app=\"web\"\ntier=\"front\"", "one": "front", "notes": `note="a \"b\""`}, ""},
		"projected": {corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: ref("cm"), Items: keys("a", "conf/a")}},
			{Secret: &corev1.SecretProjection{LocalObjectReference: ref("sec")}},
			{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{field("name", "metadata.name")}}},
		}}}, map[string]string{"conf/a": "1", "key": "hidden", "name": "web"}, ""},
		"escape": {corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: ref("cm"), Items: keys("a", "x/../../y")}},
			nil, "must not begin with '..'"},
		"unknown kind": {corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{}}, nil, "volume type nfs is not supported by this node"},
	} {
		t.Run(name, func(t *testing.T) {
			s := NewSet(t.TempDir(), testObjects())
			err := s.Sync(t.Context(), testPod(map[string]corev1.VolumeSource{"v": tt.source}), Node{})
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			look(t, s)
			for path, want := range tt.want {
				if got := content(t, filepath.Join(s.host["v"], path)); got != want {
					t.Errorf("%s is %q, want %q", path, got, want)
				}
			}
		})
	}
}

func TestModes(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files have no modes there")
	}
	s := NewSet(t.TempDir(), testObjects())
	pod := testPod(map[string]corev1.VolumeSource{"v": {Secret: &corev1.SecretVolumeSource{SecretName: "sec", DefaultMode: ptr[int32](0o400)}},
		"w": {ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: ref("cm"), Items: []corev1.KeyToPath{{Key: "a", Path: "a", Mode: ptr[int32](0o755)}}}}})
	if err := s.Sync(t.Context(), pod, Node{}); err != nil {
		t.Fatal(err)
	}
	look(t, s)
	for path, want := range map[string]os.FileMode{filepath.Join(s.host["v"], "key"): 0o400, filepath.Join(s.host["w"], "a"): 0o755} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has %v, want %v (%v)", path, info.Mode(), want, err)
		}
	}
}

func TestMounts(t *testing.T) {
	src := testObjects()
	s := NewSet(t.TempDir(), src)
	pod := testPod(map[string]corev1.VolumeSource{
		"tmp": {EmptyDir: &corev1.EmptyDirVolumeSource{}},
		"cm":  {ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: ref("cm")}},
	},
		corev1.VolumeMount{Name: "tmp", MountPath: "/data"},
		corev1.VolumeMount{Name: "cm", MountPath: "/etc/app"},
		corev1.VolumeMount{Name: "cm", MountPath: "/etc/one", SubPath: "a"},
		corev1.VolumeMount{Name: "tmp", MountPath: "/sub", SubPathExpr: "$(X)/logs", ReadOnly: true},
	)
	if err := s.Sync(t.Context(), pod, Node{}); err != nil {
		t.Fatal(err)
	}
	mounts, err := s.Mounts(pod, &pod.Spec.Containers[0], func(text string) (string, error) { return strings.Replace(text, "$(X)", "x", 1), nil })
	if err != nil {
		t.Fatal(err)
	}
	if len(mounts) != 4 || mounts[0].ReadOnly || mounts[0].Target != "/data" || !mounts[1].ReadOnly || !mounts[3].ReadOnly {
		t.Fatalf("mounts %+v", mounts)
	}
	if info, err := os.Stat(filepath.Join(s.host["tmp"], "x", "logs")); err != nil || !info.IsDir() {
		t.Errorf("the subPath was not made: %v", err)
	}
	if mounts[3].Source != s.host["tmp"] || mounts[3].SubPath != "x/logs" {
		t.Errorf("a path that guests can change is not left to the runtime to resolve: %+v", mounts[3])
	}
	// A subPath of a ConfigMap stays as it was.
	src.maps["cm"] = &corev1.ConfigMap{Data: map[string]string{"a": "changed"}}
	if err := s.Sync(t.Context(), pod, Node{}); err != nil {
		t.Fatal(err)
	}
	if content(t, mounts[2].Source) != "1" || content(t, filepath.Join(mounts[1].Source, "a")) != "changed" {
		t.Error("the wrong mount has changed")
	}
}

// TestBounds: on the disk a volume may pass its limit by a little, so that its
// pod is evicted; in memory it may not.
func TestBounds(t *testing.T) {
	limited := func(amount string) corev1.ResourceRequirements {
		return corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(amount)}}
	}
	const mib = 1 << 20
	for name, tt := range map[string]struct {
		medium       corev1.StorageMedium
		limit        string
		resources    corev1.ResourceRequirements
		bytes, files int64
	}{
		"no limit":                  {"", "", limited("1Mi"), 0, 0},
		"a limit of nothing":        {"", "0", limited("1Mi"), 0, 0},
		"on the disk":               {"", "16Mi", limited("1Mi"), 17*mib + 64<<10, 17*256 + 16},
		"a small one":               {"", "1Ki", limited("1Mi"), 1<<10 + 64 + 64<<10, 1024},
		"in memory":                 {corev1.StorageMediumMemory, "16Mi", limited("32Mi"), 16 * mib, 16 * 256},
		"memory of the pod":         {corev1.StorageMediumMemory, "", limited("32Mi"), 32 * mib, 32 * 256},
		"less memory than the size": {corev1.StorageMediumMemory, "64Mi", limited("32Mi"), 32 * mib, 32 * 256},
		"memory of the node":        {corev1.StorageMediumMemory, "", corev1.ResourceRequirements{}, 1024 * mib, 1024 * 256},
	} {
		t.Run(name, func(t *testing.T) {
			v := &corev1.EmptyDirVolumeSource{Medium: tt.medium}
			if tt.limit != "" {
				v.SizeLimit = ptr(resource.MustParse(tt.limit))
			}
			s := NewSet(t.TempDir(), testObjects())
			pod := testPod(map[string]corev1.VolumeSource{"v": {EmptyDir: v}}, corev1.VolumeMount{Name: "v", MountPath: "/v"})
			pod.Spec.Containers[0].Resources = tt.resources
			node := Node{Allocatable: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Gi")}}
			t.Cleanup(func() {
				if err := s.Remove(); err != nil {
					t.Error(err)
				}
			})
			if err := s.Sync(t.Context(), pod, node); err != nil {
				t.Fatal(err)
			}
			mounts, err := s.Mounts(pod, &pod.Spec.Containers[0], nil)
			if err != nil || len(mounts) != 1 || mounts[0].MaxBytes != tt.bytes || mounts[0].MaxFiles != tt.files {
				t.Errorf("%+v, %v", mounts, err)
			}
		})
	}
}

func TestSubPathCannotLeaveTheVolume(t *testing.T) {
	outside := t.TempDir()
	for name, sub := range map[string]string{"dots": "a/../../x", "absolute": "/etc", "link": "out", "below a link": "out/x"} {
		t.Run(name, func(t *testing.T) {
			s := NewSet(t.TempDir(), testObjects())
			pod := testPod(map[string]corev1.VolumeSource{"tmp": {EmptyDir: &corev1.EmptyDirVolumeSource{}}},
				corev1.VolumeMount{Name: "tmp", MountPath: "/data", SubPath: sub})
			if err := s.Sync(t.Context(), pod, Node{}); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(outside, filepath.Join(s.host["tmp"], "out")); err != nil {
				t.Fatal(err)
			}
			if mounts, err := s.Mounts(pod, &pod.Spec.Containers[0], nil); err == nil {
				t.Errorf("got %+v", mounts)
			}
		})
	}
}

func TestHostPath(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		path string
		kind corev1.HostPathType
		err  string
	}{
		{dir, corev1.HostPathUnset, ""}, {dir, corev1.HostPathDirectory, ""}, {file, corev1.HostPathFile, ""},
		{filepath.Join(dir, "new", "dir"), corev1.HostPathDirectoryOrCreate, ""},
		{filepath.Join(dir, "new.txt"), corev1.HostPathFileOrCreate, ""},
		{file, corev1.HostPathDirectory, "is not a directory"}, {dir, corev1.HostPathFile, "is not a file"},
		{file, corev1.HostPathDirectoryOrCreate, "is not a directory"}, {file, corev1.HostPathSocket, "is not a socket file"},
		{"relative", corev1.HostPathUnset, "must be absolute"},
	} {
		s := NewSet(t.TempDir(), testObjects())
		err := s.Sync(t.Context(), testPod(map[string]corev1.VolumeSource{"v": {HostPath: &corev1.HostPathVolumeSource{Path: tt.path, Type: &tt.kind}}}), Node{})
		if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("%s as %q: %v, want %q", tt.path, tt.kind, err, tt.err)
		}
		if err := s.Remove(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(file); err != nil {
		t.Errorf("the host's file is gone: %v", err)
	}
}

func TestResourceFields(t *testing.T) {
	pod := testPod(nil)
	pod.Spec.Containers[0].Resources = corev1.ResourceRequirements{
		Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")},
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1500m")},
	}
	node := Node{Allocatable: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4")}}
	for _, tt := range []struct{ resource, divisor, want string }{
		{"limits.memory", "0", "67108864"}, {"limits.memory", "1Mi", "64"}, {"requests.cpu", "0", "2"},
		{"requests.cpu", "1m", "1500"}, {"limits.cpu", "1", "4"}, {"requests.memory", "1", "0"},
	} {
		got, err := Resource(pod, node, "c", &corev1.ResourceFieldSelector{Resource: tt.resource, Divisor: resource.MustParse(tt.divisor)})
		if err != nil || got != tt.want {
			t.Errorf("%s / %s = %q, %v; want %q", tt.resource, tt.divisor, got, err, tt.want)
		}
	}
	if _, err := Resource(pod, node, "nobody", &corev1.ResourceFieldSelector{Resource: "limits.cpu"}); err == nil {
		t.Error("a container that is not there has resources")
	}
}

func TestRefs(t *testing.T) {
	pod := testPod(map[string]corev1.VolumeSource{
		"a": {ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: ref("cm")}},
		"b": {Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: ref("cm")}}, {Secret: &corev1.SecretProjection{LocalObjectReference: ref("sec")}}}}},
	})
	if refs := Refs(pod); len(refs) != 2 {
		t.Errorf("refs %+v", refs)
	}
}
