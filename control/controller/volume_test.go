package controller

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/storage/volume"

	"wherry.dev/wherry/control/api"
)

func volumeLoops(cfg Config) []runner {
	return []runner{newVolumeBinder(cfg), newClaimProtection(cfg), newVolumeProtection(cfg), newEphemeralVolumes(cfg), newGC(cfg)}
}

func claimKey(name string) api.Key { return api.PersistentVolumeClaims.Key("default", name) }

func volumeKey(name string) api.Key { return api.PersistentVolumes.Key("", name) }

// claimIs waits for nothing: it compares a claim's phase and volume.
func (b *bed) claimIs(name, want string) {
	b.t.Helper()
	claim, ok := get[*corev1.PersistentVolumeClaim](b, claimKey(name))
	if !ok {
		b.t.Fatalf("no claim %s", name)
	}
	size := claim.Status.Capacity[corev1.ResourceStorage]
	got := fmt.Sprintf("%s %s %s", claim.Status.Phase, claim.Spec.VolumeName, size.String())
	if got = strings.TrimSuffix(got, "  0"); got != want {
		b.t.Errorf("claim %s is %q, want %q; events: %s", name, got, want, b.events(name))
	}
}

func (b *bed) volumeIs(name, want string) {
	b.t.Helper()
	got := "gone"
	if pv, ok := get[*corev1.PersistentVolume](b, volumeKey(name)); ok {
		got = string(pv.Status.Phase)
	}
	if got != want {
		b.t.Errorf("volume %s is %s, want %s", name, got, want)
	}
}

func (b *bed) claimsNode(name string) {
	b.t.Helper()
	create(b, api.Nodes, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name},
		Annotations: map[string]string{api.AnnotationClaims: "/data/" + name}},
		Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}})
}

// TestBindStaticVolumes goes through the life of volumes that an administrator
// made.
func TestBindStaticVolumes(t *testing.T) {
	inBed(t, volumeLoops, func(b *bed) {
		create(b, api.PersistentVolumes, testVolume("big", "", "10Gi"))
		create(b, api.PersistentVolumes, testVolume("fit", "", "2Gi"))
		b.settle()
		b.volumeIs("fit", "Available")
		create(b, api.PersistentVolumeClaims, testClaim("data", ""))
		b.settle()
		b.claimIs("data", "Bound fit 2Gi")
		b.volumeIs("fit", "Bound")
		claim, _ := get[*corev1.PersistentVolumeClaim](b, claimKey("data"))
		if claim.Annotations[volume.AnnBindCompleted] != "yes" || claim.Annotations[volume.AnnBoundByController] != "yes" {
			t.Errorf("annotations %v", claim.Annotations)
		}
		create(b, api.PersistentVolumeClaims, testClaim("more", "", names("fit")))
		create(b, api.PersistentVolumeClaims, testClaim("huge", "", func(c *corev1.PersistentVolumeClaim) {
			c.Spec.Resources.Requests[corev1.ResourceStorage] = resource.MustParse("1Ti")
		}))
		b.settle()
		b.pass(time.Second)
		b.claimIs("more", "Pending fit 0")
		b.claimIs("huge", "Pending")
		if got := b.events("more") + " " + b.events("huge"); got != "FailedBinding FailedBinding" {
			t.Errorf("events %q", got)
		}
		// A volume that suffices comes later.
		create(b, api.PersistentVolumes, testVolume("giant", "", "2Ti"))
		b.settle()
		b.claimIs("huge", "Bound giant 2Ti")
		// Bound volumes are protected; a claim's end releases its volume.
		b.delete(volumeKey("fit"), "")
		b.settle()
		b.volumeIs("fit", "Bound")
		b.delete(claimKey("huge"), "")
		b.settle()
		b.volumeIs("giant", "Released")
		if b.exists(claimKey("huge")) {
			t.Error("an unused claim stays")
		}
		b.delete(claimKey("data"), "")
		b.settle()
		b.volumeIs("fit", "gone")
		// What was released is free again once its claim is taken off.
		update(b, volumeKey("giant"), "", func(pv *corev1.PersistentVolume) { pv.Spec.ClaimRef = nil })
		b.settle()
		b.volumeIs("giant", "Available")
	})
}

// TestLostVolume is a volume that goes although a claim has it.
func TestLostVolume(t *testing.T) {
	inBed(t, volumeLoops, func(b *bed) {
		create(b, api.PersistentVolumes, testVolume("v", "", "2Gi"))
		b.settle()
		create(b, api.PersistentVolumeClaims, testClaim("data", ""))
		b.pass(time.Second)
		b.claimIs("data", "Bound v 2Gi")
		b.crash() // nobody protects it
		update(b, volumeKey("v"), "", func(pv *corev1.PersistentVolume) { pv.Finalizers = nil })
		b.delete(volumeKey("v"), "")
		b.start()
		b.settle()
		b.claimIs("data", "Lost v 0")
		b.pass(time.Second)
		if got := b.events("data"); got != "ClaimLost" {
			t.Errorf("events %q", got)
		}
	})
}

// TestProvisionLocal has volumes made on nodes, at once and for a pod, and
// deleted with their claims.
func TestProvisionLocal(t *testing.T) {
	inBed(t, volumeLoops, func(b *bed) {
		b.claimsNode("a")
		b.claimsNode("b")
		create(b, api.StorageClasses, testClass("now", api.LocalProvisioner, storagev1.VolumeBindingImmediate))
		create(b, api.PersistentVolumeClaims, testClaim("one", "now"))
		b.settle()
		create(b, api.PersistentVolumeClaims, testClaim("two", "now"))
		late := testClaim("late", "")
		late.Spec.StorageClassName = nil // the default
		create(b, api.PersistentVolumeClaims, late)
		b.settle()
		hosts := map[string]string{}
		for _, name := range []string{"one", "two"} {
			claim, _ := get[*corev1.PersistentVolumeClaim](b, claimKey(name))
			b.claimIs(name, "Bound pvc-"+string(claim.UID)+" 1Gi")
			pv, _ := get[*corev1.PersistentVolume](b, volumeKey(claim.Spec.VolumeName))
			hosts[pv.Labels[corev1.LabelHostname]] = pv.Spec.Local.Path
			if want := "/data/" + pv.Labels[corev1.LabelHostname] + "/" + pv.Name; pv.Spec.Local.Path != want {
				t.Errorf("path %s, want %s", pv.Spec.Local.Path, want)
			}
		}
		if len(hosts) != 2 {
			t.Errorf("volumes are not spread: %v", hosts)
		}
		b.claimIs("late", "Pending")
		update(b, claimKey("late"), "", func(c *corev1.PersistentVolumeClaim) {
			metav1.SetMetaDataAnnotation(&c.ObjectMeta, volume.AnnSelectedNode, "b")
		})
		b.settle()
		claim, _ := get[*corev1.PersistentVolumeClaim](b, claimKey("late"))
		pv, _ := get[*corev1.PersistentVolume](b, volumeKey(claim.Spec.VolumeName))
		if pv == nil || volume.CheckNodeAffinity(pv, map[string]string{corev1.LabelHostname: "b"}) != nil ||
			volume.CheckNodeAffinity(pv, map[string]string{corev1.LabelHostname: "a"}) == nil {
			t.Fatalf("volume %v is not on b only", pv)
		}
		b.pass(time.Second)
		if got := b.events("late"); got != "WaitForFirstConsumer Provisioning ProvisioningSucceeded" {
			t.Errorf("events %q", got)
		}
		// It grows, because its class says so, and the other one does not.
		update(b, claimKey("late"), "", func(c *corev1.PersistentVolumeClaim) {
			c.Spec.Resources.Requests[corev1.ResourceStorage] = resource.MustParse("3Gi")
		})
		b.settle()
		b.claimIs("late", "Bound "+pv.Name+" 3Gi")
		one, _ := get[*corev1.PersistentVolumeClaim](b, claimKey("one"))
		one = one.DeepCopy()
		one.Spec.Resources.Requests[corev1.ResourceStorage] = resource.MustParse("3Gi")
		if _, err := b.api.Update(b.ctx, claimKey("one"), one, api.UpdateOptions{}); err == nil || !strings.Contains(err.Error(), "storageclass that provisions the pvc must support resize") {
			t.Errorf("a class that does not allow expansion: %v", err)
		}
		b.delete(claimKey("late"), "")
		b.settle()
		b.volumeIs(pv.Name, "gone")
	})
}

// TestProvisionLocalRefuses names what a directory of one node cannot be.
func TestProvisionLocalRefuses(t *testing.T) {
	for name, change := range map[string]claimChange{
		"access mode ReadWriteMany": func(c *corev1.PersistentVolumeClaim) {
			c.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany}
		},
		"volumeMode Block": func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeMode = new(corev1.PersistentVolumeBlock) },
		"claim Selector": func(c *corev1.PersistentVolumeClaim) {
			c.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}}
		},
		"dataSource": func(c *corev1.PersistentVolumeClaim) {
			c.Spec.DataSource = &corev1.TypedLocalObjectReference{Kind: "PersistentVolumeClaim", Name: "x"}
		},
	} {
		err := localClaim(testClaim("c", "now", change), testClass("now", api.LocalProvisioner, storagev1.VolumeBindingImmediate))
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSelectedNodeGone takes the choice back, so that the scheduler chooses
// anew.
func TestSelectedNodeGone(t *testing.T) {
	inBed(t, volumeLoops, func(b *bed) {
		create(b, api.PersistentVolumeClaims, testClaim("data", api.LocalStorageClass, func(c *corev1.PersistentVolumeClaim) {
			metav1.SetMetaDataAnnotation(&c.ObjectMeta, volume.AnnSelectedNode, "nowhere")
		}))
		b.settle()
		claim, _ := get[*corev1.PersistentVolumeClaim](b, claimKey("data"))
		if claim.Annotations[volume.AnnSelectedNode] != "" {
			t.Errorf("annotations %v", claim.Annotations)
		}
		b.pass(time.Second)
		if got := b.events("data"); !strings.Contains(got, "ProvisioningFailed") {
			t.Errorf("events %q", got)
		}
	})
}

// TestClaimInUse keeps a claim as long as a pod with a node has it.
func TestClaimInUse(t *testing.T) {
	inBed(t, volumeLoops, func(b *bed) {
		create(b, api.PersistentVolumes, testVolume("v", "", "2Gi"))
		create(b, api.PersistentVolumeClaims, testClaim("data", ""))
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p"}, Spec: corev1.PodSpec{NodeName: "a",
			TerminationGracePeriodSeconds: new(int64(0)), Containers: []corev1.Container{{Name: "c", Image: "i"}},
			Volumes: []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}}}}}
		create(b, api.Pods, pod)
		b.settle()
		b.delete(claimKey("data"), "")
		b.settle()
		b.claimIs("data", "Bound v 2Gi")
		b.delete(api.Pods.Key("default", "p"), "")
		b.settle()
		if b.exists(claimKey("data")) {
			t.Error("the claim stays without its pod")
		}
		b.volumeIs("v", "Released")
	})
}

// TestEphemeralVolume makes a claim for a pod, which goes with it, and leaves
// one of somebody else alone.
func TestEphemeralVolume(t *testing.T) {
	inBed(t, volumeLoops, func(b *bed) {
		b.claimsNode("a")
		create(b, api.PersistentVolumeClaims, testClaim("q-scratch", "other"))
		for _, name := range []string{"p", "q"} {
			create(b, api.Pods, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.PodSpec{
				TerminationGracePeriodSeconds: new(int64(0)), Containers: []corev1.Container{{Name: "c", Image: "i"}},
				Volumes: []corev1.Volume{{Name: "scratch", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{
					VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b"}},
						Spec: testClaim("", api.LocalStorageClass).Spec}}}}}}})
		}
		b.settle()
		claim, ok := get[*corev1.PersistentVolumeClaim](b, claimKey("p-scratch"))
		if !ok || claim.Labels["a"] != "b" {
			t.Fatalf("claim %v", claim)
		}
		b.pass(time.Second)
		if got := b.events("q"); !strings.Contains(got, "EphemeralVolumeBindingFailed") {
			t.Errorf("events %q", got)
		}
		b.delete(api.Pods.Key("default", "p"), "")
		b.settle()
		b.pass(time.Second)
		if b.exists(claimKey("p-scratch")) {
			t.Error("the claim stays without its pod")
		}
	})
}

// TestBindingIsOneToOne lets claims and volumes come and go in any order, with
// controllers that begin anew at any time: no volume is ever given to two
// claims, no claim ever changes its volume, and in the end everybody has one.
func TestBindingIsOneToOne(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			inBed(t, volumeLoops, func(b *bed) {
				const n = 12
				had := map[string]string{}
				check := func() {
					b.settle()
					list, err := b.api.List(b.ctx, api.PersistentVolumeClaims.Key("", ""), api.ListOptions{})
					if err != nil {
						b.t.Fatal(err)
					}
					owner := map[string]string{}
					for _, obj := range list.Items {
						c := obj.(*corev1.PersistentVolumeClaim)
						v := c.Spec.VolumeName
						if v == "" {
							continue
						}
						if owner[v] != "" {
							t.Fatalf("%s is given to %s and %s", v, owner[v], c.Name)
						}
						owner[v] = c.Name
						if id := string(c.UID); had[id] != "" && had[id] != v {
							t.Fatalf("%s changed from %s to %s", c.Name, had[id], v)
						} else {
							had[id] = v
						}
					}
				}
				made := map[string]bool{}
				for range 60 {
					name := fmt.Sprint("x", random.IntN(n))
					switch random.IntN(8) {
					case 0, 1, 2:
						if key := claimKey(name); !b.exists(key) {
							create(b, api.PersistentVolumeClaims, testClaim(name, ""))
						}
					case 3, 4, 5:
						if !made[name] {
							made[name] = true
							create(b, api.PersistentVolumes, testVolume(name, "", fmt.Sprint(1+random.IntN(5), "Gi")))
						}
					case 6:
						if key := claimKey(name); b.exists(key) {
							b.deleteIfThere(key, metav1.DeletePropagationBackground)
						}
					case 7:
						b.crash()
						b.start()
					}
					if random.IntN(3) == 0 {
						check()
					}
				}
				for i := range 2 * n {
					create(b, api.PersistentVolumes, testVolume(fmt.Sprint("late-", i), "", "5Gi"))
				}
				check()
				b.pass(time.Minute)
				check()
				list, _ := b.api.List(b.ctx, api.PersistentVolumeClaims.Key("", ""), api.ListOptions{})
				for _, obj := range list.Items {
					if c := obj.(*corev1.PersistentVolumeClaim); c.Status.Phase != corev1.ClaimBound {
						t.Errorf("%s is %s", c.Name, c.Status.Phase)
					}
				}
			})
		})
	}
}
