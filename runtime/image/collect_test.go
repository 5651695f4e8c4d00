package image_test

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"wherry.dev/wherry/runtime/image"
	"wherry.dev/wherry/runtime/sandbox"
)

// all removes everything that nobody uses, however new it is.
var all = image.Need{Bytes: math.MaxInt64}

// variant is a module of its own.
func variant(n byte) []byte { return append(slices.Clone(module), n) }

func (c *cluster) pull(t *testing.T, ref string, policy corev1.PullPolicy) sandbox.Image {
	t.Helper()
	pulled, err := c.store.Pull(t.Context(), ref, policy, image.Credentials{})
	if err != nil {
		t.Fatal(err)
	}
	return pulled.Image
}

func (c *cluster) collect(t *testing.T, need image.Need) int64 {
	t.Helper()
	freed, err := c.store.Collect(t.Context(), need)
	if err != nil {
		t.Fatal(err)
	}
	return freed
}

// names are the tags of all that is kept, in order.
func (c *cluster) names(t *testing.T) string {
	t.Helper()
	kept, err := c.store.List()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, k := range kept {
		names = append(names, k.Refs...)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// using is a user of some images, whose runtime has made as many bytes of every
// module as it is asked to forget.
type using struct {
	images    []string
	unknown   bool
	forgotten []string
	refuse    error
}

func (u *using) user() image.User {
	return image.User{
		InUse: func() ([]string, bool) { return u.images, !u.unknown },
		Forget: func(_ context.Context, sum string) (int64, error) {
			if u.refuse != nil {
				return 0, u.refuse
			}
			u.forgotten = append(u.forgotten, sum)
			return 1000, nil
		},
	}
}

func TestCollectTakesTheLongestUnusedFirst(t *testing.T) {
	c := newCluster(t)
	for i, ref := range []string{"a:v1", "b:v1", "c:v1", "d:v1"} {
		c.push(t, ref, variant(byte(i)))
		c.pull(t, ref, corev1.PullIfNotPresent)
	}
	u := &using{images: []string{"c:v1"}}
	leave := c.store.Join(u.user())
	if freed := c.collect(t, image.Need{Bytes: math.MaxInt64, MinAge: time.Hour}); freed != 0 {
		t.Errorf("%d bytes of new images are gone", freed)
	}
	first := c.pull(t, "a:v1", corev1.PullNever) // now it was used later than the others
	if freed := c.collect(t, image.Need{Bytes: 1}); freed != int64(len(variant(0)))+1000 || c.names(t) != "a:v1 c:v1 d:v1" {
		t.Errorf("%d bytes freed, left %s", freed, c.names(t))
	}
	// What is known of last uses outlives the process.
	again, err := image.New(image.Config{Dir: c.dir, Registry: c.host, Transport: c.client.Transport, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	c.store = again
	leave()
	c.store.Join(u.user())
	c.collect(t, image.Need{Bytes: 1})
	if c.names(t) != "a:v1 c:v1" {
		t.Errorf("after a restart left %s", c.names(t))
	}
	c.collect(t, all)
	if c.names(t) != "c:v1" || len(u.forgotten) != 3 || u.forgotten[2] != first.ModuleSum {
		t.Errorf("left %s, forgotten %v", c.names(t), u.forgotten)
	}
	if _, err := os.Stat(first.Module); err == nil {
		t.Error("the module's file is still there")
	}
	// The registry has what was pushed.
	if pulled, err := c.store.Pull(t.Context(), "a:v1", corev1.PullIfNotPresent, image.Credentials{}); err != nil || pulled.Present {
		t.Errorf("pulled again: %+v, %v", pulled, err)
	}
	u.images = nil
	c.collect(t, all)
	left, _ := filepath.Glob(filepath.Join(c.dir, "*", "*"))
	if c.names(t) != "" || len(left) != 0 {
		t.Errorf("left %s: %v", c.names(t), left)
	}
}

// TestCollectKeeps: what several images share, what a tag no longer means but a
// container still has, and everything while a node does not know its pods.
func TestCollectKeeps(t *testing.T) {
	c := newCluster(t)
	c.push(t, "app:v1", variant(1))
	old := c.pull(t, "app:v1", corev1.PullIfNotPresent)
	c.push(t, "app:v1", variant(2))
	moved := c.pull(t, "app:v1", corev1.PullAlways)
	c.write(t, "same:v1", containerImage(t, map[string]string{"app.wasm": string(variant(2))}, "/app.wasm"))
	same := c.pull(t, "same:v1", corev1.PullIfNotPresent)
	if same.ModuleSum != moved.ModuleSum || same.Digest == moved.Digest {
		t.Fatalf("%+v and %+v", same, moved)
	}
	u := &using{unknown: true}
	c.store.Join(u.user())
	if freed := c.collect(t, all); freed != 0 || c.names(t) != "app:v1 same:v1" {
		t.Errorf("%d bytes freed, left %s", freed, c.names(t))
	}
	u.unknown, u.images = false, []string{old.Digest, "same:v1"}
	if freed := c.collect(t, all); freed != 0 || c.names(t) != "same:v1" || len(u.forgotten) != 0 {
		t.Errorf("%d bytes freed, left %s, forgotten %v", freed, c.names(t), u.forgotten)
	}
	if _, err := c.store.Pull(t.Context(), "app@"+old.Digest, corev1.PullNever, image.Credentials{}); err != nil {
		t.Errorf("an image whose tag has moved on: %v", err)
	}
	c.pull(t, "same:v1", corev1.PullNever)
	u.images = []string{"app@" + old.Digest}
	u.refuse = sandbox.ErrInUse
	if freed := c.collect(t, all); freed != 0 || c.names(t) != "same:v1" {
		t.Errorf("%d bytes of a module in use freed, left %s", freed, c.names(t))
	}
	u.refuse = errors.New("the disk says no")
	if _, err := c.store.Collect(t.Context(), all); err == nil || !strings.Contains(err.Error(), "errors in image deletion") || c.names(t) != "same:v1" {
		t.Errorf("%v, left %s", err, c.names(t))
	}
}

func TestCollectFiles(t *testing.T) {
	c := newCluster(t)
	c.write(t, "files:v1", containerImage(t, map[string]string{"app.wasm": string(variant(1)), "data": "12345"}, "/app.wasm"))
	tree, err := c.store.Unpack(t.Context(), "files:v1", corev1.PullIfNotPresent, image.Credentials{})
	if err != nil {
		t.Fatal(err)
	}
	u := &using{images: []string{"files:v1"}}
	c.store.Join(u.user())
	c.collect(t, all)
	if _, err := os.Stat(filepath.Join(tree.Dir, "data")); err != nil {
		t.Errorf("a mounted image: %v", err)
	}
	u.images = nil
	if freed, want := c.collect(t, all), int64(len(variant(1))+5); freed != want || c.names(t) != "" {
		t.Errorf("%d bytes freed, want %d; left %s", freed, want, c.names(t))
	}
	if left, _ := filepath.Glob(filepath.Join(c.dir, "trees", "*")); len(left) != 0 {
		t.Errorf("left %v", left)
	}
}

// TestCollectBesidePulls: while images are pulled, used and removed all at once,
// a pull never fails, and one that nobody may remove finds its file.
func TestCollectBesidePulls(t *testing.T) {
	c := newCluster(t)
	c.push(t, "app:v1", module)
	c.push(t, "held:v1", variant(1))
	c.store.Join((&using{images: []string{"held:v1"}}).user())
	done := make(chan struct{})
	var collector, pullers sync.WaitGroup
	collector.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if _, err := c.store.Collect(context.WithoutCancel(t.Context()), all); err != nil {
				t.Error(err)
			}
		}
	})
	for range 4 {
		pullers.Go(func() {
			for range 10 {
				if _, err := c.store.Pull(t.Context(), "app:v1", corev1.PullIfNotPresent, image.Credentials{}); err != nil {
					t.Error(err)
				}
				held, err := c.store.Pull(t.Context(), "held:v1", corev1.PullAlways, image.Credentials{})
				if err != nil {
					t.Error(err)
				} else if _, err := os.Stat(held.Image.Module); err != nil {
					t.Error(err)
				}
			}
		})
	}
	pullers.Wait()
	close(done)
	collector.Wait()
}
