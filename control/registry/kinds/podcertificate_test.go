package kinds

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestPodCertificateIsIssued holds what a signer answers to what was asked for.
func TestPodCertificateIsIssued(t *testing.T) {
	now := metav1.NewTime(time.Now().Truncate(time.Second))
	public, key, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	other, _, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	stub, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	must(t, err)
	issue := func(to ed25519.PublicKey, begins time.Time, lasts time.Duration) certificatesv1.PodCertificateRequestStatus {
		template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: begins, NotAfter: begins.Add(lasts)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, to, key)
		must(t, err)
		from, until, refresh := metav1.NewTime(begins), metav1.NewTime(begins.Add(lasts)), metav1.NewTime(begins.Add(lasts/2))
		return certificatesv1.PodCertificateRequestStatus{
			Conditions: []metav1.Condition{{Type: certificatesv1.PodCertificateRequestConditionTypeIssued, Status: metav1.ConditionTrue,
				Reason: "Signed", LastTransitionTime: now}},
			CertificateChain: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
			NotBefore:        &from, NotAfter: &until, BeginRefreshAt: &refresh,
		}
	}
	good := issue(public, now.Time, 2*time.Hour)
	change := func(f func(*certificatesv1.PodCertificateRequestStatus)) certificatesv1.PodCertificateRequestStatus {
		changed := *good.DeepCopy()
		f(&changed)
		return changed
	}
	strategy := PodCertificateRequests(func() metav1.Time { return now })
	seconds := int32(86400)
	request := func(status certificatesv1.PodCertificateRequestStatus) *certificatesv1.PodCertificateRequest {
		return &certificatesv1.PodCertificateRequest{Status: status,
			Spec: certificatesv1.PodCertificateRequestSpec{StubPKCS10Request: stub, MaxExpirationSeconds: &seconds}}
	}
	for _, test := range []struct {
		name     string
		now, was certificatesv1.PodCertificateRequestStatus
		want     string // "": it is let
	}{
		{name: "as asked", now: good},
		{name: "nothing", now: good, was: good},
		{"changed later", issue(public, now.Time, 3*time.Hour), good, "immutable after PodCertificateRequest is issued, denied, or failed"},
		{name: "to another key", now: issue(other, now.Time, 2*time.Hour), want: "leaf certificate was not issued to the requested public key"},
		{name: "long ago", now: issue(public, now.Add(-time.Hour), 2*time.Hour), want: "must be set to within 5 minutes of kube-apiserver's current time"},
		{name: "too short", now: issue(public, now.Time, time.Minute), want: "leaf certificate lifetime must be >= 1 hour"},
		{name: "too long", now: issue(public, now.Time, 48*time.Hour), want: "leaf certificate lifetime must be <= spec.maxExpirationSeconds (86400)"},
		{name: "without times", now: change(func(s *certificatesv1.PodCertificateRequestStatus) { s.NotAfter = nil }), want: "must be present and consistent"},
		{name: "another end", now: change(func(s *certificatesv1.PodCertificateRequestStatus) { s.NotAfter = s.NotBefore }), want: "must be set to the NotAfter time encoded"},
		{name: "renewed at once", now: change(func(s *certificatesv1.PodCertificateRequestStatus) { s.BeginRefreshAt = s.NotBefore }), want: "at least 10 minutes after status.notBefore"},
		{name: "renewed too late", now: change(func(s *certificatesv1.PodCertificateRequestStatus) { s.BeginRefreshAt = s.NotAfter }), want: "at least 10 minutes before status.notAfter"},
		{name: "denied with a certificate", now: change(func(s *certificatesv1.PodCertificateRequestStatus) {
			s.Conditions[0].Type = certificatesv1.PodCertificateRequestConditionTypeDenied
		}), want: "non-condition status fields must be empty"},
	} {
		t.Run(test.name, func(t *testing.T) {
			errs := strategy.ValidateStatus(request(test.now), request(test.was))
			if text := errs.ToAggregate(); test.want == "" && text != nil || test.want != "" && (text == nil || !strings.Contains(text.Error(), test.want)) {
				t.Errorf("got %v, want %q", text, test.want)
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
