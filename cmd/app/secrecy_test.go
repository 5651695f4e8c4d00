package app_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"wherry.dev/wherry/cmd/app"
	"wherry.dev/wherry/cmd/app/clustertest"
	"wherry.dev/wherry/samples"
)

// keptText is a log that is read while it is written.
type keptText struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (k *keptText) Write(p []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.text.Write(p)
}

func (k *keptText) String() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.text.String()
}

// TestSecretsStaySecret works with a Secret and with tokens in the ways that
// there are, good and bad, and then looks for them where they must not be: in
// the log (all of it), the audit log at the default level, Events and metrics.
func TestSecretsStaySecret(t *testing.T) {
	const word, other, bearer = "correct-horse-battery", "staple-of-a-horse", "a-token-that-nobody-knows"
	var log keptText
	audit := filepath.Join(t.TempDir(), "audit.log")
	c := clustertest.New(t, func(cfg *app.Config) {
		cfg.AuditLog = audit
		cfg.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	c.Push("hello:v1", samples.HelloModule)
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	config.ContentType = "application/json"
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	fine := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	bad := func(err error) {
		t.Helper()
		if err == nil {
			t.Fatal("no error")
		}
	}
	ctx, secrets := t.Context(), client.CoreV1().Secrets("default")
	immutable := true
	secret, err := secrets.Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s"}, Data: map[string][]byte{"word": []byte(word)}}, metav1.CreateOptions{})
	fine(err)
	_, err = secrets.Create(ctx, secret, metav1.CreateOptions{})
	bad(err)
	_, err = secrets.Patch(ctx, "s", types.StrategicMergePatchType, []byte(`{"stringData":{"other":"`+other+`"}}`), metav1.PatchOptions{})
	fine(err)
	_, err = secrets.Patch(ctx, "s", types.MergePatchType, []byte(`{"data":{"`+other+`":"`+word+`"}}`), metav1.PatchOptions{}) // no base64
	bad(err)
	secret.ResourceVersion, secret.Immutable = "", &immutable
	_, err = secrets.Update(ctx, secret, metav1.UpdateOptions{})
	fine(err)
	secret.Data["word"] = []byte(other)
	_, err = secrets.Update(ctx, secret, metav1.UpdateOptions{})
	bad(err)

	expiry := int64(600)
	token, err := client.CoreV1().ServiceAccounts("default").CreateToken(ctx, "default",
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &expiry}}, metav1.CreateOptions{})
	fine(err)
	_, err = client.AuthenticationV1().TokenReviews().Create(ctx, &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token.Status.Token}}, metav1.CreateOptions{})
	fine(err)
	for _, with := range []string{token.Status.Token, bearer} {
		stranger := rest.AnonymousClientConfig(config)
		stranger.BearerToken = with
		theirs, err := kubernetes.NewForConfig(stranger)
		fine(err)
		_, err = theirs.CoreV1().Secrets("default").Get(ctx, "s", metav1.GetOptions{})
		bad(err)
	}
	_, err = client.CoreV1().Pods("default").Create(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: corev1.PodSpec{
		Volumes: []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s"}}}},
		Containers: []corev1.Container{{Name: "c", Image: "hello:v1", VolumeMounts: []corev1.VolumeMount{{Name: "v", MountPath: "/s"}},
			Env: []corev1.EnvVar{{Name: "WORD", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
				LocalObjectReference: corev1.LocalObjectReference{Name: "s"}, Key: "word"}}}}}}}}, metav1.CreateOptions{})
	fine(err)
	running, err := client.CoreV1().Pods("default").Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=p"})
	fine(err)
	defer running.Stop()
	for event := range running.ResultChan() {
		if pod, ok := event.Object.(*corev1.Pod); ok && pod.Status.Phase == corev1.PodRunning {
			break
		}
	}

	events, err := client.CoreV1().Events("").List(ctx, metav1.ListOptions{})
	fine(err)
	told, err := json.Marshal(events.Items)
	fine(err)
	metrics, err := client.RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	fine(err)
	noted, err := os.ReadFile(audit)
	fine(err)
	if !bytes.Contains(noted, []byte(http.MethodPut)) && !bytes.Contains(noted, []byte(`"verb":"update"`)) {
		t.Fatalf("the audit log says nothing about the update: %.300s", noted)
	}
	for where, text := range map[string]string{"the log": log.String(), "the audit log": string(noted), "events": string(told), "metrics": string(metrics)} {
		if text == "" {
			t.Errorf("%s: empty", where)
		}
		for what, secret := range map[string]string{"the secret": word, "the patch": other, "the service account's token": token.Status.Token, "an unknown token": bearer,
			"the secret in base64": base64.StdEncoding.EncodeToString([]byte(word)), "the patch in base64": base64.StdEncoding.EncodeToString([]byte(other))} {
			if at := strings.Index(text, secret); at >= 0 {
				t.Errorf("%s has %s: ...%s", where, what, text[max(0, at-200):min(len(text), at+60)])
			}
		}
	}
}
