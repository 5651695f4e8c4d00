package scheduler

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func claiming(names ...string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		for _, name := range names {
			p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name}}})
		}
	}
}

func claim(name, class, volume string, change ...func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
	c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.PersistentVolumeClaimSpec{
		StorageClassName: &class, VolumeName: volume, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		Resources: corev1.VolumeResourceRequirements{Requests: quantities("storage=1Gi")}}}
	if c.Status.Phase = corev1.ClaimPending; volume != "" {
		c.Status.Phase = corev1.ClaimBound
	}
	for _, f := range change {
		f(c)
	}
	return c
}

// diskIn is a volume that nodes of a zone reach.
func diskIn(name, class, zone string) *corev1.PersistentVolume {
	return &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PersistentVolumeSpec{
		StorageClassName: class, Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("2Gi")},
		AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{
			Driver: "disks.example.com", VolumeHandle: name}},
		NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{in("zone", zone)}}}},
		Status: corev1.PersistentVolumeStatus{Phase: corev1.VolumeAvailable}}
}

func storageClass(name, provisioner string, zones ...string) *storagev1.StorageClass {
	c := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Provisioner: provisioner,
		VolumeBindingMode: new(storagev1.VolumeBindingWaitForFirstConsumer)}
	if len(zones) > 0 {
		c.AllowedTopologies = []corev1.TopologySelectorTerm{{MatchLabelExpressions: []corev1.TopologySelectorLabelRequirement{{Key: "zone", Values: zones}}}}
	}
	return c
}

func TestPickPlacesVolumes(t *testing.T) {
	alone := func(c *corev1.PersistentVolumeClaim) {
		c.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOncePod}
	}
	for _, tt := range []struct {
		name  string
		build func(*Snapshot)
		want  string
	}{
		{"missing claim", func(*Snapshot) {}, `0/2 nodes are available: persistentvolumeclaim "data" not found.`},
		{"deleted claim", func(s *Snapshot) {
			s.SetClaim(claim("data", "fast", "v", func(c *corev1.PersistentVolumeClaim) { c.DeletionTimestamp = new(metav1.Now()) }))
		}, `0/2 nodes are available: persistentvolumeclaim "data" is being deleted.`},
		{"lost claim", func(s *Snapshot) {
			s.SetClaim(claim("data", "fast", "v", func(c *corev1.PersistentVolumeClaim) { c.Status.Phase = corev1.ClaimLost }))
		}, `0/2 nodes are available: persistentvolumeclaim "data" bound to non-existent persistentvolume "v".`},
		{"unbound immediate claim", func(s *Snapshot) { s.SetClaim(claim("data", "now", "")) },
			"0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims."},
		{"bound volume decides", func(s *Snapshot) { s.SetClaim(claim("data", "fast", "v")); s.SetVolume(diskIn("v", "fast", "2")) }, "b"},
		{"bound volume is out of reach", func(s *Snapshot) { s.SetClaim(claim("data", "fast", "v")); s.SetVolume(diskIn("v", "fast", "3")) },
			"0/2 nodes are available: 2 node(s) didn't match PersistentVolume's node affinity."},
		{"bound volume is gone", func(s *Snapshot) { s.SetClaim(claim("data", "fast", "v")) },
			"0/2 nodes are available: 2 node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)."},
		{"a free volume decides", func(s *Snapshot) {
			s.SetClaim(claim("data", "fast", ""))
			s.SetClass(storageClass("fast", "kubernetes.io/no-provisioner"))
			s.SetVolume(diskIn("v", "fast", "2"))
		}, "b"},
		{"a volume given away does not count", func(s *Snapshot) {
			s.SetClaim(claim("data", "fast", ""))
			s.SetClass(storageClass("fast", "kubernetes.io/no-provisioner"))
			s.SetVolume(diskIn("v", "fast", "2"))
			s.claims.assumed["v"] = claimName{"default", "other"}
		}, "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind."},
		{"a provisioner's zones decide", func(s *Snapshot) {
			s.SetClaim(claim("data", "fast", ""))
			s.SetClass(storageClass("fast", "disks.example.com", "2"))
		}, "b"},
		{"being provisioned elsewhere", func(s *Snapshot) {
			s.SetClaim(claim("data", "fast", "", func(c *corev1.PersistentVolumeClaim) {
				c.Annotations = map[string]string{"volume.kubernetes.io/selected-node": "a"}
			}))
			s.SetClass(storageClass("fast", "disks.example.com"))
		}, "a"},
		{"for one pod only, in use", func(s *Snapshot) {
			s.SetClaim(claim("data", "fast", "v", alone))
			s.SetVolume(diskIn("v", "fast", "2"))
			s.AddPod(pod("user", "", claiming("data")), "b")
		}, "0/2 nodes are available: 2 node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode."},
		{"too many volumes", func(s *Snapshot) {
			for _, name := range []string{"data", "other"} {
				s.SetClaim(claim(name, "fast", "v-"+name))
				s.SetVolume(diskIn("v-"+name, "fast", "2"))
			}
			limitVolumes(s, "b", 1)
			s.AddPod(pod("user", "", claiming("other")), "b")
		}, "0/2 nodes are available: 1 node(s) didn't match PersistentVolume's node affinity, 1 node(s) exceed max volume count."},
		{"too many, with those that are still to be provisioned", func(s *Snapshot) {
			s.SetClass(storageClass("fast", "disks.example.com"))
			for _, name := range []string{"data", "other"} {
				s.SetClaim(claim(name, "fast", ""))
			}
			limitVolumes(s, "a", 1)
			limitVolumes(s, "b", 1)
			s.AddPod(pod("user", "", claiming("other")), "b")
		}, "a"},
		{"too many, with what is attached for nobody", func(s *Snapshot) {
			s.SetClass(storageClass("fast", "disks.example.com"))
			s.SetClaim(claim("data", "fast", ""))
			s.SetVolume(diskIn("left", "fast", "1"))
			limitVolumes(s, "a", 1)
			s.SetAttachment(attachment("left", "a"))
		}, "b"},
		{"attached already", func(s *Snapshot) {
			s.SetClaim(claim("data", "fast", "v"))
			s.SetVolume(diskIn("v", "fast", "1"))
			limitVolumes(s, "a", 1)
			s.SetAttachment(attachment("v", "a"))
		}, "a"},
		{"detached", func(s *Snapshot) {
			s.SetClaim(claim("data", "fast", "v"))
			s.SetVolume(diskIn("v", "fast", "1"))
			s.SetVolume(diskIn("left", "fast", "1"))
			limitVolumes(s, "a", 1)
			s.SetAttachment(attachment("left", "a"))
			s.RemoveAttachment(attachment("left", "a"))
		}, "a"},
		{"another driver's volumes", func(s *Snapshot) {
			s.SetClaim(claim("data", "fast", "v"))
			s.SetVolume(diskIn("v", "fast", "2"))
			s.SetClass(storageClass("slow", "tapes.example.com"))
			s.SetClaim(claim("other", "slow", ""))
			limitVolumes(s, "b", 1)
			s.AddPod(pod("user", "", claiming("other")), "b")
		}, "b"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := snapshotOf(node("a", roomyNode, label("zone", "1")), node("b", roomyNode, label("zone", "2")))
			s.ServeClaims()
			tt.build(s)
			got, why := Pick(pod("p", "", claiming("data")), s, DefaultProfile(), random())
			if got == "" {
				got = why.String()
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// limitVolumes lets a node have so many volumes of the driver of diskIn.
func limitVolumes(s *Snapshot, node string, n int32) {
	s.SetDrivers(&storagev1.CSINode{ObjectMeta: metav1.ObjectMeta{Name: node}, Spec: storagev1.CSINodeSpec{Drivers: []storagev1.CSINodeDriver{
		{Name: "disks.example.com", Allocatable: &storagev1.VolumeNodeResources{Count: &n}}}}})
}

func attachment(volume, node string) *storagev1.VolumeAttachment {
	return &storagev1.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: volume + "-on-" + node}, Spec: storagev1.VolumeAttachmentSpec{
		Attacher: "disks.example.com", NodeName: node, Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: &volume}}}
}

func TestClaimsAreForgotten(t *testing.T) {
	s := snapshotOf(node("a", roomyNode))
	s.AddPod(pod("p", "", claiming("data")), "a")
	if len(s.claims.users) != 1 {
		t.Errorf("users %v", s.claims.users)
	}
	s.RemovePod("uid-p")
	if len(s.claims.users) != 0 {
		t.Errorf("users %v", s.claims.users)
	}
}
