package app_test

import (
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"wherry.dev/wherry/cmd/app/clustertest"
	"wherry.dev/wherry/runtime/image"
	"wherry.dev/wherry/runtime/image/distribution"
	"wherry.dev/wherry/samples"
)

const privatePods = `
apiVersion: v1
kind: Secret
metadata: {name: pull}
type: kubernetes.io/dockerconfigjson
stringData: {.dockerconfigjson: '{"auths": {"%[1]s": {"auth": "%[2]s"}}}'}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: puller}
imagePullSecrets: [{name: pull}]
---
apiVersion: v1
kind: Pod
metadata: {name: own}
spec:
  terminationGracePeriodSeconds: 1
  imagePullSecrets: [{name: pull}, {name: nowhere}]
  containers: [{name: web, image: "%[1]s/team/hello:v1", ports: [{containerPort: 8080}], imagePullPolicy: Always}]
---
apiVersion: v1
kind: Pod
metadata: {name: account}
spec:
  terminationGracePeriodSeconds: 1
  serviceAccountName: puller
  volumes: [{name: files, image: {reference: "%[1]s/team/hello:v1", pullPolicy: Always}}]
  containers: [{name: web, image: "%[1]s/team/hello:v1", ports: [{containerPort: 8080}], imagePullPolicy: Always, volumeMounts: [{name: files, mountPath: /files}]}]
---
apiVersion: v1
kind: Pod
metadata: {name: none}
spec:
  nodeName: node-1
  terminationGracePeriodSeconds: 1
  containers: [{name: web, image: "%[1]s/team/hello:v1", ports: [{containerPort: 8080}], imagePullPolicy: Always}]
`

// TestPrivateImages pulls from a registry that wants a name and a password:
// the scheduler's look at the image, the container's pull and a volume's.
func TestPrivateImages(t *testing.T) {
	registry, err := distribution.Open(t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	open := httptest.NewServer(registry)
	defer open.Close()
	if _, err := image.Push(t.Context(), image.Target{Registry: strings.TrimPrefix(open.URL, "http://"), Transport: http.DefaultTransport}, "team/hello:v1", samples.HelloModule, time.Unix(0, 0)); err != nil {
		t.Fatal(err)
	}
	private := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "ann" || password != "secret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		registry.ServeHTTP(w, r)
	}))
	defer private.Close()
	c := clustertest.New(t)
	c.Apply(fmt.Sprintf(privatePods, strings.TrimPrefix(private.URL, "http://"), base64.StdEncoding.EncodeToString([]byte("ann:secret"))))
	c.Kubectl("wait", "--for=condition=Ready", "pod/own", "pod/account", "--timeout=180s")
	if out := c.Kubectl("exec", "account", "--", "ls", "/files"); out != "module.wasm\n" {
		t.Errorf("the volume has %q", out)
	}
	c.Kubectl("wait", `--for=jsonpath={.status.containerStatuses[0].state.waiting.reason}=ErrImagePull`, "pod/none", "--timeout=180s")
	if out := c.Kubectl("describe", "pod", "own"); !strings.Contains(out, "Unable to retrieve some image pull secrets (nowhere); attempting to pull the image may not succeed.") {
		t.Error(out)
	}
}
