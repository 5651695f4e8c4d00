package api

import (
	"fmt"
	"reflect"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	networkingv1 "k8s.io/api/networking/v1"
	nodev1 "k8s.io/api/node/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	resourcev1 "k8s.io/api/resource/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
)

// Types is the scheme of all served kinds and the codecs over it. It is made
// once per process and passed to whoever encodes or decodes.
type Types struct {
	Scheme *runtime.Scheme
	Codecs serializer.CodecFactory // lenient about unknown fields
	Strict serializer.CodecFactory // reports unknown and duplicate fields
	store  *protobuf.Serializer

	envelopes  envelopes
	pods       *pods
	quantities *quantities
}

// NewTypes registers the served groups. It fails only when two of them
// disagree, which is a mistake in this package.
func NewTypes() (*Types, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, batchv1.AddToScheme, discoveryv1.AddToScheme,
		coordinationv1.AddToScheme, autoscalingv1.AddToScheme, autoscalingv2.AddToScheme, policyv1.AddToScheme,
		schedulingv1.AddToScheme, networkingv1.AddToScheme, nodev1.AddToScheme, storagev1.AddToScheme,
		admissionregistrationv1.AddToScheme, flowcontrolv1.AddToScheme, resourcev1.AddToScheme, eventsv1.AddToScheme,
		rbacv1.AddToScheme, authenticationv1.AddToScheme, authorizationv1.AddToScheme, certificatesv1.AddToScheme,
		apiextensionsv1.AddToScheme, metricsv1beta1.AddToScheme, metav1.AddMetaToScheme,
	} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("register types: %w", err)
		}
	}
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	known, err := newEnvelopes(scheme)
	if err != nil {
		return nil, err
	}
	rendered := &quantities{}
	sharing, err := newPods(rendered)
	if err != nil {
		return nil, err
	}
	return &Types{
		Scheme: scheme, envelopes: known,
		Codecs: serializer.NewCodecFactory(scheme),
		Strict: serializer.NewCodecFactory(scheme, serializer.EnableStrict),
		store:  protobuf.NewSerializer(scheme, scheme),
		pods:   sharing, quantities: rendered,
	}, nil
}

// Encode renders an object as it is stored: protobuf with the Kubernetes
// envelope, TypeMeta included.
func (t *Types) Encode(obj Object) ([]byte, error) {
	var data []byte
	var err error
	if m, ok := obj.(message); ok {
		data, err = seal(obj, m)
	} else {
		data, err = runtime.Encode(t.store, obj)
	}
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", obj, err)
	}
	return data, nil
}

// Decode reads what Encode wrote. The object may be shared, and has parts in
// common with others (pods): whoever only reads it writes nothing, and nobody may
// change it.
func (t *Types) Decode(data []byte) (Object, error) {
	if pod := t.pods.decode(data); pod != nil {
		t.quantities.render(reflect.ValueOf(pod).Elem())
		return pod, nil
	}
	obj, _, ok := t.Open(data)
	if !ok {
		decoded, err := runtime.Decode(t.store, data)
		if err != nil {
			return nil, fmt.Errorf("decode stored object: %w", err)
		}
		if obj, ok = decoded.(Object); !ok {
			return nil, fmt.Errorf("decode stored object: %T has no metadata", decoded)
		}
	}
	if set, ok := obj.(*appsv1.StatefulSet); ok {
		// The kind of an object inside another one is not part of protobuf.
		for i := range set.Spec.VolumeClaimTemplates {
			set.Spec.VolumeClaimTemplates[i].SetGroupVersionKind(PersistentVolumeClaims.GVK())
		}
	}
	t.quantities.render(reflect.ValueOf(obj).Elem())
	return obj, nil
}

// New returns an empty object of the resource with its TypeMeta set.
func (t *Types) New(r Resource) (Object, error) {
	made, err := t.Scheme.New(r.GVK())
	if err != nil {
		return nil, fmt.Errorf("new %s: %w", r.Kind, err)
	}
	made.GetObjectKind().SetGroupVersionKind(r.GVK())
	obj, ok := made.(Object)
	if !ok {
		return nil, fmt.Errorf("new %s: %T has no metadata", r.Kind, made)
	}
	return obj, nil
}
