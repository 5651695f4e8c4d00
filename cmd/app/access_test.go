package app_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"wherry.dev/wherry/cmd/app/clustertest"
	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/auth"
)

// as is a client of the cluster with other credentials than the admin's.
func as(t *testing.T, c *clustertest.Cluster, change func(*rest.Config)) *kubernetes.Clientset {
	t.Helper()
	config := rest.AnonymousClientConfig(c.REST())
	config.QPS = -1
	change(config)
	set, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// untilNil repeats a check until it gives no error.
func untilNil(t *testing.T, what string, check func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(clustertest.Patience); time.Now().Before(deadline); {
		if err = check(); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}

// newRequest makes a key and a certificate request for it, both in PEM.
func newRequest(t *testing.T, name string, groups ...string) (key, request []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name, Organization: groups}}, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

// nodeCertificate asks for a node's certificate and waits until it is issued.
func nodeCertificate(t *testing.T, set *kubernetes.Clientset, name, node string) (key, cert []byte) {
	t.Helper()
	requests := set.CertificatesV1().CertificateSigningRequests()
	key, request := newRequest(t, auth.NodeUserPrefix+node, auth.GroupNodes)
	_, err := requests.Create(t.Context(), &certificatesv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: certificatesv1.CertificateSigningRequestSpec{Request: request, SignerName: certificatesv1.KubeAPIServerClientKubeletSignerName,
			Usages: []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	untilNil(t, "a certificate for "+node, func() error {
		csr, err := requests.Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if cert = csr.Status.Certificate; len(cert) == 0 {
			return apierrors.NewTimeoutError("not issued", 0)
		}
		return nil
	})
	return key, cert
}

// A machine that knows nothing but a token and an address comes to a node's
// certificate: it reads cluster-info from somebody unknown, trusts it by the
// token's signature, asks with the token and renews with what it got.
func TestJoinWithToken(t *testing.T) {
	c := clustertest.New(t, clustertest.Nodes(0))
	token, err := auth.NewBootstrapToken(time.Now().Add(time.Hour), "a test")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Clientset().CoreV1().Secrets("kube-system").Create(t.Context(), token.Object(), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	stranger := as(t, c, func(r *rest.Config) { r.TLSClientConfig = rest.TLSClientConfig{Insecure: true} })
	var kubeconfig string
	untilNil(t, "a signed cluster-info", func() error {
		info, err := stranger.CoreV1().ConfigMaps("kube-public").Get(t.Context(), auth.ClusterInfoName, metav1.GetOptions{})
		if err != nil {
			return err
		}
		kubeconfig, err = token.VerifyClusterInfo(info)
		return err
	})
	if _, err := stranger.CoreV1().ConfigMaps("kube-system").List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("a stranger reads more than cluster-info: %v", err)
	}
	trusted, err := clientcmd.RESTConfigFromKubeConfig([]byte(kubeconfig))
	if err != nil {
		t.Fatal(err)
	}
	if trusted.Host != c.URL {
		t.Errorf("cluster-info leads to %s, the cluster is at %s", trusted.Host, c.URL)
	}
	trusted.BearerToken = token.String()
	joining, err := kubernetes.NewForConfig(trusted)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := joining.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("a bootstrap token is good for more than joining: %v", err)
	}
	key, cert := nodeCertificate(t, joining, "join", "far")
	node := as(t, c, func(r *rest.Config) { r.CertData, r.KeyData = cert, key })
	if _, err := node.CoreV1().Services("").List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Errorf("the node's certificate is good for nothing: %v", err)
	}
	nodeCertificate(t, node, "renew", "far")

	// Nobody gets another node's certificate by renewing.
	requests := node.CertificatesV1().CertificateSigningRequests()
	_, request := newRequest(t, auth.NodeUserPrefix+"other", auth.GroupNodes)
	steal := &certificatesv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{Name: "steal"},
		Spec: certificatesv1.CertificateSigningRequestSpec{Request: request, SignerName: certificatesv1.KubeAPIServerClientKubeletSignerName,
			Usages: []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth}}}
	_, err = requests.Create(t.Context(), steal, metav1.CreateOptions{})
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "can only create a node CSR with CN=system:node:far") {
		t.Errorf("a node asks for another one's certificate: %v", err)
	}

	// Nor does somebody of the nodes' group who is no node, and may ask.
	if _, err := c.Clientset().RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "jane-asks"},
		RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "system:node-bootstrapper"},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: "jane"}}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	config := c.REST()
	config.Impersonate = rest.ImpersonationConfig{UserName: "jane", Groups: []string{auth.GroupNodes}}
	jane, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	untilNil(t, "jane may ask", func() error {
		_, err := jane.CertificatesV1().CertificateSigningRequests().Create(t.Context(), steal, metav1.CreateOptions{})
		return err
	})
	nodeCertificate(t, node, "renew-again", "far") // when this is decided, so is what came before
	stolen, err := api.Get[*certificatesv1.CertificateSigningRequest](t.Context(), c.Client, api.CertificateSigningRequests.Key("", "steal"))
	if err != nil || len(stolen.Status.Conditions) > 0 {
		t.Errorf("a request for another name was decided: %+v, %v", stolen.Status, err)
	}

	// A token that is gone opens nothing any more.
	if err := c.Clientset().CoreV1().Secrets("kube-system").Delete(t.Context(), token.Object().Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := joining.CertificatesV1().CertificateSigningRequests().Get(t.Context(), "join", metav1.GetOptions{}); !apierrors.IsUnauthorized(err) {
		t.Errorf("the token works without its Secret: %v", err)
	}
	untilNil(t, "cluster-info without the token's signature", func() error {
		info, err := api.Get[*corev1.ConfigMap](t.Context(), c.Client, api.ConfigMaps.Key("kube-public", auth.ClusterInfoName))
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := info.Data[auth.ClusterInfoSignature+token.ID]; ok {
			return apierrors.NewTimeoutError("still signed", 0)
		}
		return nil
	})
	if data := strings.Join(c.Warnings(), "\n"); strings.Contains(data, token.Secret) {
		t.Error("the token is in the log")
	}
}

// Secrets are not readable on the disk, and are there after a restart.
func TestSecretsAreEncryptedOnDisk(t *testing.T) {
	c := clustertest.New(t, clustertest.Nodes(0))
	const word, open = "correct-horse-battery", "plain-words-for-all"
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "s"}, Data: map[string][]byte{"p": []byte(word)}}
	public := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "c"}, Data: map[string]string{"p": open}}
	for res, obj := range map[*api.Resource]api.Object{&api.Secrets: secret, &api.ConfigMaps: public} {
		if _, err := c.Client.Create(t.Context(), res.KeyOf(obj), obj, api.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	c.Stop()
	found := map[string]bool{}
	err := filepath.WalkDir(c.DataDir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		for _, text := range []string{word, open} {
			found[text] = found[text] || bytes.Contains(data, []byte(text))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if found[word] {
		t.Error("the Secret is readable on the disk")
	}
	if !found[open] {
		t.Error("the ConfigMap is not on the disk: this test looks at the wrong place")
	}
	c.Restart()
	kept, err := api.Get[*corev1.Secret](t.Context(), c.Client, api.Secrets.KeyOf(secret))
	if err != nil || string(kept.Data["p"]) != word {
		t.Errorf("after a restart: %v", err)
	}
}
