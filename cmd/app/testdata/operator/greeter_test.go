package operator

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/log"
	metrics "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
)

const namespace = "default"

// bed is a cluster with the definition and the webhooks of Greeters.
type bed struct {
	*testing.T
	ctx    context.Context
	config *rest.Config
	scheme *runtime.Scheme
	api    client.Client
}

// TestOperator goes through the life of a Greeter. KUBECONFIG names the cluster.
func TestOperator(t *testing.T) {
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		t.Fatal(err)
	}
	log.SetLogger(logr.Discard())
	config.QPS, config.Burst = 500, 500 // tests poll
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	b := &bed{T: t, ctx: ctx, scheme: runtime.NewScheme()}
	b.check(scheme.AddToScheme(b.scheme), AddToScheme(b.scheme))
	existing := true
	env := &envtest.Environment{UseExistingCluster: &existing, Config: config, Scheme: b.scheme,
		CRDDirectoryPaths: []string{"crds"}, ErrorIfCRDPathMissing: true, WebhookInstallOptions: webhooks()}
	b.config, err = env.Start()
	b.check(err)
	defer func() { b.check(env.Stop()) }()
	b.api, err = client.New(b.config, client.Options{Scheme: b.scheme})
	b.check(err)

	o := env.WebhookInstallOptions
	b.manager("webhooks", ctrl.Options{WebhookServer: webhook.NewServer(webhook.Options{
		Host: o.LocalServingHost, Port: o.LocalServingPort, CertDir: o.LocalServingCertDir})}, SetUpWebhooks)
	b.hooksDecide()
	b.lives()
}

// webhooks are the configurations; envtest fills in address and certificate.
func webhooks() envtest.WebhookInstallOptions {
	path := func(p string) *string { s := "/" + p + "-operator-example-com-v1-greeter"; return &s }
	rules := func(ops ...admissionv1.OperationType) []admissionv1.RuleWithOperations {
		return []admissionv1.RuleWithOperations{{Operations: ops, Rule: admissionv1.Rule{
			APIGroups: []string{GroupVersion.Group}, APIVersions: []string{GroupVersion.Version}, Resources: []string{"greeters"}}}}
	}
	service := func(p string) admissionv1.WebhookClientConfig {
		return admissionv1.WebhookClientConfig{Service: &admissionv1.ServiceReference{Namespace: namespace, Name: "operator", Path: path(p)}}
	}
	none := admissionv1.SideEffectClassNone
	return envtest.WebhookInstallOptions{
		MutatingWebhooks: []*admissionv1.MutatingWebhookConfiguration{{
			TypeMeta:   metav1.TypeMeta{APIVersion: "admissionregistration.k8s.io/v1", Kind: "MutatingWebhookConfiguration"},
			ObjectMeta: metav1.ObjectMeta{Name: "greeters"},
			Webhooks: []admissionv1.MutatingWebhook{{Name: "default.operator.example.com", AdmissionReviewVersions: []string{"v1"},
				SideEffects: &none, ClientConfig: service("mutate"), Rules: rules(admissionv1.Create, admissionv1.Update)}},
		}},
		ValidatingWebhooks: []*admissionv1.ValidatingWebhookConfiguration{{
			TypeMeta:   metav1.TypeMeta{APIVersion: "admissionregistration.k8s.io/v1", Kind: "ValidatingWebhookConfiguration"},
			ObjectMeta: metav1.ObjectMeta{Name: "greeters"},
			Webhooks: []admissionv1.ValidatingWebhook{{Name: "check.operator.example.com", AdmissionReviewVersions: []string{"v1"},
				SideEffects: &none, ClientConfig: service("validate"), Rules: rules(admissionv1.Create, admissionv1.Update, admissionv1.Delete)}},
		}},
	}
}

func (b *bed) check(errs ...error) {
	b.Helper()
	for _, err := range errs {
		if err != nil {
			b.Fatal(err)
		}
	}
}

// manager starts one; end stops it and waits for it.
func (b *bed) manager(name string, opts ctrl.Options, setUp func(ctrl.Manager) error) (end func()) {
	b.Helper()
	opts.Scheme, opts.Metrics, opts.Logger = b.scheme, metrics.Options{BindAddress: "0"}, log.Log.WithName(name)
	opts.HealthProbeBindAddress = "0"
	mgr, err := ctrl.NewManager(b.config, opts)
	b.check(err)
	b.check(setUp(mgr))
	ctx, cancel := context.WithCancel(b.ctx)
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	stopped := false
	end = func() {
		if !stopped {
			stopped = true
			cancel()
			if err := <-ended; err != nil {
				b.Errorf("manager %s: %v", name, err)
			}
		}
	}
	b.Cleanup(end)
	return end
}

// reconciler starts a manager that reconciles when it is the leader.
func (b *bed) reconciler(id string) (end func()) {
	b.Helper()
	return b.manager(id, ctrl.Options{LeaderElection: true, LeaderElectionID: "greeters", LeaderElectionNamespace: namespace,
		LeaderElectionReleaseOnCancel: true, LeaderElectionResourceLock: "leases"},
		func(mgr ctrl.Manager) error { return (&Reconciler{Client: mgr.GetClient(), ID: id}).SetUp(mgr) })
}

// until waits for something to become true.
func (b *bed) until(what string, f func(ctx context.Context) (bool, error)) {
	b.Helper()
	if err := wait.PollUntilContextTimeout(b.ctx, 20*time.Millisecond, 2*time.Minute, true, f); err != nil {
		b.Fatalf("%s: %v", what, err)
	}
}

func (b *bed) greeter(name, text string) *Greeter {
	return &Greeter{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: GreeterSpec{Text: text}}
}

// hooksDecide asks the webhooks everything that they can say.
func (b *bed) hooksDecide() {
	b.Helper()
	refused := func(err error, text string) {
		b.Helper()
		if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), `admission webhook "check.operator.example.com" denied the request: `+text) {
			b.Errorf("got %v, want a denial with %q", err, text)
		}
	}
	g := b.greeter("hooks", "")
	// The webhooks' server starts beside this test.
	var last error
	defer func() {
		if b.Failed() {
			b.Log("the last answer before the webhooks worked: ", last)
		}
	}()
	b.until("a Greeter is accepted", func(ctx context.Context) (bool, error) {
		err := b.api.Create(ctx, g)
		if apierrors.IsInternalError(err) {
			last = err
		}
		return err == nil, ignoreInternal(err)
	})
	if g.Spec.Text != "hello" || g.Spec.Replicas == nil || *g.Spec.Replicas != 1 {
		b.Errorf("defaults of webhook and schema: %+v", g.Spec)
	}
	refused(b.api.Create(b.ctx, b.greeter("rude", "go away")), `spec.text: "go away" is no greeting`)
	refused(b.api.Create(b.ctx, b.greeter("rude", "go away"), client.DryRunAll), `spec.text: "go away" is no greeting`)
	changed := g.DeepCopy()
	changed.Spec.Text = "good day"
	refused(b.api.Update(b.ctx, changed), `spec.text: cannot change from "hello"`)
	refused(b.api.Patch(b.ctx, g.DeepCopy(), client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"text":"x"}}`))), `spec.text: cannot change`)
	g.Annotations = map[string]string{"keep": "yes"}
	b.check(b.api.Update(b.ctx, g))
	refused(b.api.Delete(b.ctx, g), "the annotation keep is set")
	refused(b.api.DeleteAllOf(b.ctx, &Greeter{}, client.InNamespace(namespace)), "the annotation keep is set")
	g.Annotations = nil
	b.check(b.api.Update(b.ctx, g), b.api.Delete(b.ctx, g))
}

// ignoreInternal lets a server that does not answer yet be tried again.
func ignoreInternal(err error) error {
	if apierrors.IsInternalError(err) {
		return nil
	}
	return err
}

// lives follows a Greeter from creation to its end, over a change of leader.
func (b *bed) lives() {
	b.Helper()
	endFirst := b.reconciler("first")
	b.until("somebody leads", func(ctx context.Context) (bool, error) {
		var lease coordinationv1.Lease
		err := b.api.Get(ctx, client.ObjectKey{Namespace: namespace, Name: "greeters"}, &lease)
		return err == nil && lease.Spec.HolderIdentity != nil && *lease.Spec.HolderIdentity != "", client.IgnoreNotFound(err)
	})
	b.reconciler("second")
	g := b.greeter("web", "")
	b.check(b.api.Create(b.ctx, g))
	b.ready(g, 1)
	var d appsv1.Deployment
	b.check(b.api.Get(b.ctx, client.ObjectKeyFromObject(g), &d))
	if !metav1.IsControlledBy(&d, g) {
		b.Errorf("the Deployment's owners: %+v", d.OwnerReferences)
	}
	b.check(b.api.Delete(b.ctx, &d)) // it comes back
	b.until("another Deployment", func(ctx context.Context) (bool, error) {
		var now appsv1.Deployment
		err := b.api.Get(ctx, client.ObjectKeyFromObject(g), &now)
		return err == nil && now.UID != d.UID, client.IgnoreNotFound(err)
	})
	endFirst()
	two := int32(2)
	b.until("the size is changed", func(ctx context.Context) (bool, error) {
		if err := b.api.Get(ctx, client.ObjectKeyFromObject(g), g); err != nil {
			return false, err
		}
		g.Spec.Replicas = &two
		err := b.api.Update(ctx, g)
		return err == nil, ignoreConflict(err)
	})
	b.ready(g, 2)

	b.check(b.api.Delete(b.ctx, g, client.PropagationPolicy(metav1.DeletePropagationBackground)))
	b.gone("the Greeter", client.ObjectKeyFromObject(g), &Greeter{})
	b.gone("its Deployment", client.ObjectKeyFromObject(g), &appsv1.Deployment{})
	var note corev1.ConfigMap
	b.check(b.api.Get(b.ctx, client.ObjectKey{Namespace: namespace, Name: "web-farewell"}, &note))
	if note.Data["by"] != "second" {
		b.Errorf("the farewell was written by %q, the second manager leads", note.Data["by"])
	}
}

func ignoreConflict(err error) error {
	if apierrors.IsConflict(err) {
		return nil
	}
	return err
}

func (b *bed) ready(g *Greeter, n int32) {
	b.Helper()
	defer func() {
		if b.Failed() {
			b.Logf("the Greeter: %+v", g.Status)
			var pods corev1.PodList
			var d appsv1.Deployment
			ctx := context.Background()
			b.Logf("its Deployment (%v): %+v", b.api.Get(ctx, client.ObjectKeyFromObject(g), &d), d.Status)
			b.Logf("pods (%v):", b.api.List(ctx, &pods, client.InNamespace(namespace)))
			for _, p := range pods.Items {
				b.Logf("%s: %+v", p.Name, p.Status)
			}
		}
	}()
	b.until("the Greeter is ready", func(ctx context.Context) (bool, error) {
		err := b.api.Get(ctx, client.ObjectKeyFromObject(g), g)
		c := g.Status.Conditions
		return err == nil && g.Status.Ready == n && len(c) == 1 && c[0].Status == metav1.ConditionTrue, err
	})
}

func (b *bed) gone(what string, key client.ObjectKey, obj client.Object) {
	b.Helper()
	b.until(what+" is gone", func(ctx context.Context) (bool, error) {
		err := b.api.Get(ctx, key, obj)
		return apierrors.IsNotFound(err), client.IgnoreNotFound(err)
	})
}
