package offline_test

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/client/offline"
)

// server is an API server that can go away.
type server struct {
	api.Client // nil: what the tests do not use
	away       bool
	objects    map[string]*corev1.Secret
	events     []api.Event
}

var errAway = errors.New("dial tcp: connection refused")

func (s *server) Get(_ context.Context, key api.Key, _ api.GetOptions) (api.Object, error) {
	if s.away {
		return nil, errAway
	}
	if obj := s.objects[key.Name]; obj != nil {
		return obj, nil
	}
	return nil, apierrors.NewNotFound(key.GroupResource(), key.Name)
}

func (s *server) List(context.Context, api.Key, api.ListOptions) (*api.List, error) {
	if s.away {
		return nil, errAway
	}
	list := &api.List{ResourceVersion: "7"}
	for _, obj := range s.objects {
		list.Items = append(list.Items, obj)
	}
	return list, nil
}

func (s *server) Watch(context.Context, api.Key, api.ListOptions) (api.Watch, error) { return s, nil }

func (s *server) Next(context.Context) (api.Event, error) {
	if len(s.events) == 0 {
		return api.Event{}, errAway
	}
	e := s.events[0]
	s.events = s.events[1:]
	return e, nil
}

func (s *server) Stop() {}

func secret(name, revision, text string) *corev1.Secret {
	return &corev1.Secret{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, ResourceVersion: revision}, StringData: nil, Data: map[string][]byte{"k": []byte(text)}}
}

// TestRestartWhileAway reads, loses the server and the process, and reads on.
func TestRestartWhileAway(t *testing.T) {
	types, err := api.NewTypes()
	if err != nil {
		t.Fatal(err)
	}
	dir, ctx, all := t.TempDir(), t.Context(), api.Secrets.Key("", "")
	s := &server{objects: map[string]*corev1.Secret{"a": secret("a", "1", "old"), "b": secret("b", "2", "b"), "gone": secret("gone", "3", "")}}
	s.events = []api.Event{{Type: watch.Modified, Object: secret("a", "8", "new")}, {Type: watch.Deleted, Object: secret("b", "9", "b")}, {Type: watch.Added, Object: secret("c", "10", "c")}}
	open := func() *offline.Client { return offline.New(s, types, dir, slog.New(slog.DiscardHandler)) }
	c := open()
	if _, err := c.Get(ctx, api.Secrets.Key("default", "a"), api.GetOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.List(ctx, all, api.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	w, err := c.Watch(ctx, all, api.ListOptions{ResourceVersion: "7"})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := w.Next(ctx); err != nil {
			t.Fatal(err)
		}
	}
	s.away = true
	c = open()
	list, err := c.List(ctx, all, api.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, obj := range list.Items {
		got[obj.GetName()] = string(obj.(*corev1.Secret).Data["k"])
	}
	if len(got) != 3 || got["a"] != "new" || got["c"] != "c" || list.ResourceVersion != "10" {
		t.Errorf("%v at %s", got, list.ResourceVersion)
	}
	if obj, err := c.Get(ctx, api.Secrets.Key("default", "a"), api.GetOptions{}); err != nil || string(obj.(*corev1.Secret).Data["k"]) != "old" {
		t.Errorf("%v, %v", obj, err)
	}
	for name, key := range map[string]api.Key{"never read": api.Secrets.Key("default", "c"), "other collection": api.Secrets.Key("other", "a")} {
		if _, err := c.Get(ctx, key, api.GetOptions{}); !errors.Is(err, errAway) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s.away = false
	delete(s.objects, "a")
	if _, err := c.Get(ctx, api.Secrets.Key("default", "a"), api.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("deleted: %v", err)
	}
	s.away = true
	if _, err := c.Get(ctx, api.Secrets.Key("default", "a"), api.GetOptions{}); !errors.Is(err, errAway) {
		t.Errorf("deleted and away: %v", err)
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if info, statErr := os.Stat(path); err != nil || statErr != nil || info.Mode().Perm()&0o077 != 0 && path != dir {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
