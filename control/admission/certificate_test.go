package admission_test

import (
	"context"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/admission"
	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/auth"
	"wherry.dev/wherry/control/registry"
	"wherry.dev/wherry/control/registry/registrytest"
)

// attests lets everybody attest for the signers of example.com.
type attests struct{}

func (attests) Authorize(_ context.Context, a auth.Attributes) (bool, string, error) {
	return a.Verb == "attest" && a.Group == "certificates.k8s.io" && a.Resource == "signers" && a.Name == "example.com/*", "", nil
}

// TestTrustIsAttested: who says whom to trust for a signer needs leave of that
// signer.
func TestTrustIsAttested(t *testing.T) {
	b := &bed{T: t, user: auth.User{Name: "jane"},
		api: registrytest.New(t, registry.Config{Admission: admission.New(admission.Config{Authorizer: attests{}})})}
	ca, err := auth.OpenCA(t.TempDir(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	bundle := func(name, signer string) *certificatesv1.ClusterTrustBundle {
		return &certificatesv1.ClusterTrustBundle{ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec: certificatesv1.ClusterTrustBundleSpec{SignerName: signer, TrustBundle: string(ca.PEM())}}
	}
	b.refused(api.ClusterTrustBundles, bundle("other.org:mine:x", "other.org/mine"), `user not permitted to attest for signerName "other.org/mine"`)
	b.create(api.ClusterTrustBundles, bundle("example.com:mine:x", "example.com/mine"))
	b.create(api.ClusterTrustBundles, bundle("nobodys", ""))
}
