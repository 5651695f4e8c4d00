package controller

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/storage/volume"

	"wherry.dev/wherry/control/api"
)

type (
	claimChange  = func(*corev1.PersistentVolumeClaim)
	volumeChange = func(*corev1.PersistentVolume)
)

func testClaim(name, class string, change ...claimChange) *corev1.PersistentVolumeClaim {
	c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.PersistentVolumeClaimSpec{
		StorageClassName: &class, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}}}}
	for _, f := range change {
		f(c)
	}
	return c
}

func testVolume(name, class, size string, change ...volumeChange) *corev1.PersistentVolume {
	pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PersistentVolumeSpec{
		StorageClassName: class, Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)},
		AccessModes:            []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce, corev1.ReadOnlyMany},
		PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/mnt/" + name}}},
		Status: corev1.PersistentVolumeStatus{Phase: corev1.VolumeAvailable}}
	for _, f := range change {
		f(pv)
	}
	return pv
}

func testClass(name, provisioner string, mode storagev1.VolumeBindingMode) *storagev1.StorageClass {
	return &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Provisioner: provisioner, VolumeBindingMode: &mode}
}

// givenTo gives a volume to a claim of the namespace default.
func givenTo(name string, uid types.UID) volumeChange {
	return func(pv *corev1.PersistentVolume) {
		pv.Spec.ClaimRef = &corev1.ObjectReference{Namespace: "default", Name: name, UID: uid}
	}
}

func names(volume string) claimChange {
	return func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeName = volume }
}

func completed(c *corev1.PersistentVolumeClaim) {
	metav1.SetMetaDataAnnotation(&c.ObjectMeta, volume.AnnBindCompleted, "yes")
}

// TestPlanClaim says for each state of a claim what is to be done next.
func TestPlanClaim(t *testing.T) {
	late := testClass("late", "x.example/disks", storagev1.VolumeBindingWaitForFirstConsumer)
	now := testClass("now", "x.example/disks", storagev1.VolumeBindingImmediate)
	uid := func(c *corev1.PersistentVolumeClaim) { c.UID = "u" }
	selected := func(c *corev1.PersistentVolumeClaim) {
		metav1.SetMetaDataAnnotation(&c.ObjectMeta, volume.AnnSelectedNode, "node-1")
	}
	many := func(c *corev1.PersistentVolumeClaim) {
		c.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany}
	}
	picky := func(c *corev1.PersistentVolumeClaim) {
		c.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"disk": "ssd"}}
	}
	ssd := func(pv *corev1.PersistentVolume) { pv.Labels = map[string]string{"disk": "ssd"} }
	block := func(pv *corev1.PersistentVolume) { pv.Spec.VolumeMode = new(corev1.PersistentVolumeBlock) }
	used := func(pv *corev1.PersistentVolume) { pv.Status.Phase = corev1.VolumeReleased }
	for _, tt := range []struct {
		name string
		f    claimFacts
		want string // bind NAME, provision, or PHASE REASON
	}{
		{"smallest that suffices", claimFacts{claim: testClaim("c", ""), candidates: []*corev1.PersistentVolume{
			testVolume("big", "", "10Gi"), testVolume("fit", "", "2Gi"), testVolume("small", "", "1Mi")}}, "bind fit"},
		{"one that is kept for it comes first", claimFacts{claim: testClaim("c", ""), candidates: []*corev1.PersistentVolume{
			testVolume("fit", "", "1Gi"), testVolume("kept", "", "10Gi", givenTo("c", ""))}}, "bind kept"},
		{"access modes", claimFacts{claim: testClaim("c", "", many), candidates: []*corev1.PersistentVolume{testVolume("v", "", "1Gi")}}, "Pending FailedBinding"},
		{"volume mode", claimFacts{claim: testClaim("c", ""), candidates: []*corev1.PersistentVolume{testVolume("v", "", "1Gi", block)}}, "Pending FailedBinding"},
		{"class", claimFacts{claim: testClaim("c", ""), candidates: []*corev1.PersistentVolume{testVolume("v", "other", "1Gi")}}, "Pending FailedBinding"},
		{"released ones are not free", claimFacts{claim: testClaim("c", ""), candidates: []*corev1.PersistentVolume{testVolume("v", "", "1Gi", used)}}, "Pending FailedBinding"},
		{"selector", claimFacts{claim: testClaim("c", "", picky), candidates: []*corev1.PersistentVolume{
			testVolume("a", "", "1Gi"), testVolume("b", "", "5Gi", ssd)}}, "bind b"},
		{"no such class", claimFacts{claim: testClaim("c", "none")}, "Pending ProvisioningFailed"},
		{"made at once", claimFacts{claim: testClaim("c", "now"), class: now}, "provision"},
		{"waits for a pod", claimFacts{claim: testClaim("c", "late"), class: late}, "Pending WaitForFirstConsumer"},
		{"waits for its pod's node", claimFacts{claim: testClaim("c", "late"), class: late, consumer: "p"}, "Pending WaitForPodScheduled"},
		{"waits although there is one", claimFacts{claim: testClaim("c", "late"), class: late,
			candidates: []*corev1.PersistentVolume{testVolume("v", "late", "1Gi")}}, "Pending WaitForFirstConsumer"},
		{"takes what the scheduler has chosen", claimFacts{claim: testClaim("c", "late", uid), class: late,
			candidates: []*corev1.PersistentVolume{testVolume("v", "late", "1Gi", givenTo("c", "u"))}}, "bind v"},
		{"made where the scheduler says", claimFacts{claim: testClaim("c", "late", selected), class: late}, "provision"},

		{"named, not there yet", claimFacts{claim: testClaim("c", "", names("v"))}, "Pending "},
		{"named and free", claimFacts{claim: testClaim("c", "", names("v")), named: testVolume("v", "", "1Gi")}, "bind v"},
		{"named and too small", claimFacts{claim: testClaim("c", "", names("v")), named: testVolume("v", "", "1Mi")}, "Pending VolumeMismatch"},
		{"named, of another class", claimFacts{claim: testClaim("c", "", names("v")), named: testVolume("v", "x", "1Gi")}, "Pending VolumeMismatch"},
		{"named and kept for it", claimFacts{claim: testClaim("c", "", names("v")), named: testVolume("v", "", "1Gi", givenTo("c", ""))}, "bind v"},
		{"named and given away", claimFacts{claim: testClaim("c", "", names("v")), named: testVolume("v", "", "1Gi", givenTo("d", ""))}, "Pending FailedBinding"},

		{"bound", claimFacts{claim: testClaim("c", "", names("v"), completed, uid), named: testVolume("v", "", "1Gi", givenTo("c", "u"))}, "bind v"},
		{"bound, its volume forgot it", claimFacts{claim: testClaim("c", "", names("v"), completed, uid), named: testVolume("v", "", "1Gi")}, "bind v"},
		{"bound, volume gone", claimFacts{claim: testClaim("c", "", names("v"), completed)}, "Lost ClaimLost"},
		{"bound, no name", claimFacts{claim: testClaim("c", "", completed)}, "Lost ClaimLost"},
		{"bound twice", claimFacts{claim: testClaim("c", "", names("v"), completed, uid), named: testVolume("v", "", "1Gi", givenTo("c", "other"))}, "Lost ClaimMisbound"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			step := planClaim(tt.f)
			got := string(step.phase) + " " + step.why.reason
			switch {
			case step.bind != nil:
				got = "bind " + step.bind.Name
			case step.provision:
				got = "provision"
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestPlanVolume does the same for a volume.
func TestPlanVolume(t *testing.T) {
	made := func(by string, policy corev1.PersistentVolumeReclaimPolicy) volumeChange {
		return func(pv *corev1.PersistentVolume) {
			pv.Spec.PersistentVolumeReclaimPolicy = policy
			if by != "" {
				metav1.SetMetaDataAnnotation(&pv.ObjectMeta, volume.AnnDynamicallyProvisioned, by)
			}
		}
	}
	byController := func(pv *corev1.PersistentVolume) {
		metav1.SetMetaDataAnnotation(&pv.ObjectMeta, volume.AnnBoundByController, "yes")
	}
	failed := func(pv *corev1.PersistentVolume) { pv.Status.Phase = corev1.VolumeFailed }
	const keep, drop, recycle = corev1.PersistentVolumeReclaimRetain, corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeReclaimRecycle
	for _, tt := range []struct {
		name  string
		pv    *corev1.PersistentVolume
		claim *corev1.PersistentVolumeClaim
		want  string // phase, reason, what else
	}{
		{"free", testVolume("v", "", "1Gi"), nil, "Available"},
		{"kept for a claim to come", testVolume("v", "", "1Gi", givenTo("c", "")), nil, "Available"},
		{"kept for a claim that came", testVolume("v", "", "1Gi", givenTo("c", "")), testClaim("c", ""), "Available wake"},
		{"bound", testVolume("v", "", "1Gi", givenTo("c", "u")), testClaim("c", "", names("v")), "Bound"},
		{"its claim is not there yet", testVolume("v", "", "1Gi", givenTo("c", "u")), testClaim("c", ""), " wake"},
		{"kept after its claim", testVolume("v", "", "1Gi", givenTo("c", "u"), made("", keep)), nil, "Released"},
		{"ours goes with its claim", testVolume("v", "", "1Gi", givenTo("c", "u"), made(api.LocalProvisioner, drop)), nil, "Released remove"},
		{"ours is kept if that is the policy", testVolume("v", "", "1Gi", givenTo("c", "u"), made(api.LocalProvisioner, keep)), nil, "Released"},
		{"another's is for another to delete", testVolume("v", "", "1Gi", givenTo("c", "u"), made("x.example/disks", drop)), nil, "Released"},
		{"another's that could not be deleted", testVolume("v", "", "1Gi", givenTo("c", "u"), made("x.example/disks", drop), failed), nil, ""},
		{"nobody can delete it", testVolume("v", "", "1Gi", givenTo("c", "u"), made("", drop)), nil, "Failed VolumeFailedDelete"},
		{"nobody can recycle it", testVolume("v", "", "1Gi", givenTo("c", "u"), made("", recycle)), nil, "Failed VolumeFailedRecycle"},
		{"its claim took another, chosen here", testVolume("v", "", "1Gi", givenTo("c", "u"), byController), testClaim("c", "", names("w")), "Available freed"},
		{"its claim took another, chosen by a user", testVolume("v", "", "1Gi", givenTo("c", "u")), testClaim("c", "", names("w")), "Available kept"},
		{"made for a claim that took another", testVolume("v", "", "1Gi", givenTo("c", "u"), made(api.LocalProvisioner, drop)), testClaim("c", "", names("w")), "Released remove"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			step := planVolume(tt.pv, tt.claim)
			got := string(step.phase)
			if step.why.reason != "" {
				got += " " + step.why.reason
			}
			switch {
			case step.free != nil && step.free.Spec.ClaimRef == nil:
				got += " freed"
			case step.free != nil:
				got += " kept"
			case step.remove:
				got += " remove"
			case step.wake:
				got += " wake"
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
