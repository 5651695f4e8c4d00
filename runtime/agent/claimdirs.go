package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/reconcile"
)

// claimDirs are the directories of volumes that were made for claims on this
// node, each named after its PersistentVolume. One goes when its volume does,
// also when that happened while the node was away.
type claimDirs struct {
	dir     string
	client  api.Client
	volumes *reconcile.Informer // those on this node
	gone    *reconcile.Loop
	log     *slog.Logger
}

func newClaimDirs(dir string, cfg Config, log *slog.Logger) claimDirs {
	if absolute, err := filepath.Abs(dir); err == nil {
		dir = absolute
	}
	c := claimDirs{dir: dir, client: cfg.Client, log: log}
	host := cfg.Name
	if own := cfg.Labels[corev1.LabelHostname]; own != "" {
		host = own
	}
	c.volumes = reconcile.NewInformer(cfg.Client, api.PersistentVolumes.Key("", ""), reconcile.InformerOptions{
		Labels: labels.SelectorFromSet(labels.Set{corev1.LabelHostname: host}), Log: log})
	c.gone = reconcile.NewLoop("claim directories", c, reconcile.LoopOptions{Workers: 1, Log: log})
	c.volumes.OnChange(func(old, new api.Object) {
		if new == nil {
			c.gone.Enqueue(api.PersistentVolumes.KeyOf(old))
		}
	})
	return c
}

// run follows the volumes and looks once for directories of those that went
// before.
func (c claimDirs) run(ctx context.Context) error {
	done := make(chan error, 2)
	go func() { done <- c.volumes.Run(ctx) }()
	go func() { done <- c.gone.Run(ctx) }()
	select {
	case <-c.volumes.Synced():
		entries, err := os.ReadDir(c.dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			c.log.Warn("cannot look for directories of volumes that are gone", "dir", c.dir, "err", err)
		}
		for _, e := range entries {
			if key := api.PersistentVolumes.Key("", e.Name()); e.IsDir() && !c.known(key) {
				c.gone.Enqueue(key)
			}
		}
	case <-ctx.Done():
	}
	return errors.Join(<-done, <-done)
}

func (c claimDirs) known(key api.Key) bool {
	_, ok := c.volumes.Get(key)
	return ok
}

// Reconcile removes a directory once the API itself says that there is no such
// volume: a list may be of a time before the volume was made, or from memory.
func (c claimDirs) Reconcile(ctx context.Context, key api.Key) (again time.Duration, err error) {
	at := filepath.Join(c.dir, key.Name)
	if _, err := os.Lstat(at); errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	_, err = api.Get[*corev1.PersistentVolume](ctx, c.client, key)
	if !apierrors.IsNotFound(err) {
		return 0, err
	}
	if err := os.RemoveAll(at); err != nil {
		return 0, fmt.Errorf("remove the directory of %s: %w", key, err)
	}
	return 0, nil
}
