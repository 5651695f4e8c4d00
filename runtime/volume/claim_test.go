package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// storage is a Source of claims and tokens.
type storage struct {
	Source
	claims  map[string]*corev1.PersistentVolumeClaim
	volumes map[string]*corev1.PersistentVolume
	issued  *[]authenticationv1.TokenRequestSpec
	fail    *error
}

func (s storage) Claim(_ context.Context, _, name string) (*corev1.PersistentVolumeClaim, error) {
	if c, ok := s.claims[name]; ok {
		return c, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "persistentvolumeclaims"}, name)
}

func (s storage) PersistentVolume(_ context.Context, name string) (*corev1.PersistentVolume, error) {
	if v, ok := s.volumes[name]; ok {
		return v, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "persistentvolumes"}, name)
}

func (s storage) Token(_ context.Context, _, account string, spec authenticationv1.TokenRequestSpec) (*authenticationv1.TokenRequestStatus, error) {
	if *s.fail != nil {
		return nil, *s.fail
	}
	*s.issued = append(*s.issued, spec)
	return &authenticationv1.TokenRequestStatus{Token: fmt.Sprintf("%s-%d", account, len(*s.issued)),
		ExpirationTimestamp: metav1.NewTime(time.Now().Add(time.Duration(*spec.ExpirationSeconds) * time.Second))}, nil
}

func TestClaims(t *testing.T) {
	dir := t.TempDir()
	bound := func(uid types.UID, volume string) *corev1.PersistentVolumeClaim {
		return &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{UID: uid}, Spec: corev1.PersistentVolumeClaimSpec{VolumeName: volume},
			Status: corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound}}
	}
	volume := func(claim types.UID, src corev1.PersistentVolumeSource) *corev1.PersistentVolume {
		return &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv"},
			Spec: corev1.PersistentVolumeSpec{PersistentVolumeSource: src, ClaimRef: &corev1.ObjectReference{UID: claim}}}
	}
	src := storage{
		claims: map[string]*corev1.PersistentVolumeClaim{"host": bound("1", "host"), "local": bound("2", "local"), "web-scratch": bound("2", "local"),
			"lost": bound("3", "gone"), "stolen": bound("4", "host"), "nfs": bound("5", "nfs"), "pending": {}, "away": bound("6", "away"),
			"going": {ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &metav1.Time{}}}},
		volumes: map[string]*corev1.PersistentVolume{
			"host":  volume("1", corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: filepath.Join(dir, "made"), Type: ptr(corev1.HostPathDirectoryOrCreate)}}),
			"local": volume("2", corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: dir}}),
			"away":  volume("6", corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: filepath.Join(dir, "nothing")}}),
			"nfs":   volume("5", corev1.PersistentVolumeSource{NFS: &corev1.NFSVolumeSource{}})},
	}
	claim := func(name string) corev1.VolumeSource {
		return corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name, ReadOnly: true}}
	}
	for name, tt := range map[string]struct {
		volume string
		source corev1.VolumeSource
		want   string // path, or the error when it is none
	}{
		"hostPath":   {"v", claim("host"), filepath.Join(dir, "made")},
		"local":      {"v", claim("local"), dir},
		"ephemeral":  {"scratch", corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}, dir},
		"missing":    {"v", claim("no"), `persistentvolumeclaim "no" not found`},
		"unbound":    {"v", claim("pending"), "error processing PVC default/pending: PVC is not bound"},
		"deleted":    {"v", claim("going"), "PVC is being deleted"},
		"no volume":  {"v", claim("lost"), `read PersistentVolume "gone"`},
		"another's":  {"v", claim("stolen"), "is bound to another claim"},
		"elsewhere":  {"v", claim("away"), "is not on this node"},
		"other kind": {"v", claim("nfs"), "does not support; use hostPath or local"},
	} {
		t.Run(name, func(t *testing.T) {
			s := NewSet(t.TempDir(), src)
			pod := testPod(map[string]corev1.VolumeSource{tt.volume: tt.source}, corev1.VolumeMount{Name: tt.volume, MountPath: "/data"})
			pod.Name, pod.Namespace = "web", "default"
			err := s.Sync(t.Context(), pod, Node{})
			if !filepath.IsAbs(tt.want) {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got %v, want %q", err, tt.want)
				}
				return
			}
			if err != nil || s.host[tt.volume] != tt.want {
				t.Fatalf("got %q, %v", s.host[tt.volume], err)
			}
			mounts, err := s.Mounts(pod, &pod.Spec.Containers[0], nil)
			if err != nil || mounts[0].ReadOnly != (tt.source.PersistentVolumeClaim != nil) {
				t.Errorf("mounts %+v, %v", mounts, err)
			}
			if err := s.Remove(); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(tt.want); err != nil {
				t.Errorf("the claim's content went with the pod: %v", err)
			}
		})
	}
}

func TestTokensRotate(t *testing.T) {
	root := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var issued []authenticationv1.TokenRequestSpec
		var fail error
		s := NewSet(root, storage{issued: &issued, fail: &fail})
		pod := testPod(map[string]corev1.VolumeSource{"v": {Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", Audience: "vault", ExpirationSeconds: ptr(int64(1000))}}}}}})
		pod.UID, pod.Spec.ServiceAccountName = "u1", "robot"
		token := func() string {
			t.Helper()
			if err := s.Sync(t.Context(), pod, Node{}); err != nil {
				t.Fatal(err)
			}
			look(t, s)
			return content(t, filepath.Join(s.host["v"], "token"))
		}
		if got := token(); got != "robot-1" {
			t.Fatalf("token %q", got)
		}
		if spec := issued[0]; spec.Audiences[0] != "vault" || spec.BoundObjectRef.UID != "u1" || spec.BoundObjectRef.Kind != "Pod" {
			t.Errorf("asked for %+v", spec)
		}
		if left := time.Until(s.RenewAt()); left != 800*time.Second {
			t.Errorf("renewed after %v", left)
		}
		time.Sleep(799 * time.Second)
		if got := token(); got != "robot-1" {
			t.Errorf("renewed too early: %q", got)
		}
		time.Sleep(2 * time.Second)
		fail = errors.New("the API is away")
		if got := token(); got != "robot-1" || time.Until(s.RenewAt()) != tokenRetry {
			t.Errorf("without the API: %q, next try in %v", got, time.Until(s.RenewAt()))
		}
		time.Sleep(tokenRetry)
		fail = nil
		if got := token(); got != "robot-2" {
			t.Errorf("not renewed: %q", got)
		}
		time.Sleep(1000 * time.Second)
		fail = errors.New("the API is away")
		if err := s.Sync(t.Context(), pod, Node{}); err == nil || !strings.Contains(err.Error(), "failed to fetch token: the API is away") {
			t.Errorf("a token that has ended: %v", err)
		}
	})
}

func TestMemoryVolume(t *testing.T) {
	s := NewSet(t.TempDir(), nil)
	pod := testPod(map[string]corev1.VolumeSource{"m": {EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory, SizeLimit: ptr(resource.MustParse("1Mi"))}}})
	if err := s.Sync(t.Context(), pod, Node{}); err != nil {
		t.Fatal(err)
	}
	at := s.host["m"]
	if at != EmptyDirPath(s.dir, &pod.Spec.Volumes[0]) {
		t.Errorf("path %q", at)
	}
	if err := os.WriteFile(filepath.Join(at, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(at)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something is left in memory: %v", err)
	}
}
