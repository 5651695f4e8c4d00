package admission_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/auth"
)

// static is a mirror pod of node a, changed.
func static(node types.UID, change func(*corev1.Pod)) *corev1.Pod {
	yes := true
	return pod("static", func(p *corev1.Pod) {
		p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
		p.Spec.NodeName = "a"
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: "a", UID: node, Controller: &yes}}
		change(p)
	})
}

func TestNodeShowsStaticPods(t *testing.T) {
	b := newBed(t)
	uid := b.create(api.Nodes, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "a"}}).GetUID()
	b.user = auth.NodeUser("a")
	volume := func(v corev1.VolumeSource) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: v}} }
	}
	yes := true
	for want, change := range map[string]func(*corev1.Pod){
		`pod does not have "kubernetes.io/config.mirror" annotation`: func(p *corev1.Pod) { p.Annotations = nil },
		"with spec.nodeName set to itself":                           func(p *corev1.Pod) { p.Spec.NodeName = "b" },
		"with an owner reference set to itself":                      func(p *corev1.Pod) { p.OwnerReferences = nil },
		"with a single owner reference": func(p *corev1.Pod) {
			p.OwnerReferences = append(p.OwnerReferences, metav1.OwnerReference{APIVersion: "v1", Kind: "Node", Name: "b", UID: "b"})
		},
		"with a controller owner reference":   func(p *corev1.Pod) { p.OwnerReferences[0].Controller = nil },
		"must not set blockOwnerDeletion":     func(p *corev1.Pod) { p.OwnerReferences[0].BlockOwnerDeletion = &yes },
		"node a UID mismatch: expected other": func(p *corev1.Pod) { p.OwnerReferences[0].UID = "other" },
		"reference configmaps": volume(corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: "x"}}}),
		"reference persistentvolumeclaims": volume(corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "x"}}),
		"reference secrets":                func(p *corev1.Pod) { p.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "x"}} },
		"reference resourceclaims": func(p *corev1.Pod) {
			name := "x"
			p.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "x", ResourceClaimName: &name}}
		},
		"reference clustertrustbundles": volume(corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{ClusterTrustBundle: &corev1.ClusterTrustBundleProjection{Name: new("x"), Path: "x"}}}}}),
	} {
		b.refused(api.Pods, static(uid, change), want)
	}
	b.create(api.Pods, static(uid, func(*corev1.Pod) {}))
}

func TestNodeChangesPodsOfItsOwn(t *testing.T) {
	b := newBed(t)
	for name, node := range map[string]string{"mine": "a", "theirs": "b"} {
		b.create(api.Pods, pod(name, func(p *corev1.Pod) { p.Spec.NodeName = node }))
	}
	b.user = auth.NodeUser("a")
	patch := func(name, sub, data string) error {
		_, err := b.api.Patch(b.ctx(), api.Pods.Key("default", name), api.Patch{Type: types.MergePatchType, Data: []byte(data)}, api.PatchOptions{Subresource: sub})
		return err
	}
	evict := func(name string) error {
		_, err := b.api.Create(b.ctx(), api.Pods.Key("default", name), &policyv1.Eviction{ObjectMeta: in("default", name)}, api.CreateOptions{Subresource: "eviction"})
		return err
	}
	remove := func(name string) error {
		_, err := b.api.Delete(b.ctx(), api.Pods.Key("default", name), api.DeleteOptions{})
		return err
	}
	for _, test := range []struct {
		what string
		err  error
		want string
	}{
		{"a foreign deletion", remove("theirs"), "can only delete pods with spec.nodeName set to itself"},
		{"labels", patch("mine", "", `{"metadata":{"labels":{"a":"b"}}}`), `node "a" can only create and delete mirror pods`},
		{"labels by status", patch("mine", "status", `{"metadata":{"labels":{"a":"b"}}}`), "cannot update labels through pod status"},
		{"claims by status", patch("mine", "status", `{"status":{"resourceClaimStatuses":[{"name":"x","resourceClaimName":"y"}]}}`), "cannot update resource claim statues"},
		{"a foreign status", patch("theirs", "status", `{"status":{"message":"x"}}`), "can only update pod status for pods with spec.nodeName set to itself"},
		{"a foreign eviction", evict("theirs"), "can only evict pods with spec.nodeName set to itself"},
		{"an exec", b.api.AdmitConnect(b.ctx(), api.Pods.Key("default", "mine"), "exec", &corev1.PodExecOptions{}), `unexpected pod subresource "exec"`},
	} {
		if !apierrors.IsForbidden(test.err) || !strings.Contains(test.err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.what, test.err, test.want)
		}
	}
	if err := evict("mine"); err != nil {
		t.Errorf("evict its own: %v", err)
	}
	if err := remove("mine"); err != nil {
		t.Errorf("delete its own: %v", err)
	}
}

func TestNodeAsksForTokens(t *testing.T) {
	b := newBed(t)
	b.create(api.CSIDrivers, &storagev1.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: "csi.example"}, Spec: storagev1.CSIDriverSpec{
		TokenRequests: []storagev1.TokenRequest{{Audience: "disks"}}}})
	b.create(api.ServiceAccounts, &corev1.ServiceAccount{ObjectMeta: in("default", "app")})
	uids := map[string]types.UID{}
	for name, node := range map[string]string{"mine": "a", "theirs": "b"} {
		uids[name] = b.create(api.Pods, pod(name, func(p *corev1.Pod) {
			p.Spec.NodeName, p.Spec.ServiceAccountName = node, "app"
			p.Spec.Volumes = []corev1.Volume{
				{Name: "vault", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
					{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: "vault", Path: "token"}}}}}},
				{Name: "disk", VolumeSource: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{Driver: "csi.example"}}},
			}
		})).GetUID()
	}
	b.user = auth.NodeUser("a")
	for _, test := range []struct {
		pod       string
		uid       types.UID
		audiences []string
		want      string // "": it is let
	}{
		{"mine", uids["mine"], nil, ""}, // the volume that every pod has
		{"mine", uids["mine"], []string{"vault"}, ""},
		{"mine", uids["mine"], []string{"disks"}, ""},
		{"mine", uids["mine"], []string{"bank"}, `audience "bank" not found in pod spec volume, system:node:a is not authorized to request tokens for this audience`},
		{"mine", uids["mine"], []string{"vault", "disks"}, "node may only request 0 or 1 audiences"},
		{"mine", "", nil, "node requested token with a pod binding without a uid"},
		{"mine", "other", nil, "the UID in the bound object reference (other) does not match the UID in record"},
		{"theirs", uids["theirs"], nil, "node requested token bound to a pod scheduled on a different node"},
		{"", "", nil, "node requested token not bound to a pod"},
	} {
		request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: test.audiences}}
		if test.pod != "" {
			request.Spec.BoundObjectRef = &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: test.pod, UID: test.uid}
		}
		_, err := b.api.Create(b.ctx(), api.ServiceAccounts.Key("default", "app"), request, api.CreateOptions{Subresource: "token"})
		if test.want == "" && apierrors.IsForbidden(err) || test.want != "" && (!apierrors.IsForbidden(err) || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("for %q of %s: %v, want %q", test.audiences, test.pod, err, test.want)
		}
	}
}

func TestNodeKeepsToItsOwn(t *testing.T) {
	b := newBed(t)
	other, own := "b", "a"
	claim := b.create(api.PersistentVolumeClaims, &corev1.PersistentVolumeClaim{ObjectMeta: in("default", "data"), Spec: corev1.PersistentVolumeClaimSpec{
		AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, Resources: corev1.VolumeResourceRequirements{Requests: list("storage", "1Gi")}}})
	b.user = auth.NodeUser("a")
	slice := func(name string, node *string) *resourcev1.ResourceSlice {
		return &resourcev1.ResourceSlice{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: resourcev1.ResourceSliceSpec{Driver: "gpu.example",
			NodeName: node, Pool: resourcev1.ResourcePool{Name: "pool", ResourceSliceCount: 1}}}
	}
	b.refused(api.ResourceSlices, slice("theirs", &other), "with the same NodeName as the requesting node")
	b.create(api.ResourceSlices, slice("mine", &own))
	b.refused(api.CSINodes, &storagev1.CSINode{ObjectMeta: metav1.ObjectMeta{Name: "b"}}, "can only access CSINode with the same name as the requesting node")
	b.create(api.CSINodes, &storagev1.CSINode{ObjectMeta: metav1.ObjectMeta{Name: "a"}})
	b.refused(api.Leases, &coordinationv1.Lease{ObjectMeta: in("default", "a")}, `can only access leases in the "kube-node-lease" system namespace`)
	status := func(data string) error {
		_, err := b.api.Patch(b.ctx(), api.PersistentVolumeClaims.KeyOf(claim), api.Patch{Type: types.MergePatchType, Data: []byte(data)}, api.PatchOptions{Subresource: "status"})
		return err
	}
	if err := status(`{"status":{"phase":"Bound"}}`); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "other than status.quantity and status.conditions") {
		t.Errorf("the phase of a claim: %v", err)
	}
	if err := status(`{"status":{"capacity":{"storage":"2Gi"}}}`); err != nil {
		t.Errorf("the capacity of a claim: %v", err)
	}
}

func TestNodeAsksInItsOwnName(t *testing.T) {
	b := newBed(t)
	b.user = auth.NodeUser("a")
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	request := func(object, name, signer string) *certificatesv1.CertificateSigningRequest {
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
			Subject: pkix.Name{CommonName: name, Organization: []string{auth.GroupNodes}}}, key)
		if err != nil {
			t.Fatal(err)
		}
		return &certificatesv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{Name: object}, Spec: certificatesv1.CertificateSigningRequestSpec{
			SignerName: signer, Usages: []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth},
			Request: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})}}
	}
	for _, signer := range []string{certificatesv1.KubeAPIServerClientKubeletSignerName, certificatesv1.KubeletServingSignerName} {
		b.refused(api.CertificateSigningRequests, request("theirs", "system:node:b", signer), "can only create a node CSR with CN=system:node:a")
	}
	b.create(api.CertificateSigningRequests, request("mine", "system:node:a", certificatesv1.KubeAPIServerClientKubeletSignerName))
	b.create(api.CertificateSigningRequests, request("else", "anything", "example.com/mine"))
}

func TestNodeAsksForCertificates(t *testing.T) {
	b := newBed(t)
	node := b.create(api.Nodes, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "a"}}).GetUID()
	account := b.create(api.ServiceAccounts, &corev1.ServiceAccount{ObjectMeta: in("default", "app")}).GetUID()
	uids := map[string]types.UID{}
	for name, on := range map[string]string{"mine": "a", "theirs": "b"} {
		uids[name] = b.create(api.Pods, pod(name, func(p *corev1.Pod) {
			p.Spec.NodeName, p.Spec.ServiceAccountName = on, "app"
			p.Spec.Volumes = []corev1.Volume{{Name: "tls", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
				Sources: []corev1.VolumeProjection{{PodCertificate: &corev1.PodCertificateProjection{SignerName: "example.com/mine", KeyType: "ED25519", CredentialBundlePath: "x"}}}}}}}
		})).GetUID()
	}
	b.user = auth.NodeUser("a")
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	stub, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	request := func(change func(*certificatesv1.PodCertificateRequestSpec)) *certificatesv1.PodCertificateRequest {
		r := &certificatesv1.PodCertificateRequest{ObjectMeta: in("default", "r"), Spec: certificatesv1.PodCertificateRequestSpec{SignerName: "example.com/mine",
			PodName: "mine", PodUID: uids["mine"], ServiceAccountName: "app", ServiceAccountUID: account, NodeName: "a", NodeUID: node, StubPKCS10Request: stub}}
		change(&r.Spec)
		return r
	}
	for want, change := range map[string]func(*certificatesv1.PodCertificateRequestSpec){
		`which is not the requesting node "a"`:     func(s *certificatesv1.PodCertificateRequestSpec) { s.NodeName = "b" },
		`pod "theirs" is not running on node "a"`:  func(s *certificatesv1.PodCertificateRequestSpec) { s.PodName, s.PodUID = "theirs", uids["theirs"] },
		"has another UID than the request says":    func(s *certificatesv1.PodCertificateRequestSpec) { s.PodUID = "other" },
		`has a certificate of signer "example.com`: func(s *certificatesv1.PodCertificateRequestSpec) { s.SignerName = "example.com/other" },
	} {
		b.refused(api.PodCertificateRequests, request(change), want)
	}
	b.create(api.PodCertificateRequests, request(func(*certificatesv1.PodCertificateRequestSpec) {}))
}
