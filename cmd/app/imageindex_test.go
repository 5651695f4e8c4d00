package app

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/scheduler"
	"wherry.dev/wherry/runtime/image"
)

// indexBed is an index over registries that the test answers for.
type indexBed struct {
	*imageIndex
	mu      sync.Mutex
	kinds   map[string]image.Kind
	errs    map[string]error
	lookups int
	told    []string
}

func inIndexBed(t *testing.T, f func(*indexBed)) {
	synctest.Test(t, func(t *testing.T) {
		b := &indexBed{kinds: map[string]image.Kind{}, errs: map[string]error{}}
		b.imageIndex = newImageIndex(func(_ context.Context, ref string, _ []api.Key) (image.Kind, error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.lookups++
			return b.kinds[ref], b.errs[ref]
		}, slog.New(slog.DiscardHandler))
		b.Watch(func(ref string) { b.told = append(b.told, ref) })
		ctx, cancel := context.WithCancel(t.Context())
		var work sync.WaitGroup
		work.Go(func() { _ = b.Run(ctx) })
		f(b)
		cancel()
		work.Wait()
	})
}

func podOf(images ...string) *corev1.Pod {
	p := &corev1.Pod{}
	for _, ref := range images {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Image: ref, ImagePullPolicy: corev1.PullIfNotPresent})
	}
	return p
}

func TestImageIndexAnswers(t *testing.T) {
	inIndexBed(t, func(b *indexBed) {
		b.kinds["wasm:v1"] = image.Kind{Wasm: true}
		b.kinds["oci:v1"] = image.Kind{Platforms: []string{"linux/arm64"}}
		b.errs["away:v1"] = errors.New("no such host")
		b.errs["nothere:v1"] = image.ErrNotFound
		b.errs["Bad Name"] = image.ErrName
		for ref, want := range map[string]scheduler.Need{
			"wasm:v1": {Wasm: true}, "oci:v1": {Platforms: []string{"linux/arm64"}}, "away:v1": {Unknown: "no such host"},
			"nothere:v1": {Anywhere: true}, "Bad Name": {Anywhere: true},
		} {
			b.told = nil
			if _, known := b.Need(podOf(ref), ref); known {
				t.Errorf("%s is known before it was looked up", ref)
			}
			synctest.Wait()
			got, known := b.Need(podOf(ref), ref)
			if !known || !sameNeed(got, want) || got.Unknown != want.Unknown {
				t.Errorf("%s: %+v, %v", ref, got, known)
			}
			if len(b.told) != 1 || b.told[0] != ref {
				t.Errorf("%s: told of %v", ref, b.told)
			}
		}
		if b.lookups != 5 {
			t.Errorf("%d lookups", b.lookups)
		}
	})
}

func TestImageIndexNeverPulled(t *testing.T) {
	inIndexBed(t, func(b *indexBed) {
		p := podOf("kept:v1")
		p.Spec.Containers[0].ImagePullPolicy = corev1.PullNever
		if need, known := b.Need(p, "kept:v1"); !known || !need.Anywhere {
			t.Errorf("%+v, %v", need, known)
		}
		synctest.Wait()
		if b.lookups != 0 {
			t.Error("a registry was asked for an image that may not be pulled")
		}
	})
}

func TestImageIndexAsksAgain(t *testing.T) {
	inIndexBed(t, func(b *indexBed) {
		b.errs["late:v1"] = errors.New("no such host")
		b.Need(podOf("late:v1"), "late:v1")
		<-time.After(time.Minute)
		synctest.Wait() // for a look-up under way
		before := b.lookups
		if before < 3 {
			t.Errorf("%d lookups in a minute", before)
		}
		b.errs["late:v1"], b.kinds["late:v1"] = nil, image.Kind{Wasm: true}
		b.told = nil
		push := httptest.NewRequest(http.MethodPut, "/v2/late/manifests/v1", nil)
		b.noticing(http.NotFoundHandler()).ServeHTTP(httptest.NewRecorder(), push)
		synctest.Wait()
		if need, _ := b.Need(podOf("late:v1"), "late:v1"); !need.Wasm || len(b.told) != 1 {
			t.Errorf("after the push %+v, told of %v", need, b.told)
		}
		<-time.After(imageWanted + time.Minute)
		synctest.Wait()
		if len(b.known) != 0 {
			t.Errorf("still remembers %v", b.known)
		}
	})
}
