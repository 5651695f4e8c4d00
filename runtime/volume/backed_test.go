package volume

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// TestFilesComeAtTheFirstLook: a pod whose guests never look at a volume costs
// no file, and one that looks sees what the object holds by then.
func TestFilesComeAtTheFirstLook(t *testing.T) {
	src, dir := testObjects(), filepath.Join(t.TempDir(), "pod")
	s := NewSet(dir, src)
	pod := testPod(map[string]corev1.VolumeSource{"v": {ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: ref("cm")}}},
		corev1.VolumeMount{Name: "v", MountPath: "/etc/v"})
	sync := func(value string) {
		t.Helper()
		src.maps["cm"] = &corev1.ConfigMap{Data: map[string]string{"a": value}}
		if err := s.Sync(t.Context(), pod, Node{}); err != nil {
			t.Fatal(err)
		}
	}
	sync("1")
	mounts, err := s.Mounts(pod, &pod.Spec.Containers[0], nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(mounts) != 1 || mounts[0].Later == nil || mounts[0].Later.File {
		t.Fatalf("mounts are %+v", mounts)
	}
	sync("2")
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nobody has looked, and there is something on the disk: %v", err)
	}
	for range 2 { // a second guest of the pod
		if err := mounts[0].Later.Make(); err != nil {
			t.Fatal(err)
		}
	}
	at := filepath.Join(mounts[0].Source, "a")
	if got := content(t, at); got != "2" {
		t.Errorf("the guest sees %q", got)
	}
	sync("3")
	if got := content(t, at); got != "3" {
		t.Errorf("after a change the guest sees %q", got)
	}
	if err := s.Remove(); err != nil {
		t.Fatal(err)
	}
	if err := mounts[0].Later.Make(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a look at what is removed: %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something is left: %v", err)
	}
}

// TestLookThatFails: the disk may be full, and have room again later.
func TestLookThatFails(t *testing.T) {
	root := t.TempDir()
	blocked := filepath.Join(root, "volumes")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := NewSet(root, testObjects())
	pod := testPod(map[string]corev1.VolumeSource{"v": {Secret: &corev1.SecretVolumeSource{SecretName: "sec"}}})
	if err := s.Sync(t.Context(), pod, Node{}); err != nil {
		t.Fatal(err)
	}
	if err := s.backed["v"].make(); err == nil {
		t.Fatal("a file in the way went unnoticed")
	}
	if err := os.Remove(blocked); err != nil {
		t.Fatal(err)
	}
	look(t, s)
	if got := content(t, filepath.Join(s.host["v"], "key")); got != "hidden" {
		t.Errorf("the guest sees %q", got)
	}
}
