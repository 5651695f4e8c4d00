package app_test

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"wherry.dev/wherry/cmd/app/clustertest"
)

// TestDemo starts the demo as the README says, twice on one directory. What it
// has deployed is as if kubectl had applied it: applying it again changes
// nothing and warns of nothing.
func TestDemo(t *testing.T) {
	networks, dir := clustertest.Claim(t), filepath.Join(t.TempDir(), "data")
	for range 2 {
		stop, _ := startProcess(t, networks, dir, "--demo", "--no-kubeconfig")
		service, err := processClient(t, dir).CoreV1().Services(corev1.NamespaceDefault).Get(t.Context(), "chello", getOptions)
		if err != nil {
			t.Fatal(err)
		}
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		answer, err := client.Get("http://" + service.Spec.ClusterIP + ":8080/")
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			t.Errorf("the demo answers %s", answer.Status)
		}
		out, complaints, code := run(t, "", "--data-dir", dir, "kubectl", "apply", "-f", "../../samples/chello/manifest.yaml")
		if code != 0 || complaints != "" || strings.Count(out, "unchanged") != 2 {
			t.Errorf("apply its manifest: code %d\n%s%s", code, out, complaints)
		}
		stop()
	}
}
