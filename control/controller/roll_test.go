package controller

import (
	"context"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"wherry.dev/wherry/control/api"
)

// fakeNode reports each pod as running and ready and lets go of those that are
// being deleted, one in a millisecond: an agent without anything to run.
func (b *bed) fakeNode() {
	b.t.Helper()
	w, err := b.api.Watch(b.ctx, api.Pods.Key("", ""), api.ListOptions{SendInitialEvents: true})
	if err != nil {
		b.t.Fatal(err)
	}
	b.run(b.ctx, "fake node", func(ctx context.Context) error {
		defer w.Stop()
		for {
			event, err := w.Next(ctx)
			if err != nil {
				return err
			}
			pod, ok := event.Object.(*corev1.Pod)
			if !ok || event.Type == watch.Bookmark || event.Type == watch.Deleted {
				continue
			}
			select {
			case <-ctx.Done():
			case <-time.After(time.Millisecond):
			}
			if err := b.serveNow(ctx, pod); err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
				return err
			}
		}
	})
}

func (b *bed) serveNow(ctx context.Context, pod *corev1.Pod) error {
	if pod.DeletionTimestamp != nil {
		zero := int64(0)
		_, err := b.api.Delete(ctx, api.Pods.KeyOf(pod), api.DeleteOptions{GracePeriodSeconds: &zero})
		return err
	}
	if isReady(pod) {
		return nil
	}
	pod = pod.DeepCopy()
	pod.Status.Phase = corev1.PodRunning
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}}
	_, err := b.api.Update(ctx, api.Pods.KeyOf(pod), pod, api.UpdateOptions{Subresource: "status"})
	return err
}

// A large Deployment rolls to a new template while its controllers are killed
// now and then, without a moment with more or fewer pods than its margins
// allow. WHERRY_ROLL=2000 is the size that is promised; the time and the
// memory that it takes are in the log.
func TestLargeRoll(t *testing.T) {
	size := int64(500)
	if text := os.Getenv("WHERRY_ROLL"); text != "" {
		var err error
		if size, err = strconv.ParseInt(text, 10, 32); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	inBed(t, workloads, func(b *bed) {
		b.fakeNode()
		d := webDeployment(int32(size))
		d.Spec.Template.Spec.NodeName = "n1" // pods take time to end
		surge, lack := margins(d)
		var rolling atomic.Bool
		active, ready := map[string]bool{}, map[string]bool{}
		var moments int
		b.onPods(func(_, new *corev1.Pod, all map[string]*corev1.Pod) {
			if new == nil {
				return // it was counted out when its deletion began
			}
			note := func(set map[string]bool, in bool) {
				if in {
					set[new.Name] = true
				} else {
					delete(set, new.Name)
				}
			}
			note(active, podActive(new))
			note(ready, podActive(new) && isReady(new))
			if !rolling.Load() {
				return
			}
			moments++
			if n := int32(len(active)); n > wanted(d)+surge {
				t.Errorf("%d pods, at most %d are allowed", n, wanted(d)+surge)
			}
			if n := int32(len(ready)); n < wanted(d)-lack {
				t.Errorf("%d ready pods, at least %d are promised", n, wanted(d)-lack)
			}
		})
		create(b, api.Deployments, d)
		b.pass(time.Minute)
		if s := b.web().Status; s.AvailableReplicas != wanted(d) {
			t.Fatalf("not up after a minute: %+v", s)
		}
		before := heap()
		rolling.Store(true)
		update(b, webKey, "", func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "hello:v2" })
		for range 10 {
			b.pass(time.Duration(size) * time.Millisecond / 5)
			b.crash()
			b.start()
		}
		b.pass(time.Minute)
		now := b.web()
		if !isComplete(now, &now.Status) {
			t.Fatalf("the roll does not end: %+v", now.Status)
		}
		if moments < int(size) {
			t.Errorf("only %d moments were looked at", moments)
		}
		t.Logf("%d replicas: %d changes of pods, heap %d MiB before and %d MiB after", size, moments, before, heap())
	})
	t.Logf("%d replicas, created and rolled: %s", size, time.Since(began).Round(time.Millisecond))
}

// heap is the live heap in MiB.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc >> 20
}
