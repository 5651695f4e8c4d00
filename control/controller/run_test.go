package controller

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/api"
)

// TestAllTogether runs the whole table: a deployment comes up with its
// endpoints, and its deletion leaves nothing.
func TestAllTogether(t *testing.T) {
	inBed(t, loops, func(b *bed) {
		create(b, api.Services, webService())
		create(b, api.Deployments, webDeployment(3))
		b.settle()
		b.rollOut()
		b.delete(webKey, metav1.DeletePropagationBackground)
		b.delete(api.Services.Key("default", "web"), "")
		b.settle()
		for range 5 {
			b.serve()
			b.pass(time.Second)
		}
		if p, s, e := len(b.pods()), len(b.replicaSets()), len(b.slices()); p+s+e > 0 {
			t.Errorf("left behind: %d pods, %d replica sets, %d endpoint slices", p, s, e)
		}
	})
}

func TestRunNeedsAClient(t *testing.T) {
	if err := Run(t.Context(), Config{}); err == nil {
		t.Error("controllers without a client must be refused")
	}
}
