package app_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/client-go/util/retry"

	"wherry.dev/wherry/cmd/app/clustertest"
	"wherry.dev/wherry/control/api"
)

// TestClientGo uses the cluster as operators do.
func TestClientGo(t *testing.T) {
	c := clustertest.New(t)
	for name, f := range map[string]func(*testing.T, *clustertest.Cluster){
		"informers":       informersFollow,
		"dynamic":         dynamicClient,
		"metadata":        metadataClient,
		"retry":           retryOnConflict,
		"leader election": leaderElection,
		"bad tokens":      badTokens,
	} {
		t.Run(name, func(t *testing.T) { f(t, c) })
	}
}

func configMap(name string) *corev1.ConfigMap { return &corev1.ConfigMap{ObjectMeta: metaNamed(name)} }

// informersFollow runs fifty informers, which speak JSON and protobuf by turns
// and see one object come, change and go.
func informersFollow(t *testing.T, c *clustertest.Cluster) {
	ctx, cancel := context.WithCancel(t.Context())
	type seen struct{ value string }
	var factories []informers.SharedInformerFactory
	var feeds []chan seen
	for i := range 50 {
		config := c.REST()
		if i%2 == 0 {
			config.ContentType, config.AcceptContentTypes = runtime.ContentTypeProtobuf, runtime.ContentTypeProtobuf
		} else {
			config.ContentType = runtime.ContentTypeJSON
		}
		set, err := kubernetes.NewForConfig(config)
		if err != nil {
			t.Fatal(err)
		}
		factory := informers.NewSharedInformerFactory(set, 0)
		feed := make(chan seen, 100)
		told := func(obj any, gone string) {
			if cm, ok := obj.(*corev1.ConfigMap); ok && cm.Name == "followed" {
				feed <- seen{cm.Data["v"] + gone}
			}
		}
		if _, err := factory.Core().V1().ConfigMaps().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(obj any) { told(obj, "") },
			UpdateFunc: func(_, obj any) { told(obj, "") },
			DeleteFunc: func(obj any) { told(obj, "-") },
		}); err != nil {
			t.Fatal(err)
		}
		factory.Start(ctx.Done())
		factories, feeds = append(factories, factory), append(feeds, feed)
	}
	defer func() {
		cancel()
		for _, factory := range factories {
			factory.Shutdown()
		}
	}()
	for _, factory := range factories {
		for kind, ok := range factory.WaitForCacheSync(ctx.Done()) {
			if !ok {
				t.Fatalf("%v never synced", kind)
			}
		}
	}
	maps := c.Clientset().CoreV1().ConfigMaps("default")
	cm := configMap("followed")
	cm.Data = map[string]string{"v": "1"}
	if _, err := maps.Create(ctx, cm, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	cm.Data["v"] = "2"
	if _, err := maps.Update(ctx, cm, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := maps.Delete(ctx, cm.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	for i, feed := range feeds {
		for _, want := range []string{"1", "2", "2-"} {
			select {
			case got := <-feed:
				if got.value != want {
					t.Fatalf("informer %d saw %q, want %q", i, got.value, want)
				}
			case <-time.After(clustertest.Patience):
				t.Fatalf("informer %d never saw %q", i, want)
			}
		}
	}
}

func dynamicClient(t *testing.T, c *clustertest.Cluster) {
	client, err := dynamic.NewForConfig(c.REST())
	if err != nil {
		t.Fatal(err)
	}
	maps := client.Resource(api.ConfigMaps.GVR()).Namespace("default")
	obj := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "dynamic"}, "data": map[string]any{"a": "1"}}}
	made, err := maps.Create(t.Context(), obj, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	watcher, err := maps.Watch(t.Context(), metav1.ListOptions{ResourceVersion: made.GetResourceVersion(), FieldSelector: "metadata.name=dynamic"})
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Stop()
	if err := unstructured.SetNestedField(made.Object, "2", "data", "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := maps.Update(t.Context(), made, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if event := <-watcher.ResultChan(); event.Type != watch.Modified || event.Object.(*unstructured.Unstructured).GetKind() != "ConfigMap" {
		t.Errorf("event %v", event)
	}
	if err := maps.Delete(t.Context(), "dynamic", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := maps.Get(t.Context(), "dynamic", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("after its deletion: %v", err)
	}
}

func metadataClient(t *testing.T, c *clustertest.Cluster) {
	client, err := metadata.NewForConfig(c.REST())
	if err != nil {
		t.Fatal(err)
	}
	list, err := client.Resource(api.Namespaces.GVR()).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, item := range list.Items {
		if item.UID == "" || item.Labels[corev1.LabelMetadataName] != item.Name {
			t.Errorf("item %+v", item)
		}
	}
	if len(list.Items) < 4 {
		t.Errorf("%d namespaces", len(list.Items))
	}
}

// retryOnConflict counts with writers that disturb each other.
func retryOnConflict(t *testing.T, c *clustertest.Cluster) {
	maps := c.Clientset().CoreV1().ConfigMaps("default")
	if _, err := maps.Create(t.Context(), configMap("counter"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	patient := retry.DefaultBackoff
	patient.Steps = 1000
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for i := range 5 {
				err := retry.RetryOnConflict(patient, func() error {
					cm, err := maps.Get(t.Context(), "counter", metav1.GetOptions{})
					if err != nil {
						return err
					}
					if cm.Data == nil {
						cm.Data = map[string]string{}
					}
					cm.Data[fmt.Sprintf("%d-%d", w, i)] = "counted"
					_, err = maps.Update(t.Context(), cm, metav1.UpdateOptions{})
					return err
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	if cm, err := maps.Get(t.Context(), "counter", metav1.GetOptions{}); err != nil || len(cm.Data) != 20 {
		t.Errorf("%d of 20 counted: %v", len(cm.Data), err)
	}
}

// leaderElection hands a lease from one candidate to the other.
func leaderElection(t *testing.T, c *clustertest.Cluster) {
	leads := make(chan string, 2)
	run := func(ctx context.Context, id string) {
		leaderelection.RunOrDie(ctx, leaderelection.LeaderElectionConfig{
			Lock: &resourcelock.LeaseLock{LeaseMeta: metav1.ObjectMeta{Name: "elected", Namespace: "default"},
				Client: c.Clientset().CoordinationV1(), LockConfig: resourcelock.ResourceLockConfig{Identity: id}},
			LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 100 * time.Millisecond, ReleaseOnCancel: true,
			Callbacks: leaderelection.LeaderCallbacks{
				OnStartedLeading: func(context.Context) { leads <- id }, OnStoppedLeading: func() {}},
		})
	}
	first, resign := context.WithCancel(t.Context())
	second, end := context.WithCancel(t.Context())
	var candidates sync.WaitGroup
	defer candidates.Wait()
	defer end()
	defer resign()
	candidates.Go(func() { run(first, "one") })
	if id := <-leads; id != "one" {
		t.Fatalf("%s leads", id)
	}
	candidates.Go(func() { run(second, "two") })
	resign()
	if id := <-leads; id != "two" {
		t.Fatalf("%s leads", id)
	}
}

// badTokens: revisions and continue tokens that are none are refused as bad
// requests, and pages are counted.
func badTokens(t *testing.T, c *clustertest.Cluster) {
	maps := c.Clientset().CoreV1().ConfigMaps("default")
	for _, opts := range []metav1.ListOptions{{Continue: "nonsense"}, {ResourceVersion: "x"}} {
		if _, err := maps.List(t.Context(), opts); !apierrors.IsBadRequest(err) && !apierrors.IsInvalid(err) {
			t.Errorf("%+v: %v", opts, err)
		}
	}
	page, err := maps.List(t.Context(), metav1.ListOptions{Limit: 1})
	if err != nil || page.RemainingItemCount != nil && page.Continue == "" {
		t.Errorf("first page: %+v %v", page, err)
	}
}
