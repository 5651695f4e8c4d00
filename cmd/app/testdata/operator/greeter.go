// Package operator is an operator as people write them with controller-runtime:
// a custom resource, a reconciler with a finalizer, and webhooks. Its tests run
// it against a cluster of Wherry.
package operator

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

// Greeter asks for a number of pods that greet.
type Greeter struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              GreeterSpec   `json:"spec,omitempty"`
	Status            GreeterStatus `json:"status,omitempty"`
}

// GreeterSpec is what is wanted.
type GreeterSpec struct {
	Text     string `json:"text,omitempty"`
	Replicas *int32 `json:"replicas,omitempty"`
}

// GreeterStatus is what there is.
type GreeterStatus struct {
	Ready      int32              `json:"ready,omitempty"`
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// GreeterList is a list of them.
type GreeterList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Greeter `json:"items"`
}

// GroupVersion is the API that the definition in crds serves.
var GroupVersion = schema.GroupVersion{Group: "operator.example.com", Version: "v1"}

// AddToScheme makes a scheme know the types.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion, &Greeter{}, &GreeterList{})
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}

// DeepCopyObject implements runtime.Object.
func (g *Greeter) DeepCopyObject() runtime.Object { return g.DeepCopy() }

// DeepCopy copies all of it.
func (g *Greeter) DeepCopy() *Greeter {
	out := *g
	g.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	if g.Spec.Replicas != nil {
		n := *g.Spec.Replicas
		out.Spec.Replicas = &n
	}
	out.Status.Conditions = nil
	for i := range g.Status.Conditions {
		out.Status.Conditions = append(out.Status.Conditions, *g.Status.Conditions[i].DeepCopy())
	}
	return &out
}

// DeepCopyObject implements runtime.Object.
func (l *GreeterList) DeepCopyObject() runtime.Object {
	out := &GreeterList{TypeMeta: l.TypeMeta}
	l.ListMeta.DeepCopyInto(&out.ListMeta)
	for i := range l.Items {
		out.Items = append(out.Items, *l.Items[i].DeepCopy())
	}
	return out
}

// Finalizer keeps a Greeter until its farewell is written.
const Finalizer = "operator.example.com/farewell"

// Reconciler keeps a Deployment for each Greeter.
type Reconciler struct {
	client.Client
	// ID says in the farewell which of several processes was the leader.
	ID string
}

// SetUp adds the reconciler to a manager.
func (r *Reconciler) SetUp(mgr ctrl.Manager) error {
	yes := true // several managers in one process of tests
	return ctrl.NewControllerManagedBy(mgr).For(&Greeter{}).Owns(&appsv1.Deployment{}).
		WithOptions(controller.Options{SkipNameValidation: &yes}).Complete(r)
}

// SetUpWebhooks adds the webhooks of Greeters to a manager.
func SetUpWebhooks(mgr ctrl.Manager) error {
	return ctrl.NewWebhookManagedBy(mgr, &Greeter{}).WithDefaulter(hooks{}).WithValidator(hooks{}).Complete()
}

// Reconcile implements reconcile.Reconciler.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var g Greeter
	if err := r.Get(ctx, req.NamespacedName, &g); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !g.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, r.farewell(ctx, &g)
	}
	if controllerutil.AddFinalizer(&g, Finalizer) {
		if err := r.Update(ctx, &g); err != nil {
			return ctrl.Result{}, err
		}
	}
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: g.Namespace, Name: g.Name}}
	if _, err := controllerutil.CreateOrUpdate(ctx, r.Client, d, func() error {
		labels := map[string]string{"greeter": g.Name}
		d.Spec.Replicas = g.Spec.Replicas
		d.Spec.Selector = &metav1.LabelSelector{MatchLabels: labels}
		d.Spec.Template.Labels = labels
		if len(d.Spec.Template.Spec.Containers) == 0 {
			d.Spec.Template.Spec.Containers = []corev1.Container{{Name: "greet", Image: "hello:v1",
				Ports: []corev1.ContainerPort{{ContainerPort: 8080}}}}
		}
		return controllerutil.SetControllerReference(&g, d, r.Scheme())
	}); err != nil {
		return ctrl.Result{}, err
	}
	before := g.DeepCopy()
	g.Status.Ready = d.Status.ReadyReplicas
	state := metav1.Condition{Type: "Ready", Status: metav1.ConditionFalse, Reason: "Starting", ObservedGeneration: g.Generation}
	if g.Spec.Replicas != nil && g.Status.Ready == *g.Spec.Replicas {
		state.Status, state.Reason = metav1.ConditionTrue, "AllGreet"
	}
	meta.SetStatusCondition(&g.Status.Conditions, state)
	return ctrl.Result{}, r.Status().Patch(ctx, &g, client.MergeFrom(before))
}

// farewell does what must be done before a Greeter may go.
func (r *Reconciler) farewell(ctx context.Context, g *Greeter) error {
	note := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: g.Namespace, Name: g.Name + "-farewell"}}
	if _, err := controllerutil.CreateOrUpdate(ctx, r.Client, note, func() error {
		note.Data = map[string]string{"by": r.ID}
		return nil
	}); err != nil {
		return err
	}
	if controllerutil.RemoveFinalizer(g, Finalizer) {
		return client.IgnoreNotFound(r.Update(ctx, g))
	}
	return nil
}

// hooks are the webhooks of Greeters.
type hooks struct{}

// Default implements admission.Defaulter.
func (hooks) Default(_ context.Context, g *Greeter) error {
	if g.Spec.Text == "" {
		g.Spec.Text = "hello"
	}
	return nil
}

// ValidateCreate implements admission.Validator.
func (hooks) ValidateCreate(_ context.Context, g *Greeter) (admission.Warnings, error) {
	if g.Spec.Text == "go away" {
		return nil, fmt.Errorf("spec.text: %q is no greeting", g.Spec.Text)
	}
	if g.Spec.Text == "hi" {
		return admission.Warnings{"hi is short"}, nil
	}
	return nil, nil
}

// ValidateUpdate implements admission.Validator.
func (hooks) ValidateUpdate(_ context.Context, was, g *Greeter) (admission.Warnings, error) {
	if was.Spec.Text != g.Spec.Text {
		return nil, fmt.Errorf("spec.text: cannot change from %q", was.Spec.Text)
	}
	return nil, nil
}

// ValidateDelete implements admission.Validator.
func (hooks) ValidateDelete(_ context.Context, g *Greeter) (admission.Warnings, error) {
	if g.Annotations["keep"] != "" {
		return nil, fmt.Errorf("the annotation keep is set")
	}
	return nil, nil
}
