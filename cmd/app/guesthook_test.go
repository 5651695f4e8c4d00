//go:build !race

// A guest that holds TLS and an HTTP server takes a minute to compile under the
// race detector, which looks at the host only.

package app_test

import (
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"wherry.dev/wherry/cmd/app/clustertest"
	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/auth"
)

const guestHook = `apiVersion: v1
kind: Pod
metadata: {name: hook, labels: {app: hook}}
spec:
  containers:
  - name: hook
    image: hook:v1
    ports: [{containerPort: 8443}]
    volumeMounts: [{name: tls, mountPath: /tls}]
    readinessProbe: {tcpSocket: {port: 8443}, periodSeconds: 1}
  volumes: [{name: tls, secret: {secretName: hook}}]
---
apiVersion: v1
kind: Service
metadata: {name: hook}
spec: {selector: {app: hook}, ports: [{port: 443, targetPort: 8443}]}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: hook}
webhooks:
- name: hook.test.example
  admissionReviewVersions: [v1]
  sideEffects: None
  timeoutSeconds: 30
  clientConfig: {service: {namespace: default, name: hook}, caBundle: %s}
  objectSelector: {matchLabels: {hooked: "yes"}}
  rules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}]
`

// TestWebhookInAGuest: a webhook over TLS, with a certificate from a Secret, that
// is a wasm pod behind a Service.
func TestWebhookInAGuest(t *testing.T) {
	module := filepath.Join(t.TempDir(), "hook.wasm")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", module, "./testdata/guesthook")
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the guest: %v\n%s", err, out)
	}
	content, err := os.ReadFile(module)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := auth.OpenCA(t.TempDir(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	serving, err := ca.Serving("hook", []string{"hook.default.svc"})
	if err != nil {
		t.Fatal(err)
	}
	c := clustertest.New(t)
	c.Push("hook:v1", content)
	secret := &corev1.Secret{ObjectMeta: metaNamed("hook"), Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{corev1.TLSCertKey: serving.Cert, corev1.TLSPrivateKeyKey: serving.Key}}
	secret.Namespace = "default"
	if _, err := c.Client.Create(t.Context(), api.Secrets.KeyOf(secret), secret, api.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if out, err := c.TryKubectl(fmt.Sprintf(guestHook, base64.StdEncoding.EncodeToString(ca.PEM())), "apply", "-f", "-"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	c.Kubectl("wait", "--for=condition=Ready", "pod/hook", "--timeout=300s")
	const refused = `admission webhook "hook.test.example" denied the request: a guest refuses lost`
	const asked = `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"lost","labels":{"hooked":"yes"}}}`
	for end := time.Now().Add(clustertest.Patience); ; time.Sleep(50 * time.Millisecond) {
		out, err := c.TryKubectl(asked, "create", "--dry-run=server", "-f", "-")
		if err != nil && strings.Contains(out, refused) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the guest is not asked: %v\n%s", err, out)
		}
	}
	if out, err := c.TryKubectl("", "create", "configmap", "kept"); err != nil {
		t.Errorf("a ConfigMap that it is not about: %v\n%s", err, out)
	}
}
